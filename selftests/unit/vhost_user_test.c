// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The vhost-user back end, used over its socket by a front end that behaves
 * well at first, and then violates every rule.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fd_message.h"
#include "front_end.h"
#include "unit.h"

#define GPA   FE_REGION_GPA
#define BLOCK FE_BLOCK

/* --- What works --- */

static void requests_are_answered(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_count(fe->call), 1);
	assert_int_equal(fe->bitmap.backing.plugged.set, 64);
	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(front_end_unplug(fe, GPA, 32), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.fail = -ENOMEM;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_BUSY);
	fe->bitmap.fail = 0;
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
}

static void more_requests_than_one_turn_takes(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < FE_QUEUE_SIZE / 2; i++)
		front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + i * BLOCK, 1,
			      sizeof(struct virtio_mem_req), sizeof(resp));
	/* One kick for all requests. */
	front_end_kick(fe);
	for (unsigned int i = 0; i < FE_QUEUE_SIZE / 2; i++) {
		assert_true(front_end_used(fe, &resp));
		assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	}
	assert_true(front_end_count(fe->call) > 0);
}

static void config_space_is_read(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_config config = {.offset = 0, .size = 56};
	union vhost_user_payload reply;
	struct virtio_mem_config space;

	front_end_connect(fe);
	front_end_negotiate(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	virtio_mem_config(&fe->dev, &space);
	front_end_send(fe, VHOST_USER_GET_CONFIG, 0, &config, 12 + 56, NULL, 0);
	assert_int_equal(front_end_receive(fe, VHOST_USER_GET_CONFIG, &reply),
			 12 + 56);
	assert_memory_equal(reply.config.data, &space, 56);
	/* A part of the space, with a request too short to hold it. */
	config.offset = 48;
	config.size = 8;
	front_end_send(fe, VHOST_USER_GET_CONFIG, 0, &config, 12, NULL, 0);
	assert_int_equal(front_end_receive(fe, VHOST_USER_GET_CONFIG, &reply),
			 12 + 8);
	assert_memory_equal(reply.config.data, &space.requested_size, 8);
}

/* Reads beyond the end return zeroes. */
static void config_space_reads_zero_behind_its_end(void **state)
{
	static const struct {
		uint32_t offset;
		uint32_t size;
	} parts[] = {
		{0, 57},
		{56, 1},
		{55, 2},
		{0, 0},
		{UINT32_MAX, 1},
		{0, 256},
		{UINT32_MAX - 7, 8},
		{57, 56},
		{48, 16},
		{0, 257},
		{0, 4096},
	};
	struct front_end *fe = *state;
	union vhost_user_payload reply;
	uint8_t space[4096 + 64] = {};
	struct vhost_user_config config = {};

	front_end_connect(fe);
	front_end_negotiate(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	virtio_mem_config(&fe->dev, (struct virtio_mem_config *)space);
	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		uint32_t size = parts[i].size;

		config.offset = parts[i].offset;
		config.size = size;
		memset(&reply, 0xee, sizeof(reply));
		front_end_send(fe, VHOST_USER_GET_CONFIG, 0, &config, 12, NULL,
			       0);
		assert_int_equal(
			front_end_receive(fe, VHOST_USER_GET_CONFIG, &reply),
			12 + size);
		assert_int_equal(reply.config.offset, config.offset);
		assert_int_equal(reply.config.size, size);
		assert_memory_equal(
			reply.config.data,
			space + (config.offset < 56 ? config.offset : 56),
			size);
	}
	assert_false(front_end_closed(fe));
	config = (struct vhost_user_config){.size = 4097};
	front_end_send(fe, VHOST_USER_GET_CONFIG, 0, &config, 12, NULL, 0);
	assert_true(front_end_closed(fe));
}

static void config_space_is_not_written(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_config config = {.offset = 48, .size = 8};

	front_end_connect(fe);
	front_end_negotiate(fe);
	assert_int_not_equal(front_end_call(fe, VHOST_USER_SET_CONFIG, &config,
					    12 + 8, NULL, 0),
			     0);
	assert_int_equal(fe->dev.requested_size, 0);
	assert_false(front_end_closed(fe));
}

static void config_changes_are_sent(void **state)
{
	struct front_end *fe = *state;

	front_end_start(fe);
	/* The configuration may have changed while there was no channel. */
	assert_int_equal(front_end_config_changes(fe), 1);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_config_changes(fe), 1);
	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_config_changes(fe), 0);
	virtio_mem_set_requested(&fe->dev, 0);
	assert_int_equal(front_end_config_changes(fe), 1);
}

/*
 * Nothing is sent while the queue is stopped. Suppressed changes are sent once
 * afterwards.
 */
static void a_suspended_device_sends_nothing(void **state)
{
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	front_end_share_memory(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_run(fe);
	assert_int_equal(front_end_config_changes(fe), 0);
	front_end_start_ring(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
	front_end_stop_ring(fe);
	virtio_mem_set_requested(&fe->dev, 0);
	virtio_mem_set_requested(&fe->dev, 2 * GIB);
	front_end_run(fe);
	assert_int_equal(front_end_config_changes(fe), 0);
	front_end_start_ring(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
	/* Nor a pending change that did not fit into the channel before. */
	while (!fe->vu.config_pending)
		virtio_mem_set_requested(&fe->dev,
					 fe->dev.requested_size ? 0 : GIB);
	front_end_stop_ring(fe);
	assert_true(front_end_config_changes(fe) > 0);
	front_end_run(fe);
	assert_int_equal(front_end_config_changes(fe), 0);
	front_end_start_ring(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
}

/*
 * No reply is requested, whatever was negotiated: the back end would not wait
 * for it.
 */
static void config_changes_want_no_reply(void **state)
{
	static const uint64_t protocols[] = {
		FE_PROTOCOL_FEATURES,
		FE_PROTOCOL_FEATURES &
			~(1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK),
	};
	struct front_end *fe = *state;
	struct vhost_user_header header[2];

	front_end_start(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
	for (size_t i = 0; i < 2; i++) {
		front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
			       &protocols[i], sizeof(protocols[i]), NULL, 0);
		virtio_mem_set_requested(&fe->dev, (i + 1) * GIB);
		assert_int_equal(
			recv(fe->channel, header, sizeof(header), MSG_DONTWAIT),
			sizeof(header[0]));
		assert_int_equal(header[0].request,
				 VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
		assert_int_equal(header[0].flags, VHOST_USER_FLAGS_VERSION);
		assert_int_equal(header[0].size, 0);
	}
}

static void a_full_channel_gets_the_last_change(void **state)
{
	struct front_end *fe = *state;
	uint64_t changes = 0;

	front_end_start(fe);
	/* Fill the socket's buffer. */
	while (!fe->vu.config_pending && changes < 1000000)
		virtio_mem_set_requested(&fe->dev, ++changes % 2 * GIB);
	assert_true(fe->vu.config_pending);
	virtio_mem_set_requested(&fe->dev, 2 * GIB);
	assert_true(front_end_config_changes(fe) > 0);
	front_end_run(fe);
	assert_int_equal(front_end_config_changes(fe), 1);
	assert_false(fe->vu.config_pending);
}

static void a_closed_channel_does_not_end_the_connection(void **state)
{
	struct front_end *fe = *state;

	front_end_start(fe);
	close(fe->channel);
	fe->channel = -1;
	front_end_run(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_false(front_end_closed(fe));
}

static void memory_by_table_works_too(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_mem_table table = {
		.nr = 2,
		.regions = {{.gpa = FE_GPA, .size = FE_MEMORY, .uva = FE_UVA},
			    {.gpa = 1ULL << 40,
			     .size = 4096,
			     .uva = 1ULL << 40,
			     .mmap_offset = 4096}},
	};
	int fds[2] = {fe->memory_fd, fe->memory_fd};

	front_end_connect(fe);
	front_end_negotiate(fe);
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
					8 + 2 * 32, fds, 2),
			 0);
	front_end_start_ring(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	/* Another table while the ring runs. */
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
					8 + 2 * 32, fds, 2),
			 0);
	assert_int_equal(front_end_unplug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
}

static void numbers_of_queues_and_regions(void **state)
{
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_QUEUE_NUM), 1);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_MAX_MEM_SLOTS),
			 GUEST_MEMORY_MAX_REGIONS);
}

