// SPDX-License-Identifier: GPL-2.0-only
/*
 * Checks that the module was reviewed for the kernel series that runs.
 *
 * layout.c detects a structure that has changed. It cannot detect a change of
 * behaviour: KVM may start to compare a count, to send a request or to take a
 * lock in a function that the module replaces. Only a review finds that. The
 * module therefore loads on kernel series whose KVM was read line by line, and
 * on others only with unreviewed_kernel=1.
 *
 * A series is a version that kernel.org maintains, such as 6.12.y. Stable
 * updates are small, and distributions that follow them add few patches. A tree
 * that stays at 6.12.0 for years backports KVM from newer series. Its sublevel
 * is 0, and it counts as not reviewed.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/printk.h>
#include <linux/utsname.h>
#include <linux/version.h>

#include "series.h"

struct series {
	u32 major;
	u32 minor;
};

/* The reviewed series, one per line. The build and the scripts read this. */
static const struct series reviewed[] = {
	{ 6, 1 },
	{ 6, 12 },
	{ 7, 2 },
	{ 7, 3 },
};

static bool unreviewed_kernel;
module_param(unreviewed_kernel, bool, 0444);
MODULE_PARM_DESC(unreviewed_kernel,
		 "Load on a kernel series that the module was not reviewed for");

/* "6.1, 6.12, 7.3" */
static void name_series(char *names, size_t size)
{
	size_t i, used = 0;

	for (i = 0; i < ARRAY_SIZE(reviewed); i++)
		used += scnprintf(names + used, size - used, "%s%u.%u",
				  i ? ", " : "", reviewed[i].major,
				  reviewed[i].minor);
}

/**
 * vmem_series_reviewed - check whether the series of the running kernel was
 * reviewed
 */
bool vmem_series_reviewed(void)
{
	u32 major, minor;
	size_t i;

	/* Not by name: Debian names kernels 6.1.0 whatever the sublevel. */
	if (!LINUX_VERSION_SUBLEVEL)
		return false;
	if (sscanf(init_utsname()->release, "%u.%u", &major, &minor) != 2)
		return false;
	/* Read from memory, because a test may have changed the table. */
	for (i = 0; i < ARRAY_SIZE(reviewed); i++)
		if (READ_ONCE(reviewed[i].major) == major &&
		    READ_ONCE(reviewed[i].minor) == minor)
			return true;
	return false;
}

/**
 * vmem_series_check - check whether the module may run on this kernel
 *
 * Return: 0; -EOPNOTSUPP after logging the reason and the parameter that
 * overrides it.
 */
int vmem_series_check(void)
{
	/* Enough for about 30 series. */
	char names[256];

	if (vmem_series_reviewed())
		return 0;
	name_series(names, sizeof(names));
	if (unreviewed_kernel) {
		pr_warn("not reviewed for kernel %s (reviewed: stable updates of %s), loaded as unreviewed_kernel=1: run \"vmemctl check\"\n",
			init_utsname()->release, names);
		return 0;
	}
	pr_err("not reviewed for kernel %s (reviewed: stable updates of %s): unreviewed_kernel=1 loads it all the same, at the risk of the host and its VMs\n",
	       init_utsname()->release, names);
	return -EOPNOTSUPP;
}
