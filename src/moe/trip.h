// Trip: rows on their way from home to their experts and back, once in a layer's forward and once in its backward, chunk by
// chunk, so that some travel while others are computed.
//
// Calls, in this order on every rank, for n chunks (the transfers are one all_to_all each, empty ones included):
//
//   outbox_to_hosts, send_to_hosts(0)
//   for chunk i = 0 .. n - 1
//     outbox_to_hosts, send_to_hosts(i + 1)   where there is one
//     arrive(i)
//                                  the experts' first products of chunk i
//     outbox_home                             here chunk i - 1 is home, but for the last i
//                                  their last products, straight into that outbox
//     send_home(i)
//   finish
//
// So chunk i + 1 is on its way to the hosts during all of the experts' work on chunk i, and chunk i - 1 on its way home
// during the first half. The two outboxes of the exchange pair do: in that order one has the ways to the hosts after
// the first, the other the ways home before the last, and each is asked for when the rows that left by it before are needed,
// or half a chunk after they left. A third one would let chunk i - 1 travel for the other half as well, but by the link for
// which chunk i + 1 waits.
//
// On a way whose rows are compressed (payload.h), an "outbox" is scratch memory, and send_... asks for the communicator's. The
// rows are expanded where they arrive: at the hosts chunk by chunk, at home in finish.
#pragma once

#include <array>

#include "comm/communicator.h"
#include "src/layers/context.h"
#include "src/moe/payload.h"
#include "src/moe/row_table.h"

namespace switchyard {

class Trip {
 public:
  // Which of the four ways, and in which form rows travel on it.
  struct Leg {
    Way way;
    PayloadFormat format;
  };
  // rows: where they arrive at the hosts; returned [entries, D] activation: where they arrive at home, sorted by
  // (expert, slot). Context and communicator outlive the trip.
  Trip(Context& ctx, Communicator& communicator, int layer, Leg to_hosts, Leg home, Rows rows, Tensor returned);

  // Room for rows that leave, until the next transfer has started. Nothing of it may be saved.
  Tensor outbox_to_hosts();  // [entries, D]; a chunk fills its runs
  Tensor outbox_home();      // [table.rows, D]; a chunk fills its pieces
  void send_to_hosts(size_t chunk, const Tensor& rows);
  void send_home(size_t chunk, const Tensor& rows);

  // Returns when the chunk's rows are here, zeros behind the last of each block included.
  void arrive(size_t chunk);
  // Returns when all rows are home.
  void finish();
  // After finish: adds what the rows of this rank's tokens lost on the two ways, in order of entries.
  void measure(PayloadLosses& losses) const;

  const RowTable& table() const { return *rows_.table; }
  const Rows& rows() const { return rows_; }
  const Tensor& returned() const { return returned_; }

 private:
  struct Path {
    Leg leg;
    std::array<Event, 2> events{};  // of even and of odd chunks
    Tensor inbox{};                 // [rows that arrive, payload_words(D)] I32, where they are compressed
    Tensor norms{};                 // [entries, 2] F32, likewise

    bool compressed() const { return leg.format != PayloadFormat::kPlain; }
  };
  Tensor outbox(Dtype dtype, int64_t rows, int64_t columns);
  Tensor room_for(const Path& path, int64_t rows);
  Event start(Way way, const Tensor& outbox, const std::vector<Segment>& send, const Tensor& inbox, const std::vector<Segment>& receive);
  void wait(Way way, Event event);

  Context& ctx_;
  Communicator& communicator_;
  int layer_;
  Rows rows_;
  Tensor returned_;
  Path to_hosts_, home_;
  Tensor leaving_;  // [max(entries, rows), D] activation: rows before they are compressed, of one way at a time
};

}  // namespace switchyard