static void node_is_offered_when_there_is_one(void **state)
{
	struct front_end *fe = *state;

	fe->dev.has_node = true;
	front_end_connect(fe);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_FEATURES),
			 FE_OFFERED | 1U << VIRTIO_MEM_F_ACPI_PXM);
}

/* --- Shared memory that is unplugged --- */

#define REGION_UVA (FE_UVA + GIB)

/* The front end shares the first blocks of the region as well. */
static int share_region(struct front_end *fe, unsigned int nr_blocks)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = GPA,
			   .size = nr_blocks * BLOCK,
			   .uva = REGION_UVA},
	};
	int fd = memfd_create("region", MFD_CLOEXEC);

	assert_int_equal(ftruncate(fd, (off_t)reg.region.size), 0);
	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fd, 1),
			 0);
	return fd;
}

static blkcnt_t used_by(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_blocks;
}

static void buffers_in_unplugged_blocks_break_the_ring(void **state)
{
	struct front_end *fe = *state;
	struct vring_desc *desc = (struct vring_desc *)(fe->memory + FE_DESC);
	int fd;

	front_end_start(fe);
	fd = share_region(fe, 2);
	virtio_mem_set_requested(&fe->dev, GIB);
	/* The response crosses the end of the plugged blocks. */
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 1, 24, 10);
	desc[3].addr = htole64(GPA + BLOCK - 5);
	front_end_kick(fe);
	assert_true(fe->vu.vring.broken);
	assert_int_equal(used_by(fd), 0);
	/*
	 * The request is in an unplugged block; even reading would allocate
	 * memory.
	 */
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_true(fe->vu.vring.broken);
	desc[3].addr = htole64(GPA + BLOCK - 10);
	desc[2].addr = htole64(GPA + BLOCK);
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_true(fe->vu.vring.broken);
	assert_int_equal(used_by(fd), 0);
	/* Both are in the plugged block. */
	desc[2].addr = htole64(GPA);
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_false(fe->vu.vring.broken);
	assert_int_equal(
		le16toh(((struct vring_used *)(fe->memory + FE_USED))->idx), 2);
	assert_true(used_by(fd) > 0);
	close(fd);
}

static void a_ring_in_an_unplugged_block_is_not_touched(void **state)
{
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = REGION_UVA,
	};
	struct front_end *fe = *state;
	int fd;

	front_end_start(fe);
	fd = share_region(fe, 1);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	/* Move the used ring into the block. */
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr,
					sizeof(addr), NULL, 0),
			 0);
	/* The driver unplugs its own ring: the answer has no place. */
	front_end_put(fe, VIRTIO_MEM_REQ_UNPLUG, GPA, 1, 24, 10);
	assert_int_equal(fallocate(fd,
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, BLOCK),
			 0);
	assert_int_equal(used_by(fd), 0);
	front_end_kick(fe);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	assert_true(fe->vu.vring.broken);
	assert_int_equal(used_by(fd), 0);
	close(fd);
}

/* --- Requests that take long --- */

static void only_the_queue_waits_for_a_request(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 4, 24, 10);
	front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 4, 24, 10);
	front_end_kick(fe);
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	/* The front end is still served. */
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 15);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_count(fe->call), 1);
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.u.state.state), VIRTIO_MEM_STATE_PLUGGED);
	assert_int_equal(front_end_count(fe->call), 1);
}

/* Stop the ring while a request is pending. Return: the ring's index. */
static unsigned int stop_while_waiting(struct front_end *fe)
{
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 4, 24, 10);
	front_end_kick(fe);
	return front_end_stop_ring(fe);
}

static void a_stopped_ring_gets_its_request_again(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	assert_int_equal(stop_while_waiting(fe), 0);
	/* The ring starts again before the request ends. */
	front_end_start_ring(fe);
	assert_true(virtio_mem_busy(&fe->dev));
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	assert_false(front_end_used(fe, &resp));
	/* The request is read again, like a new one. */
	fe->bitmap.later = false;
	fe->bitmap.repeated = true;
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 4);
}

static void an_answer_without_a_front_end_is_lost(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 4, 24, 10);
	front_end_kick(fe);
	front_end_close(fe);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	front_end_run(fe);
	/* Another front end connects, and the device works. */
	fe->bitmap.later = false;
	front_end_new_ring(fe);
	front_end_start(fe);
	assert_int_equal(front_end_unplug(fe, GPA, 4), VIRTIO_MEM_RESP_ACK);
}

static void an_answer_without_its_memory_is_lost(void **state)
{
	struct front_end *fe = *state;
	struct vring_desc *desc = (struct vring_desc *)(fe->memory + FE_DESC);
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = 1ULL << 40,
			   .size = 4096,
			   .uva = FE_UVA + GIB},
	};
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fe->memory_fd, 1),
			 0);
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 4, 24, 10);
	desc[1].addr = htole64(reg.region.gpa);
	front_end_kick(fe);
	assert_true(virtio_mem_busy(&fe->dev));
	assert_int_equal(front_end_call(fe, VHOST_USER_REM_MEM_REG, &reg,
					sizeof(reg), NULL, 0),
			 0);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_false(fe->vu.vring.broken);
	assert_int_equal(fe->bitmap.lost, 1);
	/* The memory is back, and the request is answered. */
	fe->bitmap.later = false;
	fe->bitmap.repeated = true;
	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fe->memory_fd, 1),
			 0);
	front_end_run(fe);
	assert_true(
		driver_take(&fe->driver, 2, &(uint16_t){0}, &(uint32_t){0}));
	memcpy(&resp, fe->memory, sizeof(resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 4);
}

/* --- When the queue is worked on --- */

static void a_disabled_ring_waits(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0);
	assert_false(vhost_user_driver_ready(&fe->vu));
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1);
	assert_true(front_end_used(fe, &resp));
}

static void a_stopped_ring_goes_on_where_it_was(void **state)
{
	struct vhost_user_vring_state vring = {};
	struct front_end *fe = *state;
	union vhost_user_payload reply;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < 3; i++)
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
	front_end_send(fe, VHOST_USER_GET_VRING_BASE, 0, &vring, sizeof(vring),
		       NULL, 0);
	front_end_receive(fe, VHOST_USER_GET_VRING_BASE, &reply);
	assert_int_equal(reply.vring_state.num, 3);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + 3 * BLOCK, 1, 24, 10);
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	front_end_start_ring(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 4);
}

static void without_protocol_features_a_ring_is_enabled(void **state)
{
	struct front_end *fe = *state;
	uint64_t features =
		FE_FEATURES & ~(1ULL << VHOST_USER_F_PROTOCOL_FEATURES);

	front_end_start(fe);
	front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, features, -1), 0);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
}

