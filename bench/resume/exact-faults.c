/*
 * LD_PRELOAD for QEMU: each page fault brings one page into the page cache, and each read of a disk what is asked for, so
 * that afterwards the page cache holds exactly what was touched. Without it the kernel reads ahead.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>

int madvise(void *start, size_t length, int advice) {
  int (*real)(void *, size_t, int) = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
  return real(start, length, advice == MADV_HUGEPAGE ? MADV_RANDOM : advice);
}

static int opened(int fd) {
  if (fd >= 0) posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
  return fd;
}

#define OPEN(name)                                                                     \
  int name(const char *path, int flags, ...) {                                         \
    int (*real)(const char *, int, ...) = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
    va_list more;                                                                      \
    va_start(more, flags);                                                             \
    mode_t mode = va_arg(more, mode_t);                                                \
    va_end(more);                                                                      \
    return opened(real(path, flags, mode));                                            \
  }

OPEN(open)
OPEN(open64)
