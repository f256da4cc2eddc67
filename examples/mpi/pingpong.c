/* Latency and bandwidth between pairs of ranks.
 *
 *   pingpong [REPETITIONS]
 *
 * Rank 0 plays with every other rank in turn, over a range of message sizes. One line per pair and size:
 *
 *   pingpong from=0 to=3 nodes=n1,n2 bytes=65536 latency_us=25.31 MB_per_s=2589.3
 *
 * latency_us is the smallest half round trip seen: the number that a busy machine disturbs least.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

enum { name_size = MPI_MAX_PROCESSOR_NAME, warm_up = 4 };

static const int sizes[] = {1, 1024, 65536, 1048576};

/* Bounces `bytes` bytes between `first` and `second`; returns the best half round trip in seconds (on `first`). */
static double play(int rank, int first, int second, char* buffer, int bytes, int repetitions) {
  double best = 1e9;
  for (int i = 0; i < warm_up + repetitions; i++) {
    if (rank == first) {
      const double start = MPI_Wtime();
      MPI_Send(buffer, bytes, MPI_CHAR, second, 0, MPI_COMM_WORLD);
      MPI_Recv(buffer, bytes, MPI_CHAR, second, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      const double half = (MPI_Wtime() - start) / 2;
      if (i >= warm_up && half < best) best = half;
    } else if (rank == second) {
      MPI_Recv(buffer, bytes, MPI_CHAR, first, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
      MPI_Send(buffer, bytes, MPI_CHAR, first, 0, MPI_COMM_WORLD);
    }
  }
  return best;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const int repetitions = argc > 1 ? atoi(argv[1]) : 100;
  const int largest = sizes[sizeof sizes / sizeof *sizes - 1];
  char* buffer = calloc(1, (size_t)largest);
  char* names = calloc((size_t)ranks, name_size);
  char name[name_size] = "";
  int length;
  if (!buffer || !names || repetitions < 1 || ranks < 2) {
    if (rank == 0) fprintf(stderr, "pingpong: needs at least 2 ranks and 1 repetition\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  MPI_Get_processor_name(name, &length);
  MPI_Allgather(name, name_size, MPI_CHAR, names, name_size, MPI_CHAR, MPI_COMM_WORLD);

  for (int other = 1; other < ranks; other++) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      const double seconds = play(rank, 0, other, buffer, sizes[s], repetitions);
      if (rank == 0) {
        printf("pingpong from=0 to=%d nodes=%s,%s bytes=%d latency_us=%.2f MB_per_s=%.1f\n", other, names,
               names + (size_t)other * name_size, sizes[s], seconds * 1e6, sizes[s] / seconds / 1e6);
        fflush(stdout);
      }
      MPI_Barrier(MPI_COMM_WORLD);
    }
  }
  free(names);
  free(buffer);
  MPI_Finalize();
  return 0;
}
