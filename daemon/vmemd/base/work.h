/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How much one turn of the event loop does, in steps.
 *
 * One thread serves everybody, so nobody waits longer than the longest turn. A
 * step is something small that a guest, a VMM or an operator can cause many of:
 * a descriptor, a memory region or word of a bitmap that is looked at, a page
 * that is discarded. Steps are counted where they are made, and whoever could go
 * on for long stops when a turn has had enough of them. Tests assert steps; time
 * depends on the machine.
 */
#ifndef WORK_H
#define WORK_H

#include <stdbool.h>
#include <stdint.h>

/*
 * Steps after which a turn is to end: some milliseconds of work. Who is in the
 * middle of a step's worth that cannot be divided may exceed it by that.
 */
#define WORK_TURN_STEPS 65536

/* A page of 4 KiB that is discarded is a step. */
#define WORK_STEP_BYTES 4096

/*
 * And so many are a call that asks the kernel for something: what it takes to
 * get there and back counts, where little is asked for at a time.
 */
#define WORK_CALL_STEPS 64

/**
 * struct work - the turns of an event loop
 * @steps: of this turn
 * @most_steps: of the turn that had most of them
 * @most_ns: how long the longest turn took
 */
struct work {
	uint64_t steps;
	uint64_t most_steps;
	uint64_t most_ns;
};

/* @work: NULL: nobody counts. */
static inline void work_add(struct work *work, uint64_t steps)
{
	if (work)
		work->steps += steps;
}

/* Has this turn had enough? */
static inline bool work_enough(const struct work *work)
{
	return work && work->steps >= WORK_TURN_STEPS;
}

static inline void work_begin_turn(struct work *work)
{
	work->steps = 0;
}

/* @ns: how long it took */
static inline void work_end_turn(struct work *work, uint64_t ns)
{
	if (work->steps > work->most_steps)
		work->most_steps = work->steps;
	if (ns > work->most_ns)
		work->most_ns = ns;
}

#endif /* WORK_H */
