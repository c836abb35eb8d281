/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The amount of work in a turn of the event loop, in steps.
 *
 * One thread serves all clients and guests, so the longest turn bounds their
 * waiting time. A step is a small unit of work that a guest, a VMM or an
 * operator can cause in large numbers: reading a descriptor, a memory region or
 * a word of a bitmap, or discarding or allocating a page. Functions count their
 * steps. Long operations stop when the turn has reached its limit, and continue
 * in a later turn. Tests check the number of steps, because time depends on the
 * machine.
 */
#ifndef WORK_H
#define WORK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Maximum number of steps in a turn: some milliseconds of work. An indivisible
 * operation may exceed it.
 */
#define WORK_TURN_STEPS 65536

/* Discarding or allocating this many bytes, a page, is one step. */
#define WORK_STEP_BYTES 4096

/* Steps of a system call, which costs time even if it does little. */
#define WORK_CALL_STEPS 64

/**
 * struct work - work of an event loop
 * @steps: steps in the current turn
 * @most_steps: maximum number of steps in a turn
 * @most_ns: duration of the longest turn
 */
struct work {
	uint64_t steps;
	uint64_t most_steps;
	uint64_t most_ns;
};

/* @work: NULL: steps are not counted. */
static inline void work_add(struct work *work, uint64_t steps)
{
	if (work)
		work->steps += steps;
}

/* Has this turn reached its limit? */
static inline bool work_enough(const struct work *work)
{
	return work && work->steps >= WORK_TURN_STEPS;
}

static inline void work_begin_turn(struct work *work)
{
	work->steps = 0;
}

/* @ns: duration of the turn */
static inline void work_end_turn(struct work *work, uint64_t ns)
{
	if (work->steps > work->most_steps)
		work->most_steps = work->steps;
	if (ns > work->most_ns)
		work->most_ns = ns;
}

#endif /* WORK_H */
