/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Latencies as a histogram. */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

/*
 * Upper bounds of the buckets, in nanoseconds. They reach from 0.1 ms, a
 * request that changes no memslot, to 10 s, and grow by a factor of about 2.5.
 * Longer latencies are only counted in the total.
 */
#define LATENCY_NR_BUCKETS 16

extern const uint64_t latency_bounds_ns[LATENCY_NR_BUCKETS];

/**
 * struct latency - a histogram
 * @buckets: number of latencies per bucket, not cumulative
 * @count: number of all latencies
 * @sum_ns: sum of all latencies
 */
struct latency {
	uint64_t buckets[LATENCY_NR_BUCKETS];
	uint64_t count;
	uint64_t sum_ns;
};

uint64_t latency_now_ns(void);
void latency_add(struct latency *latency, uint64_t ns);

#endif /* LATENCY_H */
