/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest memory that a vhost-user front end shares: guest-physical addresses
 * (gpa), addresses in the front end (uva), and addresses in vmemd (hva).
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
 * Maximum number of memory regions of a front end. It is the number that QEMU
 * requires of a vhost device before it uses more than one memslot for its own
 * virtio-mem devices.
 */
#define GUEST_MEMORY_MAX_REGIONS 509

/* A shared region: part @offset of the file with @dev and @ino. */
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
 * struct guest_memory - guest memory that the front end shares
 * @regions: the regions, ordered by guest address
 * @nr: number of @regions
 * @accessible: returns the number of bytes from @gpa on, at most @size, that
 *	may be accessed. NULL: all may
 * @arg: for @accessible
 * @guard: guards the mappings; NULL: they are not guarded. Not owned
 * @work: counts the work of look-ups; NULL: not counted. Not owned
 * @lost: an access hit memory of a file that had been truncated
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
