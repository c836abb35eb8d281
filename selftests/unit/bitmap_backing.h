/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A backing without a kernel module: a bit per block and a byte of memory per
 * block. It records the calls in order, and fails when a test requests it.
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
 * struct bitmap_backing - a backing that tests inspect and control
 * @fail: negative errno that plug, unplug and unplug-all return; 0: success
 * @fail_discard: as @fail, for discard
 * @fail_verify: as @fail, for verify
 * @fail_once: @fail and @fail_discard apply to one call only
 * @wait: what "await" returns; if -EINPROGRESS, the test ends the wait by
 *	backing_ended()
 * @repeated: the next "repeat" finds that the request was a repetition
 * @stale: the next "verify" finds that the blocks differ, and adopts @truth
 * @later: operations are deferred until bitmap_backing_finish()
 * @lost: number of lost answers
 * @truth: the actual state of the blocks, adopted on -EAGAIN and by "verify";
 *	NULL: as recorded
 * @dirty: a byte per block, not 0 if its memory has contents
 * @log: recorded calls, @nr_log of them
 * @waiting: the deferred operation, while @waits
 */
struct bitmap_backing {
	struct backing backing;
	int fail;
	int fail_discard;
	int fail_verify;
	int wait;
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
