/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vCPUs that run and touch memory, and know how long they were kept from it.
 */
#ifndef SELFTESTS_SPINNER_H
#define SELFTESTS_SPINNER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vcpu.h"

/*
 * Pauses are sorted into eight classes for each power of two, by the guest, so
 * that it can note every one of them.
 */
#define SPINNER_CLASSES 496

/**
 * struct spinner_state - what a spinner has counted up to a time
 * @rounds: of its loop
 * @pauses: rounds that took this long after the one before, by class
 */
struct spinner_state {
	uint64_t rounds;
	uint64_t pauses[SPINNER_CLASSES];
};

/**
 * struct spinner - a vCPU that goes round
 * @vcpu: the vCPU
 * @thread: runs it
 * @tsc_khz: of the guest's time stamp counter
 * @stop: asks the thread to end
 * @ended: the thread has
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
