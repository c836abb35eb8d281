// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device as specified: every normative statement about the device in the
 * virtio-mem section (virtio 1.3, 5.15; PERSISTENT_SUSPEND is in 1.4) has a
 * test here with a corresponding name. doc/virtio-mem-spec.md lists them in
 * order.
 *
 * The driver is part of the test, so that no guest's driver can hide a fault.
 * It uses vhost-user, and a real virtqueue of each format. Memory is a byte per
 * block here; kernel_backing_test.c and selftests/kvm_vmem/region_test.c test
 * real memory.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <linux/virtio_config.h>

#include "base/log.h"
#include "formats.h"
#include "front_end.h"
#include "unit.h"

#define GPA    FE_REGION_GPA
#define REGION FE_REGION_SIZE
#define BLOCK  FE_BLOCK

/* The status bits that a driver sets, step by step. */
#define DRIVER	    (VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER)
#define FEATURES_OK (DRIVER | VIRTIO_CONFIG_S_FEATURES_OK)
#define DRIVER_OK   (FEATURES_OK | VIRTIO_CONFIG_S_DRIVER_OK)

#define EXTRA_SIZE 4096

static const uint64_t block_sizes[] = {
	2 * MIB,  4 * MIB,   8 * MIB,	16 * MIB,  32 * MIB,
	64 * MIB, 128 * MIB, 256 * MIB, 512 * MIB, GIB,
};
#define NR_BLOCK_SIZES (sizeof(block_sizes) / sizeof(block_sizes[0]))

static struct virtio_mem_resp send_bytes(struct front_end *fe,
					 const void *request, uint32_t size,
					 uint32_t response_size)
{
	struct virtio_mem_resp resp;

	front_end_put_bytes(fe, request, size, response_size);
	front_end_kick(fe);
	assert_true(front_end_used(fe, &resp));
	return resp;
}

static uint16_t state_of(struct front_end *fe, uint64_t gpa, uint16_t nr_blocks)
{
	struct virtio_mem_req req = {.type = htole16(VIRTIO_MEM_REQ_STATE)};
	struct virtio_mem_resp resp;

	req.u.state.addr = htole64(gpa);
	req.u.state.nb_blocks = htole16(nr_blocks);
	resp = send_bytes(fe, &req, sizeof(req), sizeof(resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	return le16toh(resp.u.state.state);
}

static struct virtio_mem_config config_of(struct front_end *fe)
{
	struct virtio_mem_config config;

	front_end_config(fe, &config);
	return config;
}

static uint64_t plugged(struct front_end *fe)
{
	return config_of(fe).plugged_size;
}

static uint64_t usable(struct front_end *fe)
{
	return config_of(fe).usable_region_size;
}

/* Finish the owed discards. */
static void settle(struct front_end *fe)
{
	while (virtio_mem_work(&fe->dev) > 0)
		work_begin_turn(&fe->access->work);
}

/* Start a driver, and set the requested size. */
static struct front_end *start(void **state, uint64_t requested)
{
	struct front_end *fe = *state;

	settle(fe);
	front_end_serve(fe, requested);
	front_end_config_changes(fe);
	return fe;
}

/* The driver sets up the queue again after a reset. */
static void restart_ring(struct front_end *fe)
{
	front_end_new_ring(fe);
	front_end_start_ring(fe);
}

/* --- 5.15.3, 5.15.5.2: features --- */

static void acpi_pxm_makes_node_id_valid(void **state)
{
	struct front_end *fe = *state;
	uint64_t pxm = 1ULL << VIRTIO_MEM_F_ACPI_PXM;

	fe->dev.node_id = 3;
	front_end_start(fe);
	assert_false(front_end_get(fe, VHOST_USER_GET_FEATURES) & pxm);
	assert_int_equal(config_of(fe).node_id, 0);
	fe->dev.has_node = true;
	assert_true(front_end_get(fe, VHOST_USER_GET_FEATURES) & pxm);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_FEATURES,
				       fe->features | pxm, -1),
			 0);
	assert_int_equal(config_of(fe).node_id, 3);
}

/* Start up to the features, with a driver that accepts all but these. */
static void start_without(struct front_end *fe, uint64_t features)
{
	front_end_start(fe);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, DRIVER, -1),
			 0);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_FEATURES,
				       fe->features & ~features, -1),
			 0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_STATUS, FEATURES_OK, -1), 0);
}

static void features_ok_is_refused_without_unplugged_inaccessible(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	start_without(fe, 1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), DRIVER);
	/* A driver that continues regardless is not served. */
	virtio_mem_set_requested(&fe->dev, GIB);
	restart_ring(fe);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_STATUS, DRIVER_OK, -1), 0);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS),
			 DRIVER_OK & ~VIRTIO_CONFIG_S_FEATURES_OK);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1,
		      sizeof(struct virtio_mem_req), sizeof(resp));
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	/* A driver that accepts the feature later is served. */
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_STATUS, DRIVER_OK, -1), 0);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), DRIVER_OK);
	front_end_kick(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
}

