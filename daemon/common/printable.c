// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A peer's text must not steer the terminal on which it is printed, nor forge
 * lines, nor make a file invalid that has to be UTF-8. Printable is UTF-8
 * without control characters: those below U+0020, U+007F to U+009F (which
 * terminals take as well), line separators, and what changes the direction of
 * writing.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/printable.h"

/* An escaped byte is "\xNN". */
#define ESCAPE_LENGTH 4

/* In JSON a character is "\uNNNN". */
#define JSON_ESCAPE_LENGTH 6

/* What stands in JSON for what is no character. */
#define REPLACEMENT 0xfffd

/*
 * Characters from here on, among them those of East Asia, may take two columns of
 * a terminal. Some of them take one; a line with those is cut a bit early.
 */
#define WIDE_FIRST 0x1100

/* Least code point of a sequence of so many bytes; a lower one is invalid. */
static const uint32_t least_of_length[] = {0, 0, 0x80, 0x800, 0x10000};

/* Bytes of the sequence that begins with @byte; 0: none begins with it. */
static size_t sequence_length(unsigned char byte)
{
	if (byte < 0x80)
		return 1;
	if (byte >= 0xc2 && byte < 0xe0)
		return 2;
	if (byte >= 0xe0 && byte < 0xf0)
		return 3;
	return byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
}

static bool is_control(uint32_t code)
{
	return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x061c ||
	       (code >= 0x200e && code <= 0x200f) ||
	       (code >= 0x2028 && code <= 0x202e) ||
	       (code >= 0x2066 && code <= 0x2069);
}

/* The first character of a text. Return: its bytes; 0: it is not UTF-8. */
static size_t decode(const char *text, size_t left, uint32_t *code)
{
	const unsigned char *byte = (const unsigned char *)text;
	size_t length = sequence_length(*byte);

	if (!length || length > left)
		return 0;
	*code = length == 1 ? *byte : *byte & (0x7f >> length);
	for (size_t i = 1; i < length; i++) {
		if ((byte[i] & 0xc0) != 0x80)
			return 0;
		*code = *code << 6 | (byte[i] & 0x3f);
	}
	if (*code < least_of_length[length] || *code > 0x10ffff ||
	    (*code >= 0xd800 && *code < 0xe000))
		return 0;
	return length;
}

/**
 * printable_length() - the first character of a text
 * @left: bytes that @text has, not 0
 *
 * Return: how many bytes it has, if it is printable; 0: the first byte is not.
 */
size_t printable_length(const char *text, size_t left)
{
	uint32_t code;
	size_t length = decode(text, left, &code);

	return length && !is_control(code) ? length : 0;
}

/**
 * printable_fit() - how much of a text fits in a line
 * @columns: in: that the line has; out: that the part takes, at most
 *
 * Return: bytes of @text, which end where a character does.
 */
size_t printable_fit(const char *text, size_t *columns)
{
	size_t left = strlen(text), fit = 0, taken = 0;

	while (left) {
		uint32_t code = 0;
		size_t length = decode(text + fit, left, &code);
		size_t width = code < WIDE_FIRST ? 1 : 2;

		if (!length)
			length = width = 1;
		if (taken + width > *columns)
			break;
		taken += width;
		fit += length;
		left -= length;
	}
	*columns = taken;
	return fit;
}

/** printable_width() - columns that a text takes, at most */
size_t printable_width(const char *text)
{
	size_t columns = SIZE_MAX;

	printable_fit(text, &columns);
	return columns;
}

/**
 * printable_escape() - a text whose bytes that are not printable are \xNN
 *
 * Return: the caller's to free; NULL without memory.
 */
char *printable_escape(const char *text, size_t length)
{
	char *escaped = malloc(ESCAPE_LENGTH * length + 1), *to = escaped;

	if (!escaped)
		return NULL;
	while (length) {
		size_t bytes = printable_length(text, length);

		for (size_t i = 0; i < bytes; i++)
			*to++ = text[i];
		if (!bytes) {
			bytes = 1;
			to += snprintf(to, ESCAPE_LENGTH + 1, "\\x%02x",
				       (unsigned char)*text);
		}
		text += bytes;
		length -= bytes;
	}
	*to = '\0';
	return escaped;
}

/**
 * printable_escape_json() - JSON with the same meaning, whose texts can be printed
 * @text: JSON in a line; what is not printable is in its strings
 *
 * Return: the caller's to free; NULL without memory.
 */
char *printable_escape_json(const char *text, size_t length)
{
	char *escaped = malloc(JSON_ESCAPE_LENGTH * length + 1), *to = escaped;

	if (!escaped)
		return NULL;
	while (length) {
		uint32_t code = REPLACEMENT;
		size_t bytes = decode(text, length, &code);

		if (bytes && !is_control(code)) {
			memcpy(to, text, bytes);
			to += bytes;
		} else {
			/* Control characters are all below U+10000. */
			to += snprintf(to, JSON_ESCAPE_LENGTH + 1, "\\u%04x",
				       bytes ? code : REPLACEMENT);
		}
		bytes = bytes ? bytes : 1;
		text += bytes;
		length -= bytes;
	}
	*to = '\0';
	return escaped;
}
