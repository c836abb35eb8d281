// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How much memory may be allocated, by the files of the host and of cgroups. In
 * its own mount namespace, the test replaces these files by its own.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing/room.h"
#include "unit.h"

/* The files that are replaced, and the reserves of room.c. */
#define MEMINFO	       "/proc/meminfo"
#define MEMBERSHIP     "/proc/self/cgroup"
#define MOUNTS	       "/proc/self/mounts"
#define CGROUP_RESERVE (8 * MIB)
#define HOST_RESERVE   (64 * MIB)

static void write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* Make a cgroup in the current folder. @limits: NULL: only a folder */
static void make_cgroup(const char *path, const char *max, const char *high,
			const char *current, const char *inactive)
{
	char name[4096];

	if (mkdir(path, 0700))
		assert_int_equal(errno, EEXIST);
	snprintf(name, sizeof(name), "%s/memory.max", path);
	write_file(name, max);
	snprintf(name, sizeof(name), "%s/memory.high", path);
	write_file(name, high);
	snprintf(name, sizeof(name), "%s/memory.current", path);
	write_file(name, current);
	snprintf(name, sizeof(name), "%s/memory.stat", path);
	write_file(name, inactive);
}

static bool replace(const char *path, const char *by)
{
	write_file(by, "");
	return !mount(by, path, NULL, MS_BIND, NULL);
}

/* Return: whether the host permits this. */
static bool replace_files(void)
{
	char folder[64], mounts[256];

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", "/tmp", "tmpfs", 0, NULL))
		return false;
	strcpy(folder, "/tmp/room-XXXXXX");
	if (!mkdtemp(folder) || chdir(folder) || mkdir("fs", 0700) ||
	    !replace(MEMINFO, "meminfo") || !replace(MOUNTS, "mounts") ||
	    !replace(MEMBERSHIP, "cgroup"))
		return false;
	snprintf(mounts, sizeof(mounts),
		 "proc /proc proc rw 0 0\ncgroup2 %s/fs cgroup2 rw 0 0\n",
		 folder);
	write_file("mounts", mounts);
	return true;
}

static unsigned int fds_before;

static unsigned int open_fds(void)
{
	unsigned int nr = 0;

	for (int fd = 0; fd < 1024; fd++)
		nr += fcntl(fd, F_GETFD) >= 0;
	return nr;
}

/* A host with much memory. */
static int set_up(void **state)
{
	(void)state;
	write_file("meminfo", "MemTotal: 2 kB\nMemAvailable: 1073741824 kB\n");
	write_file("cgroup", "0::/\n");
	fds_before = open_fds();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	assert_int_equal(open_fds(), fds_before);
	return 0;
}

static void open_room(struct room *room, size_t nr_cgroups)
{
	struct error err = {0};

	if (room_open(room, &err))
		fail_msg("%s", err.text);
	assert_int_equal(room->nr_cgroups, nr_cgroups);
	room_start(room);
}

/* @left is left of what @what limits, without the reserve. */
static void assert_left(struct room *room, uint64_t left, const char *what)
{
	struct error err = {0};

	assert_int_equal(room_check(room, left, &err), 0);
	assert_int_equal(room_check(room, left + 1, &err), -ENOMEM);
	if (!strstr(err.text, what))
		fail_msg("\"%s\" does not say \"%s\"", err.text, what);
}

static void the_host_has_a_reserve(void **state)
{
	struct room room;
	struct error err;

	(void)state;
	open_room(&room, 0);
	write_file("meminfo", "MemTotal: 999999 kB\nMemAvailable: 131072 kB\n");
	assert_left(&room, 128 * MIB - HOST_RESERVE,
		    "the host has only 128 MiB left");
	write_file("meminfo", "MemAvailable: 1024 kB\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	write_file("meminfo", "MemTotal: 131072 kB\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "the free memory of the host"));
	write_file("meminfo", "MemAvailable: kB\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "is unknown"));
	room_close(&room);
}

