// SPDX-License-Identifier: GPL-2.0-or-later
/* Resident memory beyond the plugged size: the warning, and taking it back. */
#include <string.h>
#include <unistd.h>

#include "device/excess.h"
#include "unit.h"

/* Number of warnings that a check logs: base/log.c writes to standard error. */
static unsigned int warnings(struct excess *excess, uint64_t resident,
			     uint64_t plugged)
{
	int pipe_fds[2], kept = dup(STDERR_FILENO);
	char text[512];
	unsigned int nr = 0;
	ssize_t got;

	assert_int_equal(pipe(pipe_fds), 0);
	dup2(pipe_fds[1], STDERR_FILENO);
	close(pipe_fds[1]);
	excess_look(excess, resident, plugged, 0, false);
	dup2(kept, STDERR_FILENO);
	close(kept);
	while ((got = read(pipe_fds[0], text, sizeof(text))) > 0)
		for (ssize_t i = 0; i < got; i++)
			nr += text[i] == '\n';
	close(pipe_fds[0]);
	return nr;
}

static void less_than_the_plugged_size_is_no_excess(void **state)
{
	struct excess excess = {0};

	(void)state;
	assert_int_equal(warnings(&excess, 0, GIB), 0);
	assert_int_equal(excess.now, 0);
	assert_int_equal(warnings(&excess, GIB, GIB), 0);
	assert_int_equal(excess.now, 0);
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN, GIB), 0);
	assert_int_equal(excess.now, EXCESS_WARN);
}

static void an_excess_is_warned_of_once_until_it_is_gone(void **state)
{
	struct excess excess = {0};

	(void)state;
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN + 4096, GIB), 1);
	assert_int_equal(warnings(&excess, 2 * GIB, GIB), 0);
	/* Around the limit the excess does not count as gone. */
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN, GIB), 0);
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN + 4096, GIB), 0);
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN / 2, GIB), 0);
	assert_int_equal(warnings(&excess, GIB + EXCESS_WARN + 4096, GIB), 1);
}

static void a_guest_cannot_fill_the_log(void **state)
{
	struct excess excess = {0};
	unsigned int nr = 0;

	(void)state;
	for (int i = 0; i < 10 * LOG_LIMIT_BURST; i++) {
		nr += warnings(&excess, 2 * GIB, GIB);
		nr += warnings(&excess, GIB, GIB);
	}
	assert_in_range(nr, 1, 3 * LOG_LIMIT_BURST);
}

static void without_a_cap_nothing_is_taken_back(void **state)
{
	struct excess excess = {0};

	(void)state;
	assert_false(excess_look(&excess, 9 * GIB, GIB, 0, false));
	assert_int_equal(excess.punches, 0);
}

static void more_than_the_cap_is_taken_back(void **state)
{
	struct excess excess = {.has_cap = true, .cap = 4 * MIB};

	(void)state;
	assert_false(excess_look(&excess, GIB + 4 * MIB, GIB, 0, false));
	assert_true(excess_look(&excess, GIB + 6 * MIB, GIB, 0, false));
	/* Owed discards are not the guest's excess. */
	assert_false(excess_look(&excess, GIB + 6 * MIB, GIB, 2 * MIB, false));
	assert_int_equal(excess.now, 4 * MIB);
	assert_true(excess_look(&excess, GIB + 8 * MIB, GIB, 2 * MIB, false));
	/*
	 * While memory is being taken back, the excess is computed but not
	 * taken twice.
	 */
	assert_false(excess_look(&excess, GIB + 8 * MIB, GIB, 0, true));
	assert_int_equal(excess.now, 8 * MIB);
	assert_int_equal(excess.punches, 2);
	assert_true(excess_look(&excess, GIB + 8 * MIB, GIB, 0, false));
	assert_int_equal(excess.punches, 3);
	assert_int_equal(excess.punched_size, 20 * MIB);
}

static void a_cap_may_be_0(void **state)
{
	struct excess excess = {.has_cap = true};

	(void)state;
	assert_false(excess_look(&excess, GIB, GIB, 0, false));
	assert_true(excess_look(&excess, GIB + 4096, GIB, 0, false));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(less_than_the_plugged_size_is_no_excess),
		cmocka_unit_test(an_excess_is_warned_of_once_until_it_is_gone),
		cmocka_unit_test(a_guest_cannot_fill_the_log),
		cmocka_unit_test(without_a_cap_nothing_is_taken_back),
		cmocka_unit_test(more_than_the_cap_is_taken_back),
		cmocka_unit_test(a_cap_may_be_0),
	};

	log_init(LOG_LEVEL_WARNING);
	return unit_run(tests, NULL, NULL);
}