/* A front end without STATUS learns it only from the end of the connection. */
static void a_front_end_without_status_is_refused_likewise(void **state)
{
	struct front_end *fe = *state;
	uint64_t protocol =
		FE_PROTOCOL_FEATURES & ~(1ULL << VHOST_USER_PROTOCOL_F_STATUS);
	uint64_t refused = 1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	uint64_t own = 1ULL << VHOST_USER_F_PROTOCOL_FEATURES;

	front_end_connect(fe);
	front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0, &protocol, 8,
		       NULL, 0);
	/* Features of the front end alone, before there is a driver. */
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_FEATURES, own, -1),
			 0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	front_end_send(fe, VHOST_USER_SET_FEATURES, 0,
		       &(uint64_t){fe->features & ~refused}, 8, NULL, 0);
	assert_true(front_end_closed(fe));
}

static void persistent_suspend_is_offered_but_not_demanded(void **state)
{
	struct front_end *fe = *state;

	start_without(fe, 1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), FEATURES_OK);
	assert_true(front_end_get(fe, VHOST_USER_GET_FEATURES) &
		    1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND);
}

/* --- 5.15.4.2: configuration space --- */

static void geometry_is_unchanged(struct front_end *fe,
				  const struct virtio_mem_config *before)
{
	struct virtio_mem_config config = config_of(fe);

	assert_int_equal(config.block_size, before->block_size);
	assert_int_equal(config.node_id, before->node_id);
	assert_int_equal(config.addr, before->addr);
	assert_int_equal(config.region_size, before->region_size);
}

static void block_size_node_id_addr_and_region_size_do_not_change(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_config before;

	fe->dev.has_node = true;
	fe->dev.node_id = 1;
	front_end_connect(fe);
	front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
		       &(uint64_t){FE_PROTOCOL_FEATURES}, 8, NULL, 0);
	before = config_of(fe);
	assert_int_equal(before.block_size, BLOCK);
	assert_int_equal(before.node_id, 1);
	assert_int_equal(before.addr, GPA);
	assert_int_equal(before.region_size, REGION);
	front_end_close(fe);
	/* front_end_start() uses the features without a node. */
	fe->dev.has_node = false;
	before.node_id = 0;
	start(state, GIB);
	geometry_is_unchanged(fe, &before);
	assert_int_equal(front_end_plug(fe, GPA, 100), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_unplug(fe, GPA, 50), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, REGION);
	geometry_is_unchanged(fe, &before);
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	geometry_is_unchanged(fe, &before);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	geometry_is_unchanged(fe, &before);
	front_end_close(fe);
	front_end_connect(fe);
	front_end_negotiate(fe);
	geometry_is_unchanged(fe, &before);
}

static void the_driver_does_not_write_the_configuration(void **state)
{
	struct front_end *fe = start(state, GIB);
	struct virtio_mem_config before = config_of(fe), after;
	struct vhost_user_config message = {.size = 1};

	for (message.offset = 0; message.offset < sizeof(before);
	     message.offset++) {
		message.data[0] = 0xff;
		assert_int_not_equal(
			front_end_call(
				fe, VHOST_USER_SET_CONFIG, &message,
				offsetof(struct vhost_user_config, data) + 1,
				NULL, 0),
			0);
	}
	after = config_of(fe);
	assert_memory_equal(&before, &after, sizeof(after));
}

static void plugged_size_reflects_the_plugged_blocks(void **state)
{
	struct front_end *fe = start(state, GIB);
	uint64_t blocks = 0;

	assert_int_equal(plugged(fe), 0);
	for (uint16_t nr = 1; nr < 20; nr++) {
		assert_int_equal(front_end_plug(fe, GPA + blocks * BLOCK, nr),
				 VIRTIO_MEM_RESP_ACK);
		blocks += nr;
		assert_int_equal(plugged(fe), blocks * BLOCK);
	}
	for (uint16_t nr = 1; nr < 19; nr++) {
		blocks -= nr;
		assert_int_equal(front_end_unplug(fe, GPA + blocks * BLOCK, nr),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(plugged(fe), blocks * BLOCK);
	}
	/* Also if another process plugs. */
	blocks_set(&fe->bitmap.backing.plugged, 1000, 1);
	virtio_mem_backing_changed(&fe->dev);
	assert_int_equal(plugged(fe), (blocks + 1) * BLOCK);
}

/* Requested sizes for a device of each block size, in order. */
static void for_sizes(void (*check)(struct front_end *fe,
				    const struct virtio_mem_config *config))
{
	for (size_t i = 0; i < NR_BLOCK_SIZES; i++) {
		uint64_t block = block_sizes[i];
		uint64_t region = 64 * GIB + 3 * block;
		const uint64_t sizes[] = {
			0,	 block,	    3 * block, GIB,
			GIB / 2, 48 * GIB,  GIB,       region - block,
			block,	 64 * GIB,  0,	       region,
			0,	 7 * block,
		};
		struct front_end *fe = front_end_new(region, block, 0);
		struct virtio_mem_config config;

		front_end_start(fe);
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
			if (sizes[j] % block)
				continue;
			virtio_mem_set_requested(&fe->dev, sizes[j]);
			config = config_of(fe);
			assert_int_equal(config.requested_size, sizes[j]);
			check(fe, &config);
			if (sizes[j] && !config.plugged_size) {
				assert_int_equal(front_end_plug(fe, GPA, 1),
						 VIRTIO_MEM_RESP_ACK);
				config = config_of(fe);
				check(fe, &config);
			}
			if (j % 4 != 3)
				continue;
			assert_int_equal(front_end_unplug_all(fe),
					 VIRTIO_MEM_RESP_ACK);
			config = config_of(fe);
			check(fe, &config);
		}
		front_end_free(fe);
	}
}

