// SPDX-License-Identifier: GPL-2.0-or-later
/* Parsing and printing of sizes. */
#include <errno.h>
#include <string.h>

#include "common/size.h"
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
	assert_size("1.5G", 3 * GIB / 2);
	assert_size(".5G", GIB / 2);
	assert_size("0.25k", 256);
	assert_size("512Mi", 512 * MIB);
	assert_size("512mb", 512 * MIB);
	assert_size("512mib", 512 * MIB);
	assert_size("512 MiB", 512 * MIB);
	assert_size("12 B", 12);
	/* As size_format() prints it, to the nearest byte. */
	assert_size("10.88 GiB", 11682311045);
	assert_size("0.0000000000000000000000001E", 0);
	assert_size("18446744073709551615", UINT64_MAX);
}

static void other_text_is_no_size(void **state)
{
	static const char *const wrong[] = {
		"",	"-1",	 "+1",	"1KiBB", "1BB",	 "1KBB", "1i",
		"1iB",	"1KK",	 "K",	" 1",	 "1 ",	 "0x",	 "1KiBx",
		"0xK",	"B",	 "1.5", "1.5B",	 "1.G",	 ".G",	 "1.2.3G",
		"1,5G", "0x1.8", "1e3", "1 G ",	 "1 2G", "50%",	 "1 000",
		"inf",	"nan",	 ".",	"1\t",	 "0x 1", "--1",
	};
	uint64_t size;

	(void)state;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (size_parse(wrong[i], &size) != -EINVAL)
			fail_msg("\"%s\" is taken", wrong[i]);
	assert_int_equal(size_parse("16E", &size), -ERANGE);
	assert_int_equal(size_parse("15.9999999999999999E", &size), 0);
	assert_int_equal(size_parse("16.1E", &size), -ERANGE);
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

static void assert_amount(const char *text, uint64_t wanted)
{
	struct size_amount amount;
	uint64_t size;

	assert_int_equal(size_parse_amount(text, &amount), 0);
	/* 1 GiB of 16 GiB, in blocks of 2 MiB. */
	assert_int_equal(size_resolve(&amount, GIB, 16 * GIB, 2 * MIB, &size),
			 0);
	assert_int_equal(size, wanted);
}

static void relative_amounts_are_resolved(void **state)
{
	static const char *const wrong[] = {
		"",    "+",    "-",	 "++1",	 "+-1", "%",	"50%%",
		"5%G", "50G%", "100.1%", "101%", "-",	"+ 1G", "50 % ",
	};
	struct size_amount amount;
	uint64_t size;

	(void)state;
	assert_amount("512M", 512 * MIB);
	assert_amount("+512M", GIB + 512 * MIB);
	assert_amount("-1G", 0);
	assert_amount("-512 MiB", 512 * MIB);
	assert_amount("50%", 8 * GIB);
	assert_amount("+25%", 5 * GIB);
	assert_amount("0%", 0);
	assert_amount("100%", 16 * GIB);
	/*
	 * Rounded to a block; a size without decimals is not rounded, and may
	 * be refused.
	 */
	assert_amount("33.3 %", 2728 * 2 * MIB);
	assert_amount("10.88 GiB", 5571 * 2 * MIB);
	assert_amount("1025K", 1025 * KIB);
	assert_amount("32G", 32 * GIB);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		if (!size_parse_amount(wrong[i], &amount))
			fail_msg("\"%s\" is taken", wrong[i]);
	assert_int_equal(size_parse_amount("-2G", &amount), 0);
	assert_true(size_depends(&amount));
	assert_int_equal(size_resolve(&amount, GIB, 16 * GIB, 2 * MIB, &size),
			 -ERANGE);
	assert_int_equal(size_parse_amount("+15E", &amount), 0);
	assert_int_equal(size_resolve(&amount, 15ULL << 60, 1, 1, &size),
			 -ERANGE);
	assert_int_equal(size_parse_amount("1G", &amount), 0);
	assert_false(size_depends(&amount));
}

static void sizes_that_differ_are_written_differently(void **state)
{
	char text[SIZE_TEXT_MAX];

	(void)state;
	assert_string_equal(size_format_exact(GIB, text), "1 GiB");
	assert_string_equal(size_format_exact(GIB + 1, text), "1073741825 B");
	assert_string_equal(size_format_exact(GIB + 2 * MIB, text), "1026 MiB");
	assert_string_equal(size_format_exact(3 * GIB / 2, text), "1.50 GiB");
	assert_string_equal(size_format_exact(0, text), "0 B");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(sizes_are_read),
		cmocka_unit_test(other_text_is_no_size),
		cmocka_unit_test(sizes_are_written),
		cmocka_unit_test(relative_amounts_are_resolved),
		cmocka_unit_test(sizes_that_differ_are_written_differently),
	};

	return unit_run(tests, NULL, NULL);
}
