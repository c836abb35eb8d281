// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Formatting and parsing the saved state of a device.
 *
 * The saved state is the state that a driver relies on: the geometry, the
 * usable and the requested size, and the plugged blocks. The division of memory
 * into memslots belongs to the host and is not saved. The VMM saves the
 * contents of memory.
 *
 * The file is untrusted. Checks are made in this order, so that the reported
 * reason is the cause: file type, version, length, checksum, and then
 * consistency. The encoding is canonical: formatting an accepted state again
 * gives the same bytes.
 *
 * This file works on buffers only; save_file.c reads and writes files.
 */
#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sha2.h>

#include <linux/virtio_mem.h>

#include "common/save.h"

static const char magic[8] = {'k', 'v', 'm', '-', 'v', 'm', 'e', 'm'};

/* Smallest block in the kernel: a page. */
#define BLOCK_SIZE_MIN 4096

/* Header of the file; all numbers are little-endian. */
struct file_header {
	char magic[8];
	uint32_t version;
	uint32_t zero;
	uint64_t gpa;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t usable_region_size;
	uint64_t requested_size;
	uint64_t plugged_size;
	uint64_t features;
	uint64_t node;
	uint64_t nr_runs;
};

struct file_run {
	uint64_t gpa;
	uint64_t size;
};

_Static_assert(sizeof(struct file_header) == 88, "the file's header");
_Static_assert(sizeof(struct file_run) == 16, "a run in the file");
_Static_assert(SAVE_CHECKSUM_SIZE == SHA256_DIGEST_LENGTH, "SHA-256");

/* Bytes in a file without runs. */
#define FIXED_SIZE (sizeof(struct file_header) + SAVE_CHECKSUM_SIZE)

/* Maximum number of runs in a file of SAVE_FILE_MAX. */
#define RUNS_MAX ((SAVE_FILE_MAX - FIXED_SIZE) / sizeof(struct file_run))

void save_state_free(struct save_state *state)
{
	free(state->runs);
	memset(state, 0, sizeof(*state));
}

/* The plugged size of a state that save_check() has accepted. */
uint64_t save_plugged_size(const struct save_state *state)
{
	uint64_t size = 0;

	for (uint64_t i = 0; i < state->nr_runs; i++)
		size += state->runs[i].size;
	return size;
}

static int check_sizes(const struct save_state *state, struct error *err)
{
	const struct {
		const char *name;
		uint64_t value;
	} multiples[] = {
		{"guest address", state->gpa},
		{"region size", state->region_size},
		{"usable region size", state->usable_region_size},
		{"requested size", state->requested_size},
	};
	uint64_t block_size = state->block_size;
	uint64_t end;

	if (block_size < BLOCK_SIZE_MIN || block_size & (block_size - 1))
		return error_set(err, -EINVAL,
				 "the block size, %" PRIu64
				 ", is not a power of "
				 "two of at least %d",
				 block_size, BLOCK_SIZE_MIN);
	for (size_t i = 0; i < sizeof(multiples) / sizeof(multiples[0]); i++)
		if (multiples[i].value % block_size)
			return error_set(
				err, -EINVAL,
				"the %s, %" PRIu64
				", is not a multiple of the block size",
				multiples[i].name, multiples[i].value);
	if (!state->region_size ||
	    __builtin_add_overflow(state->gpa, state->region_size, &end))
		return error_set(err, -EINVAL,
				 "the region, %" PRIu64 " bytes at 0x%" PRIx64
				 ", is empty or ends beyond all addresses",
				 state->region_size, state->gpa);
	if (state->usable_region_size > state->region_size)
		return error_set(err, -EINVAL,
				 "the usable region, %" PRIu64
				 " bytes, is larger than the region",
				 state->usable_region_size);
	if (state->requested_size > state->usable_region_size)
		return error_set(err, -EINVAL,
				 "the requested size, %" PRIu64
				 " bytes, is more than is usable",
				 state->requested_size);
	return 0;
}

static int check_features(const struct save_state *state, struct error *err)
{
	if (state->features & 1ULL << VIRTIO_MEM_F_ACPI_PXM || !state->node)
		return 0;
	return error_set(err, -EINVAL,
			 "there is a node, %u, without the feature that "
			 "tells it",
			 state->node);
}

