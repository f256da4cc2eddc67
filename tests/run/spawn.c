// Spawns two processes of the command that it is given, and broadcasts a number to them; they print their rank, the
// number and the device of their berth.
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char** argv) {
  MPI_Comm parent, children;
  MPI_Init(&argc, &argv);
  MPI_Comm_get_parent(&parent);
  int number = 7;
  if (parent == MPI_COMM_NULL) {
    MPI_Comm_spawn(argv[1], argv + 2, 2, MPI_INFO_NULL, 0, MPI_COMM_SELF, &children, MPI_ERRCODES_IGNORE);
    MPI_Bcast(&number, 1, MPI_INT, MPI_ROOT, children);
    MPI_Comm_disconnect(&children);
  } else {
    int rank;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    number = 0;
    MPI_Bcast(&number, 1, MPI_INT, 0, parent);
    const char* device = getenv("BERTH_DEVICE");
    printf("%d %d %s\n", rank, number, device ? device : "none");
    MPI_Comm_disconnect(&parent);
  }
  MPI_Finalize();
  return 0;
}
