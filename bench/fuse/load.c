/*
 * The load of the FUSE benchmark, the same for every target: one process a reader, answers timed one by one, and
 * nothing between them but the loop. Prints one line of JSON.
 *
 *   load random     FILE SECONDS READERS STRIDE   4 KiB reads, one in each stride, in random order, no read-ahead
 *   load sequential FILE SECONDS BLOCK [direct]   from start to end, again and again
 *   load fault      FILE SECONDS                  touches the pages of a shared mapping in random order, no read-ahead
 *   load huge       FILE SECONDS                  touches them in order, with huge pages allowed, as QEMU maps RAM
 *   load write      FILE SECONDS [flush]          overwrites 4 KiB pages in random order, with fdatasync after each
 *   load append     FILE SECONDS BLOCK            writes a new file of 64 MiB from start to end, without fsync
 *   load dirty      FILE SECONDS                  changes the pages of a shared mapping in order, then msync
 *   load drop       PATH                          drops a file, or all files below a directory, from the page cache
 *
 * Reading begins with the file's pages dropped from the page cache, and fails where they do not go.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PAGE = 4096, READERS_MAX = 64, APPEND_BYTES = 64 << 20 };

/* What a reader tells the process that started it, in memory that they share. */
struct outcome {
	uint64_t began_ns, ended_ns, operations;
};

static void fail(const char *format, ...)
{
	int number = errno;
	va_list arguments;
	va_start(arguments, format);
	fprintf(stderr, "load: ");
	vfprintf(stderr, format, arguments);
	fprintf(stderr, number ? ": %s\n" : "\n", strerror(number));
	va_end(arguments);
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void *shared_memory(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (memory == MAP_FAILED) fail("no memory");
	return memory;
}

static int open_file(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC, 0644);
	if (fd < 0) fail("%s", path);
	return fd;
}

static size_t length_of(int fd)
{
	struct stat status;
	if (fstat(fd, &status) != 0) fail("fstat");
	return (size_t)status.st_size;
}

static size_t resident_pages(int fd, size_t bytes)
{
	size_t pages = (bytes + PAGE - 1) / PAGE, count = 0;
	unsigned char *vector = malloc(pages);
	void *mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED || mincore(mapping, bytes, vector) != 0) fail("mincore");
	for (size_t page = 0; page < pages; page++) count += vector[page] & 1;
	munmap(mapping, bytes);
	free(vector);
	return count;
}

/* Pages that are still being read do not go at once. */
static void drop(int fd)
{
	size_t bytes = length_of(fd), left = 0;
	for (int attempt = 0; bytes > 0 && attempt < 200; attempt++) {
		if (posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED) != 0) fail("posix_fadvise");
		left = resident_pages(fd, bytes);
		if (left == 0) return;
		usleep(2000);
	}
	errno = 0;
	if (left > 0) fail("%zu pages stay in the page cache", left);
}

static int drop_entry(const char *path, const struct stat *status, int type, struct FTW *walk)
{
	(void)status;
	(void)walk;
	if (type != FTW_F) return 0;
	int fd = open_file(path, O_RDONLY);
	fdatasync(fd);
	drop(fd);
	close(fd);
	return 0;
}

/* Numbers below count in random order, the same for the same seed. */
static uint32_t *shuffled(size_t count, uint32_t seed)
{
	uint32_t *order = malloc(count * sizeof *order);
	uint64_t state = 0x9e3779b97f4a7c15u * (seed + 1u);
	for (size_t index = 0; index < count; index++) order[index] = (uint32_t)index;
	for (size_t last = count - 1; last > 0; last--) {
		state ^= state << 13, state ^= state >> 7, state ^= state << 17;
		size_t other = state % (last + 1);
		uint32_t kept = order[last];
		order[last] = order[other], order[other] = kept;
	}
	return order;
}

static int ascending(const void *a, const void *b)
{
	uint32_t left = *(const uint32_t *)a, right = *(const uint32_t *)b;
	return (left > right) - (left < right);
}

static void print_latencies(uint64_t operations, uint64_t bytes, uint64_t ns, uint32_t *latencies_ns)
{
	qsort(latencies_ns, operations, sizeof *latencies_ns, ascending);
	errno = 0;
	if (operations == 0) fail("nothing was done");
	printf("{\"operations\":%llu,\"bytes\":%llu,\"seconds\":%.6f,\"medianUs\":%.2f,\"p99Us\":%.2f}\n",
	       (unsigned long long)operations, (unsigned long long)bytes, (double)ns / 1e9,
	       latencies_ns[operations / 2] / 1e3, latencies_ns[operations * 99 / 100] / 1e3);
}

static void print_total(uint64_t operations, uint64_t bytes, uint64_t ns)
{
	printf("{\"operations\":%llu,\"bytes\":%llu,\"seconds\":%.6f}\n", (unsigned long long)operations,
	       (unsigned long long)bytes, (double)ns / 1e9);
}

