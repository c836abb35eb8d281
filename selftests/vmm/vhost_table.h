/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory table of a vhost device in the kernel. A VMM updates it on the
 * events of its vmemd (CONSUMERS in vmemd(8)): an example of a consumer that
 * maps memslots.
 *
 * A vhost device translates guest addresses by a table that VHOST_SET_MEM_TABLE
 * replaces as a whole. The table has at most max_mem_regions entries, a
 * parameter of module vhost, 64 by default. The kernel returns E2BIG beyond
 * that, and the consumer refuses with this error.
 */
#ifndef VHOST_TABLE_H
#define VHOST_TABLE_H

#include <linux/vhost.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct vhost_table - a device and its table
 * @fd: the device; this process has called VHOST_SET_OWNER
 * @gpa: guest address of the region
 * @hva: mapping of the region in this process
 * @slot_size: bytes of a memslot; the region's last may be shorter
 * @memory: the device's current table
 */
struct vhost_table {
	int fd;
	uint64_t gpa;
	uint64_t hva;
	uint64_t slot_size;
	struct vhost_memory *memory;
};

/**
 * vhost_table_open() - open a vhost device
 * @table: with @gpa, @hva and @slot_size set
 * @path: such as /dev/vhost-net
 *
 * Return: 0, or a negative errno.
 */
int vhost_table_open(struct vhost_table *table, const char *path);
void vhost_table_close(struct vhost_table *table);

/**
 * vhost_table_populate() - add populated memslots
 * @table: the table
 * @gpa: address of the first one
 * @size: bytes of all
 *
 * Return: 0, or a negative errno; then the device's table is unchanged.
 */
int vhost_table_populate(struct vhost_table *table, uint64_t gpa,
			 uint64_t size);

/**
 * vhost_table_discard() - remove memslots
 * @table: the table
 * @gpa: address of the first one
 * @size: bytes of all; some may be absent
 *
 * Return: 0, or a negative errno; then the device's table is unchanged.
 */
int vhost_table_discard(struct vhost_table *table, uint64_t gpa, uint64_t size);

#endif /* VHOST_TABLE_H */
