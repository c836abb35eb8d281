// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The output of a case cannot be mistaken for a result: a TAP parser reads each
 * line that begins with "ok" or "not ok".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

static void notes_of_several_lines(const void *arg)
{
	(void)arg;
	tap_note("one\nnot ok 7 - two\n");
	tap_note("three");
	tap_note("%s", "");
}

static void a_failure_of_several_lines(const void *arg)
{
	(void)arg;
	tap_fail(__FILE__, __LINE__, "left\nok 3 - right");
}

static void a_skip_of_several_lines(const void *arg)
{
	(void)arg;
	tap_skip("no\nok 4 - such thing");
}

static const struct tap_case cases[] = {
	{.name = "notes", .run = notes_of_several_lines},
	{.name = "a failure", .run = a_failure_of_several_lines},
	{.name = "a skip", .run = a_skip_of_several_lines},
};

/* The expected result of each case. */
static const struct {
	enum tap_verdict verdict;
	const char *notes;
	const char *reason;
} wanted[ARRAY_SIZE(cases)] = {
	{TAP_PASSED, "# one\n# not ok 7 - two\n# three\n# \n", NULL},
	{TAP_FAILED, "left\n# ok 3 - right\n", NULL},
	{TAP_SKIPPED, NULL, "no ok 4 - such thing"},
};

/*
 * Nothing is printed here: standard output is captured until all cases have
 * ended.
 */
static void report(const struct tap_case *c, const struct tap_outcome *outcome,
		   void *arg)
{
	size_t i = (size_t)(c - cases);
	bool *ok = (bool *)arg + i;

	*ok = outcome->verdict == wanted[i].verdict;
	if (wanted[i].notes)
		*ok = *ok && strstr(outcome->notes, wanted[i].notes) &&
		      !strstr(outcome->notes, "\nok") &&
		      !strstr(outcome->notes, "\nnot");
	if (wanted[i].reason)
		*ok = *ok && !strcmp(outcome->reason, wanted[i].reason);
}

int main(void)
{
	bool ok[ARRAY_SIZE(cases)] = {false};
	size_t i, bad = 0;

	if (tap_report(cases, ARRAY_SIZE(cases), report, ok))
		printf("Bail out! the cases cannot be run\n");
	printf("TAP version 13\n1..%zu\n", ARRAY_SIZE(cases));
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		printf("%sok %zu - %s of several lines stays what it is\n",
		       ok[i] ? "" : "not ", i + 1, cases[i].name);
		bad += !ok[i];
	}
	return bad ? EXIT_FAILURE : EXIT_SUCCESS;
}