static void a_broken_ring_is_signalled_and_restarts(void **state)
{
	struct vhost_user_vring_state vring = {};
	struct front_end *fe = *state;
	union vhost_user_payload reply;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, 0, 1, 24, 10);
	/* A descriptor outside of memory. */
	*(uint64_t *)(fe->memory + FE_DESC) = htole64(1);
	front_end_kick(fe);
	assert_true(fe->vu.vring.broken);
	assert_int_equal(front_end_count(fe->err), 1);
	assert_int_equal(front_end_count(fe->call), 0);
	/* No further request is handled, and nothing else is affected. */
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	assert_int_equal(front_end_count(fe->err), 0);
	assert_false(front_end_closed(fe));

	front_end_send(fe, VHOST_USER_GET_VRING_BASE, 0, &vring, sizeof(vring),
		       NULL, 0);
	front_end_receive(fe, VHOST_USER_GET_VRING_BASE, &reply);
	front_end_new_ring(fe);
	front_end_start_ring(fe);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
}

static void short_buffers_break_the_ring(void **state)
{
	static const struct {
		uint32_t request;
		uint32_t response;
	} sizes[] = {{23, 10}, {0, 10}, {24, 9}, {24, 0}, {0, 0}};
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		front_end_new_ring(fe);
		front_end_serve(fe, GIB);
		front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, sizes[i].request,
			      sizes[i].response);
		front_end_kick(fe);
		assert_true(fe->vu.vring.broken);
		assert_false(front_end_used(fe, &resp));
		assert_int_equal(front_end_count(fe->err), 1);
		assert_int_equal(fe->bitmap.backing.plugged.set, 0);
		front_end_close(fe);
	}
}

/* --- Features and status --- */

static void features_ok_needs_unplugged_inaccessible(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;
	uint64_t features =
		FE_FEATURES & ~(1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE);

	front_end_serve(fe, GIB);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, features, -1), 0);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 15 & ~8);
	front_end_set(fe, VHOST_USER_SET_STATUS, 11, -1);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 3);
	/* A driver that continues regardless is not served. */
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	front_end_kick(fe);
	assert_false(front_end_used(fe, &resp));
	front_end_set(fe, VHOST_USER_SET_FEATURES, FE_FEATURES, -1);
	front_end_set(fe, VHOST_USER_SET_STATUS, 11, -1);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 11);
}

static void without_status_the_connection_ends(void **state)
{
	const uint64_t bad[] = {
		FE_FEATURES & ~(1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE),
		FE_FEATURES & ~(1ULL << 32),
	};
	struct front_end *fe = *state;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		front_end_connect(fe);
		/*
		 * Before there is a driver, these are the front end's own
		 * features.
		 */
		front_end_send(
			fe, VHOST_USER_SET_FEATURES, 0,
			&(uint64_t){1ULL << VHOST_USER_F_PROTOCOL_FEATURES}, 8,
			NULL, 0);
		assert_false(front_end_closed(fe));
		front_end_send(fe, VHOST_USER_SET_FEATURES, 0, &bad[i], 8, NULL,
			       0);
		assert_true(front_end_closed(fe));
		front_end_close(fe);
	}
}

static void device_reset_keeps_blocks(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	fe->bitmap.nr_log = 0;
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 0, -1), 0);
	assert_false(vhost_user_driver_ready(&fe->vu));
	assert_int_equal(
		front_end_call(fe, VHOST_USER_RESET_DEVICE, NULL, 0, NULL, 0),
		0);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 0);
	assert_int_equal(fe->bitmap.nr_log, 0);
	assert_int_equal(fe->bitmap.backing.plugged.set, 64);
	assert_int_equal(fe->dev.requested_size, GIB);

	/* The next driver sets up the queue on the same connection. */
	front_end_new_ring(fe);
	front_end_set(fe, VHOST_USER_SET_FEATURES, FE_FEATURES, -1);
	front_end_start_ring(fe);
	assert_int_equal(front_end_unplug_all(fe), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
}

static void disconnect_keeps_blocks(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
	front_end_close(fe);
	assert_false(vhost_user_connected(&fe->vu));
	assert_int_equal(fe->bitmap.backing.plugged.set, 64);
	/* The next front end finds the ring unchanged. */
	front_end_start(fe);
	assert_int_equal(front_end_unplug(fe, GPA, 64), VIRTIO_MEM_RESP_ACK);
}

/* --- What ends a connection, and nothing else --- */

/* The back end has closed the connection, and accepts a new one. */
static void assert_ended(struct front_end *fe)
{
	assert_true(front_end_closed(fe));
	front_end_close(fe);
	assert_false(vhost_user_connected(&fe->vu));
	front_end_connect(fe);
	assert_true(vhost_user_connected(&fe->vu));
	front_end_negotiate(fe);
}

static void send_ends(struct front_end *fe, uint32_t request,
		      const void *payload, uint32_t size, const int *fds,
		      size_t nr_fds)
{
	front_end_send(fe, request, 0, payload, size, fds, nr_fds);
	assert_ended(fe);
}

/* Every request with its valid sizes and number of descriptors. */
static const struct {
	uint32_t request;
	uint32_t min_size;
	uint32_t max_size;
	uint32_t min_fds;
	uint32_t max_fds;
} shapes[] = {
	{VHOST_USER_GET_FEATURES, 0, 0, 0, 0},
	{VHOST_USER_SET_FEATURES, 8, 8, 0, 0},
	{VHOST_USER_SET_OWNER, 0, 8, 0, 0},
	{VHOST_USER_RESET_OWNER, 0, 0, 0, 0},
	{VHOST_USER_SET_MEM_TABLE, 8, 8 + 32 * 32, 0, 32},
	{VHOST_USER_SET_VRING_NUM, 8, 8, 0, 0},
	{VHOST_USER_SET_VRING_ADDR, 40, 40, 0, 0},
	{VHOST_USER_SET_VRING_BASE, 8, 8, 0, 0},
	{VHOST_USER_GET_VRING_BASE, 8, 8, 0, 0},
	{VHOST_USER_SET_VRING_KICK, 8, 8, 0, 1},
	{VHOST_USER_SET_VRING_CALL, 8, 8, 0, 1},
	{VHOST_USER_SET_VRING_ERR, 8, 8, 0, 1},
	{VHOST_USER_GET_PROTOCOL_FEATURES, 0, 0, 0, 0},
	{VHOST_USER_SET_PROTOCOL_FEATURES, 8, 8, 0, 0},
	{VHOST_USER_GET_QUEUE_NUM, 0, 0, 0, 0},
	{VHOST_USER_SET_VRING_ENABLE, 8, 8, 0, 0},
	{VHOST_USER_SET_BACKEND_REQ_FD, 0, 0, 1, 1},
	{VHOST_USER_GET_CONFIG, 12, 12 + 4096, 0, 0},
	{VHOST_USER_SET_CONFIG, 12, 12 + 4096, 0, 0},
	{VHOST_USER_RESET_DEVICE, 0, 0, 0, 0},
	{VHOST_USER_GET_MAX_MEM_SLOTS, 0, 0, 0, 0},
	{VHOST_USER_ADD_MEM_REG, 40, 40, 1, 1},
	{VHOST_USER_REM_MEM_REG, 40, 40, 0, 1},
	{VHOST_USER_SET_STATUS, 8, 8, 0, 0},
	{VHOST_USER_GET_STATUS, 0, 0, 0, 0},
};

#define for_each_shape(shape)                                              \
	for (size_t shape = 0; shape < sizeof(shapes) / sizeof(shapes[0]); \
	     shape++)

