/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write and verify hotplugged memory.
 *
 * Takes nearly all that is free in ZONE_MOVABLE, which is hotplugged memory
 * only, as the guest onlines it so; stamps every page with words that depend
 * on the page's number and a seed; looks up where the pages are; then verifies
 * all stamps. Two pages that share memory, pages that lose what was written
 * and pages with what an earlier run wrote all show.
 *
 * It runs in a process of its own, the out-of-memory killer's first choice, so
 * that the agent survives a guest that has less memory than it says.
 */
#ifndef PATTERN_H
#define PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#define PATTERN_PAGE_BYTES 4096ULL
#define PATTERN_PAGE_WORDS (PATTERN_PAGE_BYTES / sizeof(uint64_t))

/**
 * struct pattern_result - what was found
 * @bytes: written and verified
 * @hotplugged_bytes: those of them that are in virtio_mem's memory
 * @bad_pages: pages whose stamp was not what was written
 * @first_bad_page: number of the first, if there is one
 * @write_ms: time the writing took
 * @verify_ms: time the verifying took
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
 * pattern_run() - do it
 * @seed: any number, another one each time
 * @result: filled in
 *
 * Return: 0; -EILSEQ with @result, if a page was bad; another negative errno.
 * -ENOMEM: the guest has no hotplugged memory, or ran out of it.
 */
int pattern_run(uint64_t seed, struct pattern_result *result);

/* How many bytes of mapped memory are virtio_mem's? Return: 0, or an errno. */
int pattern_locate(const void *memory, uint64_t bytes, uint64_t *hotplugged);

/**
 * pattern_write() - stamp pages
 * @memory: where they are
 * @pages: how many
 * @seed: any number
 */
void pattern_write(volatile uint64_t *memory, uint64_t pages, uint64_t seed);

/** pattern_is_page() - does page @number still have its stamps? */
bool pattern_is_page(const volatile uint64_t *page, uint64_t seed,
		     uint64_t number);

#endif /* PATTERN_H */
