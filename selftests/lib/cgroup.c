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

/* Room for a path below the mount, which is one of our own. */
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
 * Return: false if the kernel or the machine has none to give.
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

/** cgroup_stat() - Return: an entry of its memory.stat; 0 if it has none. */
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

/** cgroup_current() - Return: bytes that it is charged. */
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

/** cgroup_limit() - Set what it may be charged; CGROUP_NO_LIMIT: anything. */
void cgroup_limit(uint64_t bytes)
{
	char text[32] = "max";

	if (bytes != CGROUP_NO_LIMIT)
		snprintf(text, sizeof(text), "%" PRIu64, bytes);
	ASSERT_TRUE(write_text(OWN "/memory.max", text));
}

/**
 * cgroup_step_out() - Put a child of the process that has entered it where that
 * came from: it can look at the cgroup when there is no memory left in there.
 */
void cgroup_step_out(void)
{
	ASSERT_TRUE(write_text("/cgroup.procs", "0"));
}

/** cgroup_leave() - Leave it again, and remove it. */
void cgroup_leave(void)
{
	char path[PATH_LEN];

	write_text("/cgroup.procs", "0");
	rmdir(path_of(path, OWN));
	umount(mount_point);
	rmdir(mount_point);
}
