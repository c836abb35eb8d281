/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of block numbers, searched and changed by ranges; see blocks.c. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/work.h"

/* Levels of counts above the bits: their counts fit into 32 bits. */
#define BLOCKS_LEVELS 4

/**
 * struct blocks - a set of block numbers 0 to @nr - 1
 * @map: bitmap; bit n % 64 of word n / 64 is set if n is in the set
 * @counts: number of blocks in the set per 64 words of @map, and per 64 counts
 *	of the level below
 * @nr: number of possible blocks
 * @set: number of blocks in the set
 * @work: counts words and counts that are read; NULL: not counted. Not owned
 */
struct blocks {
	uint64_t *map;
	uint32_t *counts[BLOCKS_LEVELS];
	uint64_t nr;
	uint64_t set;
	struct work *work;
};

int blocks_init(struct blocks *blocks, uint64_t nr);
void blocks_free(struct blocks *blocks);
void blocks_set(struct blocks *blocks, uint64_t first, uint64_t nr);
void blocks_clear(struct blocks *blocks, uint64_t first, uint64_t nr);
void blocks_move(struct blocks *from, struct blocks *to, uint64_t first,
		 uint64_t nr);
void blocks_add(struct blocks *blocks, const struct blocks *more);
void blocks_remove(struct blocks *blocks, const struct blocks *less);
uint64_t blocks_count(const struct blocks *blocks, uint64_t first, uint64_t nr);
uint64_t blocks_next_until(const struct blocks *blocks, uint64_t from,
			   uint64_t end, bool set);
uint64_t blocks_next(const struct blocks *blocks, uint64_t from, bool set);
uint64_t blocks_end_before(const struct blocks *blocks, uint64_t end);
uint64_t blocks_end(const struct blocks *blocks);
uint64_t blocks_next_missing(const struct blocks *blocks,
			     const struct blocks *in, uint64_t from,
			     uint64_t end);

#endif /* BLOCKS_H */
