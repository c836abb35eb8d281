// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Parts of files are mapped and unmapped in whole pages: no mapping remains,
 * whatever the file's page size.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/memfd.h>

#include "base/file_map.h"
#include "unit.h"

#define FILE_SIZE (16 * MIB)

/* Number of mappings of the test's file in this process. */
static unsigned int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	unsigned int nr = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		nr += strstr(line, "file-map-test") != NULL;
	fclose(maps);
	return nr;
}

static void map_parts(unsigned int flags, uint64_t page)
{
	static const struct {
		uint64_t offset;
		uint64_t size;
	} parts[] = {
		{0, 1},	      {0, 3 * MIB},	{1, 4096},
		{4096, 4096}, {2 * MIB - 1, 2}, {2 * MIB, 15 * MIB - MIB},
		{5 * MIB, 1}, {0, FILE_SIZE},	{FILE_SIZE - 1, 1},
	};
	int fd = memfd_create("file-map-test", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, FILE_SIZE), 0);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		struct file_map map = {};

		assert_int_equal(file_map_open(&map, fd, parts[i].offset,
					       parts[i].size, MAP_NORESERVE),
				 0);
		assert_int_equal(mappings(), 1);
		assert_int_equal((uintptr_t)map.start % page, 0);
		assert_int_equal(map.size % page, 0);
		assert_int_equal((uint8_t *)map.at - (uint8_t *)map.start,
				 parts[i].offset % page);
		assert_true((uint8_t *)map.at + parts[i].size <=
			    (uint8_t *)map.start + map.size);
		/* The replacement that a truncated file gets. */
		assert_ptr_equal(mmap(map.start, map.size, PROT_READ,
				      MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS,
				      -1, 0),
				 map.start);
		file_map_close(&map);
		assert_null(map.start);
		assert_int_equal(file_map_open(&map, fd, parts[i].offset,
					       parts[i].size, MAP_NORESERVE),
				 0);
		file_map_close(&map);
		file_map_close(&map);
		assert_int_equal(mappings(), 0);
	}
	close(fd);
}

static void small_pages(void **state)
{
	(void)state;
	map_parts(0, 4096);
}

static void huge_pages(void **state)
{
	(void)state;
	map_parts(MFD_HUGETLB | MFD_HUGE_2MB, 2 * MIB);
}

static void invalid_parts_cannot_be_mapped(void **state)
{
	int fd = memfd_create("file-map-test", MFD_CLOEXEC);
	struct file_map map = {};

	(void)state;
	assert_int_equal(file_map_open(&map, -1, 0, 4096, 0), -EBADF);
	assert_int_equal(file_map_open(&map, fd, 1, UINT64_MAX, 0), -EOVERFLOW);
	assert_int_equal(file_map_open(&map, fd, 0, UINT64_MAX / 2, 0),
			 -ENOMEM);
	assert_null(map.start);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(small_pages),
		cmocka_unit_test(huge_pages),
		cmocka_unit_test(invalid_parts_cannot_be_mapped),
	};

	return unit_run(tests, NULL, NULL);
}