static void a_cgroup_has_a_reserve(void **state)
{
	static const struct {
		const char *max;
		const char *high;
		const char *current;
		const char *stat;
		uint64_t left;
	} cgroups[] = {
		{"33554432\n", "max\n", "1048576\n", "inactive_file 0\n",
		 31 * MIB},
		{"max\n", "33554432\n", "1048576\n", "inactive_file 0\n",
		 31 * MIB},
		{"67108864\n", "33554432\n", "1048576\n", "inactive_file 0\n",
		 31 * MIB},
		{"33554432\n", "67108864\n", "1048576\n", "inactive_file 0\n",
		 31 * MIB},
		/* The page cache can be dropped. */
		{"33554432\n", "max\n", "9437184\n",
		 "anon 4096\ninactive_anon 7\ninactive_file 8388608\n",
		 31 * MIB},
		{"33554432\n", "max\n", "4096\n", "inactive_file 8388608\n",
		 32 * MIB},
	};
	struct room room;
	struct error err;

	(void)state;
	write_file("cgroup", "0::/vm\n");
	make_cgroup("fs/vm", "max\n", "max\n", "0\n", "inactive_file 0\n");
	open_room(&room, 1);
	assert_int_equal(room_check(&room, GIB, &err), 0);
	for (size_t i = 0; i < sizeof(cgroups) / sizeof(cgroups[0]); i++) {
		make_cgroup("fs/vm", cgroups[i].max, cgroups[i].high,
			    cgroups[i].current, cgroups[i].stat);
		assert_left(&room, cgroups[i].left - CGROUP_RESERVE,
			    "the memory cgroup has only 3");
	}
	/* More is used than the limit, which was lowered. */
	make_cgroup("fs/vm", "4096\n", "max\n", "9437184\n",
		    "inactive_file 0\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "only 0 B left"));
	/* Nothing that is read as a number. */
	make_cgroup("fs/vm", "\n", "max\n", "0\n", "inactive_file 0\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "unknown"));
	make_cgroup("fs/vm", "33554432\n", "x\n", "0\n", "inactive_file 0\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	make_cgroup("fs/vm", "33554432\n", "max\n", "", "inactive_file 0\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	make_cgroup("fs/vm", "33554432\n", "max\n", "0\n", "inactive_anon 0\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	room_close(&room);
}

/* The limits of all cgroups around the process count. The root has none. */
static void a_cgroup_is_limited_by_those_around_it(void **state)
{
	struct room room;
	struct error err;

	(void)state;
	write_file("cgroup", "1:name=systemd:/x\n0::/a/b/c\n");
	make_cgroup("fs/a", "max\n", "max\n", "0\n", "inactive_file 0\n");
	make_cgroup("fs/a/b", "max\n", "max\n", "0\n", "inactive_file 0\n");
	make_cgroup("fs/a/b/c", "max\n", "max\n", "0\n", "inactive_file 0\n");
	open_room(&room, 3);
	assert_int_equal(room_check(&room, GIB, &err), 0);
	make_cgroup("fs/a", "33554432\n", "max\n", "0\n", "inactive_file 0\n");
	assert_left(&room, 32 * MIB - CGROUP_RESERVE, "the memory cgroup");
	make_cgroup("fs/a", "max\n", "max\n", "0\n", "inactive_file 0\n");
	make_cgroup("fs/a/b/c", "16777216\n", "max\n", "0\n",
		    "inactive_file 0\n");
	assert_left(&room, 16 * MIB - CGROUP_RESERVE, "the memory cgroup");
	/* The process was moved; its new cgroup may have other limits. */
	write_file("cgroup", "1:name=systemd:/x\n0::/a/b\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "another cgroup"));
	room_close(&room);
}

/*
 * Memory is also allocated at the start, for a restore, before the process has
 * joined its namespaces.
 */
static void the_limits_are_known_before_the_start_is_complete(void **state)
{
	struct room room;
	struct error err = {0};

	(void)state;
	write_file("cgroup", "0::/vm\n");
	make_cgroup("fs/vm", "33554432\n", "max\n", "0\n", "inactive_file 0\n");
	assert_int_equal(room_open(&room, &err), 0);
	assert_left(&room, 32 * MIB - CGROUP_RESERVE, "the memory cgroup");
	/* A namespace changes the name. */
	write_file("cgroup", "0::/\n");
	assert_int_equal(room_check(&room, 0, &err), -ENOMEM);
	room_start(&room);
	assert_left(&room, 32 * MIB - CGROUP_RESERVE, "the memory cgroup");
	room_close(&room);
}

static void assert_not_opened(int error, const char *why)
{
	struct room room;
	struct error err = {0};

	assert_int_equal(room_open(&room, &err), error);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
	room_close(&room);
}

static void unknown_limits_are_an_error(void **state)
{
	char path[512] = "0::";
	struct room room;

	(void)state;
	write_file("cgroup", "5:cpu,memory:/x\n0::/\n");
	assert_not_opened(-EOPNOTSUPP, "version 1");
	write_file("cgroup", "0::/nowhere\n");
	assert_not_opened(-ENOENT, "not known: No such file");
	/* A file that is there and cannot be opened. */
	write_file("cgroup", "0::/loop\n");
	make_cgroup("fs/loop", "max\n", "max\n", "0\n", "inactive_file 0\n");
	assert_int_equal(unlink("fs/loop/memory.stat"), 0);
	assert_int_equal(symlink("memory.stat", "fs/loop/memory.stat"), 0);
	assert_not_opened(-ELOOP, "not known: ");
	/* One without limits does not count. */
	assert_int_equal(unlink("fs/loop/memory.stat"), 0);
	open_room(&room, 0);
	room_close(&room);
	/* As many as there is space for, and one more. */
	for (int i = 0; i < ROOM_MAX_CGROUPS; i++) {
		char folder[600];

		strcat(path, "/d");
		snprintf(folder, sizeof(folder), "fs%s", path + 3);
		make_cgroup(folder, "max\n", "max\n", "0\n",
			    "inactive_file 0\n");
	}
	write_file("cgroup", path);
	open_room(&room, ROOM_MAX_CGROUPS);
	room_close(&room);
	strcat(path, "/d");
	make_cgroup("fs/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d", "max\n", "max\n",
		    "0\n", "inactive_file 0\n");
	write_file("cgroup", path);
	assert_not_opened(-E2BIG, "not known: ");
}

/* The hierarchy need not be mounted if there can be no limit. */
static void without_a_mount_only_the_root_is_known(void **state)
{
	struct room room;

	(void)state;
	write_file("mounts", "proc /proc proc rw 0 0\n");
	open_room(&room, 0);
	room_close(&room);
	write_file("cgroup", "0::/vm\n");
	assert_not_opened(-ENOENT, "not known: ");
	/* A kernel without cgroups. */
	write_file("cgroup", "");
	open_room(&room, 0);
	room_close(&room);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(the_host_has_a_reserve),
		T(a_cgroup_has_a_reserve),
		T(a_cgroup_is_limited_by_those_around_it),
		T(the_limits_are_known_before_the_start_is_complete),
		T(unknown_limits_are_an_error),
		T(without_a_mount_only_the_root_is_known),
	};

	if (!replace_files()) {
		puts("1..0 # SKIP no mount namespace");
		return 0;
	}
	return unit_run(tests, NULL, NULL);
}
