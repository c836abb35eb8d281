/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The memory table of a vhost device in the kernel, kept by a VMM as its vmemd
 * tells it what has come and goes (CONSUMERS in vmemd(8)): an example of a
 * consumer that maps memslots.
 *
 * A vhost device translates guest addresses by a table that it is given whole,
 * by VHOST_SET_MEM_TABLE, and that has at most max_mem_regions entries, 64 by
 * default, a parameter of module vhost. The kernel says E2BIG beyond, and that
 * is what a consumer refuses with.
 */
#ifndef VHOST_TABLE_H
#define VHOST_TABLE_H

#include <linux/vhost.h>
#include <stdbool.h>
#include <stdint.h>

/**
 * struct vhost_table - a device and its table
 * @fd: the device; VHOST_SET_OWNER was called by this process
 * @gpa: guest address of the region
 * @hva: where the region is mapped in this process
 * @slot_size: bytes of a memslot; the region's last may be shorter
 * @memory: the table as the device has it
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
 * vhost_table_populate() - memslots have come
 * @table: the table
 * @gpa: where the first begins
 * @size: bytes of all
 *
 * Return: 0, or a negative errno; then the device's table is as it was.
 */
int vhost_table_populate(struct vhost_table *table, uint64_t gpa,
			 uint64_t size);

/**
 * vhost_table_discard() - memslots will go
 * @table: the table
 * @gpa: where the first begins
 * @size: bytes of all; some need not be there
 *
 * Return: 0, or a negative errno; then the device's table is as it was.
 */
int vhost_table_discard(struct vhost_table *table, uint64_t gpa, uint64_t size);

#endif /* VHOST_TABLE_H */
