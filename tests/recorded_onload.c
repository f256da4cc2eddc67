/* Stands in for libonload.so where there is no adapter for the real one: says in a file of the home directory which
   program has loaded it, from where, with which settings, network and CPUs. Its last strings are those by which a real
   library tells its build. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

__attribute__((used)) static const char banner[] =
    VERSION "\nCopyright of nobody\nBuilt: Jan  1 2026 00:00:00 (release)\nBuild profile header: none\n";
__attribute__((used)) static const char interface_checksum[] = INTERFACE;

static const char* setting(const char* name) { return getenv(name) ? getenv(name) : "-"; }

__attribute__((constructor)) static void record(void) {
  char path[4096], line[8192];
  const char* home = getenv("HOME");
  Dl_info self;
  if (home == NULL || dladdr(banner, &self) == 0) return;
  int size = snprintf(line, sizeof line, "%s %s poll=%s pio=%s", program_invocation_short_name, self.dli_fname,
                      setting("EF_POLL_USEC"), setting("EF_PIO"));
  struct if_nameindex* links = if_nameindex();
  for (const struct if_nameindex* link = links; link != NULL && link->if_name != NULL; ++link)
    size += snprintf(line + size, sizeof line - (size_t)size, " %s", link->if_name);
  if_freenameindex(links);
  cpu_set_t cpus;
  if (sched_getaffinity(0, sizeof cpus, &cpus) == 0)
    size += snprintf(line + size, sizeof line - (size_t)size, " cpus=%d\n", CPU_COUNT(&cpus));
  snprintf(path, sizeof path, "%s/loaded", home);
  const int file = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0 || write(file, line, (size_t)size) != size) abort();
  close(file);
}
