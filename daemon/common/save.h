/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The state of a device as bytes of a file; see save.c and doc/save-format.md. */
#ifndef SAVE_H
#define SAVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* The version that is written, and the only one that is read. */
#define SAVE_VERSION 1

/* SHA-256. */
#define SAVE_CHECKSUM_SIZE 32

/*
 * The longest file that is read or written: the runs of 16 TiB in which every
 * other block of 2 MiB is plugged. A limit there must be, as a file is read
 * before anything is known of it.
 */
#define SAVE_FILE_MAX (64ULL << 20)

/* Adjacent plugged blocks: guest address and bytes. */
struct save_run {
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct save_state - what a device's driver knows of it, and has plugged
 * @gpa: guest address of the region
 * @region_size: its bytes
 * @block_size: bytes of a block
 * @usable_region_size: bytes from the start in which the driver may plug
 * @requested_size: bytes it is asked to have plugged
 * @features: VIRTIO_MEM_F_* that it is offered, by bit
 * @node: ACPI proximity domain; 0 unless VIRTIO_MEM_F_ACPI_PXM is offered
 * @runs: what is plugged, @nr_runs of them: in the order of their addresses,
 *	each as long as it can be
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