static uint64_t deadline(const char *seconds)
{
	return now_ns() + (uint64_t)(atof(seconds) * 1e9);
}

/* Each reader has a part of the file of its own. */
static struct outcome read_at_random(const char *path, const char *seconds, size_t first, size_t count,
				     size_t stride, uint32_t *latencies_ns, pthread_barrier_t *start)
{
	struct outcome outcome = {0};
	static char page[PAGE] __attribute__((aligned(PAGE)));
	uint32_t *order = shuffled(count, (uint32_t)first);
	int fd = open_file(path, O_RDONLY);
	posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM);
	pthread_barrier_wait(start);
	uint64_t until = deadline(seconds), from = now_ns();
	outcome.began_ns = from;
	while (outcome.operations < count && from < until) {
		size_t unit = order[outcome.operations];
		size_t at = (first + unit) * stride + (unit * 7 * PAGE) % stride;
		if (pread(fd, page, PAGE, (off_t)at) != PAGE) fail("pread at %zu", at);
		uint64_t to = now_ns();
		latencies_ns[outcome.operations++] = (uint32_t)(to - from);
		from = to;
	}
	outcome.ended_ns = from;
	return outcome;
}

static void random_reads(const char *path, const char *seconds, size_t readers, size_t stride)
{
	int fd = open_file(path, O_RDONLY);
	size_t units = length_of(fd) / stride, share = units / readers;
	drop(fd);
	close(fd);
	uint32_t *latencies_ns = shared_memory(units * sizeof *latencies_ns);
	struct outcome *outcomes = shared_memory(READERS_MAX * sizeof *outcomes);
	pthread_barrier_t *start = shared_memory(sizeof *start);
	pthread_barrierattr_t shared;
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_barrier_init(start, &shared, (unsigned)readers);
	for (size_t reader = 0; reader < readers; reader++) {
		pid_t child = fork();
		if (child < 0) fail("fork");
		if (child > 0) continue;
		outcomes[reader] = read_at_random(path, seconds, reader * share, share, stride,
						  latencies_ns + reader * share, start);
		_exit(0);
	}
	for (size_t reader = 0; reader < readers; reader++) {
		int status;
		errno = 0;
		if (wait(&status) < 0 || status != 0) fail("a reader failed");
	}
	uint64_t began_ns = UINT64_MAX, ended_ns = 0, operations = 0;
	for (size_t reader = 0; reader < readers; reader++) {
		struct outcome *one = outcomes + reader;
		if (one->began_ns < began_ns) began_ns = one->began_ns;
		if (one->ended_ns > ended_ns) ended_ns = one->ended_ns;
		memmove(latencies_ns + operations, latencies_ns + reader * share,
			one->operations * sizeof *latencies_ns);
		operations += one->operations;
	}
	print_latencies(operations, operations * PAGE, ended_ns - began_ns, latencies_ns);
}

static void sequential_reads(const char *path, const char *seconds, size_t block, int direct)
{
	int fd = open_file(path, O_RDONLY | (direct ? O_DIRECT : 0));
	char *buffer = aligned_alloc(PAGE, block);
	uint64_t limit_ns = (uint64_t)(atof(seconds) * 1e9), spent_ns = 0, bytes = 0, operations = 0;
	memset(buffer, 0, block);
	while (spent_ns < limit_ns) {
		ssize_t got = block;
		drop(fd);
		lseek(fd, 0, SEEK_SET);
		uint64_t from = now_ns();
		while (got > 0 && spent_ns + now_ns() - from < limit_ns) {
			got = read(fd, buffer, block);
			if (got < 0) fail("read");
			bytes += (uint64_t)got;
			operations++;
		}
		spent_ns += now_ns() - from;
	}
	print_total(operations, bytes, spent_ns);
}

static void page_faults(const char *path, const char *seconds)
{
	int fd = open_file(path, O_RDONLY);
	size_t bytes = length_of(fd), pages = bytes / PAGE;
	uint64_t operations = 0;
	uint32_t *order = shuffled(pages, 1), *latencies_ns = malloc(pages * sizeof *latencies_ns);
	drop(fd);
	volatile const char *mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED) fail("mmap");
	madvise((void *)mapping, bytes, MADV_RANDOM);
	uint64_t until = deadline(seconds), began = now_ns(), from = began;
	while (operations < pages && from < until) {
		(void)mapping[(size_t)order[operations] * PAGE];
		uint64_t to = now_ns();
		latencies_ns[operations++] = (uint32_t)(to - from);
		from = to;
	}
	print_latencies(operations, operations * PAGE, from - began, latencies_ns);
}