static void short_and_long_messages(void **state)
{
	struct front_end *fe = *state;
	uint8_t zeroes[8192] = {};

	front_end_connect(fe);
	front_end_negotiate(fe);
	for_each_shape(i)
	{
		int fds[VHOST_USER_MAX_FDS];

		for (size_t j = 0; j < shapes[i].min_fds; j++)
			fds[j] = fe->memory_fd;
		if (shapes[i].min_size)
			send_ends(fe, shapes[i].request, zeroes,
				  shapes[i].min_size - 1, fds,
				  shapes[i].min_fds);
		send_ends(fe, shapes[i].request, zeroes, shapes[i].max_size + 1,
			  fds, shapes[i].min_fds);
	}
}

static void sizes_that_are_never_valid(void **state)
{
	static const uint32_t sizes[] = {8192, 65536, 0x7fffffff, UINT32_MAX};
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for_each_shape(i)
	{
		for (size_t j = 0; j < sizeof(sizes) / sizeof(sizes[0]); j++) {
			struct vhost_user_header header = {
				.request = shapes[i].request,
				.flags = VHOST_USER_FLAGS_VERSION,
				.size = sizes[j],
			};

			front_end_send_raw(fe, &header, sizeof(header), NULL,
					   0);
			assert_ended(fe);
		}
	}
}

static void wrong_numbers_of_descriptors(void **state)
{
	struct front_end *fe = *state;
	uint8_t zeroes[512] = {};
	unsigned int before;
	int fds[2 * VHOST_USER_MAX_FDS];

	for (size_t i = 0; i < 2 * VHOST_USER_MAX_FDS; i++)
		fds[i] = fe->memory_fd;
	front_end_connect(fe);
	front_end_negotiate(fe);
	before = front_end_open_fds();
	for_each_shape(i)
	{
		if (shapes[i].min_fds)
			send_ends(fe, shapes[i].request, zeroes,
				  shapes[i].min_size, fds,
				  shapes[i].min_fds - 1);
		send_ends(fe, shapes[i].request, zeroes, shapes[i].min_size,
			  fds, shapes[i].max_fds + 1);
		send_ends(fe, shapes[i].request, zeroes, shapes[i].min_size,
			  fds, 2 * VHOST_USER_MAX_FDS);
		/* This is the front end's fault, not a lack of descriptors. */
		assert_string_equal(fe->vu.error.text, "too many descriptors");
	}
	assert_int_equal(front_end_open_fds(), before);
}

static void unknown_requests(void **state)
{
	static const uint32_t unknown[] = {
		0,  6,	7,  19, 20, 22,	  23,	      26,
		27, 28, 29, 30, 31, 32,	  33,	      35,
		41, 42, 43, 44, 64, 1000, 0x7fffffff, UINT32_MAX,
	};
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		send_ends(fe, unknown[i], NULL, 0, NULL, 0);
		front_end_send(fe, unknown[i], VHOST_USER_FLAGS_NEED_REPLY,
			       NULL, 0, NULL, 0);
		assert_ended(fe);
	}
}

static void wrong_flags(void **state)
{
	static const uint32_t flags[] = {0, 2, 3, 5, 4, UINT32_MAX};
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		struct vhost_user_header header = {
			.request = VHOST_USER_GET_FEATURES,
			.flags = flags[i],
		};

		front_end_send_raw(fe, &header, sizeof(header), NULL, 0);
		assert_ended(fe);
	}
}

static void requests_need_their_feature(void **state)
{
	static const uint32_t requests[] = {
		VHOST_USER_GET_QUEUE_NUM, VHOST_USER_SET_BACKEND_REQ_FD,
		VHOST_USER_GET_CONFIG,	  VHOST_USER_SET_CONFIG,
		VHOST_USER_RESET_DEVICE,  VHOST_USER_GET_MAX_MEM_SLOTS,
		VHOST_USER_ADD_MEM_REG,	  VHOST_USER_REM_MEM_REG,
		VHOST_USER_SET_STATUS,	  VHOST_USER_GET_STATUS,
	};
	struct front_end *fe = *state;
	uint8_t zeroes[512] = {};

	for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
		for_each_shape(j)
		{
			if (shapes[j].request != requests[i])
				continue;
			front_end_connect(fe);
			front_end_send(fe, requests[i], 0, zeroes,
				       shapes[j].min_size, &fe->memory_fd,
				       shapes[j].min_fds);
			assert_true(front_end_closed(fe));
			front_end_close(fe);
		}
	}
}

static void features_that_were_not_offered(void **state)
{
	struct front_end *fe = *state;
	uint64_t value;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (unsigned int bit = 0; bit < 64; bit++) {
		value = FE_OFFERED | 1ULL << bit;
		if (value != FE_OFFERED)
			send_ends(fe, VHOST_USER_SET_FEATURES, &value, 8, NULL,
				  0);
		value = FE_PROTOCOL_FEATURES | 1ULL << bit;
		if (value != FE_PROTOCOL_FEATURES)
			send_ends(fe, VHOST_USER_SET_PROTOCOL_FEATURES, &value,
				  8, NULL, 0);
	}
}

static void bad_memory_regions(void **state)
{
	static const struct vhost_user_region bad[] = {
		{FE_GPA, 0, FE_UVA, 0},
		{FE_GPA, FE_MEMORY + 1, FE_UVA, 0},
		{FE_GPA, FE_MEMORY, FE_UVA, 1},
		{FE_GPA, FE_MEMORY, FE_UVA, FE_MEMORY},
		{FE_GPA, FE_MEMORY, FE_UVA, UINT64_MAX},
		{UINT64_MAX, 4096, FE_UVA, 0},
		{FE_GPA, 4096, UINT64_MAX, 0},
		{FE_GPA, UINT64_MAX, FE_UVA, 0},
	};
	struct front_end *fe = *state;
	struct vhost_user_mem_reg reg = {};
	struct vhost_user_mem_table table = {.nr = 2};
	int fds[2] = {fe->memory_fd, fe->memory_fd};

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		reg.region = bad[i];
		send_ends(fe, VHOST_USER_ADD_MEM_REG, &reg, sizeof(reg), fds,
			  1);
		/* The second of two regions; the first one is valid. */
		table.regions[0] = (struct vhost_user_region){1ULL << 45, 4096,
							      1ULL << 45, 0};
		table.regions[1] = bad[i];
		send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, fds,
			  2);
	}
	/* The same region twice. */
	table.regions[1] = table.regions[0];
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, fds, 2);
	front_end_share_memory(fe);
	reg.region = (struct vhost_user_region){FE_GPA, FE_MEMORY, FE_UVA, 0};
	send_ends(fe, VHOST_USER_ADD_MEM_REG, &reg, sizeof(reg), fds, 1);
	/* A descriptor that is no memory. */
	send_ends(fe, VHOST_USER_ADD_MEM_REG, &reg, sizeof(reg), &fe->kick, 1);
	send_ends(fe, VHOST_USER_REM_MEM_REG, &reg, sizeof(reg), NULL, 0);
}

