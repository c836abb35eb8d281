// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device model compared with the virtio-mem section of the specification
 * (virtio 1.3, 5.15). Tests are named after what the device MUST do.
 */
#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "base/log.h"
#include "bitmap_backing.h"
#include "device/virtio_mem.h"
#include "unit.h"

#define GPA	    (4 * GIB)
#define REGION_SIZE (64 * GIB)
#define BLOCK	    (2 * MIB)

struct fixture {
	struct bitmap_backing bitmap;
	struct virtio_mem dev;
	unsigned int config_changes;
	unsigned int changes;
	unsigned int wants_work;
	bool gone;
	unsigned int nr_answers;
	struct virtio_mem_resp answer;
};

static void count_config_change(void *arg)
{
	struct fixture *f = arg;

	f->config_changes++;
}

static void count_change(void *arg)
{
	struct fixture *f = arg;

	f->changes++;
}

static void count_work(void *arg)
{
	struct fixture *f = arg;

	f->wants_work++;
}

static bool take_answer(void *arg, const struct virtio_mem_resp *resp)
{
	struct fixture *f = arg;

	f->nr_answers++;
	f->answer = *resp;
	return !f->gone;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	bitmap_backing_init(&f->bitmap, GPA, REGION_SIZE, BLOCK);
	f->dev.config_changed = count_config_change;
	f->dev.changed = count_change;
	f->dev.work = count_work;
	f->dev.answered = take_answer;
	f->dev.arg = f;
	virtio_mem_start(&f->dev, &f->bitmap.backing, 0, false);
	while (virtio_mem_work(&f->dev))
		;
	f->bitmap.nr_log = 0;
	f->wants_work = 0;
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	virtio_mem_stop(&f->dev);
	bitmap_backing_free(&f->bitmap);
	free(f);
	return 0;
}

static struct virtio_mem_resp send(struct fixture *f, uint16_t type,
				   uint64_t gpa, uint16_t nr_blocks)
{
	struct virtio_mem_resp resp;
	struct virtio_mem_req req;

	/* Padding has arbitrary contents. */
	memset(&req, 0xa5, sizeof(req));
	memset(&resp, 0x5a, sizeof(resp));
	req.type = htole16(type);
	req.u.plug.addr = htole64(gpa);
	req.u.plug.nb_blocks = htole16(nr_blocks);
	assert_true(virtio_mem_handle(&f->dev, &req, &resp));
	for (size_t i = 0; i < 3; i++)
		assert_int_equal(resp.padding[i], 0);
	return resp;
}

static uint16_t answer(struct fixture *f, uint16_t type, uint64_t gpa,
		       uint16_t nr_blocks)
{
	return le16toh(send(f, type, gpa, nr_blocks).type);
}

static uint16_t plug(struct fixture *f, uint64_t gpa, uint16_t nr_blocks)
{
	return answer(f, VIRTIO_MEM_REQ_PLUG, gpa, nr_blocks);
}

static uint16_t unplug(struct fixture *f, uint64_t gpa, uint16_t nr_blocks)
{
	return answer(f, VIRTIO_MEM_REQ_UNPLUG, gpa, nr_blocks);
}

static uint16_t unplug_all(struct fixture *f)
{
	return answer(f, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
}

static uint16_t state_of(struct fixture *f, uint64_t gpa, uint16_t nr_blocks)
{
	struct virtio_mem_resp resp;

	resp = send(f, VIRTIO_MEM_REQ_STATE, gpa, nr_blocks);
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	return le16toh(resp.u.state.state);
}

static struct virtio_mem_config config_of(const struct fixture *f)
{
	struct virtio_mem_config config;

	virtio_mem_config(&f->dev, &config);
	return config;
}

static uint64_t usable(const struct fixture *f)
{
	return le64toh(config_of(f).usable_region_size);
}

static uint64_t plugged(const struct fixture *f)
{
	return le64toh(config_of(f).plugged_size);
}

/* --- Configuration --- */

static void config_is_56_bytes_little_endian(void **state)
{
	static const uint8_t block_size[8] = {0, 0, 0x20};
	struct fixture *f = *state;
	struct virtio_mem_config config = config_of(f);

	assert_int_equal(sizeof(config), 56);
	assert_memory_equal(&config, block_size, sizeof(block_size));
	assert_int_equal(le64toh(config.addr), GPA);
	assert_int_equal(le64toh(config.region_size), REGION_SIZE);
	assert_int_equal(le64toh(config.requested_size), 0);
}

static void sizes_are_multiples_of_block_size(void **state)
{
	struct fixture *f = *state;

	for (uint64_t size = 0; size <= REGION_SIZE; size += 1022 * MIB) {
		struct virtio_mem_config config;

		virtio_mem_set_requested(&f->dev, size);
		config = config_of(f);
		assert_int_equal(le64toh(config.usable_region_size) % BLOCK, 0);
		assert_int_equal(le64toh(config.plugged_size) % BLOCK, 0);
		assert_int_equal(le64toh(config.requested_size) % BLOCK, 0);
	}
}

static void usable_is_a_multiple_of_a_large_block_size(void **state)
{
	struct bitmap_backing bitmap;
	struct virtio_mem dev = {};

	(void)state;
	bitmap_backing_init(&bitmap, GPA, 8 * GIB, GIB);
	virtio_mem_start(&dev, &bitmap.backing, GIB, false);
	assert_int_equal(dev.usable_region_size, 2 * GIB);
	virtio_mem_stop(&dev);
	bitmap_backing_free(&bitmap);
}

static void plugged_size_is_updated(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plugged(f), 0);
	assert_int_equal(plug(f, GPA, 10), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 10 * BLOCK);
	assert_int_equal(unplug(f, GPA + 2 * BLOCK, 3), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 7 * BLOCK);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 0);
}

static void node_is_shown_only_with_acpi_pxm(void **state)
{
	struct fixture *f = *state;

	f->dev.node_id = 0x1234;
	assert_false(virtio_mem_features(&f->dev) &
		     1U << VIRTIO_MEM_F_ACPI_PXM);
	assert_int_equal(le16toh(config_of(f).node_id), 0);
	f->dev.has_node = true;
	assert_true(virtio_mem_features(&f->dev) & 1U << VIRTIO_MEM_F_ACPI_PXM);
	assert_int_equal(le16toh(config_of(f).node_id), 0x1234);
}