static void huge_faults(const char *path, const char *seconds)
{
	int fd = open_file(path, O_RDONLY);
	size_t bytes = length_of(fd);
	uint64_t limit_ns = (uint64_t)(atof(seconds) * 1e9), spent_ns = 0, operations = 0;
	while (spent_ns < limit_ns) {
		drop(fd);
		volatile const char *mapping = mmap(NULL, bytes, PROT_READ, MAP_SHARED, fd, 0);
		if (mapping == MAP_FAILED) fail("mmap");
		madvise((void *)mapping, bytes, MADV_HUGEPAGE);
		uint64_t from = now_ns();
		for (size_t at = 0; at < bytes; at += PAGE) {
			if (at % (1 << 20) == 0 && spent_ns + now_ns() - from > limit_ns) break;
			(void)mapping[at];
			operations++;
		}
		spent_ns += now_ns() - from;
		munmap((void *)mapping, bytes);
	}
	print_total(operations, operations * PAGE, spent_ns);
}

static void page_writes(const char *path, const char *seconds, int flush)
{
	static char page[PAGE] __attribute__((aligned(PAGE)));
	int fd = open_file(path, O_RDWR);
	size_t pages = length_of(fd) / PAGE;
	uint64_t operations = 0;
	uint32_t *order = shuffled(pages, 2), *latencies_ns = malloc(pages * sizeof *latencies_ns);
	uint64_t until = deadline(seconds), began = now_ns(), from = began;
	while (operations < pages && from < until) {
		memcpy(page, &from, sizeof from);
		if (pwrite(fd, page, PAGE, (off_t)order[operations] * PAGE) != PAGE) fail("pwrite");
		if (flush && fdatasync(fd) != 0) fail("fdatasync");
		uint64_t to = now_ns();
		latencies_ns[operations++] = (uint32_t)(to - from);
		from = to;
	}
	print_latencies(operations, operations * PAGE, from - began, latencies_ns);
}

static void appends(const char *path, const char *seconds, size_t block)
{
	char *buffer = aligned_alloc(PAGE, block);
	uint64_t limit_ns = (uint64_t)(atof(seconds) * 1e9), spent_ns = 0, bytes = 0, operations = 0;
	memset(buffer, 0x5a, block);
	while (spent_ns < limit_ns) {
		int fd = open_file(path, O_RDWR | O_CREAT | O_TRUNC);
		uint64_t from = now_ns();
		for (size_t at = 0; at < APPEND_BYTES; at += block) {
			if (write(fd, buffer, block) != (ssize_t)block) fail("write");
			operations++;
		}
		spent_ns += now_ns() - from;
		bytes += APPEND_BYTES;
		close(fd);
	}
	unlink(path);
	print_total(operations, bytes, spent_ns);
}

static void dirty_mapping(const char *path, const char *seconds)
{
	int fd = open_file(path, O_RDWR);
	size_t bytes = length_of(fd), pages = bytes / PAGE;
	uint64_t limit_ns = (uint64_t)(atof(seconds) * 1e9), spent_ns = 0, operations = 0;
	volatile char *mapping = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapping == MAP_FAILED) fail("mmap");
	while (spent_ns < limit_ns) {
		uint64_t from = now_ns();
		for (size_t page = 0; page < pages; page++) mapping[page * PAGE]++;
		if (msync((void *)mapping, bytes, MS_SYNC) != 0) fail("msync");
		spent_ns += now_ns() - from;
		operations += pages;
	}
	print_total(operations, operations * PAGE, spent_ns);
}

int main(int count, char **arguments)
{
	const char *mode = count > 1 ? arguments[1] : "";
	const char *path = count > 2 ? arguments[2] : "";
	const char *seconds = count > 3 ? arguments[3] : "";
	size_t number = count > 4 ? strtoull(arguments[4], NULL, 10) : 0;
	size_t second = count > 5 ? strtoull(arguments[5], NULL, 10) : 0;
	const char *last = count > 4 ? arguments[count - 1] : "";
	if (strcmp(mode, "random") == 0 && number > 0 && number <= READERS_MAX && second >= PAGE)
		random_reads(path, seconds, number, second);
	else if (strcmp(mode, "sequential") == 0 && number >= PAGE)
		sequential_reads(path, seconds, number, strcmp(last, "direct") == 0);
	else if (strcmp(mode, "fault") == 0)
		page_faults(path, seconds);
	else if (strcmp(mode, "huge") == 0)
		huge_faults(path, seconds);
	else if (strcmp(mode, "write") == 0)
		page_writes(path, seconds, strcmp(last, "flush") == 0);
	else if (strcmp(mode, "append") == 0 && number > 0)
		appends(path, seconds, number);
	else if (strcmp(mode, "dirty") == 0)
		dirty_mapping(path, seconds);
	else if (strcmp(mode, "drop") == 0) {
		if (nftw(path, drop_entry, 16, FTW_PHYS) != 0) fail("%s", path);
	} else {
		errno = 0;
		fail("not understood: %s", mode);
	}
	return 0;
}
