// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Faults that users of other virtio-mem implementations reported; each is
 * provoked here. A case is named after the report. The second table of
 * doc/virtio-mem-spec.md describes the reports, and lists the tests of faults
 * outside the device.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "front_end.h"
#include "unit.h"

#define GPA   FE_REGION_GPA
#define BLOCK FE_BLOCK

static uint64_t plugged(struct front_end *fe)
{
	struct virtio_mem_config config;

	front_end_config(fe, &config);
	return config.plugged_size;
}

static void settle(struct front_end *fe)
{
	do
		work_begin_turn(&fe->access->work);
	while (virtio_mem_work(&fe->dev) > 0);
}

static struct front_end *start(void **state, uint64_t requested)
{
	struct front_end *fe = *state;

	settle(fe);
	front_end_serve(fe, requested);
	return fe;
}

/*
 * An ERROR answer makes the Linux driver give up the device, and a guest that
 * was asked to shrink while it plugs has done nothing wrong.
 */
static void firecracker_oversize_plug_is_answered_error(void **state)
{
	struct front_end *fe = start(state, 16 * BLOCK);

	assert_int_equal(front_end_plug(fe, GPA, 8), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, 12 * BLOCK);
	assert_int_equal(front_end_plug(fe, GPA + 8 * BLOCK, 8),
			 VIRTIO_MEM_RESP_NACK);
	assert_int_equal(front_end_plug(fe, GPA + 8 * BLOCK, 4),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_PLUG][VIRTIO_MEM_ERROR], 0);
}

/*
 * The host fails in the middle of a request: the reported state is the actual
 * state, all or nothing.
 */
static void firecracker_6176_state_is_ahead_of_the_slots(void **state)
{
	struct front_end *fe = start(state, GIB);

	fe->bitmap.fail = -EEXIST;
	assert_int_equal(front_end_plug(fe, GPA, 100), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(fe), 0);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_plug(fe, GPA, 100), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail = -EINTR;
	assert_int_equal(front_end_unplug(fe, GPA, 100), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(fe), 100 * BLOCK);
	/* Memory that the guest still has is not discarded. */
	settle(fe);
	for (unsigned int i = 0; i < 100; i++)
		assert_int_equal(fe->bitmap.dirty[i], 1);
}

/* Sizes are bytes in 64 bits everywhere: 64 TiB, and addresses near 2^52. */
static void firecracker_6076_sizes_overflow(void **state)
{
	uint64_t size = 64ULL << 40;
	struct front_end *fe = front_end_new(size, GIB, 0);
	struct virtio_mem_config config;

	(void)state;
	settle(fe);
	fe->bitmap.backing.gpa = (1ULL << 52) - size;
	front_end_serve(fe, size);
	front_end_config(fe, &config);
	assert_int_equal(config.addr, (1ULL << 52) - size);
	assert_int_equal(config.usable_region_size, size);
	assert_int_equal(front_end_plug(fe, (1ULL << 52) - GIB, 1),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, (1ULL << 52) - 32768 * GIB, 32767),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, config.addr, 32768),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), size);
	assert_int_equal(front_end_unplug(fe, (1ULL << 52) - GIB, 2),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	/* Block counts times a block size of 2^48 or more would overflow. */
	fe->bitmap.backing.block_size = 1ULL << 50;
	assert_int_equal(front_end_plug(fe, config.addr, 16384),
			 VIRTIO_MEM_RESP_ERROR);
	fe->bitmap.backing.block_size = GIB;
	front_end_free(fe);
}

/*
 * The memslot is deleted, so the guest cannot access the memory: the unplug has
 * succeeded. The host retries the discard by itself.
 */
static void cloud_hypervisor_failed_discard_is_answered_error(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 8), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail_discard = -EIO;
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 4 * BLOCK);
	assert_int_equal(virtio_mem_work(&fe->dev), -EIO);
	/* A plug now would expose the old contents. */
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 0);
	fe->bitmap.fail_discard = 0;
	settle(fe);
	assert_int_equal(front_end_plug(fe, GPA, 8), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_UNPLUG][VIRTIO_MEM_ERROR],
			 0);
}

