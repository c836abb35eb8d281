// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl check: test whether the module behaves on this host as KVM's own
 * calls do. The checks are in selftests/check. This file reports their results,
 * in TAP as each check ends, or as one JSON object at the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "command_line.h"
#include "common/json_member.h"
#include "module_check.h"

/**
 * struct check_report - results for --json
 * @checks: array with the result of each check
 * @count: number of checks for each enum tap_verdict
 */
struct check_report {
	json_object *checks;
	int count[TAP_SKIPPED + 1];
};

static const char *const verdicts[] = {
	[TAP_PASSED] = "passed",
	[TAP_FAILED] = "failed",
	[TAP_SKIPPED] = "skipped",
};

/* The lines of TAP comments, without their "# ". */
static json_object *lines_of(const char *notes)
{
	json_object *lines = json_object_new_array();

	while (*notes) {
		size_t length = strcspn(notes, "\n");
		size_t skip = strncmp(notes, "# ", 2) ? 0 : 2;

		if (length > skip)
			json_object_array_add(
				lines,
				json_object_new_string_len(
					notes + skip, (int)(length - skip)));
		notes += length + (notes[length] == '\n');
	}
	return lines;
}

static void add_check(const struct tap_case *c,
		      const struct tap_outcome *outcome, void *arg)
{
	struct check_report *report = arg;
	json_object *check = json_object_new_object();

	json_add_text(check, "name", c->name);
	json_add_text(check, "result", verdicts[outcome->verdict]);
	if (outcome->verdict == TAP_SKIPPED)
		json_add_text(check, "reason", outcome->reason);
	json_object_object_add(check, "notes", lines_of(outcome->notes));
	json_object_array_add(report->checks, check);
	report->count[outcome->verdict]++;
}

static int check_json(void)
{
	struct check_report report = {.checks = json_object_new_array()};
	json_object *object = json_object_new_object();
	struct utsname name;
	int ret;

	if (!uname(&name))
		json_add_text(object, "kernel", name.release);
	ret = tap_report(module_checks, nr_module_checks, add_check, &report);
	for (size_t i = 0; i <= TAP_SKIPPED; i++)
		json_add_size(object, verdicts[i], report.count[i]);
	json_object_object_add(object, "checks", report.checks);
	if (ret)
		ctl_complain("check: %s", strerror(-ret));
	else
		ctl_print_json(object);
	json_object_put(object);
	if (ret)
		return -ENOTRECOVERABLE;
	return report.count[TAP_FAILED] ? -EBADMSG : 0;
}

/* Return: as @run of struct ctl_command. */
static int ctl_check(const struct ctl_options *options)
{
	char reason[MODULE_CHECK_REASON_MAX];

	if (module_check_possible(reason)) {
		ctl_complain("check: %s", reason);
		return -ENOTRECOVERABLE;
	}
	if (options->json)
		return check_json();
	return tap_run(module_checks, nr_module_checks) == EXIT_FAILURE
		       ? -EBADMSG
		       : 0;
}

const struct ctl_command check_commands[] = {
	{.name = "check",
	 .help = "test the module on this host in VMs of its own; other VMs are\n"
		 "not touched. Prints TAP; without vmemd",
	 .run = ctl_check},
	{},
};
