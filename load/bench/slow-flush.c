/* Loaded before libc into a database server: each flush to disk takes FLUSH_US longer, which the build defines. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <time.h>

static void linger(void) {
  struct timespec left = {FLUSH_US / 1000000, (FLUSH_US % 1000000) * 1000L};
  int before = errno;
  while (nanosleep(&left, &left) != 0 && errno == EINTR) {
  }
  errno = before;
}

int fdatasync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  linger();
  return real(fd);
}

int fsync(int fd) {
  static int (*real)(int);
  if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  linger();
  return real(fd);
}
