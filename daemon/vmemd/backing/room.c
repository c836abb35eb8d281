// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Free memory of the host and of this process's cgroups.
 *
 * If a memory cgroup or the host runs out of memory, allocating memory of a
 * memfd does not fail: the kernel kills a process, which with --prealloc would
 * be vmemd or the VMM. So vmemd checks the free memory before each step of an
 * allocation, leaves a reserve, and refuses the guest's request in time.
 *
 * File memory is charged to the process that allocates it, so vmemd's own
 * cgroup and its ancestors count. Page cache that was not used recently
 * (inactive_file) counts as free, because the kernel reclaims it before it
 * kills. Swap does not count: refusing a plug is better than swapping out
 * guests.
 *
 * Other processes may allocate between the check and the step. The reserve
 * covers them; a step is small compared with it.
 *
 * The files are opened at the start, because vmemd cannot open files by name
 * later. If the process is moved to another cgroup, the new limits are unknown,
 * and allocations are refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/magic.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backing/room.h"
#include "common/min_max.h"
#include "common/size.h"

/*
 * Memory reserved for other users: in a cgroup for page tables, kernel memory
 * and stacks of a VM and its vmemd; on the host for its own processes.
 */
#define CGROUP_RESERVE (8ULL << 20)
#define HOST_RESERVE   (64ULL << 20)

/* Bytes read of a file, enough to include all entries that are needed. */
#define FILE_MAX 8192

#define NO_LIMIT UINT64_MAX

static ssize_t read_file(int fd, char buffer[FILE_MAX])
{
	ssize_t got = pread(fd, buffer, FILE_MAX - 1, 0);

	if (got < 0)
		return -errno;
	buffer[got] = '\0';
	return got;
}

/* Read a number, or "max". */
static int read_number(int fd, uint64_t *value)
{
	char buffer[FILE_MAX], *end;
	ssize_t got = read_file(fd, buffer);

	if (got < 0)
		return (int)got;
	if (!strncmp(buffer, "max", strlen("max"))) {
		*value = NO_LIMIT;
		return 0;
	}
	errno = 0;
	*value = strtoull(buffer, &end, 10);
	return errno || end == buffer ? -EBADMSG : 0;
}

/* Read the number after @name at the start of a line. */
static int read_entry(int fd, const char *name, uint64_t *value)
{
	char buffer[FILE_MAX], *line, *end, *rest;
	ssize_t got = read_file(fd, buffer);

	if (got < 0)
		return (int)got;
	for (line = strtok_r(buffer, "\n", &rest); line;
	     line = strtok_r(NULL, "\n", &rest)) {
		if (strncmp(line, name, strlen(name)))
			continue;
		errno = 0;
		*value = strtoull(line + strlen(name), &end, 10);
		return errno || end == line + strlen(name) ? -EBADMSG : 0;
	}
	return -EBADMSG;
}

/* --- Start and end --- */

/* Find the mount of the unified hierarchy. Return: 0; -ENOENT; an errno. */
static int find_mount(char path[PATH_MAX])
{
	struct mntent *entry, space;
	char buffer[FILE_MAX];
	int ret = -ENOENT;
	FILE *mounts;

	mounts = setmntent("/proc/self/mounts", "re");
	if (!mounts)
		return -errno;
	while (ret &&
	       (entry = getmntent_r(mounts, &space, buffer, sizeof(buffer)))) {
		if (strcmp(entry->mnt_type, "cgroup2") ||
		    strlen(entry->mnt_dir) >= PATH_MAX)
			continue;
		strcpy(path, entry->mnt_dir);
		ret = 0;
	}
	endmntent(mounts);
	return ret;
}

/*
 * Find the cgroup of this process.
 * @path: set to its path in the unified hierarchy
 * @v1: set to whether the memory controller is of cgroup version 1
 *
 * Return: 0, or an errno.
 */
static int find_cgroup(char path[PATH_MAX], bool *v1)
{
	char *line = NULL, *controllers, *name;
	size_t size = 0;
	int ret = -ENOENT;
	FILE *f;

	*v1 = false;
	f = fopen("/proc/self/cgroup", "re");
	if (!f)
		return -errno;
	/* hierarchy:controllers:path */
	while (getline(&line, &size, f) > 0) {
		controllers = strchr(line, ':');
		name = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!name)
			continue;
		*controllers++ = '\0';
		*name++ = '\0';
		name[strcspn(name, "\n")] = '\0';
		if (strstr(controllers, "memory"))
			*v1 = true;
		if (*controllers || strlen(name) >= PATH_MAX)
			continue;
		strcpy(path, name);
		ret = 0;
	}
	free(line);
	fclose(f);
	return ret;
}

