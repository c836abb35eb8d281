// SPDX-License-Identifier: GPL-2.0-or-later
/* Sizes as people write them. */
#include <errno.h>
#include <string.h>

#include "size.h"
#include "unit.h"

static void assert_size(const char *text, uint64_t wanted)
{
	uint64_t size;

	assert_int_equal(size_parse(text, &size), 0);
	assert_int_equal(size, wanted);
}

static void sizes_are_read(void **state)
{
	(void)state;
	assert_size("0", 0);
	assert_size("4096", 4096);
	assert_size("0x1000", 4096);
	assert_size("1K", KIB);
	assert_size("1k", KIB);
	assert_size("1KB", KIB);
	assert_size("1KiB", KIB);
	assert_size("12B", 12);
	assert_size("3G", 3 * GIB);
	assert_size("15E", 15ULL << 60);
	assert_size("18446744073709551615", UINT64_MAX);
}

static void what_is_no_size_is_refused(void **state)
{
	static const char *const wrong[] = {
		"",   "-1",    "+1",   "1KiBB", "1BB", "1KBB", "1Ki",
		"1i", "1iB",   "1KK",  "K",	" 1",  "1 ",   "1.5G",
		"0x", "1KiBx", "1Kib", "0xK",	"B",
	};
	uint64_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (size_parse(wrong[i], &size) != -EINVAL)
			fail_msg("\"%s\" is taken", wrong[i]);
	assert_int_equal(size_parse("16E", &size), -ERANGE);
	assert_int_equal(size_parse("18446744073709551616", &size), -ERANGE);
}

static void sizes_are_written(void **state)
{
	char text[SIZE_TEXT_MAX];

	(void)state;
	assert_string_equal(size_format(0, text), "0 B");
	assert_string_equal(size_format(1023, text), "1023 B");
	assert_string_equal(size_format(2 * MIB, text), "2 MiB");
	assert_string_equal(size_format(1536, text), "1.50 KiB");
	assert_string_equal(size_format(UINT64_MAX, text), "16.00 EiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(what_is_no_size_is_refused),
		cmocka_unit_test(sizes_are_written),
	};

	return unit_run(tests, NULL, NULL);
}