static void tables_that_contradict_themselves(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_mem_table table = {};
	int fds[VHOST_USER_MAX_FDS + 1];

	front_end_connect(fe);
	front_end_negotiate(fe);
	fds[VHOST_USER_MAX_FDS] = fe->memory_fd;
	for (size_t i = 0; i < VHOST_USER_MAX_FDS; i++) {
		fds[i] = fe->memory_fd;
		table.regions[i] =
			(struct vhost_user_region){.gpa = (i + 1) << 30,
						   .size = 4096,
						   .uva = (i + 1) << 30};
	}
	table.nr = VHOST_USER_MAX_FDS + 1;
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table), fds,
		  VHOST_USER_MAX_FDS);
	table.nr = UINT32_MAX;
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table), fds,
		  VHOST_USER_MAX_FDS);
	table.nr = 1;
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 2 * 32, fds, 1);
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 31, fds, 1);
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32, fds, 2);
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, 8 + 32, NULL, 0);
	/* The first regions are valid. */
	table.nr = VHOST_USER_MEM_TABLE_SIZE;
	send_ends(fe, VHOST_USER_SET_MEM_TABLE, &table, sizeof(table), fds,
		  VHOST_USER_MAX_FDS + 1);
	/* All numbers of regions up to the maximum of rust-vmm's crate. */
	for (table.nr = 0; table.nr <= 32; table.nr++) {
		assert_int_equal(front_end_call(fe, VHOST_USER_SET_MEM_TABLE,
						&table, 8 + table.nr * 32, fds,
						table.nr),
				 0);
		assert_int_equal(fe->vu.memory.nr, table.nr);
	}
}

/* --- Memory that is removed and added --- */

/* A region is removed only if all its values are given. */
static void another_region_is_not_removed(void **state)
{
	static const struct vhost_user_region others[] = {
		{FE_GPA + 4096, FE_MEMORY, FE_UVA, 0},
		{FE_GPA, FE_MEMORY - 4096, FE_UVA, 0},
		{FE_GPA, FE_MEMORY, FE_UVA + 4096, 0},
	};
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		struct vhost_user_mem_reg reg = {.region = others[i]};

		front_end_share_memory(fe);
		assert_int_equal(fe->vu.memory.nr, 1);
		send_ends(fe, VHOST_USER_REM_MEM_REG, &reg, sizeof(reg), NULL,
			  0);
	}
}

static void remove_memory(struct front_end *fe)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = FE_GPA, .size = FE_MEMORY, .uva = FE_UVA},
	};

	assert_int_equal(front_end_call(fe, VHOST_USER_REM_MEM_REG, &reg,
					sizeof(reg), NULL, 0),
			 0);
}

/* A table with all of the guest's memory, or an empty one. */
static void set_table(struct front_end *fe, bool with)
{
	struct vhost_user_mem_table table = {
		.nr = with,
		.regions = {{FE_GPA, FE_MEMORY, FE_UVA, 0}},
	};

	assert_int_equal(front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
					8 + table.nr * 32, &fe->memory_fd,
					table.nr),
			 0);
}

static void a_ring_waits_for_its_memory(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < 8; i++) {
		bool by_table = i & 1, kicked = i & 2, before = i & 4;

		if (before)
			front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + i * BLOCK,
				      1, 24, 10);
		by_table ? set_table(fe, false) : remove_memory(fe);
		assert_false(vhost_user_driver_ready(&fe->vu));
		if (!before)
			front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + i * BLOCK,
				      1, 24, 10);
		if (kicked)
			front_end_kick(fe);
		assert_false(front_end_used(fe, &resp));
		assert_false(fe->vu.vring.broken);
		by_table ? set_table(fe, true) : front_end_share_memory(fe);
		assert_true(vhost_user_driver_ready(&fe->vu));
		front_end_run(fe);
		assert_true(front_end_used(fe, &resp));
		assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
		assert_int_equal(fe->bitmap.backing.plugged.set, i + 1);
	}
	assert_int_equal(front_end_count(fe->err), 0);
}

static void a_ring_may_start_before_its_memory(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_connect(fe);
	front_end_negotiate(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	/* The base applies once the memory is there. */
	fe->lost = true;
	fe->lost_base = 1;
	front_end_start_ring(fe);
	front_end_kick(fe);
	assert_false(vhost_user_driver_ready(&fe->vu));
	front_end_share_memory(fe);
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
}

/* The answer to a slow request. */
static void an_answer_waits_for_its_ring(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 4, 24, 10);
	front_end_kick(fe);
	assert_true(virtio_mem_busy(&fe->dev));
	remove_memory(fe);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	fe->bitmap.later = false;
	fe->bitmap.repeated = true;
	front_end_share_memory(fe);
	front_end_run(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 4);
	assert_false(front_end_used(fe, &resp));
}

/* Buffers in a region of their own, which is removed and added. */
static void a_request_waits_for_its_memory(void **state)
{
	struct front_end *fe = *state;
	struct vring_desc *desc = (struct vring_desc *)(fe->memory + FE_DESC);
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = 1ULL << 40,
			   .size = FE_MEMORY,
			   .uva = FE_UVA + GIB},
	};
	struct virtio_mem_resp resp;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < 2; i++) {
		assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG,
						&reg, sizeof(reg),
						&fe->memory_fd, 1),
				 0);
		assert_int_equal(front_end_call(fe, VHOST_USER_REM_MEM_REG,
						&reg, sizeof(reg), NULL, 0),
				 0);
		front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + i * BLOCK, 1, 24,
			      10);
		/* Move the request, or the buffer of its answer. */
		desc[2 * i + i].addr = htole64(le64toh(desc[2 * i + i].addr) -
					       FE_GPA + reg.region.gpa);
		front_end_kick(fe);
		assert_false(fe->vu.vring.broken);
		assert_false(front_end_used(fe, &resp));
		assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG,
						&reg, sizeof(reg),
						&fe->memory_fd, 1),
				 0);
		front_end_run(fe);
		assert_true(front_end_used(fe, &resp));
		assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_call(fe, VHOST_USER_REM_MEM_REG,
						&reg, sizeof(reg), NULL, 0),
				 0);
	}
	/* An address that never was memory is the driver's fault. */
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	desc[4].addr = htole64(reg.region.gpa + reg.region.size);
	front_end_kick(fe);
	assert_true(fe->vu.vring.broken);
	assert_int_equal(front_end_count(fe->err), 1);
}

/* --- Without free descriptors --- */

static void without_descriptors_a_message_is_refused(void **state)
{
	struct front_end *fe = *state;
	struct rlimit old, limit;
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = 1ULL << 40, .size = 4096, .uva = 1ULL << 40},
	};
	struct vhost_user_inflight inflight = {
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE,
	};
	union vhost_user_payload payload;
	struct virtio_mem_resp resp;
	unsigned int open_fds;

	front_end_serve(fe, GIB);
	open_fds = front_end_open_fds();
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	limit = old;
	limit.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	/*
	 * The failure is reported to the front end, and everything else
	 * continues.
	 */
	assert_int_not_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					    sizeof(reg), &fe->memory_fd, 1),
			     0);
	assert_int_not_equal(
		front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call), 0);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(front_end_count(fe->call), 1);
	/*
	 * A front end that requests no reply would assume success, so the
	 * connection ends.
	 */
	front_end_send(fe, VHOST_USER_ADD_MEM_REG, 0, &reg, sizeof(reg),
		       &fe->memory_fd, 1);
	assert_true(front_end_closed(fe));
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	front_end_close(fe);
	/* Without descriptors there is no inflight region. */
	front_end_connect(fe);
	front_end_negotiate(fe);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	front_end_send(fe, VHOST_USER_GET_INFLIGHT_FD, 0, &inflight,
		       sizeof(inflight), NULL, 0);
	assert_int_equal(
		front_end_receive(fe, VHOST_USER_GET_INFLIGHT_FD, &payload),
		sizeof(inflight));
	assert_int_equal(payload.inflight.mmap_size, 0);
	assert_null(fe->vu.inflight.map);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	close(front_end_get_inflight(fe));
	assert_non_null(fe->vu.inflight.map);
	front_end_close(fe);
	front_end_start(fe);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + BLOCK, 1, 24, 10);
	front_end_kick(fe);
	assert_true(front_end_used(fe, &resp));
	assert_int_equal(front_end_open_fds(), open_fds);
}

