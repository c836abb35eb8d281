/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random numbers that a seed reproduces. The state is a number, initially the
 * seed.
 */
#ifndef SELFTESTS_RANDOM_H
#define SELFTESTS_RANDOM_H

#include <stdint.h>

uint64_t random_u64(uint64_t *state);
uint32_t random_below(uint64_t *state, uint32_t limit);

#endif /* SELFTESTS_RANDOM_H */
