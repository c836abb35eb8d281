/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How long things took, as a histogram. */
#ifndef LATENCY_H
#define LATENCY_H

#include <stdint.h>

/*
 * Upper bounds of the buckets, in nanoseconds. From what answers a request that
 * needs no memslot, 0.1 ms, to what makes the guest's operator look at the
 * host, 10 s; about 2.5 times from one to the next. What took longer than the
 * last is counted in the total alone.
 */
#define LATENCY_NR_BUCKETS 16

extern const uint64_t latency_bounds_ns[LATENCY_NR_BUCKETS];

/**
 * struct latency - a histogram
 * @buckets: how many took at most so long, and longer than the bucket before
 * @count: how many in all
 * @sum_ns: how long all of them together
 */
struct latency {
	uint64_t buckets[LATENCY_NR_BUCKETS];
	uint64_t count;
	uint64_t sum_ns;
};

uint64_t latency_now_ns(void);
void latency_add(struct latency *latency, uint64_t ns);

#endif /* LATENCY_H */
