// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "blocks.h"

#define WORD_BITS 64

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

/* Pages of the map are touched only as blocks are set. */
int blocks_init(struct blocks *blocks, uint64_t nr)
{
	memset(blocks, 0, sizeof(*blocks));
	blocks->map = calloc(words(nr) + 1, sizeof(*blocks->map));
	if (!blocks->map)
		return -ENOMEM;
	blocks->nr = nr;
	return 0;
}

void blocks_free(struct blocks *blocks)
{
	free(blocks->map);
	memset(blocks, 0, sizeof(*blocks));
}

/*
 * Walk the words of a range. The caller has checked that first + nr does not
 * exceed blocks->nr.
 */
#define for_each_word(_word, _mask, _first, _nr)                           \
	for (uint64_t _at = (_first), _left = (_nr), _step,                \
		      _word = _at / WORD_BITS,                             \
		      _mask = _left ? mask(_at % WORD_BITS, _left) : 0;    \
	     _left; _step = WORD_BITS - _at % WORD_BITS,                   \
		      _step = _step < _left ? _step : _left, _at += _step, \
		      _left -= _step, _word = _at / WORD_BITS,             \
		      _mask = _left ? mask(_at % WORD_BITS, _left) : 0)

void blocks_set(struct blocks *blocks, uint64_t first, uint64_t nr)
{
	for_each_word(word, bits, first, nr)
	{
		blocks->set += __builtin_popcountll(bits & ~blocks->map[word]);
		blocks->map[word] |= bits;
	}
}

void blocks_clear(struct blocks *blocks, uint64_t first, uint64_t nr)
{
	for_each_word(word, bits, first, nr)
	{
		uint64_t gone = bits & blocks->map[word];

		/* A page of the map that was never set is not touched. */
		if (!gone)
			continue;
		blocks->set -= __builtin_popcountll(gone);
		blocks->map[word] &= ~bits;
	}
}

/* Both sets are of as many blocks. */
void blocks_add(struct blocks *blocks, const struct blocks *more)
{
	for (uint64_t word = 0; word < words(blocks->nr); word++) {
		uint64_t come = more->map[word] & ~blocks->map[word];

		if (!come)
			continue;
		blocks->set += __builtin_popcountll(come);
		blocks->map[word] |= come;
	}
}

void blocks_remove(struct blocks *blocks, const struct blocks *less)
{
	for (uint64_t word = 0; word < words(blocks->nr); word++) {
		uint64_t gone = less->map[word] & blocks->map[word];

		if (!gone)
			continue;
		blocks->set -= __builtin_popcountll(gone);
		blocks->map[word] &= ~gone;
	}
}

/* How many of a range are in the set. */
uint64_t blocks_count(const struct blocks *blocks, uint64_t first, uint64_t nr)
{
	uint64_t count = 0;

	for_each_word(word, bits, first, nr) count +=
		__builtin_popcountll(blocks->map[word] & bits);
	return count;
}

/**
 * blocks_next_until() - first number from @from on that is in the set, or is not
 * @end: where to stop, at most blocks->nr: no more words are looked at
 *
 * Return: the number, or @end.
 */
uint64_t blocks_next_until(const struct blocks *blocks, uint64_t from,
			   uint64_t end, bool set)
{
	if (from >= end || (set && !blocks->set))
		return end;
	for_each_word(word, bits, from, end - from)
	{
		uint64_t hits =
			(set ? blocks->map[word] : ~blocks->map[word]) & bits;

		if (hits)
			return word * WORD_BITS + __builtin_ctzll(hits);
	}
	return end;
}

/* The same in all of the set. Return: the number, or blocks->nr. */
uint64_t blocks_next(const struct blocks *blocks, uint64_t from, bool set)
{
	return blocks_next_until(blocks, from, blocks->nr, set);
}

/* One more than the highest number in the set, 0 if it is empty. */
uint64_t blocks_end(const struct blocks *blocks)
{
	if (!blocks->set)
		return 0;
	for (uint64_t word = words(blocks->nr); word-- > 0;)
		if (blocks->map[word])
			return (word + 1) * WORD_BITS -
			       __builtin_clzll(blocks->map[word]);
	return 0;
}
