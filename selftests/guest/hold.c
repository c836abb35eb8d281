// SPDX-License-Identifier: GPL-2.0-or-later
#include "hold.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pattern.h"

/* Words of a page without stamps; MARK_WORD contains MARK. */
#define MARK_WORD   1
#define NUMBER_WORD 2
#define MARK	    0x646c65682d6d6576ULL

/* Sent to the holder: verify the memory, and keep it or end. */
#define REQUEST_VERIFY 'v'
#define REQUEST_END    'e'

/* Sent by the holder: once it has the memory, then the answer to each request. */
struct report {
	int ret;
	uint64_t bad_pages;
};

static pid_t holder;
static int holder_fd = -1;

static void mark_pages(volatile uint64_t *memory, uint64_t pages)
{
	uint64_t page;

	for (page = 0; page < pages; page++) {
		memory[page * PATTERN_PAGE_WORDS + MARK_WORD] = MARK;
		memory[page * PATTERN_PAGE_WORDS + NUMBER_WORD] = page;
	}
}

bool hold_is_page(const uint64_t *page, uint64_t seed)
{
	return page[MARK_WORD] == MARK &&
	       pattern_is_page(page, seed, page[NUMBER_WORD]);
}

static void verify_pages(const uint64_t *memory, uint64_t pages, uint64_t seed,
			 struct report *report)
{
	uint64_t page;

	report->bad_pages = 0;
	for (page = 0; page < pages; page++)
		report->bad_pages +=
			!hold_is_page(memory + page * PATTERN_PAGE_WORDS, seed);
	report->ret = report->bad_pages ? -EILSEQ : 0;
}

/* Runs in the process that holds the memory, which ends with the agent. */
static void hold(int fd, uint64_t bytes, uint64_t seed)
{
	uint64_t pages = bytes / PATTERN_PAGE_BYTES;
	struct report report = {0};
	uint64_t *memory;
	char request = '\0';

	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED) {
		report.ret = -errno;
	} else {
		madvise(memory, bytes, MADV_HUGEPAGE);
		pattern_write(memory, pages, seed);
		mark_pages(memory, pages);
	}
	if (write(fd, &report, sizeof(report)) != sizeof(report) || report.ret)
		_exit(1);
	while (request != REQUEST_END) {
		if (read(fd, &request, 1) != 1)
			_exit(1);
		verify_pages(memory, pages, seed, &report);
		if (write(fd, &report, sizeof(report)) != sizeof(report))
			_exit(1);
	}
	_exit(0);
}

/* Return: the holder's result, -ENOMEM if it was killed. */
static int hear(struct report *report)
{
	return read(holder_fd, report, sizeof(*report)) == sizeof(*report)
		       ? report->ret
		       : -ENOMEM;
}

static void end_holder(void)
{
	kill(holder, SIGKILL);
	waitpid(holder, NULL, 0);
	close(holder_fd);
	holder_fd = -1;
}

/*
 * The guest gives back all of its free memory while memory is held. After the
 * fork the agent shares its pages with the holder. If the agent then had to copy
 * one to read its next request, the kernel would end the holder to free memory.
 * Locking copies them now.
 */
static int keep_own_pages(void)
{
	return mlockall(MCL_CURRENT) ? -errno : 0;
}

int hold_begin(uint64_t bytes, uint64_t seed)
{
	struct report report;
	int fds[2], ret;

	if (holder_fd >= 0)
		return -EBUSY;
	if (!bytes || bytes % PATTERN_PAGE_BYTES)
		return -EINVAL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	holder = fork();
	if (!holder) {
		close(fds[0]);
		hold(fds[1], bytes, seed);
	}
	ret = holder < 0 ? -errno : 0;
	close(fds[1]);
	if (ret) {
		close(fds[0]);
		return ret;
	}
	holder_fd = fds[0];
	ret = hear(&report);
	if (!ret)
		ret = keep_own_pages();
	if (ret)
		end_holder();
	return ret;
}

static int request_verify(char request, uint64_t *bad_pages)
{
	struct report report = {0};
	int ret;

	if (holder_fd < 0)
		return -ENOENT;
	if (send(holder_fd, &request, 1, MSG_NOSIGNAL) != 1)
		ret = -ENOMEM;
	else
		ret = hear(&report);
	*bad_pages = report.bad_pages;
	return ret;
}

int hold_verify(uint64_t *bad_pages)
{
	return request_verify(REQUEST_VERIFY, bad_pages);
}

int hold_end(uint64_t *bad_pages)
{
	int ret = request_verify(REQUEST_END, bad_pages);

	if (ret != -ENOENT)
		end_holder();
	return ret;
}