static void is_requested_or_greater(struct front_end *fe,
				    const struct virtio_mem_config *config)
{
	(void)fe;
	assert_true(config->usable_region_size >= config->requested_size);
	assert_true(config->usable_region_size <= config->region_size);
}

static void usable_region_size_is_requested_size_or_greater(void **state)
{
	(void)state;
	for_sizes(is_requested_or_greater);
}

static void is_a_power_of_two(struct front_end *fe,
			      const struct virtio_mem_config *config)
{
	assert_true(config->block_size);
	assert_int_equal(config->block_size & (config->block_size - 1), 0);
	assert_int_equal(config->block_size, fe->bitmap.backing.block_size);
}

static void block_size_is_a_power_of_two(void **state)
{
	(void)state;
	for_sizes(is_a_power_of_two);
}

static void are_multiples(struct front_end *fe,
			  const struct virtio_mem_config *config)
{
	(void)fe;
	assert_int_equal(config->addr % config->block_size, 0);
	assert_int_equal(config->region_size % config->block_size, 0);
	assert_int_equal(config->usable_region_size % config->block_size, 0);
	assert_int_equal(config->plugged_size % config->block_size, 0);
	assert_int_equal(config->requested_size % config->block_size, 0);
}

static void addr_and_sizes_are_multiples_of_block_size(void **state)
{
	(void)state;
	for_sizes(are_multiples);
}

/* The same usable size as QEMU's, so that guests reach the same sizes. */
static void is_256_mib_more(struct front_end *fe,
			    const struct virtio_mem_config *config)
{
	uint64_t block = config->block_size;
	uint64_t usable = config->requested_size + 256 * MIB;

	if (config->plugged_size)
		return;
	usable = (usable + block - 1) / block * block;
	if (usable > config->region_size)
		usable = config->region_size;
	if (!config->requested_size)
		usable = 0;
	/* UNPLUG ALL, since the usable size may have been larger before. */
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(config_of(fe).usable_region_size, usable);
}

static void usable_region_is_requested_and_256_mib_or_nothing(void **state)
{
	(void)state;
	for_sizes(is_256_mib_more);
}

static void usable_region_size_shrinks_only_on_unplug_all(void **state)
{
	struct front_end *fe = start(state, 8 * GIB);
	uint64_t before = usable(fe);

	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(usable(fe), before);
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(usable(fe), before);
	assert_int_equal(front_end_unplug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(usable(fe), before);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	assert_int_equal(usable(fe), before);
	front_end_close(fe);
	front_end_start(fe);
	assert_int_equal(usable(fe), before);
	/* The usable region still applies to requests. */
	assert_int_equal(state_of(fe, GPA + before - BLOCK, 1),
			 VIRTIO_MEM_STATE_UNPLUGGED);
	/* It does not shrink on a failed UNPLUG ALL. */
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(usable(fe), before);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(usable(fe), GIB + 256 * MIB);
}

static void the_driver_is_notified_of_usable_and_requested_size(void **state)
{
	struct front_end *fe = start(state, GIB);

	/* Both sizes change; the requested size alone; both again. */
	virtio_mem_set_requested(&fe->dev, 2 * GIB);
	assert_int_equal(front_end_config_changes(fe), 1);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_config_changes(fe), 1);
	virtio_mem_set_requested(&fe->dev, REGION);
	assert_int_equal(front_end_config_changes(fe), 1);
	/* The usable size alone, by blocks that another process plugs. */
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	front_end_config_changes(fe);
	assert_int_equal(usable(fe), 0);
	blocks_set(&fe->bitmap.backing.plugged, 5000, 1);
	virtio_mem_backing_changed(&fe->dev);
	assert_int_equal(usable(fe), 5001 * BLOCK);
	assert_int_equal(front_end_config_changes(fe), 1);
	/* Changes without a front end are notified to the next one. */
	front_end_close(fe);
	virtio_mem_set_requested(&fe->dev, 3 * GIB);
	front_end_start(fe);
	assert_true(front_end_config_changes(fe) > 0);
}

static void the_driver_is_not_notified_by_unplug_all(void **state)
{
	struct front_end *fe = start(state, 8 * GIB);
	uint64_t before;

	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, GIB);
	before = usable(fe);
	front_end_config_changes(fe);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_true(usable(fe) < before);
	assert_int_equal(front_end_config_changes(fe), 0);
}

static void the_driver_is_not_notified_of_plugged_size(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_unplug(fe, GPA, 32), VIRTIO_MEM_RESP_ACK);
	blocks_set(&fe->bitmap.backing.plugged, 100, 1);
	virtio_mem_backing_changed(&fe->dev);
	assert_int_equal(plugged(fe), 33 * BLOCK);
	assert_int_equal(front_end_config_changes(fe), 0);
}

/* --- 5.15.5.2, 5.15.6.2: resets and suspend change nothing --- */

/* Every other one of the first blocks is plugged. */
#define NR_SPARSE 16

static struct front_end *start_sparse(void **state)
{
	struct front_end *fe = start(state, GIB);

	for (unsigned int i = 0; i < NR_SPARSE; i += 2)
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
	fe->bitmap.nr_log = 0;
	return fe;
}

