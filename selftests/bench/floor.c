// SPDX-License-Identifier: GPL-2.0-or-later
#include "floor.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "metadata.h"
#include "tap.h"

#define FLOOR_FILE "/sys/kernel/debug/memslot_floor"

/* Length of a request: a count, and the size of each array. */
#define LINE_LEN 128

/** floor_available() - Is the module loaded? */
bool floor_available(void)
{
	return !access(FLOOR_FILE, W_OK);
}

static ssize_t add_arrays(char *line, ssize_t len, const uint64_t *bytes,
			  size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (bytes[i])
			len += snprintf(line + len, LINE_LEN - (size_t)len,
					" %" PRIu64, bytes[i]);
	return len;
}

/**
 * floor_measure() - allocate and free the metadata of memslots in sequence
 * @nr: number of memslots
 * @slot_gpa: guest address of the first
 * @slot_size: bytes of each
 * @alloc_ns: set to the time of all allocations
 * @free_ns: set to the time of all frees
 */
void floor_measure(uint32_t nr, uint64_t slot_gpa, uint64_t slot_size,
		   uint64_t *alloc_ns, uint64_t *free_ns)
{
	struct metadata_arrays arrays;
	char line[LINE_LEN];
	ssize_t len;
	int fd;

	metadata_arrays(&arrays, slot_gpa, slot_size, false, false);
	/* In the order of KVM's allocations. */
	len = snprintf(line, sizeof(line), "%" PRIu32, nr);
	len = add_arrays(line, len, arrays.rmap, ARRAY_SIZE(arrays.rmap));
	len = add_arrays(line, len, arrays.lpage_info,
			 ARRAY_SIZE(arrays.lpage_info));
	len = add_arrays(line, len, &arrays.gfn_track, 1);
	fd = open(FLOOR_FILE, O_RDWR | O_CLOEXEC);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(write(fd, line, (size_t)len), len);
	ASSERT_EQ(lseek(fd, 0, SEEK_SET), 0);
	len = read(fd, line, sizeof(line) - 1);
	ASSERT_GT(len, 0);
	line[len] = '\0';
	ASSERT_EQ(sscanf(line, "%" SCNu64 " %" SCNu64, alloc_ns, free_ns), 2);
	close(fd);
}
