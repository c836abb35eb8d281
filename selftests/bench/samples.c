// SPDX-License-Identifier: GPL-2.0-or-later
#include "samples.h"

#include <inttypes.h>
#include <stdio.h>

#include "tap.h"

/** samples_add() - Append a figure. */
void samples_add(struct samples *s, uint64_t value)
{
	ASSERT_TRUE(s->nr < SAMPLES_MAX);
	s->values[s->nr++] = value;
}

/** samples_print() - As a member of a JSON object, after others. */
void samples_print(const struct samples *s, const char *name)
{
	printf(",\"%s\":[", name);
	for (unsigned int i = 0; i < s->nr; i++)
		printf("%s%" PRIu64, i ? "," : "", s->values[i]);
	printf("]");
}
