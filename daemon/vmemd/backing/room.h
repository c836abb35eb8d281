/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Free memory of the host and of this process's cgroups; see room.c. */
#ifndef ROOM_H
#define ROOM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Maximum depth of cgroups with a limit. systemd nests five or six. */
#define ROOM_MAX_CGROUPS 16

/* Size of the compared part of /proc/self/cgroup, including the NUL. */
#define ROOM_MEMBER_MAX 512

/**
 * struct room_cgroup - files of one memory cgroup
 * @max: memory.max
 * @high: memory.high
 * @current: memory.current
 * @stat: memory.stat
 */
struct room_cgroup {
	int max;
	int high;
	int current;
	int stat;
};

/**
 * struct room - files that report free memory
 * @meminfo: /proc/meminfo
 * @cgroups: cgroups from this process's own upwards
 * @nr_cgroups: number of @cgroups
 * @membership: /proc/self/cgroup; -1 without cgroups
 * @member: contents of @membership at room_open(), and again at room_start()
 */
struct room {
	int meminfo;
	struct room_cgroup cgroups[ROOM_MAX_CGROUPS];
	size_t nr_cgroups;
	int membership;
	char member[ROOM_MEMBER_MAX];
};

int room_open(struct room *room, struct error *err);
void room_start(struct room *room);
void room_close(struct room *room);
int room_check(const struct room *room, uint64_t size, struct error *err);

#endif /* ROOM_H */
