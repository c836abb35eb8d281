/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values from the rounds of a measurement, printed unchanged. */
#ifndef SELFTESTS_SAMPLES_H
#define SELFTESTS_SAMPLES_H

#include <stdint.h>

/* Maximum number of rounds; more would not improve the result. */
#define SAMPLES_MAX 101

/**
 * struct samples - measured values, in the order of the rounds
 * @values: the values
 * @nr: number of @values
 */
struct samples {
	uint64_t values[SAMPLES_MAX];
	unsigned int nr;
};

void samples_add(struct samples *s, uint64_t value);
uint64_t samples_median(const struct samples *s);
void samples_print(const struct samples *s, const char *name);

#endif /* SELFTESTS_SAMPLES_H */
