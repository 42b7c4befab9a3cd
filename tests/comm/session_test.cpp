// What the launcher says, and the transport that follows from it. No MPI here: the environments are made up.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <string>

#include "comm/make.h"
#include "comm/mpi_session.h"

namespace switchyard {
namespace {

using testing::HasSubstr;

Environment made_up(std::map<std::string, std::string> variables) {
  return [variables = std::move(variables)](const char* name) -> std::optional<std::string> {
    const auto place = variables.find(name);
    if (place == variables.end()) return std::nullopt;
    return place->second;
  };
}

// The sentence of the usage error that body throws.
template <class Body>
std::string usage_error(Body body) {
  try {
    body();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ExitCode::kUsage);
    return error.what();
  }
  ADD_FAILURE() << "no error was thrown";
  return "";
}

TEST(Launch, IsSeenFromTheLaunchersVariables) {
  EXPECT_FALSE(launched_by_mpi(made_up({})));
  EXPECT_FALSE(launched_by_mpi(made_up({{"SLURM_NTASKS", "4"}}))) << "Slurm alone starts no MPI";
  EXPECT_TRUE(launched_by_mpi(made_up({{"OMPI_COMM_WORLD_SIZE", "1"}})));
  EXPECT_TRUE(launched_by_mpi(made_up({{"PMI_SIZE", "2"}})));
  EXPECT_TRUE(launched_by_mpi(made_up({{"PMIX_RANK", "0"}})));
}

TEST(Launch, TakesTheNearestLaunchersNumber) {
  const Launch launch =
      read_launch(made_up({{"SLURM_NTASKS", "8"}, {"SLURM_STEP_NUM_TASKS", "4"}, {"OMPI_COMM_WORLD_SIZE", "1"}, {"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}}));
  EXPECT_EQ(launch.ranks, 1) << "mpirun -np 1 inside a job of 8 tasks is one rank";
  EXPECT_EQ(launch.said_by, "OMPI_COMM_WORLD_SIZE");
  EXPECT_EQ(launch.ranks_on_host, 1);
  EXPECT_EQ(read_launch(made_up({{"SLURM_NTASKS", "8"}, {"SLURM_STEP_NUM_TASKS", "4"}})).ranks, 4);
}

TEST(Launch, RefusesVariablesThatAreNoNumbers) {
  for (const char* text : {"", "x", "0", "-3", "4x", "99999999999"}) {
    const std::string sentence = usage_error([&] { read_launch(made_up({{"OMPI_COMM_WORLD_SIZE", text}})); });
    EXPECT_THAT(sentence, HasSubstr("OMPI_COMM_WORLD_SIZE must be a positive number but is '" + std::string(text) + "'"));
  }
}

TEST(Session, OfOneRankWithoutALauncherLeavesMpiAlone) {
  const MpiSession session(made_up({}));
  EXPECT_FALSE(session.active());
  EXPECT_EQ(session.size(), 1);
  EXPECT_FALSE(session.warning());
  int initialised = 1;
  MPI_Initialized(&initialised);
  EXPECT_EQ(initialised, 0);
}

TEST(Session, OfOneRankWhereTheLauncherSaysMoreIsAUsageError) {
  const std::string sentence = usage_error([] { const MpiSession session(made_up({{"SLURM_NTASKS", "4"}})); });
  EXPECT_THAT(sentence, HasSubstr("the launcher says 4 ranks (SLURM_NTASKS), but this process is alone"));
  EXPECT_NO_THROW(MpiSession(made_up({{"SLURM_NTASKS", "4"}, {"SLURM_STEP_NUM_TASKS", "1"}}))) << "srun -n 1 asks for one";
}

TEST(Session, WorldThatLacksRanksIsAUsageError) {
  Launch launch;
  launch.ranks = 4;
  launch.said_by = "PMI_SIZE";
  EXPECT_THAT(usage_error([&] { check_world(launch, 1); }), HasSubstr("PMI_SIZE"));
  EXPECT_NO_THROW(check_world(launch, 4));
  EXPECT_NO_THROW(check_world(launch, 2)) << "mpirun -np 2 inside a larger job";
}

TEST(Make, GivesOneRankNoTransportWhateverTheName) {
  const MpiSession session(made_up({}));
  for (const char* name : {"AUTO", "SELF", "MPI", "MPI_PAIRWISE", "WINDOW", "TWO_LEVEL"}) {
    TransportOptions options;
    options.transport = transport_named(name);
    options.checked = true;
    const Made made = make_communicator(session, options);
    EXPECT_EQ(made.communicator->size(), 1);
    EXPECT_EQ(made.sentence, "transport SELF: there is one rank, every collective checked");
  }
}

TEST(Make, ReadsTheLinkFileEvenForOneRank) {
  const MpiSession session(made_up({}));
  TransportOptions options;
  options.emulated_link = "/nowhere/net.json";
  EXPECT_THROW(make_communicator(session, options), Error) << "a name that is wrong on several ranks is wrong on one";
}

TEST(Make, NamesTheTransportsItKnows) {
  EXPECT_THAT(usage_error([] { transport_named("window"); }), HasSubstr("must be AUTO, SELF, MPI, MPI_PAIRWISE, WINDOW or TWO_LEVEL but is 'window'"));
}

}  // namespace
}  // namespace switchyard
