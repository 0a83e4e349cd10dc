/*
 * Preloaded into a program: a full disk is told as a quota that is used up, with the number that Linux has for it. Kernels of
 * small machines have no quotas to mount.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

static ssize_t told(ssize_t result) {
  if (result < 0 && errno == ENOSPC) errno = EDQUOT;
  return result;
}

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t write(int fd, const void *bytes, size_t size) { REAL(write); return told(real(fd, bytes, size)); }
ssize_t writev(int fd, const struct iovec *pieces, int count) { REAL(writev); return told(real(fd, pieces, count)); }
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) { REAL(pwrite); return told(real(fd, bytes, size, at)); }
ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t at) { REAL(pwritev); return told(real(fd, pieces, count, at)); }
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) { REAL(pwrite64); return told(real(fd, bytes, size, at)); }
ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t at) { REAL(pwritev64); return told(real(fd, pieces, count, at)); }
