// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A set of block numbers: a bitmap, and several levels of counts above it.
 *
 * A guest chooses the blocks that it plugs, and each request searches the set.
 * A region of 4 TiB in blocks of 4 KiB has 16 million words of bits. Searching
 * all of them would delay all other work of the daemon. So a count at the
 * lowest level covers 64 words, and a count at a higher level covers 64 counts
 * of the level below. A search for a block in the set skips counts of 0, and a
 * search for a block not in the set skips full counts. Whatever the size and
 * contents, a search reads at most 64 entries per level on its way up, and
 * again on its way down.
 *
 * The set only touches memory for blocks that are or were in it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocks.h"
#include "common/min_max.h"

#define WORD_BITS 64

/* An entry covers this many entries of the level below, as a power of two. */
#define FAN_SHIFT 6

/* Number of blocks of an entry, as a power of two. */
static unsigned int shift_of(unsigned int level)
{
	return FAN_SHIFT * (level + 2);
}

static uint64_t words(uint64_t nr)
{
	return nr / WORD_BITS + (nr % WORD_BITS != 0);
}

/* Mask of up to @nr bits of a word, starting at @bit; @nr is not 0. */
static uint64_t mask(unsigned int bit, uint64_t nr)
{
	uint64_t high =
		nr >= WORD_BITS - bit ? ~0ULL : (1ULL << (bit + nr)) - 1;

	return high & (~0ULL << bit);
}

/* Mask of the blocks from @at to @end - 1 in the word of @at. */
static uint64_t bits_from(uint64_t at, uint64_t end)
{
	return mask(at % WORD_BITS, end - at);
}

static uint64_t next_word(uint64_t at)
{
	return (at / WORD_BITS + 1) * WORD_BITS;
}

/* Number of entries of a level. */
static uint64_t entries(uint64_t nr, unsigned int level)
{
	return (nr >> shift_of(level)) + 1;
}

/* Make an empty set, without touching its memory. Return: 0, or -ENOMEM. */
int blocks_init(struct blocks *blocks, uint64_t nr)
{
	memset(blocks, 0, sizeof(*blocks));
	blocks->nr = nr;
	blocks->map = calloc(words(nr), sizeof(*blocks->map));
	if (!blocks->map)
		return -ENOMEM;
	for (unsigned int i = 0; i < BLOCKS_LEVELS; i++) {
		blocks->counts[i] =
			calloc(entries(nr, i), sizeof(*blocks->counts[i]));
		if (!blocks->counts[i]) {
			blocks_free(blocks);
			return -ENOMEM;
		}
	}
	return 0;
}

void blocks_free(struct blocks *blocks)
{
	for (unsigned int i = 0; i < BLOCKS_LEVELS; i++)
		free(blocks->counts[i]);
	free(blocks->map);
	memset(blocks, 0, sizeof(*blocks));
}

/* --- Changes --- */

/* Add blocks of a word to the set. */
static void set_bits(struct blocks *blocks, uint64_t word, uint64_t bits)
{
	unsigned int nr = __builtin_popcountll(bits & ~blocks->map[word]);

	work_add(blocks->work, 1);
	if (!nr)
		return;
	blocks->map[word] |= bits;
	blocks->set += nr;
	for (unsigned int i = 0; i < BLOCKS_LEVELS; i++)
		blocks->counts[i][word * WORD_BITS >> shift_of(i)] += nr;
}

static void clear_bits(struct blocks *blocks, uint64_t word, uint64_t bits)
{
	unsigned int nr = __builtin_popcountll(bits & blocks->map[word]);

	work_add(blocks->work, 1);
	if (!nr)
		return;
	blocks->map[word] &= ~bits;
	blocks->set -= nr;
	for (unsigned int i = 0; i < BLOCKS_LEVELS; i++)
		blocks->counts[i][word * WORD_BITS >> shift_of(i)] -= nr;
}

/* For all functions here, the caller has checked that ranges are valid. */
void blocks_set(struct blocks *blocks, uint64_t first, uint64_t nr)
{
	uint64_t at = first, end = first + nr;

	while ((at = blocks_next_until(blocks, at, end, false)) < end) {
		set_bits(blocks, at / WORD_BITS, bits_from(at, end));
		at = next_word(at);
	}
}

void blocks_clear(struct blocks *blocks, uint64_t first, uint64_t nr)
{
	uint64_t at = first, end = first + nr;

	while ((at = blocks_next_until(blocks, at, end, true)) < end) {
		clear_bits(blocks, at / WORD_BITS, bits_from(at, end));
		at = next_word(at);
	}
}

/* Move blocks from one set to another of the same size, word by word. */
void blocks_move(struct blocks *from, struct blocks *to, uint64_t first,
		 uint64_t nr)
{
	uint64_t at = first, end = first + nr;

	while ((at = blocks_next_until(from, at, end, true)) < end) {
		uint64_t word = at / WORD_BITS;
		uint64_t bits = from->map[word] & bits_from(at, end);

		set_bits(to, word, bits);
		clear_bits(from, word, bits);
		at = next_word(at);
	}
}

/* Both sets have the same number of possible blocks. */
void blocks_add(struct blocks *blocks, const struct blocks *more)
{
	uint64_t at = 0;

	while ((at = blocks_next(more, at, true)) < more->nr) {
		set_bits(blocks, at / WORD_BITS, more->map[at / WORD_BITS]);
		at = next_word(at);
	}
}

