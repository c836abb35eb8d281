// SPDX-License-Identifier: GPL-2.0-or-later
#include "vhost_table.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static struct vhost_memory *new_memory(uint32_t nr)
{
	return calloc(1, sizeof(struct vhost_memory) +
				 nr * sizeof(struct vhost_memory_region));
}

int vhost_table_open(struct vhost_table *table, const char *path)
{
	int ret;

	table->memory = new_memory(0);
	if (!table->memory)
		return -ENOMEM;
	table->fd = open(path, O_RDWR | O_CLOEXEC);
	if (table->fd < 0 || ioctl(table->fd, VHOST_SET_OWNER)) {
		ret = -errno;
		vhost_table_close(table);
		return ret;
	}
	return 0;
}

void vhost_table_close(struct vhost_table *table)
{
	if (table->fd >= 0)
		close(table->fd);
	free(table->memory);
	table->fd = -1;
	table->memory = NULL;
}

/* Set the device's table; on success @table owns @memory. */
static int set_table(struct vhost_table *table, struct vhost_memory *memory)
{
	if (ioctl(table->fd, VHOST_SET_MEM_TABLE, memory)) {
		int ret = -errno;

		free(memory);
		return ret;
	}
	free(table->memory);
	table->memory = memory;
	return 0;
}

int vhost_table_populate(struct vhost_table *table, uint64_t gpa, uint64_t size)
{
	uint64_t nr = (size - 1) / table->slot_size + 1;
	uint64_t end = gpa + size;
	struct vhost_memory *memory =
		new_memory(table->memory->nregions + (uint32_t)nr);

	if (!memory)
		return -ENOMEM;
	memcpy(memory->regions, table->memory->regions,
	       table->memory->nregions * sizeof(memory->regions[0]));
	memory->nregions = table->memory->nregions;
	for (; gpa < end; gpa += table->slot_size)
		memory->regions[memory->nregions++] =
			(struct vhost_memory_region){
				.guest_phys_addr = gpa,
				.memory_size = end - gpa < table->slot_size
						       ? end - gpa
						       : table->slot_size,
				.userspace_addr =
					table->hva + (gpa - table->gpa),
			};
	return set_table(table, memory);
}

int vhost_table_discard(struct vhost_table *table, uint64_t gpa, uint64_t size)
{
	const struct vhost_memory *old = table->memory;
	struct vhost_memory *memory = new_memory(old->nregions);

	if (!memory)
		return -ENOMEM;
	for (uint32_t i = 0; i < old->nregions; i++) {
		const struct vhost_memory_region *region = &old->regions[i];

		if (region->guest_phys_addr - gpa >= size)
			memory->regions[memory->nregions++] = *region;
	}
	return set_table(table, memory);
}
