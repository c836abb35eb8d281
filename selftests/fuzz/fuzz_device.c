// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Targets set up the device with a front end only once. Its state is restored
 * before each run, so that the result of an input does not depend on earlier
 * runs.
 */
#include <errno.h>
#include <string.h>

#include "fuzz_device.h"

void fuzz_device_restart(struct front_end *fe, bool used_before)
{
	struct bitmap_backing *bitmap = &fe->bitmap;
	uint64_t nr = bitmap->backing.plugged.nr;

	virtio_mem_stop(&fe->dev);
	blocks_clear(&bitmap->backing.plugged, 0, nr);
	blocks_clear(&bitmap->backing.owed, 0, nr);
	memset(bitmap->dirty, 0, nr);
	bitmap->fail = 0;
	bitmap->fail_once = false;
	bitmap->fail_discard = 0;
	bitmap->repeated = false;
	bitmap->later = false;
	bitmap->stale = false;
	bitmap->truth = NULL;
	bitmap->nr_log = 0;
	fe->dev.last_plug.size = 0;
	fe->dev.given_back = false;
	virtio_mem_start(&fe->dev, &bitmap->backing, 0, used_before);
}

/* Choose how calls of the backing end from now on. */
void fuzz_backing_fails(struct bitmap_backing *bitmap, uint8_t how,
			const int errors[FUZZ_NR_ERRORS])
{
	bitmap->fail = errors[how & 7];
	bitmap->fail_once = how & 8;
	bitmap->fail_discard = how & 16 ? -EIO : 0;
	bitmap->repeated = how & 32;
	bitmap->later = how & 64;
}
