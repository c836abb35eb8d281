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
 * A device may learn of plugged blocks by its first memory table, see
 * backing/vmm.c. Until then, requests in its region wait, including those in
 * queues of other devices. They are neither executed nor treated as errors of
 * the guest.
 *
 * Files that the VMM shares can be truncated under the daemon: see guard.c. One
 * guard has the mappings of all devices.
 */
#include <errno.h>
#include <string.h>

#include "vhost/guest_access.h"

/* All mappings must have been removed. */
void guest_access_stop(struct guest_access *access)
{
	guard_stop(&access->guard);
	memset(access, 0, sizeof(*access));
}

/**
 * guest_access_add() - add a device whose unplugged blocks must not be accessed
 * @access: zeroed before the first call
 * @dev: the device, which may have no backing yet; must outlive @access
 *
 * Return: 0; -ENOSPC: there are VMEM_MAX_DEVICES already.
 */
int guest_access_add(struct guest_access *access, const struct virtio_mem *dev)
{
	if (access->nr == VMEM_MAX_DEVICES)
		return -ENOSPC;
	access->devices[access->nr++] = dev;
	return 0;
}

/**
 * guest_access_watch() - schedule a queue's turn when more memory is known
 * @access: the guest's memory
 * @turn: the turn, until guest_access_unwatch()
 */
void guest_access_watch(struct guest_access *access, struct turn *turn)
{
	/* Each device has one queue. */
	if (access->nr_turns < VMEM_MAX_DEVICES)
		access->turns[access->nr_turns++] = turn;
}

void guest_access_unwatch(struct guest_access *access, const struct turn *turn)
{
	for (size_t i = 0; i < access->nr_turns; i++)
		if (access->turns[i] == turn)
			access->turns[i--] = access->turns[--access->nr_turns];
}

/* A device knows more about its blocks: continue waiting queues. */
void guest_access_known(struct guest_access *access)
{
	for (size_t i = 0; i < access->nr_turns; i++)
		turn_take(access->turns[i]);
}

/* Is it unknown whether the guest has the memory at @gpa plugged? */
bool guest_access_unread(const struct guest_access *access, uint64_t gpa)
{
	for (size_t i = 0; i < access->nr; i++)
		if (virtio_mem_unread(access->devices[i], gpa))
			return true;
	return false;
}

/* Is this the memory file of a device? */
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
 * guest_access_accessible() - length of memory that may be accessed
 * @arg: a struct guest_access
 * @gpa: start of the memory
 * @size: maximum length, in bytes
 *
 * Return: number of bytes from @gpa on, up to @size, before the first unplugged
 * block of any device.
 */
uint64_t guest_access_accessible(const void *arg, uint64_t gpa, uint64_t size)
{
	const struct guest_access *access = arg;

	for (size_t i = 0; i < access->nr && size; i++)
		size = virtio_mem_accessible(access->devices[i], gpa, size);
	return size;
}