static void unplugged_inaccessible_and_version_1_are_needed(void **state)
{
	const uint64_t version = 1ULL << VIRTIO_F_VERSION_1;
	const uint64_t inaccessible = 1ULL
				      << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;

	(void)state;
	assert_false(virtio_mem_features_ok(0));
	assert_false(virtio_mem_features_ok(version));
	assert_false(virtio_mem_features_ok(inaccessible));
	assert_true(virtio_mem_features_ok(version | inaccessible));
}

/* --- The usable region --- */

static void usable_is_zero_when_nothing_is_requested_or_plugged(void **state)
{
	assert_int_equal(usable(*state), 0);
}

static void usable_is_requested_and_256_mib(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(usable(f), GIB + 256 * MIB);
}

static void usable_is_at_most_the_region(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, REGION_SIZE - 128 * MIB);
	assert_int_equal(usable(f), REGION_SIZE);
	virtio_mem_set_requested(&f->dev, REGION_SIZE);
	assert_int_equal(usable(f), REGION_SIZE);
}

static void usable_does_not_shrink_with_the_requested_size(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, 4 * GIB);
	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(usable(f), 4 * GIB + 256 * MIB);
	virtio_mem_set_requested(&f->dev, 0);
	assert_int_equal(usable(f), 4 * GIB + 256 * MIB);
}

static void usable_shrinks_on_unplug_all_without_notification(void **state)
{
	struct fixture *f = *state;
	unsigned int before;

	virtio_mem_set_requested(&f->dev, 4 * GIB);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&f->dev, GIB);
	before = f->config_changes;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(usable(f), GIB + 256 * MIB);
	assert_int_equal(f->config_changes, before);
	virtio_mem_set_requested(&f->dev, 0);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(usable(f), 0);
}

static void usable_covers_plugged_blocks(void **state)
{
	struct fixture *f = *state;

	/* Another holder of the region plugs far from the start. */
	blocks_set(&f->bitmap.backing.plugged, 20 * GIB / BLOCK, 1);
	virtio_mem_backing_changed(&f->dev);
	assert_int_equal(usable(f), 20 * GIB + BLOCK);
	assert_int_equal(f->config_changes, 1);
	/* The driver learns of a usable region that grows, and only of that. */
	virtio_mem_backing_changed(&f->dev);
	assert_int_equal(usable(f), 20 * GIB + BLOCK);
	assert_int_equal(f->config_changes, 1);
}

static void usable_is_the_region_after_a_restart(void **state)
{
	struct bitmap_backing bitmap;
	struct virtio_mem dev = {};

	(void)state;
	bitmap_backing_init(&bitmap, GPA, REGION_SIZE, BLOCK);
	virtio_mem_start(&dev, &bitmap.backing, GIB, true);
	assert_int_equal(dev.usable_region_size, REGION_SIZE);
	virtio_mem_stop(&dev);
	bitmap_backing_free(&bitmap);
}

/* --- Notification --- */

static void driver_is_notified_of_requested_size(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(f->config_changes, 1);
	virtio_mem_set_requested(&f->dev, 512 * MIB);
	assert_int_equal(f->config_changes, 2);
	virtio_mem_set_requested(&f->dev, 512 * MIB);
	assert_int_equal(f->config_changes, 2);
}

static void driver_is_not_notified_of_plugged_size(void **state)
{
	struct fixture *f = *state;
	unsigned int before;

	virtio_mem_set_requested(&f->dev, GIB);
	before = f->config_changes;
	assert_int_equal(plug(f, GPA, 8), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug(f, GPA, 8), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->config_changes, before);
	/* Watchers are notified. */
	assert_true(f->changes >= 2);
}

/* --- Requests that break a rule --- */

static const uint16_t ranged[] = {VIRTIO_MEM_REQ_PLUG, VIRTIO_MEM_REQ_UNPLUG,
				  VIRTIO_MEM_REQ_STATE};

#define for_each_ranged(type)                                          \
	for (size_t _i = 0; _i < sizeof(ranged) / sizeof(ranged[0]) && \
			    ((type) = ranged[_i], 1);                  \
	     _i++)

/* The device must answer ERROR, and the backing must not change. */
static void assert_error(struct fixture *f, uint16_t type, uint64_t gpa,
			 uint16_t nr_blocks)
{
	uint64_t before = plugged(f);

	f->bitmap.nr_log = 0;
	assert_int_equal(answer(f, type, gpa, nr_blocks),
			 VIRTIO_MEM_RESP_ERROR);
	for (size_t i = 0; i < f->bitmap.nr_log; i++)
		assert_int_equal(f->bitmap.log[i].call, CALL_VERIFY);
	assert_int_equal(plugged(f), before);
}

static void misaligned_address_is_an_error(void **state)
{
	struct fixture *f = *state;
	uint16_t type;

	virtio_mem_set_requested(&f->dev, GIB);
	for_each_ranged(type)
	{
		assert_error(f, type, GPA + 1, 1);
		assert_error(f, type, GPA + BLOCK / 2, 1);
		assert_error(f, type, GPA + BLOCK - 1, 1);
	}
}

static void zero_blocks_are_an_error(void **state)
{
	struct fixture *f = *state;
	uint16_t type;

	virtio_mem_set_requested(&f->dev, GIB);
	for_each_ranged(type) assert_error(f, type, GPA, 0);
}

static void outside_usable_is_an_error(void **state)
{
	struct fixture *f = *state;
	uint16_t type;

	virtio_mem_set_requested(&f->dev, GIB);
	for_each_ranged(type)
	{
		assert_error(f, type, GPA - BLOCK, 1);
		assert_error(f, type, 0, 1);
		assert_error(f, type, GPA + usable(f), 1);
		assert_error(f, type, GPA + usable(f) - BLOCK, 2);
		assert_error(f, type, GPA + REGION_SIZE, 1);
		/* Ranges that wrap around the end of the address space. */
		assert_error(f, type, UINT64_MAX - BLOCK + 1, 1);
		assert_error(f, type, UINT64_MAX - BLOCK + 1, 2);
		assert_error(f, type, UINT64_MAX, UINT16_MAX);
	}
}

static void everything_is_outside_an_empty_usable_region(void **state)
{
	struct fixture *f = *state;
	uint16_t type;

	for_each_ranged(type) assert_error(f, type, GPA, 1);
}

