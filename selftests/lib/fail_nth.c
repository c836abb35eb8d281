// SPDX-License-Identifier: GPL-2.0-or-later
#include "fail_nth.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernel.h"
#include "tap.h"
#include "vm.h"

#define MODULE	"kvm_vmem"
#define DEBUGFS "/sys/kernel/debug"

/*
 * The address range of the module's code: from its first function to the end of
 * the last function's page.
 */
static void find_text(unsigned long long *start, unsigned long long *end)
{
	char line[512], module[64], type;
	unsigned long long addr;
	FILE *f;

	*start = ULLONG_MAX;
	*end = 0;
	f = fopen("/proc/kallsyms", "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%llx %c %*s [%63[^]]", &addr, &type,
			   module) != 3 ||
		    strcmp(module, MODULE) != 0 || !strchr("tT", type))
			continue;
		if (addr < *start)
			*start = addr;
		if (addr > *end)
			*end = addr;
	}
	fclose(f);
	*end = (*end | (GUEST_PAGE - 1)) + 1;
	ASSERT_TRUE(*start && *start < *end);
}

/* Configure fault injection for one kind of allocation. */
static void set_up_faults(const char *kind, const char *const *settings)
{
	unsigned long long start, end;
	char path[128];

	find_text(&start, &end);
	for (; *settings; settings += 2) {
		snprintf(path, sizeof(path), DEBUGFS "/%s/%s", kind,
			 settings[0]);
		kernel_write(path, "%s", settings[1]);
	}
	snprintf(path, sizeof(path), DEBUGFS "/%s/require-start", kind);
	kernel_write(path, "%#llx", start);
	snprintf(path, sizeof(path), DEBUGFS "/%s/require-end", kind);
	kernel_write(path, "%#llx", end);
}

/**
 * fail_nth_unavailable() - the reason why fault injection is not available, or
 * NULL
 */
const char *fail_nth_unavailable(void)
{
	if (access("/proc/self/fail-nth", W_OK))
		return "the kernel has no CONFIG_FAULT_INJECTION";
	if (access(DEBUGFS "/failslab", X_OK) ||
	    access(DEBUGFS "/fail_page_alloc", X_OK))
		return "the kernel has no CONFIG_FAILSLAB or CONFIG_FAIL_PAGE_ALLOC";
	if (access(DEBUGFS "/failslab/require-start", W_OK))
		return "the kernel has no CONFIG_FAULT_INJECTION_STACKTRACE_FILTER";
	return NULL;
}

/**
 * fail_nth_init() - prepare fault injection for the first task of a process
 * @pid: the process
 */
void fail_nth_init(struct fail_nth *f, pid_t pid)
{
	/*
	 * Allocations that may sleep are included; failures are not logged;
	 * stack traces have the maximum depth.
	 */
	static const char *const slab[] = {
		"ignore-gfp-wait",  "0",  "verbose", "0",
		"stacktrace-depth", "32", NULL,
	};
	static const char *const page[] = {
		"ignore-gfp-wait",
		"0",
		"ignore-gfp-highmem",
		"0",
		"min-order",
		"0",
		"verbose",
		"0",
		"stacktrace-depth",
		"32",
		NULL,
	};
	char path[64];

	set_up_faults("failslab", slab);
	set_up_faults("fail_page_alloc", page);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/fail-nth", pid, pid);
	f->fd = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(f->fd, 0);
}

void fail_nth_end(struct fail_nth *f)
{
	close(f->fd);
}

/** fail_nth_arm() - fail the n-th allocation from now on */
void fail_nth_arm(const struct fail_nth *f, unsigned int nth)
{
	char text[16];
	int len = snprintf(text, sizeof(text), "%u", nth);

	ASSERT_EQ(pwrite(f->fd, text, (size_t)len, 0), len);
}

/**
 * fail_nth_disarm() - stop failing allocations
 *
 * Return: the remaining count; 0: an allocation has failed.
 */
unsigned int fail_nth_disarm(const struct fail_nth *f)
{
	char text[16] = {0};

	ASSERT_GT(pread(f->fd, text, sizeof(text) - 1, 0), 0);
	fail_nth_arm(f, 0);
	return (unsigned int)strtoul(text, NULL, 10);
}
