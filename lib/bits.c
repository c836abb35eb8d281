// SPDX-License-Identifier: MIT
#include "bits.h"

#include <errno.h>
#include <stdlib.h>

#define WORD 64

/* Mask of bits @first to @end - 1 of a word; 0 <= first < end <= WORD. */
static uint64_t mask(uint64_t first, uint64_t end)
{
	return ~0ULL >> (WORD - (end - first)) << first;
}

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Create an empty set. Return: 0 or -ENOMEM. */
int kvmvmem_bits_init(struct kvmvmem_bits *bits, uint64_t nr)
{
	bits->nr = nr;
	bits->words = calloc((nr + WORD - 1) / WORD, sizeof(*bits->words));
	return bits->words ? 0 : -ENOMEM;
}

void kvmvmem_bits_free(struct kvmvmem_bits *bits)
{
	free(bits->words);
	bits->words = NULL;
	bits->nr = 0;
}

/* Add @first to @end - 1 to the set, or remove them. */
void kvmvmem_bits_fill(struct kvmvmem_bits *bits, uint64_t first, uint64_t end,
		       bool value)
{
	while (first < end) {
		uint64_t at = first % WORD;
		uint64_t until = min(WORD, at + (end - first));
		uint64_t *word = &bits->words[first / WORD];

		if (value)
			*word |= mask(at, until);
		else
			*word &= ~mask(at, until);
		first += until - at;
	}
}

/*
 * Find the first element from @from on that is in the set, or not in it.
 *
 * Return: the element, or @end.
 */
uint64_t kvmvmem_bits_next(const struct kvmvmem_bits *bits, uint64_t from,
			   uint64_t end, bool value)
{
	while (from < end) {
		uint64_t word = bits->words[from / WORD];

		if (!value)
			word = ~word;
		word &= mask(from % WORD, WORD);
		if (word)
			return min(from / WORD * WORD +
					   (uint64_t)__builtin_ctzll(word),
				   end);
		from = (from / WORD + 1) * WORD;
	}
	return end;
}
