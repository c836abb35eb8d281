/* SPDX-License-Identifier: MIT */
/* Random numbers that are the same in each run, to reproduce a failure. */
#ifndef RANDOM_H
#define RANDOM_H

#include <stdint.h>

/* xorshift64*; @state is never 0. Return: below @limit. */
static inline uint32_t random_below(uint64_t *state, uint32_t limit)
{
	*state ^= *state >> 12;
	*state ^= *state << 25;
	*state ^= *state >> 27;
	return (uint32_t)((*state * 0x2545f4914f6cdd1dULL >> 32) % limit);
}

#endif /* RANDOM_H */