/* The blocks and their memory are unchanged, and the backing was not called. */
static void expect_sparse(struct front_end *fe)
{
	assert_int_equal(fe->bitmap.nr_log, 0);
	assert_int_equal(plugged(fe), NR_SPARSE / 2 * BLOCK);
	assert_int_equal(fe->bitmap.backing.plugged.set, NR_SPARSE / 2);
	for (unsigned int i = 0; i < NR_SPARSE; i++) {
		assert_int_equal(
			blocks_count(&fe->bitmap.backing.plugged, i, 1),
			i % 2 ? 0 : 1);
		assert_int_equal(fe->bitmap.dirty[i], i % 2 ? 0 : 1);
	}
}

static void expect_sparse_states(struct front_end *fe)
{
	expect_sparse(fe);
	for (unsigned int i = 0; i < NR_SPARSE; i++)
		assert_int_equal(state_of(fe, GPA + i * BLOCK, 1),
				 i % 2 ? VIRTIO_MEM_STATE_UNPLUGGED
				       : VIRTIO_MEM_STATE_PLUGGED);
}

static void device_reset_changes_neither_blocks_nor_memory(void **state)
{
	struct front_end *fe = start_sparse(state);

	/* By status, as a driver does. */
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	expect_sparse(fe);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	restart_ring(fe);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_STATUS, DRIVER_OK, -1), 0);
	expect_sparse_states(fe);
	/* Reset by the front end, in all ways. */
	front_end_send(fe, VHOST_USER_RESET_OWNER, 0, NULL, 0, NULL, 0);
	expect_sparse(fe);
	assert_int_equal(
		front_end_call(fe, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0),
		0);
	expect_sparse(fe);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	restart_ring(fe);
	expect_sparse_states(fe);
	front_end_close(fe);
	front_end_start(fe);
	expect_sparse_states(fe);
}

/*
 * Linux freezes its driver, which resets the device. The VMM may stop the queue
 * or disconnect. On thaw the driver sets up the queue, with the same blocks as
 * before.
 */
static void block_state_does_not_change_over_suspend(void **state)
{
	struct front_end *fe = start_sparse(state);
	struct vhost_user_vring_state vring = {};
	union vhost_user_payload reply;

	front_end_send(fe, VHOST_USER_GET_VRING_BASE, 0, &vring, sizeof(vring),
		       NULL, 0);
	front_end_receive(fe, VHOST_USER_GET_VRING_BASE, &reply);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	expect_sparse(fe);
	/*
	 * Suspended. The driver sees a size requested meanwhile when it
	 * resumes.
	 */
	virtio_mem_set_requested(&fe->dev, 4 * GIB);
	settle(fe);
	expect_sparse(fe);
	front_end_close(fe);
	expect_sparse_states((front_end_start(fe), fe));
	assert_int_equal(config_of(fe).requested_size, 4 * GIB);
	/* The device works as before. */
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_plug(fe, GPA + BLOCK, 1),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_unplug(fe, GPA, 3), VIRTIO_MEM_RESP_ACK);
}

/* --- 5.15.6.2: memory --- */

static void memory_of_plugged_blocks_is_not_modified(void **state)
{
	struct front_end *fe = start_sparse(state);

	for (unsigned int i = 1; i < NR_SPARSE; i += 2) {
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_unplug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
	}
	virtio_mem_set_requested(&fe->dev, 0);
	virtio_mem_set_requested(&fe->dev, REGION);
	/* Requests that are refused. */
	assert_int_equal(front_end_plug(fe, GPA, 3), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_unplug(fe, GPA, 3), VIRTIO_MEM_RESP_ERROR);
	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(front_end_unplug(fe, GPA, 1), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_BUSY);
	fe->bitmap.fail = 0;
	settle(fe);
	fe->bitmap.nr_log = 0;
	expect_sparse(fe);
}

/* --- 5.15.6.2: system reset --- */

static void system_reset_unplugs_all_blocks(void **state)
{
	struct front_end *fe = start_sparse(state);

	virtio_mem_set_requested(&fe->dev, REGION / 2);
	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_config_changes(fe);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), 0);
	assert_int_equal(plugged(fe), 0);
	assert_int_equal(state_of(fe, GPA, NR_SPARSE),
			 VIRTIO_MEM_STATE_UNPLUGGED);
	/*
	 * One UNPLUG ALL; the memory is discarded, and the usable region
	 * shrinks.
	 */
	assert_int_equal(fe->bitmap.log[0].call, CALL_UNPLUG_ALL);
	settle(fe);
	for (unsigned int i = 0; i < NR_SPARSE; i++)
		assert_int_equal(fe->bitmap.dirty[i], 0);
	assert_int_equal(usable(fe), GIB + 256 * MIB);
	assert_int_equal(config_of(fe).requested_size, GIB);
	assert_int_equal(front_end_config_changes(fe), 1);
	/* The driver starts after the reset. */
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	/* Also with nothing plugged. */
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), 0);
	assert_int_equal(plugged(fe), 0);
}

static void system_reset_that_the_host_cannot_do_changes_nothing(void **state)
{
	struct front_end *fe = start_sparse(state);
	uint64_t before = usable(fe);

	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(virtio_mem_system_reset(&fe->dev), -EBUSY);
	assert_int_equal(plugged(fe), NR_SPARSE / 2 * BLOCK);
	assert_int_equal(usable(fe), before);
	assert_string_equal(fe->dev.last_failure.text, "the test wants it");
	assert_int_equal(front_end_config_changes(fe), 0);
	/* The device continues, and the next reset may succeed. */
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_unplug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), 0);
	assert_int_equal(plugged(fe), 0);
}