static int check_run(const struct save_state *state, uint64_t i,
		     struct error *err)
{
	const struct save_run *run = &state->runs[i];
	const struct save_run *before = i ? run - 1 : NULL;
	uint64_t offset = run->gpa - state->gpa;

	if (!run->size || run->size % state->block_size ||
	    run->gpa % state->block_size)
		return error_set(err, -EINVAL,
				 "run %" PRIu64 ", %" PRIu64
				 " bytes at 0x%" PRIx64 ", is not whole blocks",
				 i, run->size, run->gpa);
	if (run->gpa < state->gpa || offset >= state->usable_region_size ||
	    run->size > state->usable_region_size - offset)
		return error_set(err, -EINVAL,
				 "run %" PRIu64 ", %" PRIu64
				 " bytes at 0x%" PRIx64
				 ", is outside of what is usable",
				 i, run->size, run->gpa);
	/* The previous run is inside the region, so its end cannot overflow. */
	if (before && run->gpa < before->gpa + before->size)
		return error_set(err, -EINVAL,
				 "run %" PRIu64 ", at 0x%" PRIx64
				 ", overlaps the one before or is out of order",
				 i, run->gpa);
	if (before && run->gpa == before->gpa + before->size)
		return error_set(err, -EINVAL,
				 "run %" PRIu64 ", at 0x%" PRIx64
				 ", should be part of the one before",
				 i, run->gpa);
	return 0;
}

/**
 * save_check() - check that a state is consistent
 * @state: the state
 * @err: set on error
 *
 * Return: 0, or -EINVAL.
 */
int save_check(const struct save_state *state, struct error *err)
{
	int ret;

	ret = check_sizes(state, err);
	if (!ret)
		ret = check_features(state, err);
	for (uint64_t i = 0; !ret && i < state->nr_runs; i++)
		ret = check_run(state, i, err);
	return ret;
}

/**
 * save_checksum() - compute the checksum of a file
 * @data: header and runs
 * @size: bytes in @data
 * @checksum: set to the checksum, which follows @data in the file
 */
void save_checksum(const uint8_t *data, size_t size,
		   uint8_t checksum[SAVE_CHECKSUM_SIZE])
{
	SHA2_CTX context;

	SHA256Init(&context);
	SHA256Update(&context, data, size);
	SHA256Final(checksum, &context);
}

/**
 * save_format() - format a state as the contents of a file
 * @state: the state
 * @data: set to the contents, to be freed by the caller
 * @size: set to the number of bytes in @data
 * @err: set on error
 *
 * Return: 0; -EINVAL: the state is inconsistent; -EFBIG: too many runs;
 * -ENOMEM.
 */
int save_format(const struct save_state *state, uint8_t **data, size_t *size,
		struct error *err)
{
	struct file_header header = {
		.version = htole32(SAVE_VERSION),
		.gpa = htole64(state->gpa),
		.region_size = htole64(state->region_size),
		.block_size = htole64(state->block_size),
		.usable_region_size = htole64(state->usable_region_size),
		.requested_size = htole64(state->requested_size),
		.features = htole64(state->features),
		.node = htole64(state->node),
		.nr_runs = htole64(state->nr_runs),
	};
	size_t length;
	uint8_t *to;
	int ret;

	ret = save_check(state, err);
	if (ret)
		return ret;
	if (state->nr_runs > RUNS_MAX)
		return error_set(err, -EFBIG,
				 "%" PRIu64
				 " runs of plugged blocks are too many",
				 state->nr_runs);
	length = sizeof(header) + state->nr_runs * sizeof(struct file_run);
	*data = malloc(length + SAVE_CHECKSUM_SIZE);
	if (!*data)
		return error_set(err, -ENOMEM, "out of memory");
	memcpy(header.magic, magic, sizeof(magic));
	header.plugged_size = htole64(save_plugged_size(state));
	to = *data;
	memcpy(to, &header, sizeof(header));
	to += sizeof(header);
	for (uint64_t i = 0; i < state->nr_runs; i++) {
		struct file_run run = {
			.gpa = htole64(state->runs[i].gpa),
			.size = htole64(state->runs[i].size),
		};

		memcpy(to, &run, sizeof(run));
		to += sizeof(run);
	}
	save_checksum(*data, length, to);
	*size = length + SAVE_CHECKSUM_SIZE;
	return 0;
}

