// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A set of block numbers: a bit each, and counts above them.
 *
 * A guest chooses the blocks that it plugs, and each request searches the set. A
 * region of 4 TiB in blocks of 4 KiB has 16 million words of bits, and a search of
 * all of them would delay all other work of the daemon. So the bits are the lowest
 * of several levels. Each count above them covers 64 words, or 64 counts of the
 * level below. A search skips a count if all of its blocks are in the set, or none
 * is, and it looks for the opposite. Regardless of size and contents, a search reads
 * at most 64 entries of a level on its way up, and again on its way down.
 *
 * Memory is touched only where blocks are or were in the set.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/blocks.h"

#define WORD_BITS 64

/* A level has one entry for so many of the level below. */
#define FAN_SHIFT 6

/* Blocks of an entry, as a power of two. */
static unsigned int shift_of(unsigned int level)
{
	return FAN_SHIFT * (level + 2);
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static uint64_t words(uint64_t nr)
{
	return nr / WORD_BITS + (nr % WORD_BITS != 0);
}

/* Bits of a word from @bit on, at most @nr of them; @nr is not 0. */
static uint64_t mask(unsigned int bit, uint64_t nr)
{
	uint64_t high =
		nr >= WORD_BITS - bit ? ~0ULL : (1ULL << (bit + nr)) - 1;

	return high & (~0ULL << bit);
}

/* Bits of the word that @at is in, from there on, of blocks below @end. */
static uint64_t bits_from(uint64_t at, uint64_t end)
{
	return mask(at % WORD_BITS, end - at);
}

static uint64_t next_word(uint64_t at)
{
	return (at / WORD_BITS + 1) * WORD_BITS;
}

/* Entries of a level are there for all blocks. */
static uint64_t entries(uint64_t nr, unsigned int level)
{
	return (nr >> shift_of(level)) + 1;
}

/* Pages are touched only as blocks are set. Return: 0, or -ENOMEM. */
int blocks_init(struct blocks *blocks, uint64_t nr)
{
	memset(blocks, 0, sizeof(*blocks));
	blocks->nr = nr;
	blocks->map = calloc(words(nr) + 1, sizeof(*blocks->map));
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

/* --- Changing --- */

/* Bits of a word come into the set. */
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

/* Of all ranges here the caller has checked that they end in the universe. */
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

/* Out of one set into another, which is of as many blocks: by words. */
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

/* Both sets are of as many blocks. */
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
	/* Only words that both have bits in matter. */
	const struct blocks *fewer = less->set < blocks->set ? less : blocks;
	uint64_t at = 0;

	while ((at = blocks_next(fewer, at, true)) < fewer->nr) {
		clear_bits(blocks, at / WORD_BITS, less->map[at / WORD_BITS]);
		at = next_word(at);
	}
}

/* --- Searching --- */

/* Has no block of an entry what is looked for? */
static bool none(const struct blocks *blocks, unsigned int level,
		 uint64_t entry, bool set)
{
	uint64_t first = entry << shift_of(level);
	uint64_t all = min(1ULL << shift_of(level), blocks->nr - first);

	return blocks->counts[level][entry] == (set ? 0 : all);
}

/* Where the highest entry ends that @at is in and that has none; @at: no such. */
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
 * blocks_next_until() - first number from @from on that is in the set, or is not
 * @end: where to stop, at most blocks->nr
 *
 * Return: the number, or @end.
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

/* The same in all of the set. Return: the number, or blocks->nr. */
uint64_t blocks_next(const struct blocks *blocks, uint64_t from, bool set)
{
	return blocks_next_until(blocks, from, blocks->nr, set);
}

/* How many of a range are in the set. */
uint64_t blocks_count(const struct blocks *blocks, uint64_t first, uint64_t nr)
{
	uint64_t at = first, end = first + nr, count = 0;

	if (nr == blocks->nr)
		return blocks->set;
	while (at < end) {
		unsigned int level = BLOCKS_LEVELS;

		work_add(blocks->work, 1);
		/* The largest entry that begins here and ends in the range. */
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

/* One more than the highest number in the set below @end, 0 if there is none. */
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

/* The same in all of the set. */
uint64_t blocks_end(const struct blocks *blocks)
{
	return blocks_end_before(blocks, blocks->nr);
}

/**
 * blocks_next_missing() - first number that is in one set and not in another
 * @in: the other set, of as many blocks
 * @from, @end: where to begin and to stop
 *
 * What both have is passed over a word at a time.
 *
 * Return: the number, or @end.
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
		/* Where the other one has all, nothing is missing. */
		if (at < end)
			at = skip(in, at, false);
	}
	return end;
}
