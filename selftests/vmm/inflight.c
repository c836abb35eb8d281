// SPDX-License-Identifier: GPL-2.0-or-later
#include "inflight.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* In both layouts: 0 if no queue has used the memory yet. */
#define VERSION_OFFSET 8

/* An empty packed ring: the wrap counters begin at 1. */
#define PACKED_START 0x8000U

/* In the layout for packed rings: both positions with their wrap counters. */
#define POSITIONS_OFFSET 16

union positions {
	struct {
		uint16_t used_idx;
		uint16_t old_used_idx;
		uint8_t used_wrap_counter;
		uint8_t old_used_wrap_counter;
	};
	uint64_t word;
};

void inflight_init(struct inflight *inflight)
{
	memset(inflight, 0, sizeof(*inflight));
	inflight->fd = -1;
}

int inflight_take(struct inflight *inflight, int fd, uint64_t size,
		  uint64_t offset)
{
	void *map;

	inflight_close(inflight);
	if (size < POSITIONS_OFFSET + sizeof(union positions)) {
		close(fd);
		return -EPROTO;
	}
	map = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, (off_t)offset);
	if (map == MAP_FAILED) {
		int ret = -errno;

		close(fd);
		return ret;
	}
	inflight->fd = fd;
	inflight->size = size;
	inflight->offset = offset;
	inflight->map = map;
	return 0;
}

void inflight_close(struct inflight *inflight)
{
	if (inflight->map)
		munmap((void *)inflight->map, inflight->size);
	if (inflight->fd >= 0)
		close(inflight->fd);
	inflight_init(inflight);
}

uint16_t inflight_packed_position(const struct inflight *inflight)
{
	const char *map = inflight->map;
	const uint64_t *word = (const uint64_t *)(map + POSITIONS_OFFSET);
	const uint16_t *version = (const uint16_t *)(map + VERSION_OFFSET);
	union positions positions;

	if (!__atomic_load_n(version, __ATOMIC_ACQUIRE))
		return PACKED_START;
	/* The other position is ahead while the device answers. */
	positions.word = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	return positions.old_used_idx |
	       (uint16_t)(positions.old_used_wrap_counter << 15);
}
