// SPDX-License-Identifier: GPL-2.0-or-later
#include "samples.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"

/** samples_add() - Append a value. */
void samples_add(struct samples *s, uint64_t value)
{
	ASSERT_TRUE(s->nr < SAMPLES_MAX);
	s->values[s->nr++] = value;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/** samples_median() - Return: the median, the upper one of two; 0 if empty. */
uint64_t samples_median(const struct samples *s)
{
	uint64_t sorted[SAMPLES_MAX];

	if (!s->nr)
		return 0;
	memcpy(sorted, s->values, s->nr * sizeof(*sorted));
	qsort(sorted, s->nr, sizeof(*sorted), compare);
	return sorted[s->nr / 2];
}

/** samples_print() - Print as a further member of a JSON object. */
void samples_print(const struct samples *s, const char *name)
{
	printf(",\"%s\":[", name);
	for (unsigned int i = 0; i < s->nr; i++)
		printf("%s%" PRIu64, i ? "," : "", s->values[i]);
	printf("]");
}