/* A region was made, and its descriptor cannot be sent. */
static void without_descriptors_in_flight_there_is_no_region(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_inflight inflight = {
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE,
	};
	union vhost_user_payload payload;
	struct fd_crowd crowd;

	front_end_connect(fe);
	front_end_negotiate(fe);
	fd_crowd_begin(&crowd);
	front_end_send(fe, VHOST_USER_GET_INFLIGHT_FD, 0, &inflight,
		       sizeof(inflight), NULL, 0);
	fd_crowd_end(&crowd);
	assert_int_equal(
		front_end_receive(fe, VHOST_USER_GET_INFLIGHT_FD, &payload),
		sizeof(inflight));
	assert_int_equal(payload.inflight.mmap_size, 0);
	assert_null(fe->vu.inflight.map);
	close(front_end_get_inflight(fe));
	assert_non_null(fe->vu.inflight.map);
}

static void ring_before_memory_or_addresses(void **state)
{
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};
	struct front_end *fe = *state;

	front_end_connect(fe);
	front_end_negotiate(fe);
	/* It waits for its size, then its addresses, then its memory. */
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_false(vhost_user_driver_ready(&fe->vu));
	front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM, FE_QUEUE_SIZE);
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_false(vhost_user_driver_ready(&fe->vu));
	front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL,
		       0);
	front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	assert_false(vhost_user_driver_ready(&fe->vu));
	front_end_share_memory(fe);
	addr.used_uva = FE_UVA + FE_MEMORY - 4;
	front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL,
		       0);
	assert_false(vhost_user_driver_ready(&fe->vu));
	/* Misaligned, whatever the memory. */
	addr.used_uva = FE_UVA + FE_USED + 2;
	front_end_close(fe);
	front_end_start(fe);
	send_ends(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

/* Send one of the messages that set a ring up. */
static void send_part(struct front_end *fe, unsigned int part)
{
	const struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};
	uint64_t ret;

	switch (part) {
	case 0:
		ret = front_end_set(
			fe, VHOST_USER_SET_FEATURES,
			fe->features | 1ULL << VIRTIO_RING_F_EVENT_IDX, -1);
		break;
	case 1:
		ret = front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
					  FE_QUEUE_SIZE);
		break;
	case 2:
		ret = front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr,
				     sizeof(addr), NULL, 0);
		break;
	case 3:
		ret = front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
		break;
	case 4:
		ret = front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1);
		break;
	default:
		front_end_share_memory(fe);
		ret = 0;
	}
	assert_int_equal(ret, 0);
}

/*
 * The messages in each order: the n-th order is the n-th permutation. The
 * request was there before.
 */
static void a_ring_is_set_up_in_any_order(void **state)
{
	enum { PARTS = 6, ORDERS = 720 };
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;

	for (unsigned int order = 0; order < ORDERS; order++) {
		unsigned int parts[PARTS] = {0, 1, 2, 3, 4, 5};
		unsigned int rest = order;

		front_end_connect(fe);
		front_end_new_ring(fe);
		assert_int_equal(front_end_set(fe,
					       VHOST_USER_SET_PROTOCOL_FEATURES,
					       FE_PROTOCOL_FEATURES, -1),
				 0);
		front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 1, 24, 10);
		for (unsigned int left = PARTS; left; left--) {
			unsigned int i = rest % left;

			rest /= left;
			send_part(fe, parts[i]);
			parts[i] = parts[left - 1];
		}
		assert_true(vhost_user_driver_ready(&fe->vu));
		assert_true(front_end_used(fe, &resp));
		front_end_close(fe);
	}
}

static void queues_that_do_not_exist(void **state)
{
	static const uint32_t state_requests[] = {
		VHOST_USER_SET_VRING_NUM,
		VHOST_USER_SET_VRING_BASE,
		VHOST_USER_GET_VRING_BASE,
		VHOST_USER_SET_VRING_ENABLE,
	};
	static const uint32_t fd_requests[] = {
		VHOST_USER_SET_VRING_KICK,
		VHOST_USER_SET_VRING_CALL,
		VHOST_USER_SET_VRING_ERR,
	};
	struct vhost_user_vring_state vring = {.index = 1, .num = 1};
	struct vhost_user_vring_addr addr = {.index = 1};
	struct front_end *fe = *state;
	uint64_t one = 1;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < 4; i++)
		send_ends(fe, state_requests[i], &vring, sizeof(vring), NULL,
			  0);
	for (size_t i = 0; i < 3; i++)
		send_ends(fe, fd_requests[i], &one, 8, &fe->kick, 1);
	send_ends(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL, 0);
}

static void bad_queue_values(void **state)
{
	static const uint32_t sizes[] = {0, 3, 32769, 65536, UINT32_MAX};
	struct vhost_user_vring_state vring = {};
	struct front_end *fe = *state;
	uint64_t value;

	front_end_connect(fe);
	front_end_negotiate(fe);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		vring.num = sizes[i];
		send_ends(fe, VHOST_USER_SET_VRING_NUM, &vring, sizeof(vring),
			  NULL, 0);
	}
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM, 32768), 0);
	vring.num = 65536;
	send_ends(fe, VHOST_USER_SET_VRING_BASE, &vring, sizeof(vring), NULL,
		  0);
	vring.num = 2;
	send_ends(fe, VHOST_USER_SET_VRING_ENABLE, &vring, sizeof(vring), NULL,
		  0);
	value = 256;
	send_ends(fe, VHOST_USER_SET_STATUS, &value, 8, NULL, 0);
	/* While the queue runs. */
	front_end_close(fe);
	front_end_start(fe);
	vring.num = 64;
	send_ends(fe, VHOST_USER_SET_VRING_NUM, &vring, sizeof(vring), NULL, 0);
	front_end_close(fe);
	front_end_start(fe);
	send_ends(fe, VHOST_USER_SET_VRING_BASE, &vring, sizeof(vring), NULL,
		  0);
}

static void bad_ring_descriptors(void **state)
{
	uint64_t zero = 0, none = VHOST_USER_VRING_NOFD;
	struct front_end *fe = *state;
	int fds[2];

	front_end_connect(fe);
	front_end_negotiate(fe);
	/* A missing descriptor, and a superfluous one. */
	send_ends(fe, VHOST_USER_SET_VRING_CALL, &zero, 8, NULL, 0);
	send_ends(fe, VHOST_USER_SET_VRING_CALL, &none, 8, &fe->call, 1);
	/* A queue without a kick descriptor would need polling. */
	send_ends(fe, VHOST_USER_SET_VRING_KICK, &none, 8, NULL, 0);
	/* A regular file cannot be polled. */
	send_ends(fe, VHOST_USER_SET_VRING_KICK, &zero, 8, &fe->memory_fd, 1);
	/* The call descriptor is optional: the driver may poll. */
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_VRING_CALL, &none, 8,
					NULL, 0),
			 0);
	/* Files that may block when full are refused. */
	assert_int_equal(pipe(fds), 0);
	send_ends(fe, VHOST_USER_SET_VRING_KICK, &zero, 8, &fds[0], 1);
	send_ends(fe, VHOST_USER_SET_VRING_CALL, &zero, 8, &fds[1], 1);
	send_ends(fe, VHOST_USER_SET_VRING_ERR, &zero, 8, &fds[1], 1);
	send_ends(fe, VHOST_USER_SET_VRING_CALL, &zero, 8, &fe->memory_fd, 1);
	send_ends(fe, VHOST_USER_SET_VRING_CALL, &zero, 8, &fe->fd, 1);
	close(fds[0]);
	close(fds[1]);
	/* The channel must be a socket. */
	send_ends(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fe->kick, 1);
	/* It must be a UNIX stream socket. */
	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	send_ends(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fds[0], 1);
	close(fds[0]);
	fds[0] = socket(AF_UNIX, SOCK_DGRAM, 0);
	send_ends(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &fds[0], 1);
	close(fds[0]);
}