struct reset_end {
	unsigned int nr;
	int result;
	struct front_end *fe;
};

static struct reset_end reset_end;

static void on_reset_end(void *arg, int result)
{
	reset_end.nr++;
	reset_end.result = result;
	reset_end.fe = arg;
	vhost_user_go_on(&reset_end.fe->vu);
}

/* A request in progress ends first; later requests wait for the reset. */
static void system_reset_and_requests_wait_for_each_other(void **state)
{
	struct front_end *fe = start_sparse(state);
	struct virtio_mem_resp resp;

	reset_end = (struct reset_end){};
	fe->dev.system_reset = on_reset_end;
	fe->bitmap.later = true;
	for (unsigned int i = 1; i < 4; i += 2)
		front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + i * BLOCK, 1,
			      sizeof(struct virtio_mem_req), sizeof(resp));
	front_end_kick(fe);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), -EINPROGRESS);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), -EALREADY);
	assert_false(front_end_used(fe, &resp));
	/* The first plug ends; then the reset begins. */
	assert_true(bitmap_backing_finish(&fe->bitmap));
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.waiting.call, CALL_UNPLUG_ALL);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), -EALREADY);
	assert_int_equal(reset_end.nr, 0);
	assert_int_equal(plugged(fe), (NR_SPARSE / 2 + 1) * BLOCK);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(reset_end.nr, 1);
	assert_int_equal(reset_end.result, 0);
	assert_int_equal(plugged(fe), 0);
	/* The second one. */
	front_end_run(fe);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), BLOCK);
	/* The reset does not count as a request of the guest. */
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_UNPLUG_ALL][VIRTIO_MEM_ACK],
			 0);
	/* A reset that waits for a request and fails is reported too. */
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1,
		      sizeof(struct virtio_mem_req), sizeof(resp));
	front_end_kick(fe);
	assert_int_equal(virtio_mem_system_reset(&fe->dev), -EINPROGRESS);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	fe->bitmap.fail = -ENOMEM;
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(reset_end.nr, 2);
	assert_int_equal(reset_end.result, -EBUSY);
	assert_int_equal(plugged(fe), 2 * BLOCK);
}

/* --- 5.15.6.3 to 5.15.6.6: requests --- */

/*
 * Padding has arbitrary contents, data follows the request, and the response
 * buffer is larger than needed.
 */
static struct virtio_mem_resp send_noisy(struct front_end *fe, uint16_t type,
					 uint64_t gpa, uint16_t nr_blocks)
{
	uint8_t bytes[EXTRA_SIZE];
	struct virtio_mem_req req;

	memset(bytes, 0xa5, sizeof(bytes));
	memcpy(&req, bytes, sizeof(req));
	req.type = htole16(type);
	if (type != VIRTIO_MEM_REQ_UNPLUG_ALL) {
		req.u.plug.addr = htole64(gpa);
		req.u.plug.nb_blocks = htole16(nr_blocks);
	}
	memcpy(bytes, &req, sizeof(req));
	return send_bytes(fe, bytes, sizeof(bytes), 16);
}

static void plug_ignores_padding_and_extra_data(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(
		le16toh(send_noisy(fe, VIRTIO_MEM_REQ_PLUG, GPA, 3).type),
		VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 3 * BLOCK);
	assert_int_equal(state_of(fe, GPA, 3), VIRTIO_MEM_STATE_PLUGGED);
}

static void unplug_ignores_padding_and_extra_data(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 5), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(
		le16toh(send_noisy(fe, VIRTIO_MEM_REQ_UNPLUG, GPA, 3).type),
		VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 2 * BLOCK);
	assert_int_equal(state_of(fe, GPA, 3), VIRTIO_MEM_STATE_UNPLUGGED);
}

static void unplug_all_ignores_all_but_the_type(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 5), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(
		le16toh(send_noisy(fe, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0).type),
		VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 0);
}

static void state_ignores_padding_and_extra_data(void **state)
{
	struct front_end *fe = start(state, GIB);
	struct virtio_mem_resp resp;

	assert_int_equal(front_end_plug(fe, GPA, 5), VIRTIO_MEM_RESP_ACK);
	resp = send_noisy(fe, VIRTIO_MEM_REQ_STATE, GPA + 4 * BLOCK, 2);
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(le16toh(resp.u.state.state), VIRTIO_MEM_STATE_MIXED);
}

/**
 * struct ranged - a request with a range
 * @type: type of the request
 * @start_plugged: the first GiB is plugged, so that only the range can be wrong
 */
struct ranged {
	uint16_t type;
	bool start_plugged;
};

static const struct ranged a_plug = {VIRTIO_MEM_REQ_PLUG, false};
static const struct ranged an_unplug = {VIRTIO_MEM_REQ_UNPLUG, true};
static const struct ranged a_state = {VIRTIO_MEM_REQ_STATE, false};

