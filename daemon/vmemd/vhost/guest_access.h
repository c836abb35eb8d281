/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Guest memory that the daemon may access; see guest_access.c. */
#ifndef GUEST_ACCESS_H
#define GUEST_ACCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/turn.h"
#include "base/work.h"
#include "device/virtio_mem.h"
#include "options.h"
#include "vhost/guard.h"

/**
 * struct guest_access - guest memory that the daemon may access
 * @guard: guards all mappings of guest memory
 * @work: counts the work in a turn of the event loop
 * @devices: devices whose unplugged blocks must not be accessed; not owned
 * @nr: number of @devices
 * @turns: turns of queues that may wait until a device knows its blocks; not
 *	owned
 * @nr_turns: number of @turns
 */
struct guest_access {
	struct guard guard;
	struct work work;
	const struct virtio_mem *devices[VMEM_MAX_DEVICES];
	size_t nr;
	struct turn *turns[VMEM_MAX_DEVICES];
	size_t nr_turns;
};

void guest_access_stop(struct guest_access *access);
int guest_access_add(struct guest_access *access, const struct virtio_mem *dev);
void guest_access_watch(struct guest_access *access, struct turn *turn);
void guest_access_unwatch(struct guest_access *access, const struct turn *turn);
void guest_access_known(struct guest_access *access);
bool guest_access_unread(const struct guest_access *access, uint64_t gpa);
bool guest_access_has_file(const struct guest_access *access, dev_t dev,
			   ino_t ino);
uint64_t guest_access_accessible(const void *arg, uint64_t gpa, uint64_t size);

#endif /* GUEST_ACCESS_H */