static void a_file_that_is_truncated(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1, 24, 10);
	/* The rings are truncated too. */
	assert_int_equal(ftruncate(fe->memory_fd, 0), 0);
	front_end_kick(fe);
	assert_ended(fe);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	/* The next front end is served. */
	assert_int_equal(ftruncate(fe->memory_fd, FE_MEMORY), 0);
	front_end_close(fe);
	front_end_new_ring(fe);
	front_end_start(fe);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	/* While a request is pending. */
	fe->bitmap.later = true;
	front_end_put(fe, VIRTIO_MEM_REQ_UNPLUG, GPA, 1, 24, 10);
	front_end_kick(fe);
	assert_int_equal(ftruncate(fe->memory_fd, 0), 0);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	assert_ended(fe);
}

/* Redirect standard error to a file. Return: the original. */
static int capture(int *file)
{
	int saved = dup(STDERR_FILENO);

	*file = memfd_create("log", MFD_CLOEXEC);
	assert_true(saved >= 0 && *file >= 0);
	assert_int_equal(dup2(*file, STDERR_FILENO), STDERR_FILENO);
	return saved;
}

/* Restore standard error. Return: number of lines in the file. */
static unsigned int release(int saved, int file)
{
	unsigned int nr = 0;
	off_t at = 0;
	char byte;

	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	while (pread(file, &byte, 1, at++) == 1)
		nr += byte == '\n';
	close(saved);
	close(file);
	return nr;
}

/* Messages that a front end can cause at will are rate-limited. */
static void a_front_end_cannot_fill_the_log(void **state)
{
	struct front_end *fe = *state;
	unsigned int lines;
	int saved, file;

	front_end_start(fe);
	log_init(LOG_LEVEL_INFO);
	saved = capture(&file);
	for (int i = 0; i < 1000; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					    0, pair),
				 0);
		close(pair[0]);
		assert_int_equal(front_end_call(fe,
						VHOST_USER_SET_BACKEND_REQ_FD,
						NULL, 0, &pair[1], 1),
				 0);
		close(pair[1]);
		virtio_mem_set_requested(&fe->dev, (i & 1) * GIB);
	}
	lines = release(saved, file);
	log_init(LOG_LEVEL_ERR);
	/* A slow machine may exceed the limit's interval a few times. */
	assert_in_range(lines, 1, 10 * (LOG_LIMIT_BURST + 1));
}

/* The back end ends the connection instead of waiting or growing. */
static void read_no_replies(struct front_end *fe)
{
	struct vhost_user_header header = {
		.request = VHOST_USER_GET_FEATURES,
		.flags = VHOST_USER_FLAGS_VERSION,
	};
	unsigned int sent = 0;

	front_end_negotiate(fe);
	while (send(fe->fd, &header, sizeof(header),
		    MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(header) &&
	       sent++ < 1000000)
		front_end_run(fe);
	assert_true(sent < 1000000);
	assert_ended(fe);
}

static void replies_that_nobody_reads(void **state)
{
	struct front_end *fe = *state;
	int fds[2];

	front_end_connect(fe);
	read_no_replies(fe);
	/* A passed socket may be a blocking one. */
	front_end_close(fe);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(vhost_user_adopt(&fe->vu, fds[1]), 0);
	fe->fd = fds[0];
	read_no_replies(fe);
}

/* --- Pieces --- */

/* A whole start as bytes, with the descriptors of its messages. */
struct script {
	uint8_t bytes[1024];
	size_t size;
	struct {
		size_t at;
		int fd;
	} fds[8];
	size_t nr_fds;
};

static void add(struct script *script, uint32_t request, const void *payload,
		uint32_t size, int fd)
{
	struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_FLAGS_VERSION,
		.size = size,
	};

	if (fd >= 0) {
		script->fds[script->nr_fds].at = script->size;
		script->fds[script->nr_fds++].fd = fd;
	}
	memcpy(script->bytes + script->size, &header, sizeof(header));
	script->size += sizeof(header);
	if (size)
		memcpy(script->bytes + script->size, payload, size);
	script->size += size;
	assert_true(script->size <= sizeof(script->bytes));
}

static void make_script(struct front_end *fe, struct script *script)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = FE_GPA, .size = FE_MEMORY, .uva = FE_UVA},
	};
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};
	struct vhost_user_vring_state vring = {.num = FE_QUEUE_SIZE};
	uint64_t features = FE_FEATURES, protocol = FE_PROTOCOL_FEATURES;
	uint64_t zero = 0;

	memset(script, 0, sizeof(*script));
	add(script, VHOST_USER_SET_PROTOCOL_FEATURES, &protocol, 8, -1);
	add(script, VHOST_USER_SET_OWNER, NULL, 0, -1);
	add(script, VHOST_USER_SET_FEATURES, &features, 8, -1);
	add(script, VHOST_USER_ADD_MEM_REG, &reg, sizeof(reg), fe->memory_fd);
	add(script, VHOST_USER_SET_VRING_NUM, &vring, sizeof(vring), -1);
	add(script, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), -1);
	add(script, VHOST_USER_SET_VRING_CALL, &zero, 8, fe->call);
	add(script, VHOST_USER_SET_VRING_ERR, &zero, 8, fe->err);
	add(script, VHOST_USER_SET_VRING_KICK, &zero, 8, fe->kick);
	vring.num = 1;
	add(script, VHOST_USER_SET_VRING_ENABLE, &vring, sizeof(vring), -1);
}

static void send_script(struct front_end *fe, const struct script *script,
			size_t size, size_t step)
{
	for (size_t at = 0; at < size;) {
		size_t end = at + step < size ? at + step : size;
		int fd = -1;

		/* A descriptor is sent with the first byte of its message. */
		for (size_t i = 0; i < script->nr_fds; i++) {
			if (script->fds[i].at == at)
				fd = script->fds[i].fd;
			else if (script->fds[i].at > at &&
				 script->fds[i].at < end)
				end = script->fds[i].at;
		}
		front_end_send_raw(fe, script->bytes + at, end - at, &fd,
				   fd >= 0);
		front_end_run(fe);
		at = end;
	}
}

static void messages_come_in_pieces(void **state)
{
	struct front_end *fe = *state;
	struct script script;

	make_script(fe, &script);
	for (size_t step = 1; step < 60; step++) {
		front_end_connect(fe);
		send_script(fe, &script, script.size, step);
		assert_true(vhost_user_driver_ready(&fe->vu));
		assert_false(front_end_closed(fe));
		front_end_close(fe);
	}
	/* Everything in one piece. */
	front_end_connect(fe);
	send_script(fe, &script, script.size, script.size);
	assert_true(vhost_user_driver_ready(&fe->vu));
}

static void connection_drops_at_every_byte(void **state)
{
	struct front_end *fe = *state;
	unsigned int before = front_end_open_fds();
	struct script script;

	make_script(fe, &script);
	for (size_t size = 0; size <= script.size; size++) {
		front_end_connect(fe);
		send_script(fe, &script, size, 7);
		front_end_close(fe);
		assert_false(vhost_user_connected(&fe->vu));
		assert_int_equal(fe->vu.memory.nr, 0);
		assert_int_equal(front_end_open_fds(), before);
	}
	front_end_start(fe);
}

