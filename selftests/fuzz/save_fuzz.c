// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Files of saved states: arbitrary bytes; files with a valid checksum and
 * length, to reach the code behind these checks; and states of arbitrary
 * numbers, which are formatted and read back.
 *
 * An accepted file is valid, and formatting its state gives the same file. A
 * refusal has a reason and returns no state.
 */
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_mem.h>

#include "common/save.h"
#include "fuzz.h"

/* Offset of the number of runs, of 16 bytes each, which start at 88. */
#define NR_RUNS_AT  80
#define HEADER_SIZE 88
#define RUN_SIZE    16

/* Maximum number of runs of a generated state. */
#define RUNS_MAX 16

enum mode {
	MODE_BYTES,
	MODE_CHECKSUM,
	MODE_STATE,
	MODE_NR,
};

void fuzz_set_up(void)
{
}

static void check_text(const struct error *err)
{
	size_t length = strnlen(err->text, ERROR_TEXT_MAX);

	fuzz_require(err->code < 0);
	fuzz_require(length && length < ERROR_TEXT_MAX);
	for (size_t i = 0; i < length; i++)
		fuzz_require(err->text[i] >= ' ' && err->text[i] < 0x7f);
}

static void check_taken(const struct save_state *state, const uint8_t *data,
			size_t size)
{
	struct error err = {0};
	size_t again_size;
	uint8_t *again;

	fuzz_require(!save_check(state, &err));
	fuzz_require(save_plugged_size(state) <= state->usable_region_size);
	fuzz_require(!save_format(state, &again, &again_size, &err));
	fuzz_require(again_size == size && !memcmp(again, data, size));
	free(again);
}

static void parse(const uint8_t *data, size_t size)
{
	static const struct save_state nothing;
	struct error err = {0};
	struct save_state state;

	if (!save_parse(data, size, &state, &err)) {
		check_taken(&state, data, size);
		save_state_free(&state);
		return;
	}
	check_text(&err);
	fuzz_require(!memcmp(&state, &nothing, sizeof(state)));
}

/* Parse the bytes, in an allocation of exactly their size. */
static void parse_bytes(struct fuzz_input *in)
{
	size_t size = in->left;
	uint8_t *data = malloc(size ? size : 1);

	fuzz_require(data);
	fuzz_bytes(in, data, size);
	parse(data, size);
	free(data);
}

static void parse_with_checksum(struct fuzz_input *in)
{
	size_t size = in->left < HEADER_SIZE ? HEADER_SIZE : in->left;
	uint8_t *data = malloc(size + SAVE_CHECKSUM_SIZE);
	uint64_t nr_runs = (size - HEADER_SIZE) / RUN_SIZE;

	fuzz_require(data);
	size = HEADER_SIZE + nr_runs * RUN_SIZE;
	fuzz_bytes(in, data, size);
	/* This target runs on little-endian machines. */
	memcpy(data + NR_RUNS_AT, &nr_runs, sizeof(nr_runs));
	save_checksum(data, size, data + size);
	parse(data, size + SAVE_CHECKSUM_SIZE);
	free(data);
}

/* Mostly multiples of a block. */
static uint64_t choose_size(struct fuzz_input *in, uint64_t block_size)
{
	uint8_t how = fuzz_u8(in);

	return how < 0xf0 ? how * block_size : fuzz_u64(in);
}

static void format_state(struct fuzz_input *in)
{
	struct save_run runs[RUNS_MAX];
	struct error err = {0};
	struct save_state state = {
		.block_size = 1ULL << fuzz_u8(in) % 64,
		.runs = runs,
	};
	uint64_t at;
	uint8_t *data;
	size_t size;
	int ret;

	state.gpa = choose_size(in, state.block_size);
	state.region_size = choose_size(in, state.block_size);
	state.usable_region_size = choose_size(in, state.block_size);
	state.requested_size = choose_size(in, state.block_size);
	state.features = fuzz_u8(in);
	state.node =
		state.features & 1 << VIRTIO_MEM_F_ACPI_PXM ? fuzz_u16(in) : 0;
	state.nr_runs = fuzz_u8(in) % (RUNS_MAX + 1);
	at = state.gpa;
	for (uint64_t i = 0; i < state.nr_runs; i++) {
		at += choose_size(in, state.block_size);
		runs[i].gpa = at;
		runs[i].size = choose_size(in, state.block_size);
		at += runs[i].size;
	}
	ret = save_check(&state, &err);
	if (ret) {
		check_text(&err);
		return;
	}
	fuzz_require(!save_format(&state, &data, &size, &err));
	parse(data, size);
	/* A change of any bit is detected. */
	data[fuzz_u32(in) % size] ^= 1U << fuzz_u8(in) % 8;
	fuzz_require(save_parse(data, size, &state, &err));
	check_text(&err);
	free(data);
}

void fuzz_one(struct fuzz_input *in)
{
	switch (fuzz_u8(in) % MODE_NR) {
	case MODE_BYTES:
		parse_bytes(in);
		break;
	case MODE_CHECKSUM:
		parse_with_checksum(in);
		break;
	case MODE_STATE:
		format_state(in);
		break;
	}
}
