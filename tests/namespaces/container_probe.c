/* Runs inside test images: shows as whom. Static, because the images hold nothing else. */
#include <stdio.h>
#include <unistd.h>

int main(void) {
  printf("%u %u\n", (unsigned)getuid(), (unsigned)geteuid());
  return 0;
}
