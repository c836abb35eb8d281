// SPDX-License-Identifier: GPL-2.0-or-later
#include <stddef.h>

#include "common/clocks.h"
#include "device/latency.h"

#define NSEC_PER_USEC 1000ULL
#define NSEC_PER_MSEC 1000000ULL
#define NSEC_PER_SEC  1000000000ULL

const uint64_t latency_bounds_ns[LATENCY_NR_BUCKETS] = {
	100 * NSEC_PER_USEC, 250 * NSEC_PER_USEC,  500 * NSEC_PER_USEC,
	1 * NSEC_PER_MSEC,   2500 * NSEC_PER_USEC, 5 * NSEC_PER_MSEC,
	10 * NSEC_PER_MSEC,  25 * NSEC_PER_MSEC,   50 * NSEC_PER_MSEC,
	100 * NSEC_PER_MSEC, 250 * NSEC_PER_MSEC,  500 * NSEC_PER_MSEC,
	1 * NSEC_PER_SEC,    2500 * NSEC_PER_MSEC, 5 * NSEC_PER_SEC,
	10 * NSEC_PER_SEC,
};

/* Monotonic time. */
uint64_t latency_now_ns(void)
{
	return clock_monotonic_ns();
}

/* Record a latency of @ns. */
void latency_add(struct latency *latency, uint64_t ns)
{
	latency->count++;
	latency->sum_ns += ns;
	for (size_t i = 0; i < LATENCY_NR_BUCKETS; i++) {
		if (ns > latency_bounds_ns[i])
			continue;
		latency->buckets[i]++;
		break;
	}
}
