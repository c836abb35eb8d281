// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "vmemctl check" passes on a host whose module is right, says what it did, and
 * does not run where it cannot. That it finds a module that is wrong is shown by
 * scripts/test-check.
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

/* Three of them run one after the other here. */
#define TIMEOUT_S 300

/* A kernel can be built without; one check needs it, and names it. */
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
	/* Root has all that it takes, and so has this kernel, mostly. */
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
	/* A user who is not in the group of the devices. */
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
		{.name = "JSON has all of them",
		 .run = json_has_all,
		 .timeout_s = TIMEOUT_S},
		{.name = "it does not run without the rights to",
		 .run = not_where_it_cannot},
		{.name = "it takes no arguments", .run = no_arguments},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