static void last_block_of_usable_is_inside(void **state)
{
	struct fixture *f = *state;
	uint64_t last;

	virtio_mem_set_requested(&f->dev, GIB);
	last = GPA + usable(f) - BLOCK;
	assert_int_equal(state_of(f, last, 1), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(plug(f, last, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug(f, last, 1), VIRTIO_MEM_RESP_ACK);
}

static void huge_blocks_do_not_overflow(void **state)
{
	struct bitmap_backing bitmap;
	struct fixture f = {};

	(void)state;
	bitmap_backing_init(&bitmap, 1ULL << 50, 1ULL << 50, 1ULL << 49);
	virtio_mem_start(&f.dev, &bitmap.backing, 1ULL << 50, false);
	assert_int_equal(plug(&f, 1ULL << 50, 32768), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(&f, 1ULL << 50, 32770), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(&f, 1ULL << 50, UINT16_MAX),
			 VIRTIO_MEM_RESP_ERROR);
	virtio_mem_stop(&f.dev);
	bitmap_backing_free(&bitmap);
}

static void plug_of_a_plugged_block_is_an_error(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ACK);
	assert_error(f, VIRTIO_MEM_REQ_PLUG, GPA, 8);
	assert_error(f, VIRTIO_MEM_REQ_PLUG, GPA + 4 * BLOCK, 2);
	/*
	 * All blocks are plugged: the backing is asked whether this repeats a
	 * request whose answer was lost.
	 */
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(f), BLOCK);
}

static void unplug_of_an_unplugged_block_is_an_error(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_error(f, VIRTIO_MEM_REQ_UNPLUG, GPA, 5);
	assert_error(f, VIRTIO_MEM_REQ_UNPLUG, GPA + 3 * BLOCK, 2);
	assert_int_equal(unplug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(f), 4 * BLOCK);
}

static void error_takes_precedence_over_nack(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, BLOCK);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(f, GPA, 2), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(f, GPA + 1, 2), VIRTIO_MEM_RESP_ERROR);
}

static void unknown_request_is_an_error(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_error(f, 4, GPA, 1);
	assert_error(f, UINT16_MAX, GPA, 1);
}

/* --- Answers other than ERROR --- */

static void above_requested_is_nack(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, 4 * BLOCK);
	assert_int_equal(plug(f, GPA, 5), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(f, GPA + 8 * BLOCK, 1), VIRTIO_MEM_RESP_NACK);
	virtio_mem_set_requested(&f->dev, 2 * BLOCK);
	assert_int_equal(plug(f, GPA + 8 * BLOCK, 1), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(plugged(f), 4 * BLOCK);
}

/* The behaviour of a driver without memory for page structures. */
static void a_plug_that_is_undone_is_recorded(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(f, GPA + 64 * BLOCK, 64), VIRTIO_MEM_RESP_ACK);
	assert_false(f->dev.given_back);
	/*
	 * Another range, a part of the range, and an older range: not the last
	 * plug.
	 */
	assert_int_equal(unplug(f, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_false(f->dev.given_back);
	assert_int_equal(plug(f, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_false(f->dev.given_back);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_true(f->dev.given_back);
	/* The driver tries again and succeeds. */
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_true(f->dev.given_back);
	assert_int_equal(plug(f, GPA + 128 * BLOCK, 1), VIRTIO_MEM_RESP_ACK);
	assert_false(f->dev.given_back);
	/* A guest that was asked to shrink should unplug. */
	virtio_mem_set_requested(&f->dev, 0);
	assert_int_equal(unplug(f, GPA + 128 * BLOCK, 1), VIRTIO_MEM_RESP_ACK);
	assert_false(f->dev.given_back);
}

static void requests_are_timed(void **state)
{
	struct fixture *f = *state;
	const struct latency *plugs = &f->dev.latencies[VIRTIO_MEM_PLUG];
	uint64_t in_buckets = 0;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(f, GPA + BLOCK, 512), VIRTIO_MEM_RESP_NACK);
	state_of(f, GPA, 1);
	assert_int_equal(plugs->count, 3);
	assert_true(plugs->sum_ns > 0);
	for (size_t i = 0; i < LATENCY_NR_BUCKETS; i++)
		in_buckets += plugs->buckets[i];
	assert_int_equal(in_buckets, 3);
	assert_int_equal(f->dev.latencies[VIRTIO_MEM_STATE].count, 1);
	assert_int_equal(f->dev.latencies[VIRTIO_MEM_UNPLUG].count, 0);
}

static void a_time_is_in_the_lowest_matching_bucket(void **state)
{
	struct latency l = {};

	(void)state;
	latency_add(&l, latency_bounds_ns[2]);
	latency_add(&l, latency_bounds_ns[2] + 1);
	latency_add(&l, latency_bounds_ns[LATENCY_NR_BUCKETS - 1] + 1);
	assert_int_equal(l.buckets[2], 1);
	assert_int_equal(l.buckets[3], 1);
	assert_int_equal(l.buckets[LATENCY_NR_BUCKETS - 1], 0);
	assert_int_equal(l.count, 3);
	for (size_t i = 1; i < LATENCY_NR_BUCKETS; i++)
		assert_true(latency_bounds_ns[i] > latency_bounds_ns[i - 1]);
}

static void host_failure_is_busy_and_changes_nothing(void **state)
{
	static const int errors[] = {-ENOMEM, -ESTALE, -ENODEV, -EBUSY,
				     -EIO,    -EINTR,  -EINVAL};
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		f->bitmap.fail = errors[i];
		assert_int_equal(plug(f, GPA + 8 * BLOCK, 4),
				 VIRTIO_MEM_RESP_BUSY);
		assert_int_equal(unplug(f, GPA, 4), VIRTIO_MEM_RESP_BUSY);
		assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_BUSY);
		assert_int_equal(plugged(f), 4 * BLOCK);
		assert_int_equal(state_of(f, GPA, 4), VIRTIO_MEM_STATE_PLUGGED);
	}
	assert_string_not_equal(f->dev.last_failure.text, "");
	f->bitmap.fail = 0;
	assert_int_equal(plug(f, GPA + 8 * BLOCK, 4), VIRTIO_MEM_RESP_ACK);
	assert_string_equal(f->dev.last_failure.text, "");
}

static void failed_unplug_all_keeps_usable(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, 4 * GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&f->dev, 0);
	f->bitmap.fail = -ENOMEM;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(usable(f), 4 * GIB + 256 * MIB);
}

