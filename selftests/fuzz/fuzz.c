// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Common parts of the fuzz targets, and the checks around every run.
 *
 * A target is a libFuzzer program. It sets up the daemon's real objects once.
 * For each input, the bytes decide what the daemon receives. In addition to the
 * sanitizers, these invariants are checked:
 *
 * - A run leaves no descriptor and no mapping behind.
 * - A mapping of a file has an inaccessible page before and behind it: the
 *   linker redirects the daemon's mmap() to this file.
 * - A log message is one line without control characters. Messages are printed
 *   only if FUZZ_LOG is in the environment, to examine one input: write() to
 *   standard error is redirected too.
 *
 * Targets check further invariants.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "fd_message.h"
#include "fuzz.h"

/* Maximum descriptor number that is checked, more than any target has. */
#define FDS_MAX 64

/* Minimum distance between mappings. */
#define GUARD 4096ULL

void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd,
		  off_t offset);
void *__real_mmap(void *address, size_t size, int prot, int flags, int fd,
		  off_t offset);
int __wrap_munmap(void *address, size_t size);
int __real_munmap(void *address, size_t size);
ssize_t __wrap_write(int fd, const void *bytes, size_t size);
ssize_t __real_write(int fd, const void *bytes, size_t size);
ssize_t __wrap_read(int fd, void *bytes, size_t size);
ssize_t __real_read(int fd, void *bytes, size_t size);
const char *__asan_default_options(void);
int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_sink fuzz_sinks[2] = {{.fd = -1}, {.fd = -1}};
int fuzz_source_fd = -1;

static uint64_t mapped;
static bool show_log;

/* Quarantine of freed memory: enough for a run. */
const char *__asan_default_options(void)
{
	return "quarantine_size_mb=8:allocator_release_to_os_interval_ms=-1";
}

void fuzz_broken(const char *file, int line, const char *condition)
{
	fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
	abort();
}

uint64_t fuzz_mapped(void)
{
	return mapped;
}

size_t fuzz_bytes(struct fuzz_input *in, void *to, size_t size)
{
	size_t part = size < in->left ? size : in->left;

	memcpy(to, in->at, part);
	memset((uint8_t *)to + part, 0, size - part);
	in->at += part;
	in->left -= part;
	return part;
}

uint8_t fuzz_u8(struct fuzz_input *in)
{
	uint8_t value;

	fuzz_bytes(in, &value, sizeof(value));
	return value;
}

uint16_t fuzz_u16(struct fuzz_input *in)
{
	uint16_t value;

	fuzz_bytes(in, &value, sizeof(value));
	return value;
}

uint32_t fuzz_u32(struct fuzz_input *in)
{
	uint32_t value;

	fuzz_bytes(in, &value, sizeof(value));
	return value;
}

uint64_t fuzz_u64(struct fuzz_input *in)
{
	uint64_t value;

	fuzz_bytes(in, &value, sizeof(value));
	return value;
}

/*
 * Send as much as fits. The daemon may have closed its end, or the socket may
 * be full. Return: number of bytes, or -1.
 */
ssize_t fuzz_send(int fd, const void *bytes, size_t size, const int *fds,
		  size_t nr_fds)
{
	fuzz_require(nr_fds <= FUZZ_FDS_MAX);
	return fd_message_send(fd, bytes, size, fds, nr_fds, MSG_DONTWAIT);
}

static size_t guarded_size(size_t size)
{
	return ((size + GUARD - 1) & ~(GUARD - 1)) + 2 * GUARD;
}

void *__wrap_mmap(void *address, size_t size, int prot, int flags, int fd,
		  off_t offset)
{
	size_t whole = guarded_size(size);
	uint8_t *reserved, *map;

	/* A replacement of a mapping, or too large to succeed. */
	if (flags & MAP_FIXED || whole < size)
		return __real_mmap(address, size, prot, flags, fd, offset);
	reserved =
		__real_mmap(NULL, whole, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (reserved == MAP_FAILED)
		return MAP_FAILED;
	map = __real_mmap(reserved + GUARD, size, prot, flags | MAP_FIXED, fd,
			  offset);
	if (map == MAP_FAILED)
		__real_munmap(reserved, whole);
	else
		mapped += size;
	return map;
}

int __wrap_munmap(void *address, size_t size)
{
	mapped -= size;
	return __real_munmap((uint8_t *)address - GUARD, guarded_size(size));
}

ssize_t __wrap_write(int fd, const void *bytes, size_t size)
{
	const uint8_t *text = bytes;

	for (int i = 0; i < 2; i++) {
		if (fd != fuzz_sinks[i].fd || fd < 0)
			continue;
		fuzz_sinks[i].writes++;
		return (ssize_t)size;
	}
	if (fd != STDERR_FILENO)
		return __real_write(fd, bytes, size);
	fuzz_require(size && text[size - 1] == '\n');
	for (size_t i = 0; i < size - 1; i++)
		fuzz_require(text[i] >= ' ' && text[i] != 0x7f);
	return show_log ? __real_write(fd, bytes, size) : (ssize_t)size;
}

/* Read from an eventfd that was signalled once. */
ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
	if (fd != fuzz_source_fd || fd < 0 || size != sizeof(uint64_t))
		return __real_read(fd, bytes, size);
	*(uint64_t *)bytes = 1;
	return (ssize_t)size;
}

/* Find the open descriptors with one call. */
static void look_at_fds(struct pollfd *fds)
{
	for (int fd = 0; fd < FDS_MAX; fd++)
		fds[fd] = (struct pollfd){.fd = fd};
	fuzz_require(poll(fds, FDS_MAX, 0) >= 0);
	for (int fd = 0; fd < FDS_MAX; fd++)
		fds[fd].revents &= POLLNVAL;
}

int LLVMFuzzerInitialize(int *argc __attribute__((unused)),
			 char ***argv __attribute__((unused)))
{
	/* A failed assertion of the shared test code is a finding. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	/* Also cover the texts of debug messages. */
	log_init(LOG_LEVEL_DEBUG);
	show_log = getenv("FUZZ_LOG");
	fuzz_set_up();
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct pollfd before[FDS_MAX], after[FDS_MAX];
	struct fuzz_input in = {data, size};
	uint64_t mapped_before = mapped;

	/*
	 * libFuzzer may open descriptors between runs, for example a
	 * symbolizer's.
	 */
	look_at_fds(before);
	fuzz_one(&in);
	look_at_fds(after);
	fuzz_require(!memcmp(before, after, sizeof(before)));
	fuzz_require(mapped == mapped_before);
	return 0;
}
