// Rows between the devices of ranks: started by mpirun (label cuda). Without enough devices the tests say so and are skipped.
#include "tests/comm/mpi/mpi_ranks.h"

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return switchyard::run_tests_on_every_rank();
}
