/* resident-pages FILE: the pages of a file that the page cache holds, as lines "FIRST COUNT". */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>

int main(int argc, char **argv) {
  struct stat status;
  int fd = argc == 2 ? open(argv[1], O_RDONLY) : -1;
  if (fd < 0 || fstat(fd, &status)) return perror("resident-pages"), 1;
  size_t pages = ((size_t)status.st_size + 4095) / 4096;
  if (pages == 0) return 0;
  unsigned char *resident = malloc(pages);
  void *map = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_SHARED, fd, 0);
  if (!resident || map == MAP_FAILED || mincore(map, (size_t)status.st_size, resident)) return perror("mincore"), 1;
  for (size_t first = 0; first < pages;) {
    size_t end = first;
    while (end < pages && (resident[end] & 1)) end++;
    if (end > first) printf("%zu %zu\n", first, end - first);
    first = end > first ? end : first + 1;
  }
  return 0;
}
