// SPDX-License-Identifier: GPL-2.0-or-later
#include "random.h"

/** random_u64() - Return: the next number: a hash of a counter (splitmix64). */
uint64_t random_u64(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return z ^ z >> 31;
}

/** random_below() - Return: the next number, 0 to @limit - 1. */
uint32_t random_below(uint64_t *state, uint32_t limit)
{
	return (uint32_t)(random_u64(state) % limit);
}
