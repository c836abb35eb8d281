/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest kernel's view of its memory, and of hotplugged memory. */
#ifndef HOTPLUG_H
#define HOTPLUG_H

#include <stdbool.h>
#include <stdint.h>

/* More than a test's guest ever has. Adjacent ranges are merged. */
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
 * @plugged: bytes in online memory blocks of virtio_mem
 * @online_blocks: number of online memory blocks
 * @offline_blocks: number of offline memory blocks
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
 * hotplug_meminfo() - read a line of /proc/meminfo
 * @name: name without the colon
 * @bytes: set to its value
 *
 * Return: 0 or a negative errno.
 */
int hotplug_meminfo(const char *name, uint64_t *bytes);

/**
 * hotplug_wait_memtotal() - wait until MemTotal has a value
 * @wanted: the value in bytes
 * @seconds: time limit
 * @total: set to MemTotal at the end
 *
 * Return: 0, -ETIMEDOUT or another negative errno.
 */
int hotplug_wait_memtotal(uint64_t wanted, uint64_t seconds, uint64_t *total);

/**
 * hotplug_read() - read the state of hotplugged memory
 * @state: filled in
 *
 * Return: 0 or a negative errno.
 */
int hotplug_read(struct hotplug_state *state);

/**
 * hotplug_ranges() - find the memory that virtio_mem has added
 * @ranges: filled in, ascending
 * @nr: set to the number of ranges
 *
 * Return: 0 or a negative errno.
 */
int hotplug_ranges(struct hotplug_range ranges[HOTPLUG_MAX_RANGES],
		   unsigned int *nr);

/**
 * hotplug_movable_free() - free bytes of ZONE_MOVABLE above its watermark
 * @bytes: set to the number of bytes
 *
 * Return: 0 or a negative errno.
 */
int hotplug_movable_free(uint64_t *bytes);

/**
 * hotplug_entry() - find an entry of /proc/PID/pagemap in hotplugged memory
 * @entry: the entry, see proc(5)
 * @ranges: from hotplug_ranges()
 * @nr: number of ranges
 * @gpa: set to the guest-physical address of the page
 *
 * Return: whether the page is present, and in memory of virtio_mem.
 */
bool hotplug_entry(uint64_t entry, const struct hotplug_range *ranges,
		   unsigned int nr, uint64_t *gpa);

/**
 * hotplug_locate() - find a page of this process in hotplugged memory
 * @page: address of the page, which is present
 * @gpa: set to its guest-physical address
 *
 * Return: 0 or a negative errno. -EFAULT: it is not in memory of virtio_mem.
 */
int hotplug_locate(const void *page, uint64_t *gpa);

#endif /* HOTPLUG_H */
