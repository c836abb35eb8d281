/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages and helpers for all parts. */
#ifndef UTIL_H
#define UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/**
 * error() - one line on stderr, prefixed with the program's name
 * @format: as for printf, without the newline
 */
void error(const char *format, ...) __attribute__((format(printf, 1, 2)));

/**
 * error_errno() - as error(), followed by ": " and the text of @errnum
 * @errnum: a positive errno
 * @format: as for printf, without the newline
 */
void error_errno(int errnum, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/**
 * parse_size() - parse a number of bytes
 * @text: decimal or 0x number, with a binary suffix K, M, G or T or none
 * @size: out: the number
 *
 * Return: 0, -EINVAL for anything else, -ERANGE beyond 64 bits.
 */
int parse_size(const char *text, uint64_t *size);

/**
 * align_up() - round up to a multiple of a power of two
 * @value: value to round
 * @align: a power of two
 * @result: out: the rounded value
 *
 * Return: false if it does not fit into 64 bits.
 */
bool align_up(uint64_t value, uint64_t align, uint64_t *result);

#endif /* UTIL_H */