/* Check file type, version, length and checksum. */
static int check_file(const uint8_t *data, size_t size,
		      struct file_header *header, struct error *err)
{
	size_t begin = size < sizeof(magic) ? size : sizeof(magic);
	uint8_t checksum[SAVE_CHECKSUM_SIZE];
	uint64_t runs_size;
	uint32_t version;

	if (!size || memcmp(data, magic, begin))
		return error_set(err, -EINVAL, "not a saved state of vmemd's");
	if (size >= offsetof(struct file_header, zero)) {
		memcpy(&version, data + offsetof(struct file_header, version),
		       sizeof(version));
		version = le32toh(version);
		if (version != SAVE_VERSION)
			return error_set(err, -EINVAL,
					 "of version %" PRIu32
					 "; version %d is "
					 "understood here",
					 version, SAVE_VERSION);
	}
	if (size < FIXED_SIZE)
		return error_set(err, -EINVAL,
				 "cut off: %zu bytes, and the shortest has "
				 "%zu",
				 size, FIXED_SIZE);
	memcpy(header, data, sizeof(*header));
	if (__builtin_mul_overflow(le64toh(header->nr_runs),
				   sizeof(struct file_run), &runs_size) ||
	    runs_size != size - FIXED_SIZE)
		return error_set(err, -EINVAL,
				 "cut off or damaged: %zu bytes, which %" PRIu64
				 " runs do not take",
				 size, le64toh(header->nr_runs));
	save_checksum(data, size - SAVE_CHECKSUM_SIZE, checksum);
	if (memcmp(data + size - SAVE_CHECKSUM_SIZE, checksum,
		   SAVE_CHECKSUM_SIZE))
		return error_set(err, -EINVAL,
				 "damaged: the checksum is wrong");
	return 0;
}

static int read_runs(const uint8_t *data, struct save_state *state)
{
	struct file_run run;

	if (!state->nr_runs)
		return 0;
	/* check_file() has bounded the number by the file's size. */
	state->runs = calloc(state->nr_runs, sizeof(*state->runs));
	if (!state->runs)
		return -ENOMEM;
	for (uint64_t i = 0; i < state->nr_runs; i++) {
		memcpy(&run, data + i * sizeof(run), sizeof(run));
		state->runs[i].gpa = le64toh(run.gpa);
		state->runs[i].size = le64toh(run.size);
	}
	return 0;
}

/**
 * save_parse() - parse the contents of a file
 * @data: the contents, unchecked
 * @size: bytes in @data
 * @state: set on success, to be freed by save_state_free()
 * @err: set on error; the text follows the file's name in messages
 *
 * Return: 0; -EINVAL: the file is refused; -ENOMEM.
 */
int save_parse(const uint8_t *data, size_t size, struct save_state *state,
	       struct error *err)
{
	struct file_header header;
	uint64_t node;
	int ret;

	memset(state, 0, sizeof(*state));
	ret = check_file(data, size, &header, err);
	if (ret)
		return ret;
	node = le64toh(header.node);
	if (header.zero || node > UINT16_MAX)
		return error_set(err, -EINVAL,
				 "bytes that are reserved are not zero");
	state->gpa = le64toh(header.gpa);
	state->region_size = le64toh(header.region_size);
	state->block_size = le64toh(header.block_size);
	state->usable_region_size = le64toh(header.usable_region_size);
	state->requested_size = le64toh(header.requested_size);
	state->features = le64toh(header.features);
	state->node = node;
	state->nr_runs = le64toh(header.nr_runs);
	ret = read_runs(data + sizeof(header), state);
	if (ret)
		return error_set(err, ret, "out of memory");
	ret = save_check(state, err);
	if (!ret && save_plugged_size(state) != le64toh(header.plugged_size))
		ret = error_set(err, -EINVAL,
				"its runs are not %" PRIu64
				" bytes, as it says",
				le64toh(header.plugged_size));
	if (ret)
		save_state_free(state);
	return ret;
}
