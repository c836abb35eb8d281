/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a device that makes its own memory knows, in a file; see vmm_state.c. */
#ifndef SHMEM_STATE_H
#define SHMEM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_map.h"
#include "common/error.h"

/* Where the bitmap begins in the file. */
#define SHMEM_STATE_HEADER 4096

/**
 * struct shmem_record - the last change
 * @first, @nr: its blocks; @nr is 0 if there was none
 * @plug: plugged, else unplugged
 */
struct shmem_record {
	uint64_t first;
	uint64_t nr;
	uint64_t plug;
};

/**
 * struct shmem_header - the beginning of the file
 * @magic: written last, so that a file without it is a new one
 * @version: of this layout
 * @region_size, @block_size, @slot_size: bytes; do not change
 * @gpa: where the region is in the guest, 0 if that is not known
 * @requested_size: bytes
 * @used: a driver has worked the device
 * @current: which of @records is the last change
 */
struct shmem_header {
	uint64_t magic;
	uint64_t version;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t gpa;
	uint64_t requested_size;
	uint64_t used;
	uint64_t current;
	struct shmem_record records[2];
};

/**
 * struct vmm_state - the file, mapped
 * @header: its beginning
 * @map: one bit for each block, set if it is plugged
 * @size: of the file
 * @file: the mapping
 * @found: it was there, with a state in it
 * @was: what the beginning was then, checked; others may write to the file
 */
struct vmm_state {
	struct shmem_header *header;
	uint64_t *map;
	size_t size;
	struct file_map file;
	bool found;
	struct shmem_header was;
};

bool vmm_state_is_there(int fd);
int vmm_state_open(struct vmm_state *state, int fd, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size, struct error *err);
void vmm_state_close(struct vmm_state *state);
bool vmm_state_fits(uint64_t gpa, uint64_t region_size, uint64_t block_size);

void vmm_state_commit(struct vmm_state *state, uint64_t first, uint64_t nr,
		      bool plug);
const struct shmem_record *vmm_state_last(const struct vmm_state *state);
bool vmm_state_plugged(const struct vmm_state *state, uint64_t block);

void vmm_state_set(volatile uint64_t *field, uint64_t value);

#endif /* SHMEM_STATE_H */
