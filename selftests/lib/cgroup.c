// SPDX-License-Identifier: GPL-2.0-or-later
#include "cgroup.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tap.h"

/* Longest path below the mount point. */
#define PATH_LEN 96

#define OWN "/kvm-vmem-test"

static char mount_point[] = "/tmp/kvm-vmem-cgroup-XXXXXX";

static const char *path_of(char *path, const char *name)
{
	snprintf(path, PATH_LEN, "%s%s", mount_point, name);
	return path;
}

static bool write_text(const char *name, const char *text)
{
	char path[PATH_LEN];
	FILE *f = fopen(path_of(path, name), "we");
	bool written;

	if (!f)
		return false;
	written = fputs(text, f) >= 0;
	return !fclose(f) && written;
}

/**
 * cgroup_enter() - Put this process into a memory cgroup of its own.
 *
 * Return: false if the kernel has no memory controller, or it cannot be used.
 */
bool cgroup_enter(void)
{
	char path[PATH_LEN];

	if (!mkdtemp(mount_point))
		return false;
	if (mount("cgroup2", mount_point, "cgroup2", 0, NULL)) {
		rmdir(mount_point);
		return false;
	}
	if ((!mkdir(path_of(path, OWN), S_IRWXU) || errno == EEXIST) &&
	    write_text("/cgroup.subtree_control", "+memory") &&
	    write_text(OWN "/cgroup.procs", "0"))
		return true;
	cgroup_leave();
	return false;
}

/** cgroup_stat() - Return: an entry of memory.stat; 0 if it is absent. */
uint64_t cgroup_stat(const char *name)
{
	uint64_t value = 0, found = 0;
	char key[64], path[PATH_LEN];
	FILE *f;

	f = fopen(path_of(path, OWN "/memory.stat"), "re");
	ASSERT_TRUE(f);
	while (fscanf(f, "%63s %" SCNu64, key, &value) == 2)
		if (!strcmp(key, name))
			found = value;
	fclose(f);
	return found;
}

/** cgroup_current() - Return: bytes charged to the cgroup. */
uint64_t cgroup_current(void)
{
	char path[PATH_LEN];
	uint64_t value;
	FILE *f;

	f = fopen(path_of(path, OWN "/memory.current"), "re");
	ASSERT_TRUE(f);
	ASSERT_EQ(fscanf(f, "%" SCNu64, &value), 1);
	fclose(f);
	return value;
}

/** cgroup_limit() - Set memory.max; CGROUP_NO_LIMIT removes it. */
void cgroup_limit(uint64_t bytes)
{
	char text[32] = "max";

	if (bytes != CGROUP_NO_LIMIT)
		snprintf(text, sizeof(text), "%" PRIu64, bytes);
	ASSERT_TRUE(write_text(OWN "/memory.max", text));
}

/**
 * cgroup_step_out() - Move the calling process to the parent cgroup. A child of
 * the test does so to read the cgroup's files when the cgroup has no memory
 * left.
 */
void cgroup_step_out(void)
{
	ASSERT_TRUE(write_text("/cgroup.procs", "0"));
}

/** cgroup_leave() - Leave the cgroup and remove it. */
void cgroup_leave(void)
{
	char path[PATH_LEN];

	write_text("/cgroup.procs", "0");
	rmdir(path_of(path, OWN));
	umount(mount_point);
	rmdir(mount_point);
}
