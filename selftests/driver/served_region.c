// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "served_region.h"
#include "tap.h"

/* Options of vmemd, and the final NULL. */
#define NR_ARGS 5

static void make_args(struct served_region *s, char *args[NR_ARGS])
{
	snprintf(s->requested, sizeof(s->requested), "%llu",
		 s->r.args.region_size);
	args[0] = (char *)"--log-level";
	args[1] = (char *)"err";
	args[2] = (char *)"--requested-size";
	args[3] = s->requested;
	args[4] = NULL;
}

/**
 * served_region_start() - create a region, its vmemd and a started driver
 * @s: the served region
 * @gpa: guest address of the region
 * @size: size of the region, which is also its requested size
 * @block_size: block size in bytes
 * @slot_size: slot size in bytes
 *
 * The test is skipped if vmemd is absent.
 */
void served_region_start(struct served_region *s, uint64_t gpa, uint64_t size,
			 uint64_t block_size, uint64_t slot_size)
{
	char *args[NR_ARGS];

	/* Skip before anything is created. */
	vmemd_program();
	strcpy(s->dir, "/tmp/served-XXXXXX");
	ASSERT_TRUE(mkdtemp(s->dir));
	snprintf(s->path, sizeof(s->path), "%s/control", s->dir);
	driver_region(&s->r, gpa, size, block_size, slot_size);
	make_args(s, args);
	driver_spawn(&s->d, args, s->path, s->r.fd, s->r.mem.fd);
	driver_start(&s->d);
}

/**
 * served_region_respawn() - start another vmemd, after driver_lose()
 * @s: the served region
 *
 * The driver has to be started again.
 */
void served_region_respawn(struct served_region *s)
{
	driver_respawn(&s->d, NULL, NULL, -1, -1);
}

/** served_region_stop() - end driver and vmemd; the VM ends with the test */
void served_region_stop(struct served_region *s)
{
	driver_stop(&s->d);
	EXPECT_EQ(rmdir(s->dir), 0);
}