static struct front_end *start_ranged(void **state,
				      const struct ranged *request)
{
	struct front_end *fe = start(state, 4 * GIB);

	if (request->start_plugged)
		assert_int_equal(front_end_plug(fe, GPA, GIB / BLOCK),
				 VIRTIO_MEM_RESP_ACK);
	fe->bitmap.nr_log = 0;
	return fe;
}

/* The request is an error and changes nothing. */
static void expect_error(struct front_end *fe, const struct ranged *request,
			 uint64_t gpa, uint16_t nr_blocks)
{
	uint64_t before = plugged(fe);

	assert_int_equal(front_end_request(fe, request->type, gpa, nr_blocks),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(fe), before);
	assert_int_equal(fe->bitmap.nr_log, 0);
}

static void misaligned(void **state, const struct ranged *request)
{
	static const uint64_t offsets[] = {
		1, 8, 4096, BLOCK / 2, BLOCK - 4096, BLOCK - 1, GIB + 1,
	};
	struct front_end *fe = start_ranged(state, request);

	for (size_t i = 0; i < sizeof(offsets) / sizeof(offsets[0]); i++)
		expect_error(fe, request, GPA + offsets[i], 1);
}

static void of_zero_blocks(void **state, const struct ranged *request)
{
	struct front_end *fe = start_ranged(state, request);

	expect_error(fe, request, GPA, 0);
	expect_error(fe, request, GPA + GIB / 2, 0);
	expect_error(fe, request, GPA + usable(fe), 0);
	expect_error(fe, request, 0, 0);
}

static void outside_usable_region(void **state, const struct ranged *request)
{
	struct front_end *fe = start_ranged(state, request);
	uint64_t size = usable(fe);

	assert_true(size < REGION);
	/*
	 * Behind the usable region, across its end, and across the region's
	 * end.
	 */
	expect_error(fe, request, GPA + size, 1);
	expect_error(fe, request, GPA + size - BLOCK, 2);
	expect_error(fe, request, GPA, (uint16_t)(size / BLOCK + 1));
	expect_error(fe, request, GPA + REGION - BLOCK, 1);
	expect_error(fe, request, GPA + REGION - BLOCK, 2);
	expect_error(fe, request, GPA + REGION, 1);
	expect_error(fe, request, GPA, UINT16_MAX);
	/* Before the region. */
	expect_error(fe, request, GPA - BLOCK, 1);
	expect_error(fe, request, GPA - BLOCK, 2);
	expect_error(fe, request, 0, 1);
	expect_error(fe, request, 0, UINT16_MAX);
	/* Ranges whose sums overflow. */
	expect_error(fe, request, UINT64_MAX - BLOCK + 1, 1);
	expect_error(fe, request, UINT64_MAX - BLOCK + 1, UINT16_MAX);
	expect_error(fe, request, -BLOCK, (uint16_t)(GPA / BLOCK + 2));
	expect_error(fe, request, 1ULL << 63, 1);
	expect_error(fe, request, GPA + (1ULL << 63), 1);
}

/* With the maximum number of the largest blocks. */
static void of_65535_blocks(const struct ranged *request)
{
	uint64_t block = GIB, region = 65536 * block;
	struct front_end *fe = front_end_new(region, block, 0);

	settle(fe);
	front_end_serve(fe, region);
	if (request->start_plugged)
		assert_int_equal(front_end_plug(fe, GPA + block, UINT16_MAX),
				 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(
		front_end_request(fe, request->type, GPA + block, UINT16_MAX),
		VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), request->type == VIRTIO_MEM_REQ_PLUG
					      ? region - block
					      : 0);
	assert_int_equal(front_end_request(fe, request->type, GPA + 2 * block,
					   UINT16_MAX),
			 VIRTIO_MEM_RESP_ERROR);
	front_end_free(fe);
}

static void plug_of_a_misaligned_address_is_an_error(void **state)
{
	misaligned(state, &a_plug);
}

static void plug_of_zero_blocks_is_an_error(void **state)
{
	of_zero_blocks(state, &a_plug);
}

static void plug_outside_the_usable_region_is_an_error(void **state)
{
	outside_usable_region(state, &a_plug);
}

static void plug_of_a_plugged_block_is_an_error(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA + 4 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ACK);
	for (unsigned int first = 0; first <= 4; first++)
		assert_int_equal(front_end_plug(fe, GPA + first * BLOCK, 5),
				 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_plug(fe, GPA + 4 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(fe), BLOCK);
	/* Neighbouring blocks are not affected. */
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, GPA + 5 * BLOCK, 4),
			 VIRTIO_MEM_RESP_ACK);
}

static void plug_that_the_host_cannot_do_is_busy(void **state)
{
	struct front_end *fe = start(state, GIB);

	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(fe), 0);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
}

static void plug_is_acknowledged_and_in_plugged_size(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA + 7 * BLOCK, 9),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 9 * BLOCK);
	assert_int_equal(state_of(fe, GPA + 7 * BLOCK, 9),
			 VIRTIO_MEM_STATE_PLUGGED);
	/* Up to the last block of the usable region. */
	assert_int_equal(front_end_plug(fe, GPA + usable(fe) - BLOCK, 1),
			 VIRTIO_MEM_RESP_ACK);
	of_65535_blocks(&a_plug);
}

/*
 * 5.15.6 only says that such requests are rejected. The answer is NACK, and
 * only for these.
 */
