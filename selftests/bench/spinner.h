/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vCPUs that access memory in a loop, and record how long they were delayed. */
#ifndef SELFTESTS_SPINNER_H
#define SELFTESTS_SPINNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vcpu.h"

/*
 * The guest counts every pause, in one of eight classes for each power of two.
 */
#define SPINNER_CLASSES 496

/**
 * struct spinner_state - counters of a spinner at a point in time
 * @rounds: rounds of its loop
 * @pauses: number of rounds by the class of the time since the previous round
 */
struct spinner_state {
	uint64_t rounds;
	uint64_t pauses[SPINNER_CLASSES];
};

/**
 * struct spinner - a vCPU that runs a loop
 * @vcpu: the vCPU
 * @thread: runs it
 * @tsc_khz: frequency of the guest's time stamp counter
 * @stop: asks the thread to end
 * @ended: the thread has ended
 */
struct spinner {
	struct vcpu vcpu;
	pthread_t thread;
	uint64_t tsc_khz;
	bool stop;
	bool ended;
};

void spinner_start(struct spinner *s, struct vm *vm, unsigned int cpu);
void spinner_stop(struct spinner *s);
uint64_t spinner_rounds(const struct spinner *s);
void spinner_read(const struct spinner *s, struct spinner_state *state);
uint64_t spinner_take_longest_ns(struct spinner *s);
uint64_t spinner_quantile_ns(const struct spinner *s,
			     const struct spinner_state *from,
			     const struct spinner_state *to,
			     unsigned int per_mille);

#endif /* SELFTESTS_SPINNER_H */
