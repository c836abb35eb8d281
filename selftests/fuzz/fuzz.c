// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What the fuzz targets share, and what is checked around every run.
 *
 * A target is a program of libFuzzer's. It sets up the daemon's real objects
 * once, and for each input lets the bytes of it decide what the daemon is sent.
 * Beside what the sanitizers find, these must hold:
 *
 * - No run leaves a descriptor behind, nor a mapping.
 * - A mapping of a file has a page before and a page behind it that cannot be
 *   touched: the linker sends the daemon's mmap() here.
 * - A message is one line, and has no byte that steers terminals. None is
 *   printed, unless FUZZ_LOG is in the environment, for who looks at one input:
 *   write() to standard error ends here as well.
 *
 * What else must hold is the target's.
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

/* Descriptors that are looked at: no target has as many. */
#define FDS_MAX 64

/* A mapping is never closer than this to another. */
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

/* Of memory that was freed a while ago: enough for a run. */
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
 * Send what fits. The daemon may have closed its end, or the socket be full.
 * Return: how many bytes, or -1.
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

	/* In the place of another, or so large that it is refused anyhow. */
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

/* An eventfd that was signalled once. */
ssize_t __wrap_read(int fd, void *bytes, size_t size)
{
	if (fd != fuzz_source_fd || fd < 0 || size != sizeof(uint64_t))
		return __real_read(fd, bytes, size);
	*(uint64_t *)bytes = 1;
	return (ssize_t)size;
}

/* Which descriptors are open, by one call. */
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
	/* An assertion of what is shared with the unit tests is a finding. */
	setenv("CMOCKA_TEST_ABORT", "1", 1);
	/* With the texts that only debugging shows: they are made as well. */
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

	/* Between runs libFuzzer may open some: a symbolizer's, say. */
	look_at_fds(before);
	fuzz_one(&in);
	look_at_fds(after);
	fuzz_require(!memcmp(before, after, sizeof(before)));
	fuzz_require(mapped == mapped_before);
	return 0;
}
