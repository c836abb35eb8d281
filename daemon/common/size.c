// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"

static const char units[] = "KMGTPE";

/* Decimals that are read; more do not change a byte of a sensible size. */
#define DECIMALS_MAX 15

/* Sums and products of sizes, before it is known that they fit. */
typedef unsigned __int128 wide;

/**
 * struct number - a decimal number
 * @whole: before the point
 * @part, @scale: after it, @part of @scale
 * @decimals: it has a point
 */
struct number {
	uint64_t whole;
	uint64_t part;
	uint64_t scale;
	bool decimals;
};

/* Return: what follows the number, or NULL. @error is set then. */
static const char *read_number(const char *text, struct number *number,
			       int *error)
{
	char *end = (char *)text;
	int digits = 0;

	*number = (struct number){.scale = 1};
	*error = -EINVAL;
	/* strtoull() would take a sign and leading space. */
	if (isdigit((unsigned char)*text)) {
		errno = 0;
		number->whole =
			strtoull(text, &end, strncmp(text, "0x", 2) ? 10 : 16);
		*error = -errno;
		if (*error)
			return NULL;
	}
	if (*end != '.')
		return end == text ? NULL : end;
	*error = -EINVAL;
	number->decimals = true;
	/* Of a hexadecimal number there are no decimals. */
	if (!strncmp(text, "0x", 2) || !isdigit((unsigned char)end[1]))
		return NULL;
	for (end++; isdigit((unsigned char)*end); end++) {
		if (digits++ >= DECIMALS_MAX)
			continue;
		number->part = 10 * number->part + (*end - '0');
		number->scale *= 10;
	}
	return end;
}

/* Return: what follows the unit; NULL if there is none, or no byte. */
static const char *read_unit(const char *text, unsigned int *shift)
{
	const char *unit;

	*shift = 0;
	if (!*text)
		return text;
	unit = strchr(units, toupper((unsigned char)*text));
	if (unit) {
		*shift = 10 * (unit - units + 1);
		text++;
		if (tolower((unsigned char)*text) == 'i')
			text++;
	}
	return tolower((unsigned char)*text) == 'b' ? text + 1 : text;
}

static int to_bytes(const struct number *number, unsigned int shift,
		    uint64_t *size)
{
	wide bytes = (wide)number->whole << shift;

	/* To the nearest byte. */
	bytes += (((wide)number->part << shift) + number->scale / 2) /
		 number->scale;
	if (bytes > UINT64_MAX)
		return -ERANGE;
	*size = (uint64_t)bytes;
	return 0;
}

/* @decimals: it was written with a point */
static int parse_bytes(const char *text, uint64_t *size, bool *decimals)
{
	struct number number;
	unsigned int shift;
	int error;

	text = read_number(text, &number, &error);
	if (!text)
		return error;
	while (*text == ' ')
		text++;
	/* A blank belongs to the unit that follows it. */
	if (!*text && text[-1] == ' ')
		return -EINVAL;
	text = read_unit(text, &shift);
	if (*text || (number.decimals && !shift))
		return -EINVAL;
	*decimals = number.decimals;
	return to_bytes(&number, shift, size);
}

/**
 * size_parse() - read a size
 * @text: digits (0x for hexadecimal), with decimals where a unit follows; then
 *	none or one of K, M, G, T, P, E, powers of 1024, optionally followed by
 *	i, B or iB. Upper and lower case are the same. Blanks may stand before
 *	the unit, as size_format() has one there
 *
 * Return: 0; -EINVAL not a size; -ERANGE more than 64 bits of bytes.
 */
int size_parse(const char *text, uint64_t *size)
{
	bool decimals;

	return parse_bytes(text, size, &decimals);
}