static void close_cgroup(const struct room_cgroup *cgroup)
{
	const int fds[] = {cgroup->max, cgroup->high, cgroup->current,
			   cgroup->stat};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static int open_in(int dir, const char *name)
{
	return openat(dir, name, O_RDONLY | O_CLOEXEC);
}

/* Add a cgroup. The root cgroup lacks these files and has no limit. */
static int add_cgroup(struct room *room, int dir)
{
	struct room_cgroup cgroup = {
		.max = open_in(dir, "memory.max"),
		.high = open_in(dir, "memory.high"),
		.current = open_in(dir, "memory.current"),
		.stat = open_in(dir, "memory.stat"),
	};

	if (cgroup.max < 0 || cgroup.high < 0 || cgroup.current < 0 ||
	    cgroup.stat < 0) {
		int ret = errno == ENOENT ? 0 : -errno;

		close_cgroup(&cgroup);
		return ret;
	}
	if (room->nr_cgroups == ROOM_MAX_CGROUPS) {
		close_cgroup(&cgroup);
		return -E2BIG;
	}
	room->cgroups[room->nr_cgroups++] = cgroup;
	return 0;
}

/* Add the cgroup at a path and all its ancestors, up to the mount. */
static int add_cgroups(struct room *room, const char *mount, char *path)
{
	int root, dir, ret;
	char *slash;

	root = open(mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return -errno;
	do {
		dir = openat(root, *path == '/' && path[1] ? path + 1 : ".",
			     O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		ret = dir < 0 ? -errno : add_cgroup(room, dir);
		if (dir >= 0)
			close(dir);
		slash = strrchr(path, '/');
		if (!slash || !path[1])
			break;
		slash[slash == path] = '\0';
	} while (!ret);
	close(root);
	return ret;
}

/* Read the cgroups of this process; "" if they are unknown. */
static void read_membership(const struct room *room,
			    char member[ROOM_MEMBER_MAX])
{
	ssize_t got = pread(room->membership, member, ROOM_MEMBER_MAX - 1, 0);

	member[got > 0 ? got : 0] = '\0';
}

/**
 * room_open() - open the files that report free memory
 * @room: set, also on error, with the files that could be opened; to be closed
 *	by room_close()
 * @err: set on error
 *
 * Return: 0; -EOPNOTSUPP: the memory controller is of cgroup version 1; an
 * errno.
 */
int room_open(struct room *room, struct error *err)
{
	char mount[PATH_MAX], path[PATH_MAX];
	bool v1;
	int ret;

	*room = (struct room){.meminfo = -1, .membership = -1};
	room->meminfo = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
	if (room->meminfo < 0) {
		ret = -errno;
		return error_set(err, ret, "/proc/meminfo: %s", strerror(-ret));
	}
	ret = find_cgroup(path, &v1);
	/* A kernel without cgroups has no limits. */
	if (ret == -ENOENT && !v1)
		return 0;
	if (v1)
		return error_set(
			err, -EOPNOTSUPP,
			"limits of memory cgroups of version 1 are not known");
	if (!ret)
		ret = find_mount(mount);
	/* Not mounted, but this process is in the root cgroup. */
	if (ret == -ENOENT && !strcmp(path, "/"))
		return 0;
	if (!ret)
		ret = add_cgroups(room, mount, path);
	room->membership = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
	if (!ret && room->membership < 0)
		ret = -errno;
	/* A restore allocates memory before room_start(). */
	if (room->membership >= 0)
		read_membership(room, room->member);
	if (ret)
		error_set(err, ret,
			  "limits of the memory cgroup are not known: %s",
			  strerror(-ret));
	return ret;
}

/**
 * room_start() - record the cgroups of this process again
 * @room: opened before the process joined its namespaces
 *
 * To be called after isolation, which changes the names of cgroups.
 */
void room_start(struct room *room)
{
	if (room->membership >= 0)
		read_membership(room, room->member);
}

void room_close(struct room *room)
{
	if (room->membership >= 0)
		close(room->membership);
	if (room->meminfo >= 0)
		close(room->meminfo);
	for (size_t i = 0; i < room->nr_cgroups; i++)
		close_cgroup(&room->cgroups[i]);
	*room = (struct room){.meminfo = -1, .membership = -1};
}

/* --- Checks --- */

/* Free bytes of a cgroup. */
static int cgroup_left(const struct room_cgroup *cgroup, uint64_t *left)
{
	uint64_t max, high, current, cache;
	int ret;

	ret = read_number(cgroup->max, &max);
	if (!ret)
		ret = read_number(cgroup->high, &high);
	if (ret)
		return ret;
	if (high < max)
		max = high;
	*left = NO_LIMIT;
	if (max == NO_LIMIT)
		return 0;
	ret = read_number(cgroup->current, &current);
	if (!ret)
		ret = read_entry(cgroup->stat, "inactive_file ", &cache);
	if (ret)
		return ret;
	current -= min(cache, current);
	*left = current < max ? max - current : 0;
	return 0;
}

static int host_left(const struct room *room, uint64_t *left)
{
	int ret = read_entry(room->meminfo, "MemAvailable:", left);

	/* The file has KiB. */
	*left = ret ? 0 : *left * 1024;
	return ret;
}

/* Is @left enough for @size and the reserve? Return: 0; -ENOMEM with @err. */
static int judge(int ret, const char *of, uint64_t left, uint64_t reserve,
		 uint64_t size, struct error *err)
{
	char pretty[SIZE_TEXT_MAX];

	if (ret)
		return error_set(err, -ENOMEM,
				 "the free memory of %s is unknown: %s", of,
				 strerror(-ret));
	if (left >= reserve && left - reserve >= size)
		return 0;
	return error_set(err, -ENOMEM, "%s has only %s left", of,
			 size_format(left, pretty));
}

/**
 * room_check() - check that memory can be allocated without an OOM kill
 * @room: the files
 * @size: bytes to allocate
 * @err: set on error
 *
 * Return: 0, or -ENOMEM.
 */
int room_check(const struct room *room, uint64_t size, struct error *err)
{
	char member[ROOM_MEMBER_MAX];
	uint64_t left = 0;
	int ret;

	if (room->membership >= 0) {
		read_membership(room, member);
		if (strcmp(member, room->member))
			return error_set(
				err, -ENOMEM,
				"vmemd was moved to another cgroup, whose "
				"limits it cannot read");
	}
	for (size_t i = 0; i < room->nr_cgroups; i++) {
		ret = cgroup_left(&room->cgroups[i], &left);
		ret = judge(ret, "the memory cgroup", left, CGROUP_RESERVE,
			    size, err);
		if (ret)
			return ret;
	}
	if (room->meminfo < 0)
		return 0;
	ret = host_left(room, &left);
	return judge(ret, "the host", left, HOST_RESERVE, size, err);
}
