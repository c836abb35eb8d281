/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write and verify hotplugged memory.
 *
 * Allocates nearly all free memory of ZONE_MOVABLE, which in this guest
 * consists of hotplugged memory only; stamps every page with words that depend
 * on the page's number and a seed; finds the physical addresses of the pages;
 * then verifies all stamps. This detects pages that share memory, pages that
 * lose their contents, and pages with the contents of an earlier run.
 *
 * It runs in a process of its own, the first candidate of the OOM killer, so
 * that the agent survives if the guest has less memory than it reports.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#define PATTERN_PAGE_BYTES 4096ULL
#define PATTERN_PAGE_WORDS (PATTERN_PAGE_BYTES / sizeof(uint64_t))

/**
 * struct pattern_result - result of a run
 * @bytes: bytes written and verified
 * @hotplugged_bytes: part of @bytes in virtio_mem's memory
 * @bad_pages: number of pages with wrong stamps
 * @first_bad_page: number of the first of them, if any
 * @write_ms: time to write
 * @verify_ms: time to verify
 */
struct pattern_result {
	uint64_t bytes;
	uint64_t hotplugged_bytes;
	uint64_t bad_pages;
	uint64_t first_bad_page;
	uint64_t write_ms;
	uint64_t verify_ms;
};

/**
 * pattern_run() - write and verify hotplugged memory
 * @seed: any number, different for each run
 * @result: filled in
 *
 * Return: 0; -EILSEQ with @result, if a page was bad; another negative errno.
 * -ENOMEM: the guest has no hotplugged memory, or ran out of it.
 */
int pattern_run(uint64_t seed, struct pattern_result *result);

/*
 * Count the bytes of mapped memory in virtio_mem's. Return: 0, or a negative
 * errno.
 */
int pattern_locate(const void *memory, uint64_t bytes, uint64_t *hotplugged);

/**
 * pattern_write() - stamp pages
 * @memory: the pages
 * @pages: number of pages
 * @seed: any number
 */
void pattern_write(volatile uint64_t *memory, uint64_t pages, uint64_t seed);

/** pattern_is_page() - does page @number still have its stamps? */
bool pattern_is_page(const volatile uint64_t *page, uint64_t seed,
		     uint64_t number);

#endif /* PATTERN_H */
