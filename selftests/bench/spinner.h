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

/**
 * struct spinner - a vCPU that goes round
 * @vcpu: the vCPU
 * @thread: runs it
 * @stop: asks the thread to end
 */
struct spinner {
	struct vcpu vcpu;
	pthread_t thread;
	bool stop;
};

void spinner_start(struct spinner *s, struct vm *vm);
void spinner_stop(struct spinner *s);
uint64_t spinner_rounds(const struct spinner *s);
uint64_t spinner_take_longest_pause(struct spinner *s);

#endif /* SELFTESTS_SPINNER_H */
