/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Figures of the rounds of a measurement, printed as they are. */
#ifndef SELFTESTS_SAMPLES_H
#define SELFTESTS_SAMPLES_H

#include <stdint.h>

/* Rounds that the cheapest measurement has; more would say no more. */
#define SAMPLES_MAX 101

/**
 * struct samples - what was measured, in the order of the rounds
 * @values: @nr of them
 * @nr: how many
 */
struct samples {
	uint64_t values[SAMPLES_MAX];
	unsigned int nr;
};

void samples_add(struct samples *s, uint64_t value);
uint64_t samples_median(const struct samples *s);
void samples_print(const struct samples *s, const char *name);

#endif /* SELFTESTS_SAMPLES_H */
