/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest memory that a vhost-user front end shares: where it is in the
 * guest (gpa), where in the front end (uva), and where it is mapped here.
 */
#ifndef GUEST_MEMORY_H
#define GUEST_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/file_map.h"
#include "base/work.h"
#include "common/error.h"
#include "vhost/guard.h"

/*
 * Most memory regions of one front end: what QEMU asks of a vhost device
 * before it gives its own virtio-mem devices more than one memslot.
 */
#define GUEST_MEMORY_MAX_REGIONS 509

/* @offset, @dev and @ino tell which part of which file it is. */
struct guest_memory_region {
	uint64_t gpa;
	uint64_t uva;
	uint64_t size;
	uint64_t offset;
	dev_t dev;
	ino_t ino;
	uint8_t *hva;
	struct file_map map;
};

/**
 * struct guest_memory - all that the front end shares
 * @regions: @nr of them, by their guest addresses
 * @accessible: how many bytes from @gpa on, at most @size, may be touched; 0:
 *	none. NULL: all may
 * @arg: for @accessible
 * @guard: guards the mappings; NULL: they are not guarded. Not owned
 * @work: counts what is looked at; NULL: nobody does. Not owned
 * @lost: a file was shorter than it had been, and memory of it was touched
 */
struct guest_memory {
	struct guest_memory_region *regions;
	size_t nr;
	uint64_t (*accessible)(const void *arg, uint64_t gpa, uint64_t size);
	const void *arg;
	struct guard *guard;
	struct work *work;
	volatile bool lost;
};

int guest_memory_add(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
		     uint64_t size, uint64_t offset, int fd, struct error *err);
int guest_memory_remove(struct guest_memory *memory, uint64_t gpa, uint64_t uva,
			uint64_t size);
void guest_memory_clear(struct guest_memory *memory);
void guest_memory_replace(struct guest_memory *memory, struct guest_memory *by);

void *guest_memory_at_gpa(const struct guest_memory *memory, uint64_t gpa,
			  uint64_t size, uint64_t *left);
void *guest_memory_at_uva(const struct guest_memory *memory, uint64_t uva,
			  uint64_t size);

#endif /* GUEST_MEMORY_H */
