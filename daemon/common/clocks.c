// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Clocks of both programs, read by clock_gettime(2) only.
 *
 * If the vDSO cannot read the clock, or there is no vDSO, each reading is a
 * system call, which vmemd's filter must allow. It allows clock_gettime().
 * time() and gettimeofday() would be other system calls.
 */
#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "common/clocks.h"

#define NSEC_PER_SEC 1000000000ULL

/**
 * clock_monotonic_ns() - read CLOCK_MONOTONIC
 *
 * The kernel always has this clock. All deadlines depend on it, so the program
 * aborts if it cannot be read.
 *
 * Return: nanoseconds since an arbitrary time in the past.
 */
uint64_t clock_monotonic_ns(void)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_MONOTONIC, &ts) < 0)
		abort();
	return (uint64_t)ts.tv_sec * NSEC_PER_SEC + (uint64_t)ts.tv_nsec;
}

/**
 * clock_realtime_s() - read CLOCK_REALTIME
 * @seconds: set to the seconds since 1970
 *
 * Return: 0; a negative errno: the time is unknown.
 */
int clock_realtime_s(uint64_t *seconds)
{
	struct timespec ts;

	if (clock_gettime(CLOCK_REALTIME, &ts) < 0)
		return -errno;
	*seconds = (uint64_t)ts.tv_sec;
	return 0;
}
