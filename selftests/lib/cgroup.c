// SPDX-License-Identifier: GPL-2.0-or-later
#include "cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

#define ROOT "/sys/fs/cgroup"
#define OWN  ROOT "/kvm-vmem-test"

static bool write_text(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");
	bool written;

	if (!f)
		return false;
	written = fputs(text, f) >= 0;
	return !fclose(f) && written;
}

/**
 * cgroup_enter() - Put this process into a memory cgroup of its own.
 *
 * Return: false if the kernel or the machine has none to give.
 */
bool cgroup_enter(void)
{
	if (access(ROOT "/cgroup.procs", W_OK) &&
	    mount("cgroup2", ROOT, "cgroup2", 0, NULL))
		return false;
	if (mkdir(OWN, 0755) && errno != EEXIST)
		return false;
	return write_text(ROOT "/cgroup.subtree_control", "+memory") &&
	       write_text(OWN "/cgroup.procs", "0");
}

/** cgroup_stat() - Return: an entry of its memory.stat; 0 if it has none. */
uint64_t cgroup_stat(const char *name)
{
	uint64_t value = 0, found = 0;
	char key[64];
	FILE *f;

	f = fopen(OWN "/memory.stat", "re");
	ASSERT_TRUE(f);
	while (fscanf(f, "%63s %" SCNu64, key, &value) == 2)
		if (!strcmp(key, name))
			found = value;
	fclose(f);
	return found;
}

/** cgroup_leave() - Leave it again, and remove it. */
void cgroup_leave(void)
{
	write_text(ROOT "/cgroup.procs", "0");
	rmdir(OWN);
}