/*
 * A new descriptor replaces the old one; the last ones are closed with the
 * connection.
 */
static void descriptors_of_a_queue_are_closed(void **state)
{
	struct front_end *fe = *state;
	unsigned int before = front_end_open_fds(), connected;

	front_end_start(fe);
	connected = front_end_open_fds();
	for (int i = 0; i < 3; i++) {
		front_end_set(fe, VHOST_USER_SET_VRING_ERR, 0, fe->err);
		front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call);
		front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
	}
	assert_int_equal(front_end_open_fds(), connected);
	front_end_close(fe);
	assert_int_equal(front_end_open_fds(), before);
}

/* An answer may have been given with the old descriptor, or without one. */
static void a_new_call_descriptor_is_signalled(void **state)
{
	struct front_end *fe = *state;
	int fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	assert_true(fd >= 0);
	front_end_connect(fe);
	front_end_negotiate(fe);
	front_end_share_memory(fe);
	/* A stopped ring has nothing to signal. */
	front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fd);
	front_end_run(fe);
	assert_int_equal(front_end_count(fd), 0);
	front_end_start_ring(fe);
	front_end_set(fe, VHOST_USER_SET_STATUS, 15, -1);
	front_end_run(fe);
	front_end_count(fd);
	front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fd);
	front_end_run(fe);
	assert_int_equal(front_end_count(fd), 1);
	close(fd);
}

static unsigned int changes;

static void count_change(void *arg __attribute__((unused)))
{
	changes++;
}

/* The callback's owner may be gone by then. */
static void no_callback_at_the_end(void **state)
{
	struct front_end *fe = *state;

	changes = 0;
	fe->vu.changed = count_change;
	front_end_start(fe);
	assert_int_not_equal(changes, 0);
	changes = 0;
	vhost_user_stop(&fe->vu);
	assert_int_equal(changes, 0);
}

static void make_it_block(int fd)
{
	assert_int_equal(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK),
			 0);
}

static void put_state(struct front_end *fe)
{
	front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 1,
		      sizeof(struct virtio_mem_req),
		      sizeof(struct virtio_mem_resp));
}

/*
 * A read() of the blocking eventfd would wait for the next kick, and the test
 * would hang.
 */
static void a_kick_may_be_withdrawn(void **state)
{
	struct front_end *fe = *state;
	struct virtio_mem_resp resp;
	uint64_t one = 1;

	front_end_start(fe);
	make_it_block(fe->kick);
	put_state(fe);
	assert_int_equal(write(fe->kick, &one, sizeof(one)), sizeof(one));
	while (!sd_event_prepare(fe->event))
		if (sd_event_wait(fe->event, 0))
			break;
	/* After epoll reported the kick, before it is handled. */
	assert_int_equal(front_end_count(fe->kick), 1);
	assert_true(sd_event_dispatch(fe->event) > 0);
	assert_true(front_end_used(fe, &resp));
}

static void a_full_call_descriptor_does_not_block(void **state)
{
	struct front_end *fe = *state;
	uint64_t full = UINT64_MAX - 1;
	struct virtio_mem_resp resp;

	front_end_start(fe);
	make_it_block(fe->call);
	assert_int_equal(write(fe->call, &full, sizeof(full)), sizeof(full));
	put_state(fe);
	front_end_kick(fe);
	assert_true(front_end_used(fe, &resp));
}

static void a_second_front_end_waits(void **state)
{
	struct front_end *fe = *state;
	struct front_end second = *fe;

	front_end_start(fe);
	front_end_connect(&second);
	front_end_send(&second, VHOST_USER_GET_FEATURES, 0, NULL, 0, NULL, 0);
	virtio_mem_set_requested(&fe->dev, GIB);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
	front_end_close(fe);
	/* The message of the second front end was kept. */
	fe->fd = second.fd;
	front_end_receive(fe, VHOST_USER_GET_FEATURES,
			  &(union vhost_user_payload){});
}

static void a_connected_socket_is_served(void **state)
{
	struct front_end *fe = *state;
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(vhost_user_adopt(&fe->vu, fds[1]), 0);
	fe->fd = fds[0];
	front_end_negotiate(fe);
	/* No other connection is accepted meanwhile. */
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(vhost_user_adopt(&fe->vu, fds[1]), -EBUSY);
	close(fds[0]);
	assert_false(front_end_closed(fe));
}

#define T(name)                                                 \
	cmocka_unit_test_setup_teardown(name, front_end_set_up, \
					front_end_tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(requests_are_answered),
		T(more_requests_than_one_turn_takes),
		T(config_space_is_read),
		T(config_space_reads_zero_behind_its_end),
		T(config_space_is_not_written),
		T(config_changes_are_sent),
		T(a_suspended_device_sends_nothing),
		T(config_changes_want_no_reply),
		T(a_full_channel_gets_the_last_change),
		T(a_closed_channel_does_not_end_the_connection),
		T(memory_by_table_works_too),
		T(numbers_of_queues_and_regions),
		T(node_is_offered_when_there_is_one),
		T(buffers_in_unplugged_blocks_break_the_ring),
		T(a_ring_in_an_unplugged_block_is_not_touched),
		T(only_the_queue_waits_for_a_request),
		T(a_stopped_ring_gets_its_request_again),
		T(an_answer_without_a_front_end_is_lost),
		T(an_answer_without_its_memory_is_lost),
		T(a_disabled_ring_waits),
		T(a_stopped_ring_goes_on_where_it_was),
		T(without_protocol_features_a_ring_is_enabled),
		T(a_broken_ring_is_signalled_and_restarts),
		T(short_buffers_break_the_ring),
		T(features_ok_needs_unplugged_inaccessible),
		T(without_status_the_connection_ends),
		T(device_reset_keeps_blocks),
		T(disconnect_keeps_blocks),
		T(short_and_long_messages),
		T(sizes_that_are_never_valid),
		T(wrong_numbers_of_descriptors),
		T(unknown_requests),
		T(wrong_flags),
		T(requests_need_their_feature),
		T(features_that_were_not_offered),
		T(bad_memory_regions),
		T(tables_that_contradict_themselves),
		T(another_region_is_not_removed),
		T(a_ring_waits_for_its_memory),
		T(a_ring_may_start_before_its_memory),
		T(an_answer_waits_for_its_ring),
		T(a_request_waits_for_its_memory),
		T(without_descriptors_a_message_is_refused),
		T(without_descriptors_in_flight_there_is_no_region),
		T(ring_before_memory_or_addresses),
		T(a_ring_is_set_up_in_any_order),
		T(queues_that_do_not_exist),
		T(bad_queue_values),
		T(bad_ring_descriptors),
		T(a_file_that_is_truncated),
		T(a_front_end_cannot_fill_the_log),
		T(replies_that_nobody_reads),
		T(messages_come_in_pieces),
		T(connection_drops_at_every_byte),
		T(descriptors_of_a_queue_are_closed),
		T(a_new_call_descriptor_is_signalled),
		T(no_callback_at_the_end),
		T(a_kick_may_be_withdrawn),
		T(a_full_call_descriptor_does_not_block),
		T(a_second_front_end_waits),
		T(a_connected_socket_is_served),
	};

	/* The front end's violations are intended; do not show the messages. */
	assert_non_null(freopen("/dev/null", "w", stderr));
	return unit_run(tests, NULL, NULL);
}