static void a_held_device_plugs_and_unplugs_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned int before;

	virtio_mem_set_requested(&f->dev, 8 * BLOCK);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	virtio_mem_hold(&f->dev, true);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_BUSY);
	assert_non_null(strstr(f->dev.last_failure.text, "held"));
	assert_int_equal(unplug(f, GPA, 1), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(f), 4 * BLOCK);
	/* Requests that fail anyway are answered as usual. */
	assert_int_equal(state_of(f, GPA, 4), VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(unplug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(f, GPA + 1, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 5), VIRTIO_MEM_RESP_NACK);
	/*
	 * The driver is notified at the end of the hold; otherwise it would
	 * wait a minute.
	 */
	before = f->config_changes;
	virtio_mem_hold(&f->dev, true);
	assert_int_equal(f->config_changes, before);
	virtio_mem_hold(&f->dev, false);
	assert_int_equal(f->config_changes, before + 1);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	virtio_mem_hold(&f->dev, true);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
}

static void usable_is_restored_as_saved(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, BLOCK);
	virtio_mem_keep_usable(&f->dev, GIB);
	assert_int_equal(usable(f), GIB);
	virtio_mem_keep_usable(&f->dev, BLOCK);
	assert_int_equal(usable(f), GIB);
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(usable(f), BLOCK + VIRTIO_MEM_USABLE_EXTRA);
}

static void state_is_plugged_unplugged_or_mixed(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(state_of(f, GPA, 16), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 4), VIRTIO_MEM_RESP_ACK);
	f->bitmap.nr_log = 0;
	assert_int_equal(state_of(f, GPA + 4 * BLOCK, 4),
			 VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(state_of(f, GPA + 5 * BLOCK, 1),
			 VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(state_of(f, GPA, 5), VIRTIO_MEM_STATE_MIXED);
	assert_int_equal(state_of(f, GPA, 4), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(state_of(f, GPA + 7 * BLOCK, 2),
			 VIRTIO_MEM_STATE_MIXED);
	/* STATE is answered without a call of the backing. */
	assert_int_equal(f->bitmap.nr_log, 0);
}

static void unplug_all_of_nothing_is_acknowledged(void **state)
{
	struct fixture *f = *state;

	f->bitmap.fail = -ENOMEM;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
}

/* --- Memory --- */

static void memslots_are_deleted_before_memory_is_discarded(void **state)
{
	struct fixture *f = *state;
	const struct bitmap_log *log = f->bitmap.log;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	f->bitmap.nr_log = 0;
	assert_int_equal(unplug(f, GPA + BLOCK, 2), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.nr_log, 2);
	assert_int_equal(log[0].call, CALL_UNPLUG);
	assert_int_equal(log[1].call, CALL_DISCARD);
	assert_int_equal(log[1].gpa, GPA + BLOCK);
	assert_int_equal(log[1].size, 2 * BLOCK);
	f->bitmap.nr_log = 0;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	/* Only plugged blocks are discarded. */
	assert_int_equal(f->bitmap.nr_log, 3);
	assert_int_equal(log[0].call, CALL_UNPLUG_ALL);
	assert_int_equal(log[1].call, CALL_DISCARD);
	assert_int_equal(log[1].gpa, GPA);
	assert_int_equal(log[1].size, BLOCK);
	assert_int_equal(log[2].gpa, GPA + 3 * BLOCK);
	assert_int_equal(log[2].size, BLOCK);
}

static void plugged_again_reads_zero_though_discard_failed(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	f->bitmap.fail_discard = -ENOMEM;
	/* The block is unplugged nevertheless. */
	assert_int_equal(unplug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(state_of(f, GPA, 4), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(f->bitmap.backing.owed.set, 4);
	/* The guest must not see the old contents. */
	assert_int_equal(plug(f, GPA + 3 * BLOCK, 2), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 2), VIRTIO_MEM_RESP_ACK);
	f->bitmap.fail_discard = 0;
	/* The backing asserts that plugged memory is zero. */
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.backing.owed.set, 0);
}

static void start_discards_what_a_killed_daemon_left(void **state)
{
	struct bitmap_backing bitmap;
	struct virtio_mem dev = {};

	(void)state;
	bitmap_backing_init(&bitmap, GPA, 16 * BLOCK, BLOCK);
	memset(bitmap.dirty, 1, 16);
	blocks_set(&bitmap.backing.plugged, 3, 2);
	blocks_set(&bitmap.backing.plugged, 15, 1);
	virtio_mem_start(&dev, &bitmap.backing, 4 * BLOCK, true);
	while (virtio_mem_work(&dev))
		;
	for (uint64_t i = 0; i < 16; i++)
		assert_int_equal(bitmap.dirty[i], i == 3 || i == 4 || i == 15);
	virtio_mem_stop(&dev);
	bitmap_backing_free(&bitmap);
}

/* --- A backing whose view has changed --- */

static void a_stale_view_is_checked_again(void **state)
{
	struct fixture *f = *state;
	uint8_t truth[REGION_SIZE / BLOCK] = {};

	/* Others have plugged blocks 4 and 5. */
	truth[4] = 1;
	truth[5] = 1;
	f->bitmap.truth = truth;
	virtio_mem_set_requested(&f->dev, GIB);
	f->bitmap.fail = -EAGAIN;
	f->bitmap.fail_once = true;
	assert_int_equal(plug(f, GPA + 4 * BLOCK, 1), VIRTIO_MEM_RESP_ERROR);
	f->bitmap.fail = -EAGAIN;
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 3 * BLOCK);
	/* The number of retries is bounded. */
	f->bitmap.fail = -EAGAIN;
	f->bitmap.fail_once = false;
	assert_int_equal(plug(f, GPA + 8 * BLOCK, 1), VIRTIO_MEM_RESP_BUSY);
}

static void request_in_flight_over_a_restart_is_acknowledged(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	f->bitmap.repeated = true;
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ERROR);
	f->bitmap.repeated = true;
	assert_int_equal(unplug(f, GPA + 8 * BLOCK, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(unplug(f, GPA + 8 * BLOCK, 4), VIRTIO_MEM_RESP_ERROR);
	/* A part of the range cannot be a repetition. */
	f->bitmap.repeated = true;
	assert_int_equal(plug(f, GPA, 5), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(unplug(f, GPA, 5), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(f), 4 * BLOCK);
}

static void the_guest_is_not_blamed_for_a_stale_view(void **state)
{
	struct fixture *f = *state;
	uint8_t truth[REGION_SIZE / BLOCK] = {};

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	/*
	 * Others have unplugged blocks 0 to 3 and plugged 8 and 9, unnoticed.
	 */
	truth[8] = 1;
	truth[9] = 1;
	f->bitmap.truth = truth;
	f->bitmap.stale = true;
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 6 * BLOCK);
	truth[0] = truth[1] = truth[2] = truth[3] = truth[4] = 1;
	f->bitmap.stale = true;
	assert_int_equal(unplug(f, GPA + 3 * BLOCK, 2), VIRTIO_MEM_RESP_ACK);
	/* If verification fails, the guest is not blamed either. */
	f->bitmap.fail_verify = -ENOBUFS;
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(unplug(f, GPA + 3 * BLOCK, 1), VIRTIO_MEM_RESP_BUSY);
	f->bitmap.fail_verify = 0;
	assert_int_equal(plug(f, GPA, 1), VIRTIO_MEM_RESP_ERROR);
}

static void unplug_all_is_skipped_only_if_all_is_unplugged(void **state)
{
	struct fixture *f = *state;
	uint8_t truth[REGION_SIZE / BLOCK] = {};

	truth[8] = 1;
	f->bitmap.truth = truth;
	f->bitmap.stale = true;
	f->bitmap.fail_verify = -ENOBUFS;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_BUSY);
	f->bitmap.fail_verify = 0;
	f->bitmap.nr_log = 0;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.nr_log, 3);
	assert_int_equal(f->bitmap.log[1].call, CALL_UNPLUG_ALL);
	assert_int_equal(f->bitmap.log[2].call, CALL_DISCARD);
	assert_int_equal(f->bitmap.log[2].gpa, GPA + 8 * BLOCK);
	assert_int_equal(plugged(f), 0);
}

