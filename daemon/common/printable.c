// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Making text of a peer safe for a terminal or a log.
 *
 * Such text must not control the terminal, forge lines, or make a UTF-8 file
 * invalid. So text counts as printable if it is UTF-8 without control
 * characters: those below U+0020, U+007F to U+009F (which terminals also
 * interpret), line separators, and characters that change the writing
 * direction.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/printable.h"

/* Length of an escaped byte: "\xNN". */
#define ESCAPE_LENGTH 4

/* Length of an escaped character in JSON: "\uNNNN". */
#define JSON_ESCAPE_LENGTH 6

/* Replaces invalid bytes in JSON. */
#define REPLACEMENT 0xfffd

/*
 * Characters from here on count as two columns, as East Asian ones have. Some
 * of them have only one, so that a line with those is cut early.
 */
#define WIDE_FIRST 0x1100

/* Lowest valid code point by length of the sequence in bytes. */
static const uint32_t least_of_length[] = {0, 0, 0x80, 0x800, 0x10000};

/* Length of the sequence that starts with @byte; 0: invalid. */
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

/* Decode the first character. Return: its length in bytes; 0: not UTF-8. */
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
 * printable_length() - get the length of a printable first character
 * @text: the text
 * @left: bytes in @text, not 0
 *
 * Return: the length in bytes; 0: the first character is not printable.
 */
size_t printable_length(const char *text, size_t left)
{
	uint32_t code;
	size_t length = decode(text, left, &code);

	return length && !is_control(code) ? length : 0;
}

/**
 * printable_fit() - get the part of a text that fits in a line
 * @text: the text
 * @columns: in: columns of the line; out: maximum columns of the part
 *
 * Return: the length of the part in bytes; it ends with a whole character.
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

/* The maximum number of columns that a text takes. */
size_t printable_width(const char *text)
{
	size_t columns = SIZE_MAX;

	printable_fit(text, &columns);
	return columns;
}

/**
 * printable_escape() - escape bytes that are not printable as \xNN
 * @text: the text
 * @length: bytes in @text
 *
 * Return: a new string, to be freed by the caller; NULL: out of memory.
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
 * printable_escape_json() - escape unprintable characters in JSON as \uNNNN
 * @text: JSON in one line, so that such characters only occur in strings
 * @length: bytes in @text
 *
 * Return: new, equivalent JSON, to be freed by the caller; NULL: out of memory.
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
