/* What every rank got: one table, gathered by rank 0.
 *
 *   berth-report [--no-mpi] [--plain]
 *
 * Device, image and NUMA node of the device are what BERTH_* variables say; all else is what the kernel says to the
 * rank itself. --plain prints "key=value" pairs, one line per rank. --no-mpi (the only mode if built with
 * -DWITHOUT_MPI) prints the own line without starting MPI.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>
#ifndef WITHOUT_MPI
#include <mpi.h>
#endif

enum { text_size = 96, columns = 9 };

static const char* const titles[columns] = {"RANK",  "NODE", "DEVICE", "INTERFACE", "ADDRESS",
                                            "NETNS", "CPUS", "NUMA",   "IMAGE"};
enum column {
  rank_column,
  node_column,
  device_column,
  interface_column,
  address_column,
  netns_column,
  cpus_column,
  numa_column,
  image_column
};

struct report {
  char text[columns][text_size];
};

static void put(struct report* report, enum column column, const char* value) {
  snprintf(report->text[column], text_size, "%s", value && *value ? value : "-");
}

/* Appends to a comma-separated list, unless the item is already its last. */
static void append(char* list, const char* item) {
  const char* last = strrchr(list, ',');
  if (strcmp(last ? last + 1 : list, item) == 0) return;
  const size_t used = strlen(list);
  snprintf(list + used, text_size - used, "%s%s", used ? "," : "", item);
}

/* Interfaces that are up, except loopback, and their addresses: IPv4, and IPv6 that is not link-local. */
static void read_interfaces(struct report* report) {
  char names[text_size] = "", addresses[text_size] = "";
  struct ifaddrs* all = NULL;
  if (getifaddrs(&all) == 0) {
    for (const struct ifaddrs* one = all; one; one = one->ifa_next) {
      if (!(one->ifa_flags & IFF_UP) || (one->ifa_flags & IFF_LOOPBACK)) continue;
      char address[INET6_ADDRSTRLEN] = "";
      if (one->ifa_addr && one->ifa_addr->sa_family == AF_PACKET) append(names, one->ifa_name);
      if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET) {
        inet_ntop(AF_INET, &((const struct sockaddr_in*)(const void*)one->ifa_addr)->sin_addr, address, sizeof address);
      } else if (one->ifa_addr && one->ifa_addr->sa_family == AF_INET6) {
        const struct in6_addr* six = &((const struct sockaddr_in6*)(const void*)one->ifa_addr)->sin6_addr;
        if (!IN6_IS_ADDR_LINKLOCAL(six)) inet_ntop(AF_INET6, six, address, sizeof address);
      }
      if (*address) append(addresses, address);
    }
    freeifaddrs(all);
  }
  put(report, interface_column, names);
  put(report, address_column, addresses);
}

static void read_cpus(struct report* report) {
  cpu_set_t set;
  char list[text_size] = "", item[32];
  if (sched_getaffinity(0, sizeof set, &set) == 0) {
    for (int first = 0; first < CPU_SETSIZE; first++) {
      if (!CPU_ISSET(first, &set)) continue;
      int last = first;
      while (last + 1 < CPU_SETSIZE && CPU_ISSET(last + 1, &set)) last++;
      snprintf(item, sizeof item, last > first ? "%d-%d" : "%d", first, last);
      append(list, item);
      first = last;
    }
  }
  put(report, cpus_column, list);
  unsigned cpu = 0, node = 0;
  if (getcpu(&cpu, &node) == 0) {
    snprintf(item, sizeof item, "%u", node);
    put(report, numa_column, item);
  } else {
    put(report, numa_column, "");
  }
}

/* The image's file name, or what kind of file system the root is. */
static void read_image(struct report* report) {
  const char* image = getenv("BERTH_IMAGE");
  if (image && *image) {
    const char* slash = strrchr(image, '/');
    put(report, image_column, slash ? slash + 1 : image);
    return;
  }
  struct statfs root;
  const unsigned long type = statfs("/", &root) == 0 ? (unsigned long)root.f_type : 0;
  put(report, image_column,
      type == 0x73717368   ? "(squashfs)"
      : type == 0x794c7630 ? "(overlay)"
      : type == 0x01021994 ? "(tmpfs)"
                           : "(host)");
}

