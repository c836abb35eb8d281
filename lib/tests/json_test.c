// SPDX-License-Identifier: MIT
/* JSON as vmemd sends it, and invalid input. */
#include "json.h"

#include <stdlib.h>
#include <string.h>

#include "unit.h"

/* In an allocation of exactly this size, so that reads beyond it are found. */
static char *exact(const char *line, size_t length)
{
	char *copy = malloc(length ? length : 1);

	assert_non_null(copy);
	memcpy(copy, line, length);
	return copy;
}

static bool parses(const char *line, size_t length)
{
	char *copy = exact(line, length);
	struct kvmvmem_json object;
	bool ok = kvmvmem_json_parse(copy, length, &object);

	free(copy);
	return ok;
}

static void objects_are_accepted(void **state)
{
	static const char *const lines[] = {
		"{}",
		" { } \r",
		"{\"a\":1}",
		"{\"a\" : [ 1 , -2.5e+3 , 0 , 0.5 , {} , [] ] , \"b\":null}",
		"{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\xc3\xa9\"}",
		"{\"a\":true,\"b\":false,\"c\":1E-2}",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_true(parses(lines[i], strlen(lines[i])));
}

static void other_text_is_refused(void **state)
{
	static const char *const lines[] = {
		"",
		" ",
		"1",
		"[]",
		"\"a\"",
		"{",
		"}",
		"{\"a\"}",
		"{\"a\":}",
		"{\"a\":1,}",
		"{,}",
		"{\"a\":1 \"b\":2}",
		"{a:1}",
		"{\"a\":01}",
		"{\"a\":-}",
		"{\"a\":1.}",
		"{\"a\":.5}",
		"{\"a\":1e}",
		"{\"a\":+1}",
		"{\"a\":[1,]}",
		"{\"a\":[1}",
		"{\"a\":tru}",
		"{\"a\":nul",
		"{\"a\":\"}",
		"{} {}",
		"{}x",
		"{\"a\":\"\\x\"}",
		"{\"a\":\"\\u12g4\"}",
		"{\"a\":\"\\u12",
		"{\"a\":\"\t\"}",
		"{\"a\":\"\\",
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
		assert_false(parses(lines[i], strlen(lines[i])));
	/* NUL bytes, and all prefixes of a valid line. */
	assert_false(parses("{\"a\":\"\0\"}", 9));
	assert_false(parses("{}\0", 3));
	for (size_t length = 0; length < strlen("{\"a\":[\"\\u0041\",-1.5e3]}");
	     length++)
		assert_false(parses("{\"a\":[\"\\u0041\",-1.5e3]}", length));
	/* A NUL neither ends the line nor is an escape. */
	assert_false(parses("{\"a\":\"\\\0\"}", 10));
}

static void depth_has_a_bound(void **state)
{
	char line[4 * KVMVMEM_JSON_DEPTH + 16];

	(void)state;
	for (int depth = 1; depth < 2 * KVMVMEM_JSON_DEPTH; depth++) {
		strcpy(line, "{\"a\":");
		for (int i = 1; i < depth; i++)
			strcat(line, "[");
		if (depth == 1)
			strcat(line, "1");
		for (int i = 1; i < depth; i++)
			strcat(line, "]");
		strcat(line, "}");
		assert_int_equal(parses(line, strlen(line)),
				 depth <= KVMVMEM_JSON_DEPTH);
	}
}

static struct kvmvmem_json parse(const char *line)
{
	struct kvmvmem_json object;

	assert_true(kvmvmem_json_parse(line, strlen(line), &object));
	return object;
}

static void members_are_found(void **state)
{
	struct kvmvmem_json object =
		parse("{\"a\":{\"b\":7,\"a\":1},\"b\":[{\"b\":3}],\"bb\":5,"
		      "\"b\":8,\"x\\u0062\":9,\"n\":null}");
	struct kvmvmem_json value;
	uint64_t size;

	(void)state;
	assert_true(kvmvmem_json_get_size(object, "bb", &size));
	assert_int_equal(size, 5);
	/*
	 * Members of members are not found; of two equal names the first one
	 * is.
	 */
	assert_false(kvmvmem_json_get_size(object, "b", &size));
	assert_true(kvmvmem_json_member(object, "a", &value));
	assert_true(kvmvmem_json_is_object(value));
	assert_true(kvmvmem_json_get_size(value, "b", &size));
	assert_int_equal(size, 7);
	assert_false(kvmvmem_json_member(object, "xb", &value));
	assert_false(kvmvmem_json_member(object, "", &value));
	assert_true(kvmvmem_json_member(object, "n", &value));
	assert_true(kvmvmem_json_is_null(value));
	assert_false(kvmvmem_json_member(value, "n", &value));
	assert_false(kvmvmem_json_member(parse("{}"), "n", &value));
}

static void sizes_are_64_bits_without_a_sign(void **state)
{
	static const struct {
		const char *line;
		bool ok;
		uint64_t size;
	} sizes[] = {
		{"{\"a\":0}", true, 0},
		{"{\"a\":18446744073709551615}", true, UINT64_MAX},
		{"{\"a\":18446744073709551616}", false, 0},
		{"{\"a\":99999999999999999999999}", false, 0},
		{"{\"a\":-1}", false, 0},
		{"{\"a\":-0}", false, 0},
		{"{\"a\":1.0}", false, 0},
		{"{\"a\":1e3}", false, 0},
		{"{\"a\":\"1\"}", false, 0},
		{"{\"a\":true}", false, 0},
		{"{\"a\":{}}", false, 0},
	};
	uint64_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		assert_int_equal(
			kvmvmem_json_get_size(parse(sizes[i].line), "a", &size),
			sizes[i].ok);
		if (sizes[i].ok)
			assert_true(size == sizes[i].size);
	}
}

static void texts_are_cut_and_printable(void **state)
{
	struct kvmvmem_json object =
		parse("{\"a\":\"x\\u001b[31m\\n\xc3\xa9\\\"\\u0041\\u0000y\","
		      "\"b\":5}");
	char text[32], small[4];

	(void)state;
	assert_true(kvmvmem_json_get_text(object, "a", text, sizeof(text)));
	assert_string_equal(text, "x?[31m???\"A?y");
	assert_true(kvmvmem_json_get_text(object, "a", small, sizeof(small)));
	assert_string_equal(small, "x?[");
	assert_false(kvmvmem_json_get_text(object, "b", text, sizeof(text)));
}

static void requests_are_json(void **state)
{
	static const char expected[] =
		"{\"id\":1,\"method\":\"m\",\"params\":{\"t\":\"a\\\"\\\\\\u000ab\","
		"\"n\":18446744073709551615,\"b\":true}}\n";
	struct kvmvmem_request request;

	(void)state;
	kvmvmem_request_begin(&request, 1, "m");
	kvmvmem_request_text(&request, "left out", NULL);
	kvmvmem_request_text(&request, "t", "a\"\\\nb");
	kvmvmem_request_size(&request, "n", UINT64_MAX);
	kvmvmem_request_bool(&request, "b", true);
	kvmvmem_request_end(&request);
	assert_false(request.too_long);
	assert_int_equal(request.length, strlen(expected));
	assert_memory_equal(request.text, expected, request.length);
	assert_true(parses(request.text, request.length));
}

static void a_request_that_is_too_long_is_an_error(void **state)
{
	static char text[KVMVMEM_JSON_REQUEST_MAX];
	struct kvmvmem_request request;

	(void)state;
	memset(text, 'x', sizeof(text) - 1);
	kvmvmem_request_begin(&request, 1, "m");
	kvmvmem_request_text(&request, "t", text);
	kvmvmem_request_end(&request);
	assert_true(request.too_long);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(objects_are_accepted),
		cmocka_unit_test(other_text_is_refused),
		cmocka_unit_test(depth_has_a_bound),
		cmocka_unit_test(members_are_found),
		cmocka_unit_test(sizes_are_64_bits_without_a_sign),
		cmocka_unit_test(texts_are_cut_and_printable),
		cmocka_unit_test(requests_are_json),
		cmocka_unit_test(a_request_that_is_too_long_is_an_error),
	};

	return unit_run(tests, NULL, NULL);
}