static void plug_above_requested_size_is_a_nack(void **state)
{
	struct front_end *fe = start(state, 10 * BLOCK);

	assert_int_equal(front_end_plug(fe, GPA, 11), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(front_end_plug(fe, GPA, 10), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, GPA + 10 * BLOCK, 1),
			 VIRTIO_MEM_RESP_NACK);
	virtio_mem_set_requested(&fe->dev, 5 * BLOCK);
	assert_int_equal(front_end_unplug(fe, GPA, 5), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_NACK);
	assert_int_equal(plugged(fe), 5 * BLOCK);
	/* An invalid request is still an error. */
	assert_int_equal(front_end_plug(fe, GPA + 5 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_plug(fe, GPA, 0), VIRTIO_MEM_RESP_ERROR);
}

static void unplug_of_a_misaligned_address_is_an_error(void **state)
{
	misaligned(state, &an_unplug);
}

static void unplug_of_zero_blocks_is_an_error(void **state)
{
	of_zero_blocks(state, &an_unplug);
}

static void unplug_outside_the_usable_region_is_an_error(void **state)
{
	outside_usable_region(state, &an_unplug);
}

static void unplug_of_an_unplugged_block_is_an_error(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 10), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_unplug(fe, GPA + 4 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ACK);
	for (unsigned int first = 0; first <= 4; first++)
		assert_int_equal(front_end_unplug(fe, GPA + first * BLOCK, 5),
				 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_unplug(fe, GPA + 4 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(fe), 9 * BLOCK);
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_unplug(fe, GPA + 5 * BLOCK, 5),
			 VIRTIO_MEM_RESP_ACK);
}

static void unplug_that_the_host_cannot_do_is_busy(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail = -EINTR;
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(fe), 4 * BLOCK);
	assert_int_equal(state_of(fe, GPA, 4), VIRTIO_MEM_STATE_PLUGGED);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
}

static void unplug_is_acknowledged_and_in_plugged_size(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 20), VIRTIO_MEM_RESP_ACK);
	/* Above and below the requested size. */
	assert_int_equal(front_end_unplug(fe, GPA + BLOCK, 3),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 17 * BLOCK);
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(front_end_unplug(fe, GPA + 10 * BLOCK, 10),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 7 * BLOCK);
	assert_int_equal(state_of(fe, GPA + 10 * BLOCK, 10),
			 VIRTIO_MEM_STATE_UNPLUGGED);
	of_65535_blocks(&an_unplug);
}

/* A guest that cannot free all of it: requests are not affected. */
static void shrinking_in_parts_is_no_error(void **state)
{
	struct front_end *fe = start(state, 20 * BLOCK);

	assert_int_equal(front_end_plug(fe, GPA, 20), VIRTIO_MEM_RESP_ACK);
	virtio_mem_set_requested(&fe->dev, 4 * BLOCK);
	assert_int_equal(front_end_config_changes(fe), 1);
	assert_int_equal(front_end_unplug(fe, GPA + 15 * BLOCK, 5),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 15 * BLOCK);
	assert_int_equal(config_of(fe).requested_size, 4 * BLOCK);
	/* The guest retries later with single blocks. */
	for (unsigned int i = 1; i < 15; i += 2)
		assert_int_equal(front_end_unplug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 8 * BLOCK);
	assert_int_equal(front_end_plug(fe, GPA + BLOCK, 1),
			 VIRTIO_MEM_RESP_NACK);
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_UNPLUG][VIRTIO_MEM_ACK], 8);
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_UNPLUG][VIRTIO_MEM_ERROR],
			 0);
}

static void unplug_all_that_the_host_cannot_do_is_busy(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA, 20), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(plugged(fe), 20 * BLOCK);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
}

static void unplug_all_is_acknowledged_with_plugged_size_0(void **state)
{
	struct front_end *fe = start_sparse(state);

	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 0);
	assert_int_equal(state_of(fe, GPA, NR_SPARSE),
			 VIRTIO_MEM_STATE_UNPLUGGED);
	/* Also with nothing plugged. */
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(fe), 0);
}

static void state_of_a_misaligned_address_is_an_error(void **state)
{
	misaligned(state, &a_state);
}

static void state_of_zero_blocks_is_an_error(void **state)
{
	of_zero_blocks(state, &a_state);
}

static void state_outside_the_usable_region_is_an_error(void **state)
{
	outside_usable_region(state, &a_state);
}

/* STATE is always acknowledged, since a driver does not retry it. */
static void state_is_acknowledged(void **state)
{
	struct front_end *fe = start(state, GIB);

	fe->bitmap.fail = -ENOMEM;
	fe->bitmap.fail_verify = -ENOMEM;
	assert_int_equal(state_of(fe, GPA, 1), VIRTIO_MEM_STATE_UNPLUGGED);
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(state_of(fe, GPA, 1), VIRTIO_MEM_STATE_UNPLUGGED);
	of_65535_blocks(&a_state);
}

