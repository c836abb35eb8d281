// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "vmemctl check" passes on a host with a working module, reports its checks,
 * and does not run without permission. scripts/test-check shows that it detects
 * a broken module.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "module_check.h"
#include "process.h"
#include "tap.h"
#include "vmemctl_run.h"

#define EXIT_CANNOT_RUN 5

/* A case runs up to three checks in sequence. */
#define TIMEOUT_S 300

/*
 * One check needs this option and names it. A kernel may be built without it.
 */
#define COUNTS "/sys/kernel/tracing/events/kvmmmu/kvm_mmu_zap_all_fast/hist"
#define NEEDS  "CONFIG_HIST_TRIGGERS"

static void passes(const void *arg)
{
	char plan[32];
	const char *skip;
	int status;

	(void)arg;
	status = run_vmemctl((const char *[]){"check", NULL});
	snprintf(plan, sizeof(plan), "\n1..%zu\n", nr_module_checks);
	EXPECT_EQ(status, 0);
	EXPECT_TRUE(strstr(output, "TAP version 13\n") == output);
	EXPECT_TRUE(strstr(output, plan));
	EXPECT_TRUE(!strstr(output, "not ok "));
	/* Root has all permissions, and most kernels have all options. */
	skip = strstr(output, "# SKIP");
	if (skip && access(COUNTS, R_OK)) {
		EXPECT_TRUE(strstr(skip, NEEDS));
		skip = strstr(skip + 1, "# SKIP");
	}
	EXPECT_TRUE(!skip);
	if (status || skip)
		tap_note("%s", output);
}

static void json_has_all(const void *arg)
{
	const bool counts = !access(COUNTS, R_OK);
	json_object *checks;

	(void)arg;
	EXPECT_EQ(run_vmemctl((const char *[]){"--json", "check", NULL}), 0);
	EXPECT_TRUE(json_object_is_type(printed("kernel"), json_type_string));
	EXPECT_EQ(json_object_get_int(printed("failed")), 0);
	checks = printed("checks");
	EXPECT_EQ(json_object_array_length(checks), nr_module_checks);
	for (size_t i = 0; i < nr_module_checks; i++) {
		json_object *check = json_object_array_get_idx(checks, i);

		EXPECT_TRUE(
			!strcmp(json_object_get_string(member(check, "name")),
				module_checks[i].name));
		if (!counts && json_object_object_get(check, "reason"))
			EXPECT_TRUE(strstr(
				json_object_get_string(member(check, "reason")),
				NEEDS));
		else
			EXPECT_TRUE(!strcmp(
				json_object_get_string(member(check, "result")),
				"passed"));
		EXPECT_TRUE(json_object_is_type(member(check, "notes"),
						json_type_array));
	}
}

static void not_where_it_cannot(const void *arg)
{
	(void)arg;
	/* A user outside the group of the devices. */
	become_nobody(NOBODY);
	EXPECT_EQ(run_vmemctl((const char *[]){"check", NULL}),
		  EXIT_CANNOT_RUN);
	EXPECT_TRUE(strstr(output, "/dev/kvm"));
	EXPECT_TRUE(strstr(output, strerror(EACCES)));
}

static void no_arguments(const void *arg)
{
	(void)arg;
	EXPECT_EQ(run_vmemctl((const char *[]){"check", "all", NULL}), 2);
	EXPECT_EQ(run_vmemctl((const char *[]){"--wait", "check", NULL}), 2);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "all checks pass",
		 .run = passes,
		 .timeout_s = TIMEOUT_S},
		{.name = "the JSON output contains all checks",
		 .run = json_has_all,
		 .timeout_s = TIMEOUT_S},
		{.name = "it does not run without permission",
		 .run = not_where_it_cannot},
		{.name = "it accepts no arguments", .run = no_arguments},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
