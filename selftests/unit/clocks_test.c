// SPDX-License-Identifier: GPL-2.0-or-later
/* The clocks of vmemd and vmemctl, compared with the kernel's. */
#include <time.h>

#include "common/clocks.h"
#include "unit.h"

static uint64_t now_ns(void)
{
	struct timespec ts;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &ts), 0);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

/* Many times, as the parts of a time differ. */
static void the_time_since_boot_is_the_kernels(void **state)
{
	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t before = now_ns(), is = clock_monotonic_ns();

		assert_in_range(is, before, now_ns());
	}
}

static void the_date_is_the_kernels(void **state)
{
	struct timespec before, after;
	uint64_t is = 0;

	(void)state;
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &before), 0);
	assert_int_equal(clock_realtime_s(&is), 0);
	assert_int_equal(clock_gettime(CLOCK_REALTIME, &after), 0);
	assert_in_range(is, before.tv_sec, after.tv_sec);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_time_since_boot_is_the_kernels),
		cmocka_unit_test(the_date_is_the_kernels),
	};

	return unit_run(tests, NULL, NULL);
}
