// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "size.h"

static const char units[] = "KMGTPE";

/**
 * size_parse() - read a size
 * @text: digits (0x for hexadecimal), then none or one of K, M, G, T, P, E,
 *	upper or lower case, optionally followed by iB or B: powers of 1024
 *
 * Return: 0; -EINVAL not a size; -ERANGE more than 64 bits of bytes.
 */
int size_parse(const char *text, uint64_t *size)
{
	unsigned long long number;
	const char *unit;
	char *end;

	/* strtoull() would take a sign and leading space. */
	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	number = strtoull(text, &end, strncmp(text, "0x", 2) ? 10 : 16);
	if (errno)
		return -errno;
	*size = number;
	if (!*end)
		return 0;
	unit = strchr(units, toupper((unsigned char)*end));
	if (unit) {
		unsigned int shift = 10 * (unit - units + 1);

		if (number > UINT64_MAX >> shift)
			return -ERANGE;
		*size = (uint64_t)number << shift;
		end++;
		if (*end == 'i' && end[1] == 'B')
			end++;
	}
	/* Of "iB", the B that is left. */
	if (*end == 'B')
		end++;
	return *end ? -EINVAL : 0;
}

/* The largest unit that leaves at most two decimals; exact where it is. */
const char *size_format(uint64_t size, char text[SIZE_TEXT_MAX])
{
	unsigned int shift = 0;

	while (shift < 60 && size >> (shift + 10))
		shift += 10;
	if (!shift)
		snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " B", size);
	else if (!(size & ((1ULL << shift) - 1)))
		snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " %ciB", size >> shift,
			 units[shift / 10 - 1]);
	else
		snprintf(text, SIZE_TEXT_MAX, "%.2f %ciB",
			 (double)size / (double)(1ULL << shift),
			 units[shift / 10 - 1]);
	return text;
}
