/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file format of a saved state; see save.c and doc/save-format.md. */
#ifndef SAVE_H
#define SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Version of the format; no other version is accepted. */
#define SAVE_VERSION 1

/* SHA-256. */
#define SAVE_CHECKSUM_SIZE 32

/*
 * Maximum size of a file: enough for the runs of 16 TiB in which every other
 * block of 2 MiB is plugged. A limit is needed because the file is read into
 * memory before it is checked.
 */
#define SAVE_FILE_MAX (64ULL << 20)

/* A run of plugged blocks: guest address and bytes. */
struct save_run {
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct save_state - saved state of a device: what its driver relies on
 * @gpa: guest address of the region
 * @region_size: bytes in the region
 * @block_size: bytes per block
 * @usable_region_size: bytes from the start of the region in which the driver
 *	may plug
 * @requested_size: bytes that the driver is asked to plug
 * @features: offered VIRTIO_MEM_F_* feature bits
 * @node: ACPI proximity domain; 0 unless VIRTIO_MEM_F_ACPI_PXM is offered
 * @runs: maximal runs of plugged blocks, in ascending order
 * @nr_runs: number of @runs
 */
struct save_state {
	uint64_t gpa;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t usable_region_size;
	uint64_t requested_size;
	uint64_t features;
	uint16_t node;
	struct save_run *runs;
	uint64_t nr_runs;
};

void save_state_free(struct save_state *state);
uint64_t save_plugged_size(const struct save_state *state);

int save_check(const struct save_state *state, struct error *err);
int save_format(const struct save_state *state, uint8_t **data, size_t *size,
		struct error *err);
int save_parse(const uint8_t *data, size_t size, struct save_state *state,
	       struct error *err);
void save_checksum(const uint8_t *data, size_t size,
		   uint8_t checksum[SAVE_CHECKSUM_SIZE]);

#endif /* SAVE_H */