static void blocks_that_others_unplug_are_discarded(void **state)
{
	struct fixture *f = *state;
	uint8_t truth[REGION_SIZE / BLOCK] = {};

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	truth[0] = 1;
	truth[9] = 1;
	f->bitmap.dirty[9] = 1;
	f->bitmap.truth = truth;
	f->bitmap.stale = true;
	f->bitmap.nr_log = 0;
	backing_verify(&f->bitmap.backing);
	virtio_mem_backing_changed(&f->dev);
	assert_true(f->wants_work);
	while (virtio_mem_work(&f->dev))
		;
	/*
	 * Only these blocks, neither those unplugged before nor those plugged.
	 */
	assert_int_equal(f->bitmap.nr_log, 2);
	assert_int_equal(f->bitmap.log[1].gpa, GPA + BLOCK);
	assert_int_equal(f->bitmap.log[1].size, 3 * BLOCK);
	assert_int_equal(f->bitmap.dirty[0], 1);
	assert_int_equal(f->bitmap.dirty[9], 1);
}

/* --- Requests that take long --- */

static void begin(struct fixture *f, uint16_t type, uint64_t gpa,
		  uint16_t nr_blocks)
{
	struct virtio_mem_req req = {.type = htole16(type)};
	struct virtio_mem_resp resp;

	req.u.plug.addr = htole64(gpa);
	req.u.plug.nb_blocks = htole16(nr_blocks);
	assert_false(virtio_mem_handle(&f->dev, &req, &resp));
	assert_true(virtio_mem_busy(&f->dev));
}

static uint16_t finish(struct fixture *f)
{
	f->nr_answers = 0;
	while (bitmap_backing_finish(&f->bitmap))
		;
	assert_int_equal(f->nr_answers, 1);
	assert_false(virtio_mem_busy(&f->dev));
	return le16toh(f->answer.type);
}

static void requests_wait_for_the_backing(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	f->bitmap.later = true;
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	assert_int_equal(plugged(f), 0);
	/* Other calls are served meanwhile. */
	virtio_mem_set_requested(&f->dev, 2 * GIB);
	assert_int_equal(virtio_mem_work(&f->dev), 0);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 4 * BLOCK);
	begin(f, VIRTIO_MEM_REQ_UNPLUG, GPA, 2);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.dirty[1], 0);
	begin(f, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	f->bitmap.fail = -ENOMEM;
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_BUSY);
	f->bitmap.fail = 0;
	begin(f, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 0);
	/* An answer that updates the view of plugged blocks. */
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	f->bitmap.fail = -EAGAIN;
	f->bitmap.fail_once = true;
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	f->bitmap.repeated = true;
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ERROR);
}

/* What the request finds is judged when the backing can take it. */
static void requests_wait_until_the_backing_can_take_them(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;

	virtio_mem_set_requested(&f->dev, GIB);
	f->bitmap.nr_log = 0;
	f->bitmap.wait = -EINPROGRESS;
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	assert_int_equal(f->bitmap.nr_log, 0);
	/* Meanwhile the size is lowered. */
	virtio_mem_set_requested(&f->dev, 3 * BLOCK);
	f->bitmap.wait = 0;
	f->nr_answers = 0;
	backing_ended(backing, 0);
	assert_int_equal(f->nr_answers, 1);
	assert_int_equal(le16toh(f->answer.type), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(f->bitmap.nr_log, 0);
	/* A request waits once, also if it then takes long. */
	f->bitmap.wait = -EINPROGRESS;
	f->bitmap.later = true;
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 2);
	backing_ended(backing, 0);
	assert_true(virtio_mem_busy(&f->dev));
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(f), 2 * BLOCK);
	/* The wait may fail, at once or later. */
	f->bitmap.nr_log = 0;
	begin(f, VIRTIO_MEM_REQ_UNPLUG, GPA, 2);
	f->nr_answers = 0;
	backing_ended(backing, -ENOMEM);
	assert_int_equal(f->nr_answers, 1);
	assert_int_equal(le16toh(f->answer.type), VIRTIO_MEM_RESP_BUSY);
	f->bitmap.wait = -ENOMEM;
	assert_int_equal(unplug(f, GPA, 2), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(f->bitmap.nr_log, 0);
	assert_int_equal(plugged(f), 2 * BLOCK);
	f->bitmap.wait = 0;
	f->bitmap.later = false;
	assert_int_equal(unplug_all(f), VIRTIO_MEM_RESP_ACK);
}

