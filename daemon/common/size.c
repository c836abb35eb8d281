// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/size.h"

static const char units[] = "KMGTPE";

/* Number of decimals that are used; more do not matter in practice. */
#define DECIMALS_MAX 15

/* For sums and products of sizes that may exceed 64 bits. */
typedef unsigned __int128 wide;

/**
 * struct number - a parsed number
 * @whole: integer part
 * @part: numerator of the fractional part
 * @scale: denominator of the fractional part
 * @decimals: the number was written with a decimal point
 */
struct number {
	uint64_t whole;
	uint64_t part;
	uint64_t scale;
	bool decimals;
};

/* Return: the text after the number; NULL on error, with @error set. */
static const char *read_number(const char *text, struct number *number,
			       int *error)
{
	char *end = (char *)text;
	int digits = 0;

	*number = (struct number){.scale = 1};
	*error = -EINVAL;
	/* strtoull() would accept a sign and leading spaces. */
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
	/* Hexadecimal numbers cannot have decimals. */
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

/* Parse an optional unit, with its power of two. Return: the text after it. */
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

	/* Round to the nearest byte. */
	bytes += (((wide)number->part << shift) + number->scale / 2) /
		 number->scale;
	if (bytes > UINT64_MAX)
		return -ERANGE;
	*size = (uint64_t)bytes;
	return 0;
}

/* @decimals: set to whether the size was written with a decimal point */
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
	/* A space is only allowed before a unit. */
	if (!*text && text[-1] == ' ')
		return -EINVAL;
	text = read_unit(text, &shift);
	if (*text || (number.decimals && !shift))
		return -EINVAL;
	*decimals = number.decimals;
	return to_bytes(&number, shift, size);
}

/**
 * size_parse() - parse a size
 * @text: a number (0x for hexadecimal), optionally followed by one of K, M, G,
 *	T, P, E for powers of 1024, optionally followed by i, B or iB. Decimals
 *	need a unit. Case is ignored. Spaces may precede the unit, as in the
 *	text of size_format()
 * @size: set to the number of bytes
 *
 * Return: 0; -EINVAL: not a size; -ERANGE: the size exceeds 64 bits.
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
 * size_parse_amount() - parse a size that may depend on other sizes
 * @text: a size for size_parse(), or a percentage of the whole; a prefix of +
 *	or - makes it relative to the current size
 * @amount: set on success
 *
 * Return: see size_parse(); -ERANGE also for more than 100 %.
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

/* Does the size depend on other sizes? */
bool size_depends(const struct size_amount *amount)
{
	return amount->base != SIZE_IS || amount->percent || amount->rounded;
}

/* Round to the nearest multiple of the block size, up to the whole. */
static wide round_to_block(wide size, uint64_t whole, uint64_t block)
{
	size = (size + block / 2) / block * block;
	return size > whole ? whole : size;
}

/**
 * size_resolve() - compute the size of an amount
 * @amount: the amount
 * @now: the current size
 * @whole: the size that is 100 %
 * @block: percentages and decimals are rounded to multiples of this, at most
 *	@whole; 0: no rounding
 * @size: set on success
 *
 * Return: 0; -ERANGE: the size is negative or exceeds 64 bits.
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
	/* A size beyond the whole is not rounded: the caller refuses it. */
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

/* Format a size in the largest unit, with two decimals if it is not whole. */
const char *size_format(uint64_t size, char text[SIZE_TEXT_MAX])
{
	format(size, largest_shift(size), text);
	return text;
}

/**
 * size_format_exact() - format a size without loss
 * @size: bytes
 * @text: set to the text
 *
 * The unit is the largest one in which two decimals are exact, so that
 * different sizes have different texts.
 *
 * Return: @text.
 */
const char *size_format_exact(uint64_t size, char text[SIZE_TEXT_MAX])
{
	unsigned int shift = largest_shift(size);

	while (shift && ((wide)size * 100) & ((1ULL << shift) - 1))
		shift -= 10;
	format(size, shift, text);
	return text;
}