static void state_is_plugged_if_all_blocks_are(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA + 64 * BLOCK, 64),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(state_of(fe, GPA + 64 * BLOCK, 64),
			 VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(state_of(fe, GPA + 64 * BLOCK, 1),
			 VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(state_of(fe, GPA + 127 * BLOCK, 1),
			 VIRTIO_MEM_STATE_PLUGGED);
}

static void state_is_unplugged_if_all_blocks_are(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA + 64 * BLOCK, 64),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(state_of(fe, GPA, 64), VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(state_of(fe, GPA + 128 * BLOCK, 64),
			 VIRTIO_MEM_STATE_UNPLUGGED);
	assert_int_equal(state_of(fe, GPA + 63 * BLOCK, 1),
			 VIRTIO_MEM_STATE_UNPLUGGED);
}

static void state_is_mixed_otherwise(void **state)
{
	struct front_end *fe = start(state, GIB);

	assert_int_equal(front_end_plug(fe, GPA + 64 * BLOCK, 64),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(state_of(fe, GPA + 63 * BLOCK, 2),
			 VIRTIO_MEM_STATE_MIXED);
	assert_int_equal(state_of(fe, GPA + 127 * BLOCK, 2),
			 VIRTIO_MEM_STATE_MIXED);
	assert_int_equal(state_of(fe, GPA, 256), VIRTIO_MEM_STATE_MIXED);
}

static void a_request_of_unknown_type_is_an_error(void **state)
{
	struct front_end *fe = start(state, GIB);
	static const uint16_t types[] = {4, 5, 0x100, 0x7fff, 0x8000, 0xffff};

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		assert_int_equal(front_end_request(fe, types[i], GPA, 1),
				 VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(plugged(fe), 0);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
}

static const struct format_case cases[] = {
	FORMAT_CASE(acpi_pxm_makes_node_id_valid),
	FORMAT_CASE(features_ok_is_refused_without_unplugged_inaccessible),
	FORMAT_CASE(a_front_end_without_status_is_refused_likewise),
	FORMAT_CASE(persistent_suspend_is_offered_but_not_demanded),
	FORMAT_CASE(block_size_node_id_addr_and_region_size_do_not_change),
	FORMAT_CASE(the_driver_does_not_write_the_configuration),
	FORMAT_CASE(plugged_size_reflects_the_plugged_blocks),
	PLAIN_CASE(usable_region_size_is_requested_size_or_greater),
	PLAIN_CASE(block_size_is_a_power_of_two),
	PLAIN_CASE(addr_and_sizes_are_multiples_of_block_size),
	PLAIN_CASE(usable_region_is_requested_and_256_mib_or_nothing),
	FORMAT_CASE(usable_region_size_shrinks_only_on_unplug_all),
	FORMAT_CASE(the_driver_is_notified_of_usable_and_requested_size),
	FORMAT_CASE(the_driver_is_not_notified_by_unplug_all),
	FORMAT_CASE(the_driver_is_not_notified_of_plugged_size),
	FORMAT_CASE(device_reset_changes_neither_blocks_nor_memory),
	FORMAT_CASE(block_state_does_not_change_over_suspend),
	FORMAT_CASE(memory_of_plugged_blocks_is_not_modified),
	FORMAT_CASE(system_reset_unplugs_all_blocks),
	FORMAT_CASE(system_reset_that_the_host_cannot_do_changes_nothing),
	FORMAT_CASE(system_reset_and_requests_wait_for_each_other),
	FORMAT_CASE(plug_ignores_padding_and_extra_data),
	FORMAT_CASE(unplug_ignores_padding_and_extra_data),
	FORMAT_CASE(unplug_all_ignores_all_but_the_type),
	FORMAT_CASE(state_ignores_padding_and_extra_data),
	FORMAT_CASE(plug_of_a_misaligned_address_is_an_error),
	FORMAT_CASE(plug_of_zero_blocks_is_an_error),
	FORMAT_CASE(plug_outside_the_usable_region_is_an_error),
	FORMAT_CASE(plug_of_a_plugged_block_is_an_error),
	FORMAT_CASE(plug_that_the_host_cannot_do_is_busy),
	FORMAT_CASE(plug_is_acknowledged_and_in_plugged_size),
	FORMAT_CASE(plug_above_requested_size_is_a_nack),
	FORMAT_CASE(unplug_of_a_misaligned_address_is_an_error),
	FORMAT_CASE(unplug_of_zero_blocks_is_an_error),
	FORMAT_CASE(unplug_outside_the_usable_region_is_an_error),
	FORMAT_CASE(unplug_of_an_unplugged_block_is_an_error),
	FORMAT_CASE(unplug_that_the_host_cannot_do_is_busy),
	FORMAT_CASE(unplug_is_acknowledged_and_in_plugged_size),
	FORMAT_CASE(shrinking_in_parts_is_no_error),
	FORMAT_CASE(unplug_all_that_the_host_cannot_do_is_busy),
	FORMAT_CASE(unplug_all_is_acknowledged_with_plugged_size_0),
	FORMAT_CASE(state_of_a_misaligned_address_is_an_error),
	FORMAT_CASE(state_of_zero_blocks_is_an_error),
	FORMAT_CASE(state_outside_the_usable_region_is_an_error),
	FORMAT_CASE(state_is_acknowledged),
	FORMAT_CASE(state_is_plugged_if_all_blocks_are),
	FORMAT_CASE(state_is_unplugged_if_all_blocks_are),
	FORMAT_CASE(state_is_mixed_otherwise),
	FORMAT_CASE(a_request_of_unknown_type_is_an_error),
};

int main(void)
{
	log_init(LOG_LEVEL_ERR);
	return formats_run(cases, sizeof(cases) / sizeof(cases[0]),
			   front_end_set_up, front_end_tear_down);
}