static void an_answer_without_receiver_is_recorded(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	f->bitmap.later = true;
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.lost, 0);
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA + 8 * BLOCK, 4);
	f->gone = true;
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.lost, 1);
}

static void memory_is_discarded_in_parts(void **state)
{
	enum { PARTS = 3 };
	const uint16_t per_part = BACKING_DISCARD_MAX / BLOCK;
	struct fixture *f = *state;
	unsigned int turns = 0;

	virtio_mem_set_requested(&f->dev, 4 * GIB);
	assert_int_equal(plug(f, GPA, PARTS * per_part), VIRTIO_MEM_RESP_ACK);
	f->bitmap.nr_log = 0;
	assert_int_equal(unplug(f, GPA, PARTS * per_part), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.nr_log, 2);
	assert_int_equal(f->bitmap.log[1].size, BACKING_DISCARD_MAX);
	assert_int_equal(f->bitmap.backing.owed.set, (PARTS - 1) * per_part);
	assert_true(f->wants_work);
	/* A plug of owed memory waits until it is discarded. */
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, PARTS * per_part);
	f->nr_answers = 0;
	while (!f->nr_answers && turns++ < 100)
		virtio_mem_work(&f->dev);
	assert_int_equal(turns, PARTS - 2);
	assert_int_equal(le16toh(f->answer.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(f->bitmap.backing.owed.set, 0);
}

static void owed_discards_are_retried(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	f->bitmap.fail_discard = -ENOMEM;
	assert_int_equal(unplug(f, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_true(f->wants_work);
	assert_int_equal(virtio_mem_work(&f->dev), -ENOMEM);
	f->bitmap.fail_discard = 0;
	assert_int_equal(virtio_mem_work(&f->dev), 0);
	assert_int_equal(f->bitmap.backing.owed.set, 0);
	assert_int_equal(f->bitmap.dirty[0], 0);
}

/* Only the first sweep may find memory: an earlier daemon was killed. */
static void a_later_sweep_is_not_undiscarded_memory(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(virtio_mem_undiscarded_size(&f->dev), 0);
	virtio_mem_sweep(&f->dev);
	assert_true(virtio_mem_sweeping(&f->dev));
	assert_int_equal(virtio_mem_undiscarded_size(&f->dev), 0);
}

/* A plug may have allocated memory before its end, other requests do not. */
static void a_plug_in_progress_may_have_memory(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(virtio_mem_owed_size(&f->dev), 0);
	f->bitmap.later = true;
	begin(f, VIRTIO_MEM_REQ_PLUG, GPA, 4);
	assert_int_equal(virtio_mem_owed_size(&f->dev), 4 * BLOCK);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(virtio_mem_owed_size(&f->dev), 0);
	begin(f, VIRTIO_MEM_REQ_UNPLUG, GPA, 2);
	assert_int_equal(virtio_mem_owed_size(&f->dev), 0);
	assert_int_equal(finish(f), VIRTIO_MEM_RESP_ACK);
}

/* --- Shares of a turn --- */

static void a_sweep_has_its_share_beside_owed_discards(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;
	uint64_t turns = 0;

	virtio_mem_sweep(&f->dev);
	for (; virtio_mem_sweeping(&f->dev); turns++) {
		assert_true(turns <= REGION_SIZE / BACKING_DISCARD_SLICE);
		backing_owe(backing, GPA, 2 * BACKING_DISCARD_SLICE);
		assert_int_equal(virtio_mem_work(&f->dev), 1);
	}
}

static void constant_debts_do_not_delay_other_work(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;
	uint64_t last = backing->owed.nr - 1;

	backing_owe(backing, GPA + last * BLOCK, BLOCK);
	for (unsigned int i = 0; blocks_count(&backing->owed, last, 1); i++) {
		assert_true(i < 8);
		backing_owe(backing, GPA, 4 * BACKING_DISCARD_SLICE);
		virtio_mem_work(&f->dev);
	}
}

/* A block that cannot be discarded is retried after all others. */
static void a_failing_discard_does_not_delay_others(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;

	backing_owe(backing, GPA, BLOCK);
	backing_owe(backing, GPA + 2 * BLOCK, BLOCK);
	f->bitmap.fail_discard = -EBUSY;
	assert_int_equal(virtio_mem_work(&f->dev), -EBUSY);
	f->bitmap.fail_discard = 0;
	f->bitmap.nr_log = 0;
	while (virtio_mem_work(&f->dev))
		;
	assert_int_equal(f->bitmap.nr_log, 2);
	assert_int_equal(f->bitmap.log[0].gpa, GPA + 2 * BLOCK);
	assert_int_equal(f->bitmap.log[1].gpa, GPA);
}

/* All blocks may be mapped by a consumer, which takes long to find out. */
static uint64_t keep_slowly(struct backing *backing,
			    uint64_t first __attribute__((unused)),
			    uint64_t end, bool *kept)
{
	struct work *work = backing->filter_arg;

	work_add(work, WORK_TURN_STEPS / 2);
	*kept = true;
	return end;
}

/* A pass over kept blocks that takes many turns ends, and then there is a pause. */
static void kept_blocks_do_not_keep_the_daemon_busy(void **state)
{
	enum { KEPT = 16 };
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;
	struct backing_ops ops = *backing->ops;
	struct work work = {0};
	unsigned int turns = 0;
	int ret;

	ops.kept = keep_slowly;
	backing_set_filter(backing, &ops, &work);
	f->dev.work_done = &work;
	for (unsigned int i = 0; i < KEPT; i++)
		backing_owe(backing, GPA + 2 * i * BLOCK, BLOCK);
	do {
		work_begin_turn(&work);
		ret = virtio_mem_work(&f->dev);
	} while (ret == 1 && ++turns < 2 * KEPT);
	assert_int_equal(ret, -EBUSY);
	assert_true(turns >= KEPT / 2 - 1);
	assert_int_equal(f->bitmap.nr_log, 0);
	/* One that may be discarded is, whatever the others are. */
	backing_set_filter(backing, NULL, NULL);
	f->dev.work_done = NULL;
	while (virtio_mem_work(&f->dev))
		;
	assert_int_equal(backing->owed.set, 0);
}

/* A failing sweep does not delay owed discards until its next turn. */
static void a_failing_sweep_does_not_delay_owed_discards(void **state)
{
	struct fixture *f = *state;
	struct backing *backing = &f->bitmap.backing;

	virtio_mem_sweep(&f->dev);
	assert_int_equal(virtio_mem_work(&f->dev), 1);
	/* A block behind the sweep's position. */
	backing_owe(backing, GPA, BLOCK);
	f->bitmap.fail_discard = -EBUSY;
	f->bitmap.fail_once = true;
	assert_int_equal(virtio_mem_work(&f->dev), -EBUSY);
	assert_int_equal(blocks_count(&backing->owed, 0, 1), 0);
	/* The sweep continues, and its failed range is owed. */
	assert_true(virtio_mem_sweeping(&f->dev));
	while (virtio_mem_work(&f->dev))
		;
	assert_int_equal(backing->owed.set, 0);
}

/* Blocks of one page, every other one owed: each needs a call. */
static void calls_are_bounded_like_bytes(void **state)
{
	const uint64_t size = GIB, page = 4 * KIB;
	struct bitmap_backing bitmap;
	struct work work = {};
	struct virtio_mem dev = {.work_done = &work};
	uint64_t before, turns = 0;

	(void)state;
	bitmap_backing_init(&bitmap, GPA, size, page);
	virtio_mem_start(&dev, &bitmap.backing, 0, false);
	do
		work_begin_turn(&work);
	while (virtio_mem_work(&dev));
	for (uint64_t i = 0; i < size / page; i += 2)
		backing_owe(&bitmap.backing, GPA + i * page, page);
	do {
		before = bitmap.backing.owed.set;
		work_begin_turn(&work);
		virtio_mem_work(&dev);
		work_end_turn(&work, 0);
		assert_in_range(before - bitmap.backing.owed.set, 1,
				WORK_TURN_STEPS / WORK_CALL_STEPS);
		turns++;
	} while (turns < 16);
	assert_true(work.most_steps < 2 * WORK_TURN_STEPS);
	virtio_mem_stop(&dev);
	bitmap_backing_free(&bitmap);
}

/* A region with every other page plugged: the maximum number of runs. */
#define CUT_SIZE (4 * GIB)
#define CUT_PAGE (4 * KIB)

static void cut_into_pages(struct bitmap_backing *bitmap, struct work *work)
{
	bitmap_backing_init(bitmap, GPA, CUT_SIZE, CUT_PAGE);
	for (uint64_t i = 0; i < CUT_SIZE / CUT_PAGE; i += 2)
		blocks_set(&bitmap->backing.plugged, i, 1);
	backing_count(&bitmap->backing, work);
}

/* The cost of owing a range does not depend on blocks elsewhere. */
static void the_cost_of_owing_depends_on_the_range_only(void **state)
{
	struct bitmap_backing bitmap;
	struct backing *backing = &bitmap.backing;
	struct work work = {};

	(void)state;
	cut_into_pages(&bitmap, &work);
	backing_owe(backing, GPA, 8 * CUT_PAGE);
	assert_int_equal(backing->owed.set, 4);
	assert_in_range(work.steps, 1, 64);
	bitmap_backing_free(&bitmap);
}

/* Unplug all works on words of the bitmap, however fragmented. */
static void the_cost_of_unplug_all_is_its_words(void **state)
{
	struct bitmap_backing bitmap;
	struct backing *backing = &bitmap.backing;
	struct work work = {};

	(void)state;
	cut_into_pages(&bitmap, &work);
	backing_note_unplugged(backing, GPA, CUT_SIZE);
	assert_int_equal(backing->plugged.set, 0);
	assert_int_equal(backing->owed.set, CUT_SIZE / CUT_PAGE / 2);
	assert_in_range(work.steps, 1, 4 * CUT_SIZE / CUT_PAGE / 64);
	bitmap_backing_free(&bitmap);
}

/* The work of a start is spread over turns. */
static void a_start_is_spread_over_turns(void **state)
{
	const uint64_t size = 4096 * GIB, page = 4 * KIB;
	struct work work = {};
	struct virtio_mem dev = {.work_done = &work};
	struct bitmap_backing bitmap;

	(void)state;
	bitmap_backing_init(&bitmap, GPA, size, page);
	work_begin_turn(&work);
	virtio_mem_start(&dev, &bitmap.backing, 0, true);
	assert_true(work.steps < WORK_TURN_STEPS);
	/* All of the region may have memory, and counts as undiscarded. */
	assert_int_equal(virtio_mem_undiscarded_size(&dev), size);
	for (int i = 0; i < 16; i++) {
		work_begin_turn(&work);
		assert_int_equal(virtio_mem_work(&dev), 1);
		work_end_turn(&work, 0);
	}
	assert_in_range(virtio_mem_undiscarded_size(&dev), 1,
			size - 16 * BACKING_DISCARD_SLICE);
	assert_true(work.most_steps < WORK_TURN_STEPS);
	virtio_mem_stop(&dev);
	bitmap_backing_free(&bitmap);
}

/* --- Where the guest may have its queue --- */

static void unplugged_blocks_are_not_accessible(void **state)
{
	struct fixture *f = *state;

	virtio_mem_set_requested(&f->dev, GIB);
	assert_int_equal(plug(f, GPA + BLOCK, 2), VIRTIO_MEM_RESP_ACK);
	/*
	 * Addresses outside the region are accessible; a range ends at the
	 * region.
	 */
	assert_int_equal(virtio_mem_accessible(&f->dev, 0, 4096), 4096);
	assert_int_equal(virtio_mem_accessible(&f->dev, GPA - 16, 4096), 16);
	assert_int_equal(
		virtio_mem_accessible(&f->dev, GPA + REGION_SIZE, 4096), 4096);
	assert_int_equal(virtio_mem_accessible(&f->dev, GPA, 4096), 0);
	assert_int_equal(virtio_mem_accessible(&f->dev, GPA + BLOCK - 1, 4096),
			 0);
	assert_int_equal(virtio_mem_accessible(&f->dev, GPA + BLOCK, 4096),
			 4096);
	assert_int_equal(
		virtio_mem_accessible(&f->dev, GPA + BLOCK + 1, REGION_SIZE),
		2 * BLOCK - 1);
	assert_int_equal(
		virtio_mem_accessible(&f->dev, GPA + 3 * BLOCK - 1, 4096), 1);
	assert_int_equal(virtio_mem_accessible(&f->dev, GPA + 3 * BLOCK, 1), 0);
	assert_int_equal(
		virtio_mem_accessible(&f->dev, GPA + REGION_SIZE - 1, 1), 0);
}

/* --- Random requests against a model --- */

static void random_requests_follow_a_model(void **state)
{
	enum { BLOCKS = 200, ROUNDS = 20000 };
	struct fixture *f = *state;
	uint8_t model[BLOCKS] = {};
	uint64_t count = 0, requested;
	uint64_t seed = 88172645463325252ULL;

	/*
	 * The region is larger than the model, so requests reach the end of the
	 * usable region too.
	 */
	requested = BLOCKS / 2 * BLOCK;
	virtio_mem_set_requested(&f->dev, requested);
	assert_int_equal(usable(f), requested + 256 * MIB);
	for (int round = 0; round < ROUNDS; round++) {
		uint64_t first, nr, set = 0;
		uint16_t expected, type;

		seed ^= seed << 13;
		seed ^= seed >> 7;
		seed ^= seed << 17;
		first = seed % BLOCKS;
		nr = (seed >> 16) % 12;
		type = (seed >> 32) % 3 ? (seed >> 40) % 2
						  ? VIRTIO_MEM_REQ_PLUG
						  : VIRTIO_MEM_REQ_UNPLUG
					: VIRTIO_MEM_REQ_STATE;
		f->bitmap.nr_log = 0;
		for (uint64_t i = first; i < first + nr && i < BLOCKS; i++)
			set += model[i];
		if (!nr || first + nr > BLOCKS) {
			/* Blocks from BLOCKS on are beyond this test's model,
			 * though not beyond the usable region. */
			if (!nr)
				assert_int_equal(answer(f, type,
							GPA + first * BLOCK,
							nr),
						 VIRTIO_MEM_RESP_ERROR);
			continue;
		}
		expected = VIRTIO_MEM_RESP_ACK;
		if (type == VIRTIO_MEM_REQ_PLUG && set)
			expected = VIRTIO_MEM_RESP_ERROR;
		else if (type == VIRTIO_MEM_REQ_PLUG &&
			 (count + nr) * BLOCK > requested)
			expected = VIRTIO_MEM_RESP_NACK;
		else if (type == VIRTIO_MEM_REQ_UNPLUG && set != nr)
			expected = VIRTIO_MEM_RESP_ERROR;
		assert_int_equal(answer(f, type, GPA + first * BLOCK, nr),
				 expected);
		if (type != VIRTIO_MEM_REQ_STATE &&
		    expected == VIRTIO_MEM_RESP_ACK) {
			memset(model + first, type == VIRTIO_MEM_REQ_PLUG, nr);
			count = type == VIRTIO_MEM_REQ_PLUG ? count + nr
							    : count - nr;
		}
		assert_int_equal(plugged(f), count * BLOCK);
		assert_int_equal(state_of(f, GPA + first * BLOCK, 1),
				 model[first] ? VIRTIO_MEM_STATE_PLUGGED
					      : VIRTIO_MEM_STATE_UNPLUGGED);
	}
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(config_is_56_bytes_little_endian),
		T(sizes_are_multiples_of_block_size),
		T(usable_is_a_multiple_of_a_large_block_size),
		T(plugged_size_is_updated),
		T(node_is_shown_only_with_acpi_pxm),
		T(unplugged_inaccessible_and_version_1_are_needed),
		T(usable_is_zero_when_nothing_is_requested_or_plugged),
		T(usable_is_requested_and_256_mib),
		T(usable_is_at_most_the_region),
		T(usable_does_not_shrink_with_the_requested_size),
		T(usable_shrinks_on_unplug_all_without_notification),
		T(usable_covers_plugged_blocks),
		T(usable_is_the_region_after_a_restart),
		T(driver_is_notified_of_requested_size),
		T(driver_is_not_notified_of_plugged_size),
		T(misaligned_address_is_an_error),
		T(zero_blocks_are_an_error),
		T(outside_usable_is_an_error),
		T(everything_is_outside_an_empty_usable_region),
		T(last_block_of_usable_is_inside),
		T(huge_blocks_do_not_overflow),
		T(plug_of_a_plugged_block_is_an_error),
		T(unplug_of_an_unplugged_block_is_an_error),
		T(error_takes_precedence_over_nack),
		T(unknown_request_is_an_error),
		T(above_requested_is_nack),
		T(a_plug_that_is_undone_is_recorded),
		T(requests_are_timed),
		T(a_time_is_in_the_lowest_matching_bucket),
		T(host_failure_is_busy_and_changes_nothing),
		T(failed_unplug_all_keeps_usable),
		T(a_held_device_plugs_and_unplugs_nothing),
		T(usable_is_restored_as_saved),
		T(state_is_plugged_unplugged_or_mixed),
		T(unplug_all_of_nothing_is_acknowledged),
		T(memslots_are_deleted_before_memory_is_discarded),
		T(plugged_again_reads_zero_though_discard_failed),
		T(start_discards_what_a_killed_daemon_left),
		T(a_stale_view_is_checked_again),
		T(request_in_flight_over_a_restart_is_acknowledged),
		T(the_guest_is_not_blamed_for_a_stale_view),
		T(unplug_all_is_skipped_only_if_all_is_unplugged),
		T(blocks_that_others_unplug_are_discarded),
		T(requests_wait_for_the_backing),
		T(requests_wait_until_the_backing_can_take_them),
		T(an_answer_without_receiver_is_recorded),
		T(memory_is_discarded_in_parts),
		T(owed_discards_are_retried),
		T(a_later_sweep_is_not_undiscarded_memory),
		T(a_plug_in_progress_may_have_memory),
		T(a_sweep_has_its_share_beside_owed_discards),
		T(constant_debts_do_not_delay_other_work),
		T(a_failing_discard_does_not_delay_others),
		T(kept_blocks_do_not_keep_the_daemon_busy),
		T(a_failing_sweep_does_not_delay_owed_discards),
		cmocka_unit_test(calls_are_bounded_like_bytes),
		cmocka_unit_test(the_cost_of_owing_depends_on_the_range_only),
		cmocka_unit_test(the_cost_of_unplug_all_is_its_words),
		cmocka_unit_test(a_start_is_spread_over_turns),
		T(unplugged_blocks_are_not_accessible),
		T(random_requests_follow_a_model),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
