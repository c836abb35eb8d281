// SPDX-License-Identifier: GPL-2.0-or-later
#include "clock.h"

#include <time.h>

/** now_ns() - Return: nanoseconds of CLOCK_MONOTONIC. */
uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}
