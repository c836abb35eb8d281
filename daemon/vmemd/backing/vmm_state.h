/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state file of a device whose memory vmemd creates; see vmm_state.c. */
#ifndef VMM_STATE_H
#define VMM_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_map.h"
#include "common/error.h"

/* Offset of the bitmap in the file. */
#define VMM_STATE_HEADER 4096

/**
 * struct vmm_record - a change of blocks
 * @first: first block
 * @nr: number of blocks; 0: no change
 * @plug: 1: plugged; 0: unplugged
 */
struct vmm_record {
	uint64_t first;
	uint64_t nr;
	uint64_t plug;
};

/**
 * struct vmm_header - header of the file
 * @magic: written last; a file without it counts as new
 * @version: version of this layout
 * @region_size: bytes in the region; fixed
 * @block_size: bytes per block; fixed
 * @slot_size: bytes in the first slot; fixed
 * @gpa: guest address of the region; 0: unknown
 * @requested_size: bytes
 * @used: a driver has used the device
 * @current: index of the last change in @records
 * @records: the last change and the one before
 */
struct vmm_header {
	uint64_t magic;
	uint64_t version;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t gpa;
	uint64_t requested_size;
	uint64_t used;
	uint64_t current;
	struct vmm_record records[2];
};

/**
 * struct vmm_state - a mapped state file
 * @header: header of the file; volatile like @map, because other processes may
 *	write to the file: each access reads a value once
 * @map: one bit per block, set if the block is plugged
 * @size: bytes in the file
 * @file: the mapping
 * @found: the file had a state when it was opened
 * @was: checked copy of the header at that time
 */
struct vmm_state {
	volatile struct vmm_header *header;
	volatile uint64_t *map;
	size_t size;
	struct file_map file;
	bool found;
	struct vmm_header was;
};

bool vmm_state_is_there(int fd);
int vmm_state_open(struct vmm_state *state, int fd, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size, struct error *err);
void vmm_state_close(struct vmm_state *state);
bool vmm_state_fits(uint64_t gpa, uint64_t region_size, uint64_t block_size);

void vmm_state_commit(struct vmm_state *state, uint64_t first, uint64_t nr,
		      bool plug);
const volatile struct vmm_record *vmm_state_last(const struct vmm_state *state);
bool vmm_state_plugged(const struct vmm_state *state, uint64_t block);
uint64_t vmm_state_next(const struct vmm_state *state, uint64_t from,
			uint64_t nr);

void vmm_state_set(volatile uint64_t *field, uint64_t value);

#endif /* VMM_STATE_H */