static void read_netns(struct report* report) {
  char link[text_size] = "";
  if (readlink("/proc/self/ns/net", link, sizeof link - 1) < 0) link[0] = '\0';
  char* end = strchr(link, ']');
  if (end) *end = '\0';
  const char* begin = strchr(link, '[');
  put(report, netns_column, begin ? begin + 1 : link);
}

static struct report read_report(const char* rank) {
  struct report report;
  char host[text_size] = "";
  memset(&report, 0, sizeof report);
  gethostname(host, sizeof host - 1);
  put(&report, rank_column, rank);
  put(&report, node_column, host);
  put(&report, device_column, getenv("BERTH_DEVICE"));
  read_interfaces(&report);
  read_netns(&report);
  read_cpus(&report);
  read_image(&report);
  return report;
}

static void print_plain(const struct report* reports, int ranks) {
  static const char* const keys[columns] = {"rank",  "node", "device", "interface", "address",
                                            "netns", "cpus", "numa",   "image"};
  for (int r = 0; r < ranks; r++) {
    for (int c = 0; c < columns; c++) printf("%s%s=%s", c ? " " : "", keys[c], reports[r].text[c]);
    printf("\n");
  }
}

static int count_distinct(const struct report* reports, int ranks, enum column column) {
  int count = 0;
  for (int r = 0; r < ranks; r++) {
    int seen = 0;
    for (int before = 0; before < r && !seen; before++) {
      seen = strcmp(reports[before].text[column], reports[r].text[column]) == 0;
    }
    count += !seen;
  }
  return count;
}

static void print_table(const struct report* reports, int ranks) {
  int widths[columns];
  for (int c = 0; c < columns; c++) {
    widths[c] = (int)strlen(titles[c]);
    for (int r = 0; r < ranks; r++) {
      const int width = (int)strlen(reports[r].text[c]);
      if (width > widths[c]) widths[c] = width;
    }
  }
  for (int r = -1; r < ranks; r++) {
    for (int c = 0; c < columns; c++) {
      const char* text = r < 0 ? titles[c] : reports[r].text[c];
      printf(c + 1 < columns ? "%-*s  " : "%.*s\n", c + 1 < columns ? widths[c] : text_size, text);
    }
  }
  printf("%d ranks, %d nodes, %d network namespaces\n", ranks, count_distinct(reports, ranks, node_column),
         count_distinct(reports, ranks, netns_column));
}

static const char* rank_from_environment(void) {
  static const char* const names[] = {"BERTH_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    const char* value = getenv(names[i]);
    if (value && *value) return value;
  }
  return "0";
}

int main(int argc, char** argv) {
  int plain = 0, with_mpi = 1;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--plain") == 0) {
      plain = 1;
    } else if (strcmp(argv[i], "--no-mpi") == 0) {
      with_mpi = 0;
    } else {
      fprintf(stderr, "usage: berth-report [--no-mpi] [--plain]\n");
      return 2;
    }
  }
#ifndef WITHOUT_MPI
  if (with_mpi) {
    int rank, ranks;
    char number[16];
    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_size(MPI_COMM_WORLD, &ranks);
    snprintf(number, sizeof number, "%d", rank);
    const struct report own = read_report(number);
    struct report* all = rank == 0 ? calloc((size_t)ranks, sizeof own) : NULL;
    if (rank == 0 && !all) MPI_Abort(MPI_COMM_WORLD, 2);
    MPI_Gather(&own, sizeof own, MPI_BYTE, all, sizeof own, MPI_BYTE, 0, MPI_COMM_WORLD);
    if (rank == 0) (plain ? print_plain : print_table)(all, ranks);
    free(all);
    MPI_Finalize();
    return 0;
  }
#endif
  (void)with_mpi;
  const struct report own = read_report(rank_from_environment());
  (plain ? print_plain : print_table)(&own, 1);
  return 0;
}
