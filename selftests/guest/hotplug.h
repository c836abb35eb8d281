/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the guest's kernel says of its memory, and of what was hotplugged. */
#ifndef HOTPLUG_H
#define HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

/* More than a test's guest ever has; neighbours are merged. */
#define HOTPLUG_MAX_RANGES 1024

/**
 * struct hotplug_range - guest-physical memory added by virtio_mem
 * @gpa: first byte
 * @last_gpa: last byte
 */
struct hotplug_range {
	uint64_t gpa;
	uint64_t last_gpa;
};

/**
 * struct hotplug_state - the kernel's view of hotplugged memory
 * @plugged: bytes in memory blocks of virtio_mem that are online
 * @online_blocks: how many are online
 * @offline_blocks: how many are there but not online
 * @block_bytes: size of a memory block
 * @movable_free: free bytes of ZONE_MOVABLE
 */
struct hotplug_state {
	uint64_t plugged;
	uint64_t online_blocks;
	uint64_t offline_blocks;
	uint64_t block_bytes;
	uint64_t movable_free;
};

/**
 * hotplug_meminfo() - a line of /proc/meminfo
 * @name: without the colon
 * @bytes: its value
 *
 * Return: 0 or a negative errno.
 */
int hotplug_meminfo(const char *name, uint64_t *bytes);

/**
 * hotplug_wait_memtotal() - wait until MemTotal has a value
 * @wanted: which, in bytes
 * @seconds: bound
 * @total: MemTotal at last
 *
 * Return: 0, -ETIMEDOUT or another negative errno.
 */
int hotplug_wait_memtotal(uint64_t wanted, uint64_t seconds, uint64_t *total);

/**
 * hotplug_read() - read it all
 * @state: filled in
 *
 * Return: 0 or a negative errno.
 */
int hotplug_read(struct hotplug_state *state);

/**
 * hotplug_ranges() - where virtio_mem has added memory
 * @ranges: filled in, ascending
 * @nr: how many
 *
 * Return: 0 or a negative errno.
 */
int hotplug_ranges(struct hotplug_range ranges[HOTPLUG_MAX_RANGES],
		   unsigned int *nr);

/**
 * hotplug_movable_free() - free bytes of ZONE_MOVABLE above its watermark
 * @bytes: how many
 *
 * Return: 0 or a negative errno.
 */
int hotplug_movable_free(uint64_t *bytes);

#endif /* HOTPLUG_H */