/*
 * The resize does not block; a driver that starts later gets the requested
 * size.
 */
static void cloud_hypervisor_4001_resize_without_a_driver_hangs(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_config config;

	settle(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_connect(fe);
	virtio_mem_set_requested(&fe->dev, 2 * GIB);
	front_end_negotiate(fe);
	front_end_config_changes(fe);
	virtio_mem_set_requested(&fe->dev, 3 * GIB);
	/* The channel is silent until there is a driver. */
	assert_int_equal(front_end_config_changes(fe), 0);
	front_end_close(fe);
	front_end_start(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
	front_end_config(fe, &config);
	assert_int_equal(config.requested_size, 3 * GIB);
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
}

/*
 * The driver after the reboot starts from nothing plugged, and resizes in both
 * directions.
 */
static void cloud_hypervisor_1593_no_resize_after_reboot(void **state)
{
	struct front_end *fe = start(state, 16 * BLOCK);

	assert_int_equal(front_end_plug(fe, GPA, 16), VIRTIO_MEM_RESP_ACK);
	front_end_close(fe);
	virtio_mem_set_requested(&fe->dev, 8 * BLOCK);
	front_end_start(fe);
	assert_int_equal(plugged(fe), 16 * BLOCK);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, GPA, 8), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, 4 * BLOCK);
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, 32 * BLOCK);
	assert_int_equal(front_end_plug(fe, GPA + 16 * BLOCK, 16),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 20 * BLOCK);
}

/*
 * The VMM and the guest continue without the daemon; the blocks are unchanged
 * when it returns.
 */
static void cloud_hypervisor_8644_a_crash_harms_the_guest(void **state)
{
	struct front_end *fe = start(state, GIB);
	struct virtio_mem_resp resp;

	assert_int_equal(front_end_plug(fe, GPA, 8), VIRTIO_MEM_RESP_ACK);
	/* The daemon ends during a request. */
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_UNPLUG, GPA, 4,
		      sizeof(struct virtio_mem_req), sizeof(resp));
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	front_end_close(fe);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	fe->bitmap.repeated = true;
	fe->bitmap.later = false;
	/* The driver still waits for the answer, which arrives once. */
	front_end_start(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_false(front_end_used(fe, &resp));
	assert_int_equal(plugged(fe), 4 * BLOCK);
	assert_int_equal(front_end_unplug(fe, GPA + 4 * BLOCK, 4),
			 VIRTIO_MEM_RESP_ACK);
}

/*
 * A guest without memory for the memmap of new blocks unplugs them after each
 * plug and makes no progress. The device can only report it.
 */
static void kata_4847_no_memory_for_the_memmap(void **state)
{
	struct front_end *fe = start(state, 12 * GIB);

	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_false(fe->dev.given_back);
	for (unsigned int i = 0; i < 3; i++) {
		assert_int_equal(front_end_plug(fe, GPA + 64 * BLOCK, 64),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_unplug(fe, GPA + 64 * BLOCK, 64),
				 VIRTIO_MEM_RESP_ACK);
		assert_true(fe->dev.given_back);
	}
	assert_int_equal(plugged(fe), 64 * BLOCK);
}

#define T(name)                                                 \
	cmocka_unit_test_setup_teardown(name, front_end_set_up, \
					front_end_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(firecracker_oversize_plug_is_answered_error),
		T(firecracker_6176_state_is_ahead_of_the_slots),
		cmocka_unit_test(firecracker_6076_sizes_overflow),
		T(cloud_hypervisor_failed_discard_is_answered_error),
		T(cloud_hypervisor_4001_resize_without_a_driver_hangs),
		T(cloud_hypervisor_1593_no_resize_after_reboot),
		T(cloud_hypervisor_8644_a_crash_harms_the_guest),
		T(kata_4847_no_memory_for_the_memmap),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