static int parse_percent(const char *text, struct size_amount *amount)
{
	struct number number;
	wide value;
	int error;

	text = read_number(text, &number, &error);
	if (!text)
		return error;
	while (*text == ' ')
		text++;
	if (*text != '%' || text[1])
		return -EINVAL;
	value = (wide)number.whole * SIZE_PERCENT +
		(wide)number.part * SIZE_PERCENT / number.scale;
	if (value > 100 * SIZE_PERCENT)
		return -ERANGE;
	amount->value = (uint64_t)value;
	amount->percent = true;
	return 0;
}

/**
 * size_parse_amount() - read a size that may depend on others
 * @text: as of size_parse(), or a percentage of the whole; with + or - before
 *	it, so much more or less than now
 *
 * Return: as of size_parse(); -ERANGE also for more than 100 %.
 */
int size_parse_amount(const char *text, struct size_amount *amount)
{
	*amount = (struct size_amount){.base = SIZE_IS};
	if (*text == '+' || *text == '-') {
		amount->base = *text == '+' ? SIZE_MORE : SIZE_LESS;
		text++;
	}
	if (strchr(text, '%'))
		return parse_percent(text, amount);
	return parse_bytes(text, &amount->value, &amount->rounded);
}

/* Does it take more than the text to know the size? */
bool size_depends(const struct size_amount *amount)
{
	return amount->base != SIZE_IS || amount->percent || amount->rounded;
}

/* To the nearest block, but not beyond the whole. */
static wide round_to_block(wide size, uint64_t whole, uint64_t block)
{
	size = (size + block / 2) / block * block;
	return size > whole ? whole : size;
}

/**
 * size_resolve() - the size that an amount comes to
 * @now: what a relative amount starts from
 * @whole: what percentages are of
 * @block: what percentages and decimals are rounded to, at most @whole; 0: not
 *
 * Return: 0; -ERANGE it is less than nothing, or more than 64 bits.
 */
int size_resolve(const struct size_amount *amount, uint64_t now, uint64_t whole,
		 uint64_t block, uint64_t *size)
{
	wide value = amount->value;

	if (amount->percent)
		value = (wide)whole * amount->value / (100 * SIZE_PERCENT);
	if (amount->base == SIZE_LESS && value > now)
		return -ERANGE;
	if (amount->base == SIZE_LESS)
		value = now - value;
	else if (amount->base == SIZE_MORE)
		value += now;
	/* What is more than the whole is refused by who knows why. */
	if (block && value <= whole && (amount->percent || amount->rounded))
		value = round_to_block(value, whole, block);
	if (value > UINT64_MAX)
		return -ERANGE;
	*size = (uint64_t)value;
	return 0;
}

static void format(uint64_t size, unsigned int shift, char text[SIZE_TEXT_MAX])
{
	if (!shift)
		snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " B", size);
	else if (!(size & ((1ULL << shift) - 1)))
		snprintf(text, SIZE_TEXT_MAX, "%" PRIu64 " %ciB", size >> shift,
			 units[shift / 10 - 1]);
	else
		snprintf(text, SIZE_TEXT_MAX, "%.2f %ciB",
			 (double)size / (double)(1ULL << shift),
			 units[shift / 10 - 1]);
}

static unsigned int largest_shift(uint64_t size)
{
	unsigned int shift = 0;

	while (shift < 60 && size >> (shift + 10))
		shift += 10;
	return shift;
}

/* The largest unit that leaves at most two decimals; exact where it is. */
const char *size_format(uint64_t size, char text[SIZE_TEXT_MAX])
{
	format(size, largest_shift(size), text);
	return text;
}

/**
 * size_format_exact() - a size that is compared with another
 *
 * The largest unit in which two decimals say all, so that two sizes that differ
 * are also written differently.
 */
const char *size_format_exact(uint64_t size, char text[SIZE_TEXT_MAX])
{
	unsigned int shift = largest_shift(size);

	while (shift && ((wide)size * 100) & ((1ULL << shift) - 1))
		shift -= 10;
	format(size, shift, text);
	return text;
}
