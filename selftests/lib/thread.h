/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Threads of a test, with counters and flags to report progress and to stop
 * them.
 */
#ifndef SELFTESTS_THREAD_H
#define SELFTESTS_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void thread_start(pthread_t *thread, void *(*run)(void *), void *arg);

uint64_t counter_read(const uint64_t *counter);
void counter_add(uint64_t *counter);

bool flag_is_set(const bool *flag);
void flag_set(bool *flag);

#endif /* SELFTESTS_THREAD_H */
