/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region with its vmemd, and the driver that uses vmemd. */
#ifndef SERVED_REGION_H
#define SERVED_REGION_H

#include <stdint.h>

#include "driver.h"
#include "region.h"

/**
 * struct served_region - a region, its vmemd and its driver
 * @r: the region, of a VM without vCPUs
 * @d: the driver, which may plug the whole region
 * @dir: temporary folder of the control socket
 * @path: path of vmemd's control socket
 * @requested: the requested size as vmemd's option, which is the region's size
 */
struct served_region {
	struct region r;
	struct driver d;
	char dir[32];
	char path[64];
	char requested[24];
};

void served_region_start(struct served_region *s, uint64_t gpa, uint64_t size,
			 uint64_t block_size, uint64_t slot_size);
void served_region_respawn(struct served_region *s);
void served_region_stop(struct served_region *s);

#endif /* SERVED_REGION_H */
