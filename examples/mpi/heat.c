/* Heat spreading over a square plate: a small but real MPI program that knows whether its result is right.
 *
 *   heat [POINTS [STEPS]]
 *
 * The plate has POINTS x POINTS inner points (default 256) between edges of fixed temperature: the upper one hot, the
 * others cold. Each rank owns a band of rows and exchanges one row with each neighbour in every step. In the end rank 0
 * computes the same plate alone and compares: the two differ by nothing, because every point sees the same arithmetic
 * in the same order. Exit code 0 if so, else 1.
 */
#include <math.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

/* A band of `rows` rows of `width` values, with one more row above and below: the neighbours' or the edges'. */
struct band {
  int rows, width;
  double *now, *next;
};

static struct band make_band(int rows, int width, int touches_hot_edge) {
  const size_t values = (size_t)(rows + 2) * (size_t)width;
  struct band band = {rows, width, calloc(values, sizeof(double)), calloc(values, sizeof(double))};
  if (!band.now || !band.next) {
    fprintf(stderr, "heat: out of memory\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }
  for (int x = 0; touches_hot_edge && x < width; x++) band.now[x] = band.next[x] = 100;
  return band;
}

static void free_band(struct band* band) {
  free(band->now);
  free(band->next);
}

static double* row(const struct band* band, double* values, int y) { return values + (size_t)y * (size_t)band->width; }

/* Each inner point becomes the mean of its four neighbours; returns the sum of squares of the changes. */
static double step(struct band* band) {
  double change = 0;
  for (int y = 1; y <= band->rows; y++) {
    const double *above = row(band, band->now, y - 1), *here = row(band, band->now, y),
                 *below = row(band, band->now, y + 1);
    double* next = row(band, band->next, y);
    for (int x = 1; x < band->width - 1; x++) {
      next[x] = 0.25 * (above[x] + below[x] + here[x - 1] + here[x + 1]);
      change += (next[x] - here[x]) * (next[x] - here[x]);
    }
  }
  double* swap = band->now;
  band->now = band->next;
  band->next = swap;
  return change;
}

static void exchange_rows(struct band* band, int up, int down) {
  MPI_Sendrecv(row(band, band->now, 1), band->width, MPI_DOUBLE, up, 0, row(band, band->now, band->rows + 1),
               band->width, MPI_DOUBLE, down, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  MPI_Sendrecv(row(band, band->now, band->rows), band->width, MPI_DOUBLE, down, 1, row(band, band->now, 0), band->width,
               MPI_DOUBLE, up, 1, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
}

static int first_row(int rank, int ranks, int points) { return (int)((long)points * rank / ranks); }

/* The largest difference between `plate` (inner rows only) and the same computation done by one process. */
static double difference_from_serial(const double* plate, int points, int steps) {
  const int width = points + 2;
  struct band alone = make_band(points, width, 1);
  for (int i = 0; i < steps; i++) step(&alone);
  double largest = 0;
  for (size_t i = 0; i < (size_t)points * (size_t)width; i++) {
    largest = fmax(largest, fabs(plate[i] - row(&alone, alone.now, 1)[i]));
  }
  free_band(&alone);
  return largest;
}

int main(int argc, char** argv) {
  MPI_Init(&argc, &argv);
  int rank, ranks;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &ranks);
  const int points = argc > 1 ? atoi(argv[1]) : 256, steps = argc > 2 ? atoi(argv[2]) : 200, width = points + 2;
  if (points < ranks || steps < 1) {
    if (rank == 0) fprintf(stderr, "heat: needs at least one row per rank and one step\n");
    MPI_Abort(MPI_COMM_WORLD, 2);
  }

  const int begin = first_row(rank, ranks, points), end = first_row(rank + 1, ranks, points);
  const int up = rank > 0 ? rank - 1 : MPI_PROC_NULL, down = rank < ranks - 1 ? rank + 1 : MPI_PROC_NULL;
  struct band band = make_band(end - begin, width, rank == 0);
  const double start = MPI_Wtime();
  double change = 0, total = 0;
  for (int i = 0; i < steps; i++) {
    exchange_rows(&band, up, down);
    change = step(&band);
  }
  MPI_Reduce(&change, &total, 1, MPI_DOUBLE, MPI_SUM, 0, MPI_COMM_WORLD);
  const double seconds = MPI_Wtime() - start;

  int *counts = calloc((size_t)ranks, sizeof(int)), *offsets = calloc((size_t)ranks, sizeof(int));
  double* plate = rank == 0 ? calloc((size_t)points * (size_t)width, sizeof(double)) : NULL;
  if (!counts || !offsets || (rank == 0 && !plate)) MPI_Abort(MPI_COMM_WORLD, 2);
  for (int r = 0; r < ranks; r++) {
    offsets[r] = first_row(r, ranks, points) * width;
    counts[r] = first_row(r + 1, ranks, points) * width - offsets[r];
  }
  MPI_Gatherv(row(&band, band.now, 1), counts[rank], MPI_DOUBLE, plate, counts, offsets, MPI_DOUBLE, 0, MPI_COMM_WORLD);
  int right = 1;
  if (rank == 0) {
    const double difference = difference_from_serial(plate, points, steps);
    right = difference <= 1e-12;
    printf("heat ranks=%d points=%d steps=%d seconds=%.3f residual=%.6e difference=%.1e %s\n", ranks, points, steps,
           seconds, sqrt(total), difference, right ? "right" : "WRONG");
  }
  MPI_Bcast(&right, 1, MPI_INT, 0, MPI_COMM_WORLD);
  free(plate);
  free(offsets);
  free(counts);
  free_band(&band);
  MPI_Finalize();
  return right ? 0 : 1;
}
