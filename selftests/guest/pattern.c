// SPDX-License-Identifier: GPL-2.0-or-later
#include "pattern.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hotplug.h"

#define HUGE_BYTES (2ULL << 20)

/* Left free for movable pages of page tables and of the agent. */
#define MARGIN_BYTES (8 * HUGE_BYTES)

/* Both ends of the page and two words between, in four cache lines. */
static const unsigned int stamp_words[] = {0, 171, 342, PATTERN_PAGE_WORDS - 1};
#define STAMPS (sizeof(stamp_words) / sizeof(stamp_words[0]))

/* Entries of /proc/PID/pagemap that are read at a time. */
#define PAGEMAP_BATCH 4096

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Any two inputs give unrelated words (splitmix64). */
static uint64_t stamp(uint64_t seed, uint64_t page, unsigned int word)
{
	uint64_t x = seed +
		     (page * PATTERN_PAGE_WORDS + word) * 0x9e3779b97f4a7c15ULL;

	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

void pattern_write(volatile uint64_t *memory, uint64_t pages, uint64_t seed)
{
	uint64_t page;
	unsigned int i;

	for (page = 0; page < pages; page++)
		for (i = 0; i < STAMPS; i++)
			memory[page * PATTERN_PAGE_WORDS + stamp_words[i]] =
				stamp(seed, page, stamp_words[i]);
}

bool pattern_is_page(const volatile uint64_t *page, uint64_t seed,
		     uint64_t number)
{
	unsigned int i;

	for (i = 0; i < STAMPS; i++)
		if (page[stamp_words[i]] != stamp(seed, number, stamp_words[i]))
			return false;
	return true;
}

static void verify_pages(const volatile uint64_t *memory, uint64_t pages,
			 uint64_t seed, struct pattern_result *result)
{
	uint64_t page;

	for (page = 0; page < pages; page++) {
		if (pattern_is_page(memory + page * PATTERN_PAGE_WORDS, seed,
				    page))
			continue;
		if (!result->bad_pages++)
			result->first_bad_page = page;
	}
}

static uint64_t count_hotplugged(const uint64_t *entries, uint64_t nr_entries,
				 const struct hotplug_range *ranges,
				 unsigned int nr_ranges)
{
	uint64_t gpa, pages = 0, i;

	for (i = 0; i < nr_entries; i++)
		pages += hotplug_entry(entries[i], ranges, nr_ranges, &gpa);
	return pages;
}

/* Count the pages in memory that virtio_mem has added. */
static int locate_pages(const void *memory, uint64_t pages,
			uint64_t *hotplugged)
{
	struct hotplug_range ranges[HOTPLUG_MAX_RANGES];
	uint64_t entries[PAGEMAP_BATCH], first, nr;
	unsigned int nr_ranges;
	ssize_t len;
	int fd, ret;

	*hotplugged = 0;
	ret = hotplug_ranges(ranges, &nr_ranges);
	if (ret)
		return ret;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	for (first = 0; first < pages; first += nr) {
		nr = pages - first;
		if (nr > PAGEMAP_BATCH)
			nr = PAGEMAP_BATCH;
		len = pread(fd, entries, nr * sizeof(entries[0]),
			    (off_t)(((uintptr_t)memory / PATTERN_PAGE_BYTES +
				     first) *
				    sizeof(entries[0])));
		if (len != (ssize_t)(nr * sizeof(entries[0]))) {
			ret = len < 0 ? -errno : -EIO;
			break;
		}
		*hotplugged += count_hotplugged(entries, nr, ranges, nr_ranges);
	}
	close(fd);
	return ret;
}

static int run(uint64_t seed, struct pattern_result *result)
{
	uint64_t size, pages, hotplugged, start;
	void *memory;
	int ret;

	ret = hotplug_movable_free(&size);
	if (ret)
		return ret;
	if (size < MARGIN_BYTES + HUGE_BYTES)
		return -ENOMEM;
	size = (size - MARGIN_BYTES) & ~(HUGE_BYTES - 1);
	pages = size / PATTERN_PAGE_BYTES;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	madvise(memory, size, MADV_HUGEPAGE);

	start = now_ms();
	pattern_write(memory, pages, seed);
	result->write_ms = now_ms() - start;
	ret = locate_pages(memory, pages, &hotplugged);
	if (ret)
		return ret;
	start = now_ms();
	verify_pages(memory, pages, seed, result);
	result->verify_ms = now_ms() - start;
	result->bytes = size;
	result->hotplugged_bytes = hotplugged * PATTERN_PAGE_BYTES;
	return result->bad_pages ? -EILSEQ : 0;
}

static void volunteer_for_oom(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, "1000", 4) < 0)
		_exit(1);
	close(fd);
}

/* The child's result, in memory shared with the parent. */
struct report {
	int ret;
	struct pattern_result result;
};

int pattern_locate(const void *memory, uint64_t bytes, uint64_t *hotplugged)
{
	uint64_t pages;
	int ret = locate_pages(memory, bytes / PATTERN_PAGE_BYTES, &pages);

	*hotplugged = pages * PATTERN_PAGE_BYTES;
	return ret;
}

int pattern_run(uint64_t seed, struct pattern_result *result)
{
	struct report *report;
	int status, ret;
	pid_t pid;

	report = mmap(NULL, sizeof(*report), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (report == MAP_FAILED)
		return -errno;
	pid = fork();
	if (pid < 0) {
		ret = -errno;
		goto out;
	}
	if (!pid) {
		volunteer_for_oom();
		report->ret = run(seed, &report->result);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) < 0)
		ret = -errno;
	else if (status)
		ret = -ENOMEM; /* killed */
	else
		ret = report->ret;
	*result = report->result;
out:
	munmap(report, sizeof(*report));
	return ret;
}