void blocks_remove(struct blocks *blocks, const struct blocks *less)
{
	/* Only words with bits in both sets change: search the smaller set. */
	const struct blocks *fewer = less->set < blocks->set ? less : blocks;
	uint64_t at = 0;

	while ((at = blocks_next(fewer, at, true)) < fewer->nr) {
		clear_bits(blocks, at / WORD_BITS, less->map[at / WORD_BITS]);
		at = next_word(at);
	}
}

/* --- Searches --- */

/* Is there no block with state @set in an entry? */
static bool none(const struct blocks *blocks, unsigned int level,
		 uint64_t entry, bool set)
{
	uint64_t first = entry << shift_of(level);
	uint64_t all = min(1ULL << shift_of(level), blocks->nr - first);

	return blocks->counts[level][entry] == (set ? 0 : all);
}

/* End of the largest entry around @at without a hit; @at if it has one. */
static uint64_t skip(const struct blocks *blocks, uint64_t at, bool set)
{
	for (unsigned int level = BLOCKS_LEVELS; level-- > 0;) {
		uint64_t entry = at >> shift_of(level);

		if (none(blocks, level, entry, set))
			return (entry + 1) << shift_of(level);
	}
	return at;
}

/**
 * blocks_next_until() - find the first block of a range with a given state
 * @blocks: the set
 * @from: start of the range
 * @end: end of the range, exclusive, at most blocks->nr
 * @set: true: a block in the set; false: a block not in the set
 *
 * Return: the block, or @end.
 */
uint64_t blocks_next_until(const struct blocks *blocks, uint64_t from,
			   uint64_t end, bool set)
{
	uint64_t at = from;

	while (at < end) {
		uint64_t word = blocks->map[at / WORD_BITS], hits, behind;

		work_add(blocks->work, 1);
		hits = (set ? word : ~word) & bits_from(at, end);
		if (hits)
			return at / WORD_BITS * WORD_BITS +
			       __builtin_ctzll(hits);
		at = next_word(at);
		if (at >= end)
			break;
		behind = skip(blocks, at, set);
		while (behind != at && behind < end) {
			work_add(blocks->work, 1);
			at = behind;
			behind = skip(blocks, at, set);
		}
		at = behind;
	}
	return end;
}

/* The same without an end. Return: the block, or blocks->nr. */
uint64_t blocks_next(const struct blocks *blocks, uint64_t from, bool set)
{
	return blocks_next_until(blocks, from, blocks->nr, set);
}

/* Number of blocks of a range that are in the set. */
uint64_t blocks_count(const struct blocks *blocks, uint64_t first, uint64_t nr)
{
	uint64_t at = first, end = first + nr, count = 0;

	if (nr == blocks->nr)
		return blocks->set;
	while (at < end) {
		unsigned int level = BLOCKS_LEVELS;

		work_add(blocks->work, 1);
		/* Find the largest entry that begins here within the range. */
		while (level-- > 0)
			if (!(at & ((1ULL << shift_of(level)) - 1)) &&
			    end - at >= 1ULL << shift_of(level))
				break;
		if (level < BLOCKS_LEVELS) {
			count += blocks->counts[level][at >> shift_of(level)];
			at += 1ULL << shift_of(level);
			continue;
		}
		count += __builtin_popcountll(blocks->map[at / WORD_BITS] &
					      bits_from(at, end));
		at = next_word(at);
	}
	return count;
}

/* The highest block in the set below @end, plus one; 0: there is none. */
uint64_t blocks_end_before(const struct blocks *blocks, uint64_t end)
{
	uint64_t at = end;

	while (at) {
		unsigned int level = BLOCKS_LEVELS;
		uint64_t word = (at - 1) / WORD_BITS, hits;

		work_add(blocks->work, 1);
		while (level-- > 0)
			if (none(blocks, level, (at - 1) >> shift_of(level),
				 true))
				break;
		if (level < BLOCKS_LEVELS) {
			at = (at - 1) >> shift_of(level) << shift_of(level);
			continue;
		}
		hits = blocks->map[word] & mask(0, at - word * WORD_BITS);
		if (hits)
			return (word + 1) * WORD_BITS - __builtin_clzll(hits);
		at = word * WORD_BITS;
	}
	return 0;
}

/* The same without a limit. */
uint64_t blocks_end(const struct blocks *blocks)
{
	return blocks_end_before(blocks, blocks->nr);
}

/**
 * blocks_next_missing() - find the first block that another set lacks
 * @blocks: the set that has the block
 * @in: the set that lacks the block, of the same size
 * @from: start of the search
 * @end: end of the search, exclusive
 *
 * Blocks in both sets are skipped one word at a time.
 *
 * Return: the block, or @end.
 */
uint64_t blocks_next_missing(const struct blocks *blocks,
			     const struct blocks *in, uint64_t from,
			     uint64_t end)
{
	uint64_t at = from;

	while ((at = blocks_next_until(blocks, at, end, true)) < end) {
		uint64_t word = at / WORD_BITS;
		uint64_t hits =
			blocks->map[word] & ~in->map[word] & bits_from(at, end);

		if (hits)
			return word * WORD_BITS + __builtin_ctzll(hits);
		at = next_word(at);
		/* Skip entries of which the other set has all blocks. */
		if (at < end)
			at = skip(in, at, false);
	}
	return end;
}
