/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Kernel tracing of the calling thread: how often it waited for a grace period
 * and zapped a VM's page tables, and the module's batch events. Uses tracefs at
 * /sys/kernel/tracing; one user at a time.
 */
#ifndef SELFTESTS_TRACING_H
#define SELFTESTS_TRACING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* The counted events. */
enum tracing_counter {
	TRACING_GRACE_PERIODS,
	TRACING_ZAPS,
	TRACING_NR_COUNTERS,
};

/**
 * struct tracing_batch - a kvm_vmem:batch event; see kmod/trace.h
 */
struct tracing_batch {
	uint32_t creates;
	uint32_t deletes;
	uint32_t flips;
	uint32_t grace_periods;
	uint32_t zaps;
	uint32_t unmaps;
	int32_t result;
	uint64_t judge_ns;
	uint64_t prepare_ns;
	uint64_t grace_ns;
	uint64_t zap_ns;
	uint64_t commit_ns;
};

/**
 * struct tracing_work - a kvm_vmem:work event; see kmod/trace.h
 */
struct tracing_work {
	int32_t vmm;
	uint64_t ran_ns;
	int64_t credit_ns;
};

bool tracing_try_write(const char *path, const char *text, int flags);

void tracing_open(void);
void tracing_close(void);
void tracing_watch_batches(bool on);

void tracing_count_start(void);
uint64_t tracing_count(enum tracing_counter counter);
void tracing_count_stop(void);

unsigned int tracing_take_batches(struct tracing_batch *batches,
				  unsigned int max);

/*
 * Events of one kind, of all threads. Cannot be used together with
 * tracing_open().
 */
FILE *tracing_open_events(const char *event);
bool tracing_next_work(FILE *pipe, struct tracing_work *work);
bool tracing_next_batch(FILE *pipe, struct tracing_batch *batch);
void tracing_close_events(FILE *pipe);

#endif /* SELFTESTS_TRACING_H */
