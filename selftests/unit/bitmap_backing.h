/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backing without a kernel: blocks are bits and memory is a byte per block.
 * It notes what it was told, in order, and fails when a test wants it to.
 */
#ifndef BITMAP_BACKING_H
#define BITMAP_BACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backing/backing.h"

#define BITMAP_LOG_MAX 64

enum bitmap_call {
	CALL_PLUG,
	CALL_UNPLUG,
	CALL_UNPLUG_ALL,
	CALL_DISCARD,
	CALL_REPEAT,
	CALL_VERIFY,
};

struct bitmap_log {
	enum bitmap_call call;
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct bitmap_backing - a backing that a test looks into
 * @fail: errno that plug, unplug and unplug-all return, negative; 0: none
 * @fail_discard: the same for discard; @fail_verify: for verify
 * @fail_once: @fail and @fail_discard are for one call only
 * @repeated: the next "repeat" finds that it is
 * @stale: "verify" finds that @truth is not what it seemed
 * @later: operations are not done before bitmap_backing_finish()
 * @lost: answers that were lost
 * @truth: what the blocks really are, which a failure with -EAGAIN makes
 *	known; NULL: the same as they seem
 * @dirty: a byte per block: not 0 where memory has contents
 * @log: calls in order; @nr_log of them
 * @waiting: the operation that is not done, while @waits
 */
struct bitmap_backing {
	struct backing backing;
	int fail;
	int fail_discard;
	int fail_verify;
	bool fail_once;
	bool repeated;
	bool later;
	bool stale;
	unsigned int lost;
	uint8_t *truth;
	uint8_t *dirty;
	struct bitmap_log log[BITMAP_LOG_MAX];
	size_t nr_log;
	struct bitmap_log waiting;
	bool waits;
};

void bitmap_backing_init(struct bitmap_backing *bitmap, uint64_t gpa,
			 uint64_t size, uint64_t block_size);
bool bitmap_backing_finish(struct bitmap_backing *bitmap);
void bitmap_backing_free(struct bitmap_backing *bitmap);

#endif /* BITMAP_BACKING_H */
