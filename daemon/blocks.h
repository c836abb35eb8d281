/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A set of block numbers: one bit each, with ranges as the unit of work. */
#ifndef BLOCKS_H
#define BLOCKS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct blocks - a set of block numbers 0 to @nr - 1
 * @map: bit n % 64 of word n / 64 tells whether n is in the set
 * @nr: size of the universe
 * @set: how many are in the set
 */
struct blocks {
	uint64_t *map;
	uint64_t nr;
	uint64_t set;
};

int blocks_init(struct blocks *blocks, uint64_t nr);
void blocks_free(struct blocks *blocks);
void blocks_set(struct blocks *blocks, uint64_t first, uint64_t nr);
void blocks_clear(struct blocks *blocks, uint64_t first, uint64_t nr);
void blocks_add(struct blocks *blocks, const struct blocks *more);
void blocks_remove(struct blocks *blocks, const struct blocks *less);
uint64_t blocks_count(const struct blocks *blocks, uint64_t first, uint64_t nr);
uint64_t blocks_next_until(const struct blocks *blocks, uint64_t from,
			   uint64_t end, bool set);
uint64_t blocks_next(const struct blocks *blocks, uint64_t from, bool set);
uint64_t blocks_end(const struct blocks *blocks);

#endif /* BLOCKS_H */
