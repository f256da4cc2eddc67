// libnl can look up names of hosts and protocols, which nobody asks it for here. In a program that is linked statically
// those functions of the C library would load the name service's libraries at run time, into a process of root's; these
// take their place.
#include <netdb.h>

extern "C" {

int getaddrinfo(const char* /*node*/, const char* /*service*/, const addrinfo* /*hints*/, addrinfo** /*result*/) {
  return EAI_FAIL;
}

void freeaddrinfo(addrinfo* /*list*/) {}

int getnameinfo(const sockaddr* /*address*/, socklen_t /*size*/, char* /*host*/, socklen_t /*host_size*/,
                char* /*service*/, socklen_t /*service_size*/, int /*flags*/) {
  return EAI_FAIL;
}

protoent* getprotobyname(const char* /*name*/) { return nullptr; }

protoent* getprotobynumber(int /*number*/) { return nullptr; }

}  // extern "C"
