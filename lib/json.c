// SPDX-License-Identifier: MIT
/*
 * JSON without allocation. kvmvmem_json_parse() checks a whole line against the
 * grammar of RFC 8259, with a limit on the depth. All other functions get checked
 * values, and only have to find where these end.
 */
#include "json.h"

#include <stdio.h>
#include <string.h>

/* --- Checking. The limit on the depth bounds the recursion --- */

/* NOLINTBEGIN(misc-no-recursion) */

/* Position and depth of a check. */
struct cursor {
	const char *at;
	const char *end;
	unsigned int depth;
};

static bool check_value(struct cursor *c);

static void skip_space(struct cursor *c)
{
	while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' ||
				  *c->at == '\r' || *c->at == '\n'))
		c->at++;
}

static bool take(struct cursor *c, char expected)
{
	if (c->at == c->end || *c->at != expected)
		return false;
	c->at++;
	return true;
}

static bool take_word(struct cursor *c, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(c->end - c->at) < length || memcmp(c->at, word, length))
		return false;
	c->at += length;
	return true;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool take_digits(struct cursor *c)
{
	const char *first = c->at;

	while (c->at < c->end && is_digit(*c->at))
		c->at++;
	return c->at > first;
}

static bool check_number(struct cursor *c)
{
	take(c, '-');
	/* Leading zeros are invalid. */
	if (!take(c, '0') && !take_digits(c))
		return false;
	if (take(c, '.') && !take_digits(c))
		return false;
	if (take(c, 'e') || take(c, 'E')) {
		if (!take(c, '+'))
			take(c, '-');
		return take_digits(c);
	}
	return true;
}

