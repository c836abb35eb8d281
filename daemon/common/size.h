/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Parsing and formatting sizes with binary units. */
#ifndef SIZE_H
#define SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum size of the text of size_format(). */
#define SIZE_TEXT_MAX 32

/* One per cent, in the unit of percentages. */
#define SIZE_PERCENT 1000000ULL

/**
 * enum size_base - what an amount is relative to
 * @SIZE_IS: an absolute size
 * @SIZE_MORE: added to the current size
 * @SIZE_LESS: subtracted from the current size
 */
enum size_base {
	SIZE_IS,
	SIZE_MORE,
	SIZE_LESS,
};

/**
 * struct size_amount - a size that may depend on other sizes
 * @base: what the amount is relative to
 * @percent: @value is a percentage of the whole
 * @rounded: the amount was written with decimals, so it is rounded to blocks
 * @value: bytes; with @percent, millionths of a per cent
 */
struct size_amount {
	enum size_base base;
	bool percent;
	bool rounded;
	uint64_t value;
};

int size_parse(const char *text, uint64_t *size);
int size_parse_amount(const char *text, struct size_amount *amount);
bool size_depends(const struct size_amount *amount);
int size_resolve(const struct size_amount *amount, uint64_t now, uint64_t whole,
		 uint64_t block, uint64_t *size);
const char *size_format(uint64_t size, char text[SIZE_TEXT_MAX]);
const char *size_format_exact(uint64_t size, char text[SIZE_TEXT_MAX]);

#endif /* SIZE_H */
