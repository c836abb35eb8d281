// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which parts of its guest's memory the daemon may access.
 *
 * A VMM shares all guest memory with each of the daemon's devices, the regions
 * of the others included. A guest can point a ring, an indirect table or a
 * buffer of one device's queue at an unplugged block of another device. An
 * access there would allocate memory that no device has granted. So the
 * unplugged blocks of all devices are out of bounds for all queues.
 *
 * A device that does not know of plugged blocks yet may learn of some by its first
 * memory table, see backing/vmm.c. Until then a request in its region waits, including one of another
 * device's queue: it is neither carried out nor treated as an error of the guest.
 *
 * Files that the VMM shares can be truncated under the daemon: see guard.c. One
 * guard has the mappings of all devices.
 */
#include <errno.h>
#include <string.h>

#include "vhost/guest_access.h"

/* Nothing is mapped any more. */
void guest_access_stop(struct guest_access *access)
{
	guard_stop(&access->guard);
	memset(access, 0, sizeof(*access));
}

/**
 * guest_access_add() - a device whose unplugged blocks must not be touched
 * @access: zeroed before the first
 * @dev: may be without a backing yet; there as long as @access is used
 *
 * Return: 0, or -ENOSPC: there are VMEM_MAX_DEVICES already.
 */
int guest_access_add(struct guest_access *access, const struct virtio_mem *dev)
{
	if (access->nr == VMEM_MAX_DEVICES)
		return -ENOSPC;
	access->devices[access->nr++] = dev;
	return 0;
}

/**
 * guest_access_watch() - have a turn when more is known of what may be touched
 * @turn: a queue's; until guest_access_unwatch()
 */
void guest_access_watch(struct guest_access *access, struct turn *turn)
{
	/* There is one queue for each device. */
	if (access->nr_turns < VMEM_MAX_DEVICES)
		access->turns[access->nr_turns++] = turn;
}

void guest_access_unwatch(struct guest_access *access, const struct turn *turn)
{
	for (size_t i = 0; i < access->nr_turns; i++)
		if (access->turns[i] == turn)
			access->turns[i--] = access->turns[--access->nr_turns];
}

/* A device knows more of its blocks: what has waited for it goes on. */
void guest_access_known(struct guest_access *access)
{
	for (size_t i = 0; i < access->nr_turns; i++)
		turn_take(access->turns[i]);
}

/* Is it not known yet whether the guest has the memory at @gpa? */
bool guest_access_unread(const struct guest_access *access, uint64_t gpa)
{
	for (size_t i = 0; i < access->nr; i++)
		if (virtio_mem_unread(access->devices[i], gpa))
			return true;
	return false;
}

/* Is it the memory of a device? */
bool guest_access_has_file(const struct guest_access *access, dev_t dev,
			   ino_t ino)
{
	for (size_t i = 0; i < access->nr; i++) {
		const struct backing *backing = access->devices[i]->backing;

		if (backing && backing->memory_dev == dev &&
		    backing->memory_ino == ino)
			return true;
	}
	return false;
}

/**
 * guest_access_accessible() - how much memory may be touched
 * @arg: a struct guest_access
 *
 * Return: how many of @size bytes from @gpa on are in no unplugged block of any
 * device.
 */
uint64_t guest_access_accessible(const void *arg, uint64_t gpa, uint64_t size)
{
	const struct guest_access *access = arg;

	for (size_t i = 0; i < access->nr && size; i++)
		size = virtio_mem_accessible(access->devices[i], gpa, size);
	return size;
}