/* Return: 0 to 15, or -1. */
static int hex_digit(char c)
{
	if (is_digit(c))
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

static bool check_escape(struct cursor *c)
{
	if (c->at == c->end)
		return false;
	if (*c->at != 'u')
		/* strchr() would also find the NUL of its string. */
		return *c->at && strchr("\"\\/bfnrt", *c->at++);
	c->at++;
	for (int i = 0; i < 4; i++, c->at++)
		if (c->at == c->end || hex_digit(*c->at) < 0)
			return false;
	return true;
}

static bool check_string(struct cursor *c)
{
	if (!take(c, '"'))
		return false;
	while (c->at < c->end && *c->at != '"') {
		/* Control characters are invalid, NUL included. */
		if ((unsigned char)*c->at < ' ')
			return false;
		if (*c->at++ == '\\' && !check_escape(c))
			return false;
	}
	return take(c, '"');
}

static bool check_members(struct cursor *c)
{
	skip_space(c);
	if (take(c, '}'))
		return true;
	do {
		skip_space(c);
		if (!check_string(c))
			return false;
		skip_space(c);
		if (!take(c, ':') || !check_value(c))
			return false;
		skip_space(c);
	} while (take(c, ','));
	return take(c, '}');
}

static bool check_elements(struct cursor *c)
{
	skip_space(c);
	if (take(c, ']'))
		return true;
	do {
		if (!check_value(c))
			return false;
		skip_space(c);
	} while (take(c, ','));
	return take(c, ']');
}

static bool check_value(struct cursor *c)
{
	bool ok;

	skip_space(c);
	if (c->at == c->end)
		return false;
	switch (*c->at) {
	case '{':
	case '[':
		if (c->depth == KVMVMEM_JSON_DEPTH)
			return false;
		c->depth++;
		ok = *c->at++ == '{' ? check_members(c) : check_elements(c);
		c->depth--;
		return ok;
	case '"':
		return check_string(c);
	case 't':
		return take_word(c, "true");
	case 'f':
		return take_word(c, "false");
	case 'n':
		return take_word(c, "null");
	default:
		return check_number(c);
	}
}

/* NOLINTEND(misc-no-recursion) */

/* Check a line without its newline. Return: whether it is one object. */
bool kvmvmem_json_parse(const char *line, size_t length,
			struct kvmvmem_json *object)
{
	struct cursor c = {.at = line, .end = line + length};

	skip_space(&c);
	object->at = c.at;
	if (c.at == c.end || *c.at != '{' || !check_value(&c))
		return false;
	object->end = c.at;
	skip_space(&c);
	return c.at == c.end;
}

/* --- Reading checked values --- */

/* Return: the value at the cursor, which is moved past it. */
static struct kvmvmem_json next_value(struct cursor *c)
{
	struct kvmvmem_json value;

	skip_space(c);
	value.at = c->at;
	check_value(c);
	value.end = c->at;
	return value;
}

/* Compare a string without escapes, as member names are, with a text. */
static bool is_text(struct kvmvmem_json string, const char *text)
{
	size_t length = strlen(text);

	return (size_t)(string.end - string.at) == length + 2 &&
	       !memcmp(string.at + 1, text, length);
}

/*
 * Find the first member of that name. @object may be a value of any type.
 *
 * Return: whether there is one.
 */
bool kvmvmem_json_member(struct kvmvmem_json object, const char *name,
			 struct kvmvmem_json *value)
{
	struct cursor c = {.at = object.at, .end = object.end};

	if (!take(&c, '{'))
		return false;
	skip_space(&c);
	while (c.at < c.end && *c.at == '"') {
		struct kvmvmem_json key = next_value(&c);

		skip_space(&c);
		take(&c, ':');
		*value = next_value(&c);
		if (is_text(key, name))
			return true;
		skip_space(&c);
		take(&c, ',');
		skip_space(&c);
	}
	return false;
}

bool kvmvmem_json_is_object(struct kvmvmem_json value)
{
	return *value.at == '{';
}

bool kvmvmem_json_is_null(struct kvmvmem_json value)
{
	return *value.at == 'n';
}

/* Read an unsigned number of 64 bits. Return: whether the value is one. */
bool kvmvmem_json_size(struct kvmvmem_json value, uint64_t *size)
{
	uint64_t result = 0;

	for (const char *at = value.at; at < value.end; at++) {
		if (!is_digit(*at) ||
		    __builtin_mul_overflow(result, 10, &result) ||
		    __builtin_add_overflow(result, (uint64_t)(*at - '0'),
					   &result))
			return false;
	}
	*size = result;
	return true;
}

/* Decode the character at @at and move past it. Non-ASCII becomes '?'. */
static char next_character(const char **at)
{
	static const char escapes[] = "bfnrt";
	static const char meanings[] = "\b\f\n\r\t";
	const char *found;
	int code = 0;
	char c = *(*at)++;

	if (c != '\\')
		return c;
	c = *(*at)++;
	if (c == 'u') {
		for (int i = 0; i < 4; i++)
			code = 16 * code + hex_digit(*(*at)++);
		return code && code < 0x80 ? (char)code : '?';
	}
	found = strchr(escapes, c);
	return found ? meanings[found - escapes] : c;
}

/*
 * Copy a string. Characters other than printable ASCII become '?', and a string
 * that is too long is cut.
 *
 * Return: whether the value is a string.
 */
bool kvmvmem_json_text(struct kvmvmem_json value, char *text, size_t size)
{
	const char *at = value.at + 1, *end = value.end - 1;
	size_t length = 0;

	if (*value.at != '"')
		return false;
	while (at < end && length + 1 < size) {
		char c = next_character(&at);

		text[length++] = c < ' ' || c > '~' ? '?' : c;
	}
	text[length] = '\0';
	return true;
}

bool kvmvmem_json_get_size(struct kvmvmem_json object, const char *name,
			   uint64_t *size)
{
	struct kvmvmem_json value;

	return kvmvmem_json_member(object, name, &value) &&
	       kvmvmem_json_size(value, size);
}

bool kvmvmem_json_get_text(struct kvmvmem_json object, const char *name,
			   char *text, size_t size)
{
	struct kvmvmem_json value;

	return kvmvmem_json_member(object, name, &value) &&
	       kvmvmem_json_text(value, text, size);
}

/* --- Writing a request --- */

static void put_bytes(struct kvmvmem_request *request, const char *bytes,
		      size_t length)
{
	if (length > sizeof(request->text) - request->length) {
		request->too_long = true;
		return;
	}
	memcpy(request->text + request->length, bytes, length);
	request->length += length;
}

static void put(struct kvmvmem_request *request, const char *text)
{
	put_bytes(request, text, strlen(text));
}

/* Write a string. Non-ASCII bytes must be UTF-8; vmemd refuses others. */
static void put_string(struct kvmvmem_request *request, const char *text)
{
	char escape[8];

	put(request, "\"");
	for (; *text; text++) {
		if (*text == '"' || *text == '\\') {
			put(request, "\\");
			put_bytes(request, text, 1);
		} else if ((unsigned char)*text < ' ') {
			snprintf(escape, sizeof(escape), "\\u%04x",
				 (unsigned char)*text);
			put(request, escape);
		} else {
			put_bytes(request, text, 1);
		}
	}
	put(request, "\"");
}

static void put_number(struct kvmvmem_request *request, uint64_t value)
{
	char number[24];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)value);
	put(request, number);
}

static void put_name(struct kvmvmem_request *request, const char *name)
{
	if (!request->first)
		put(request, ",");
	request->first = false;
	put_string(request, name);
	put(request, ":");
}

void kvmvmem_request_begin(struct kvmvmem_request *request, uint64_t id,
			   const char *method)
{
	request->length = 0;
	request->too_long = false;
	request->first = true;
	put(request, "{\"id\":");
	put_number(request, id);
	put(request, ",\"method\":");
	put_string(request, method);
	put(request, ",\"params\":{");
}

void kvmvmem_request_size(struct kvmvmem_request *request, const char *name,
			  uint64_t value)
{
	put_name(request, name);
	put_number(request, value);
}

void kvmvmem_request_bool(struct kvmvmem_request *request, const char *name,
			  bool value)
{
	put_name(request, name);
	put(request, value ? "true" : "false");
}

/* Write a text parameter. NULL: no parameter. */
void kvmvmem_request_text(struct kvmvmem_request *request, const char *name,
			  const char *value)
{
	if (!value)
		return;
	put_name(request, name);
	put_string(request, value);
}

void kvmvmem_request_end(struct kvmvmem_request *request)
{
	put(request, "}}\n");
}
