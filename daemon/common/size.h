/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sizes as people write and read them: binary units. */
#ifndef SIZE_H
#define SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Room for any size_format(). */
#define SIZE_TEXT_MAX 32

/* Of a percentage: so many are one per cent. */
#define SIZE_PERCENT 1000000ULL

/**
 * enum size_base - what an amount starts from
 * @SIZE_IS: nothing, it is the size
 * @SIZE_MORE, @SIZE_LESS: the present size
 */
enum size_base {
	SIZE_IS,
	SIZE_MORE,
	SIZE_LESS,
};

/**
 * struct size_amount - a size that may depend on others
 * @base: what it starts from
 * @percent: @value is a part of the whole, in millionths of a per cent
 * @rounded: it was written with decimals, so it means what is nearest
 * @value: else bytes
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
