// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Several devices in one daemon: a device must not affect another one.
 *
 * Each device has a front end of its own, and all share an event loop. Each
 * front end shares all of the guest's memory, as VMMs do, including the regions
 * of the other devices.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "front_end.h"
#include "unit.h"

#define NR_DEVICES 3
#define BLOCK	   FE_BLOCK
#define SIZE	   GIB

/*
 * The region of device @i, as guest address and as address of the front ends.
 */
#define GPA(i)	      (((i) + 1ULL) << 40)
#define REGION_UVA(i) (0x100000000000ULL + ((uint64_t)(i) << 40))

struct daemon {
	struct front_end *fe[NR_DEVICES];
	int memory_fd[NR_DEVICES];
};

static void share(struct front_end *fe, int fd, size_t i)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = GPA(i), .size = SIZE, .uva = REGION_UVA(i)},
	};

	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fd, 1),
			 0);
}

static int set_up(void **state)
{
	struct daemon *d = calloc(1, sizeof(*d));
	uint64_t features = *state ? *(uint64_t *)*state : 0;

	assert_non_null(d);
	d->fe[0] = front_end_new(FE_REGION_SIZE, BLOCK, features);
	/* Replace the default region. */
	d->fe[0]->bitmap.backing.gpa = GPA(0);
	d->fe[0]->bitmap.backing.size = SIZE;
	for (size_t i = 1; i < NR_DEVICES; i++)
		d->fe[i] = front_end_add(d->fe[0], GPA(i), SIZE, BLOCK);
	for (size_t i = 0; i < NR_DEVICES; i++) {
		d->memory_fd[i] = memfd_create("region", MFD_CLOEXEC);
		assert_int_equal(ftruncate(d->memory_fd[i], SIZE), 0);
	}
	for (size_t i = 0; i < NR_DEVICES; i++) {
		front_end_start(d->fe[i]);
		for (size_t j = 0; j < NR_DEVICES; j++)
			share(d->fe[i], d->memory_fd[j], j);
		virtio_mem_set_requested(&d->fe[i]->dev, SIZE);
	}
	*state = d;
	return 0;
}

static int tear_down(void **state)
{
	struct daemon *d = *state;

	for (size_t i = NR_DEVICES; i-- > 0;) {
		front_end_free(d->fe[i]);
		close(d->memory_fd[i]);
	}
	free(d);
	return 0;
}

static blkcnt_t used_by(int fd)
{
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	return st.st_blocks;
}

/* A STATE request in @fe's own memory, with the response at @gpa. */
static void ask_state(struct front_end *fe, uint64_t request_gpa,
		      uint64_t response_gpa)
{
	struct virtio_mem_req req = {.type = htole16(VIRTIO_MEM_REQ_STATE)};
	const struct driver_buffer buffers[] = {
		{.gpa = request_gpa, .size = sizeof(req)},
		{.gpa = response_gpa,
		 .size = sizeof(struct virtio_mem_resp),
		 .write = true},
	};

	req.u.state.addr = htole64(fe->bitmap.backing.gpa);
	req.u.state.nb_blocks = htole16(1);
	memcpy(fe->memory + FE_LARGE, &req, sizeof(req));
	driver_add(&fe->driver, buffers, 2);
	front_end_kick(fe);
}

/* --- Blocks that others have not plugged --- */

static void restart(struct front_end *fe)
{
	front_end_stop_ring(fe);
	front_end_new_ring(fe);
	front_end_start_ring(fe);
	assert_false(fe->vu.vring.broken);
}

static void buffers_in_unplugged_blocks_of_another_device(void **state)
{
	struct daemon *d = *state;
	struct front_end *a = d->fe[0];

	for (size_t i = 1; i < NR_DEVICES; i++) {
		ask_state(a, FE_GPA + FE_LARGE, GPA(i) + 5 * BLOCK);
		assert_true(a->vu.vring.broken);
		restart(a);
		ask_state(a, GPA(i) + SIZE - 64, FE_GPA + FE_LARGE + 64);
		assert_true(a->vu.vring.broken);
		restart(a);
		assert_int_equal(used_by(d->memory_fd[i]), 0);
	}
}

static void buffers_in_plugged_blocks_of_another_device(void **state)
{
	struct daemon *d = *state;
	struct front_end *a = d->fe[0], *b = d->fe[2];
	uint32_t written;
	uint16_t id;

	assert_int_equal(front_end_plug(b, GPA(2), 2), VIRTIO_MEM_RESP_ACK);
	ask_state(a, FE_GPA + FE_LARGE, GPA(2) + BLOCK - 3);
	assert_false(a->vu.vring.broken);
	assert_true(driver_take(&a->driver, 2, &id, &written));
	/* The response crosses the end of the plugged blocks. */
	ask_state(a, FE_GPA + FE_LARGE, GPA(2) + 2 * BLOCK - 3);
	assert_true(a->vu.vring.broken);
}

static void a_table_in_an_unplugged_block_of_another_device(void **state)
{
	struct daemon *d = *state;
	struct front_end *a = d->fe[0];
	struct vring_desc *desc = (struct vring_desc *)(a->memory + FE_DESC);
	uint16_t *avail = (uint16_t *)(a->memory + FE_AVAIL);

	desc[0] = (struct vring_desc){
		.addr = htole64(GPA(1) + BLOCK),
		.len = htole32(2 * sizeof(*desc)),
		.flags = htole16(VRING_DESC_F_INDIRECT),
	};
	avail[2] = 0;
	avail[1] = htole16(1);
	front_end_kick(a);
	assert_true(a->vu.vring.broken);
	assert_int_equal(used_by(d->memory_fd[1]), 0);
}

/* The front end says where the ring is, and the guest chooses the place. */
static void a_ring_in_an_unplugged_block_of_another_device(void **state)
{
	static const size_t offsets[] = {
		offsetof(struct vhost_user_vring_addr, desc_uva),
		offsetof(struct vhost_user_vring_addr, used_uva),
		offsetof(struct vhost_user_vring_addr, avail_uva),
	};
	struct daemon *d = *state;
	struct front_end *a = d->fe[0], *b = d->fe[1];
	struct vhost_user_mem_reg low = {
		.region = {.size = 4 * KIB, .uva = REGION_UVA(100)},
	};

	/* Memory that was removed elsewhere is unrelated to the ring. */
	assert_int_equal(front_end_call(a, VHOST_USER_ADD_MEM_REG, &low,
					sizeof(low), &d->memory_fd[0], 1),
			 0);
	assert_int_equal(front_end_call(a, VHOST_USER_REM_MEM_REG, &low,
					sizeof(low), NULL, 0),
			 0);
	assert_int_equal(front_end_plug(b, GPA(1), 1), VIRTIO_MEM_RESP_ACK);
	for (size_t i = 0; i < 3; i++) {
		struct vhost_user_vring_addr addr = {
			.desc_uva = FE_UVA + FE_DESC,
			.avail_uva = FE_UVA + FE_AVAIL,
			.used_uva = FE_UVA + FE_USED,
		};
		blkcnt_t used;

		*(uint64_t *)((char *)&addr + offsets[i]) =
			REGION_UVA(1) + i * 0x10000;
		front_end_call(a, VHOST_USER_SET_VRING_ADDR, &addr,
			       sizeof(addr), NULL, 0);
		/* B's block is unplugged, and a part of A's queue with it. */
		assert_int_equal(front_end_unplug(b, GPA(1), 1),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(
			fallocate(d->memory_fd[1],
				  FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				  SIZE),
			0);
		used = used_by(d->memory_fd[1]);
		front_end_kick(a);
		assert_true(a->vu.vring.broken);
		assert_int_equal(used_by(d->memory_fd[1]), used);
		assert_int_equal(used, 0);
		assert_int_equal(front_end_plug(b, GPA(1), 1),
				 VIRTIO_MEM_RESP_ACK);
		restart(a);
	}
}

/* --- Memory that is truncated --- */

static void kick_until_lost(struct front_end *fe)
{
	uint64_t one = 1;

	assert_int_equal(ftruncate(fe->memory_fd, 0), 0);
	assert_int_equal(write(fe->kick, &one, sizeof(one)), sizeof(one));
	front_end_run(fe);
	assert_true(front_end_closed(fe));
}

static void start_again(struct daemon *d, struct front_end *fe)
{
	assert_int_equal(ftruncate(fe->memory_fd, FE_MEMORY), 0);
	front_end_close(fe);
	front_end_new_ring(fe);
	front_end_start(fe);
	for (size_t j = 0; j < NR_DEVICES; j++)
		share(fe, d->memory_fd[j], j);
}

/* Each device in turn, including the first and the last. */
static void the_memory_of_any_front_end_is_truncated(void **state)
{
	struct daemon *d;

	/*
	 * Set up here: cmocka installs its own signal handler between set-up
	 * and test.
	 */
	assert_int_equal(set_up(state), 0);
	d = *state;
	for (size_t round = 0; round < 2; round++) {
		for (size_t i = 0; i < NR_DEVICES; i++) {
			struct front_end *other = d->fe[(i + 1) % NR_DEVICES];

			kick_until_lost(d->fe[i]);
			assert_int_equal(
				front_end_request(other, VIRTIO_MEM_REQ_STATE,
						  other->bitmap.backing.gpa, 1),
				VIRTIO_MEM_RESP_ACK);
			start_again(d, d->fe[i]);
		}
	}
	/* One front end has disconnected for good. */
	front_end_close(d->fe[2]);
	kick_until_lost(d->fe[0]);
	kick_until_lost(d->fe[1]);
	assert_int_equal(tear_down(state), 0);
}

/*
 * A table sent after the loss is detected, before the connection is closed,
 * does not undo the loss.
 */
static void a_new_table_does_not_hide_a_loss(void **state)
{
	struct virtio_mem_resp resp;
	struct vhost_user_mem_table table = {.nr = 1};
	uint64_t one = 1;
	struct front_end *fe;
	struct daemon *d;

	assert_int_equal(set_up(state), 0);
	d = *state;
	fe = d->fe[0];
	table.regions[0] = (struct vhost_user_region){
		.gpa = FE_GPA, .size = FE_MEMORY, .uva = FE_UVA};
	/* The message is handled before the loss. */
	assert_true(sd_event_source_set_priority(fe->vu.lost_source, 1) >= 0);
	assert_int_equal(ftruncate(fe->memory_fd, 0), 0);
	assert_int_equal(write(fe->kick, &one, sizeof(one)), sizeof(one));
	while (!fe->vu.memory.lost)
		assert_true(sd_event_run(fe->event, 0) > 0);
	assert_int_equal(ftruncate(fe->memory_fd, FE_MEMORY), 0);
	front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA(0), 1,
		      sizeof(struct virtio_mem_req), sizeof(resp));
	front_end_send(fe, VHOST_USER_SET_MEM_TABLE, 0, &table,
		       offsetof(struct vhost_user_mem_table, regions) +
			       sizeof(table.regions[0]),
		       &fe->memory_fd, 1);
	assert_true(front_end_closed(fe));
	assert_false(front_end_used(fe, &resp));
	/* The next connection is not affected. */
	start_again(d, fe);
	assert_int_equal(front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA(0), 1),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(tear_down(state), 0);
}

/* --- The cost of a turn of the event loop --- */

/*
 * The longest chain: ring and table full of descriptors, with buffers in the
 * region's memory, each of which is looked up in many shared regions.
 */
static void put_largest_chain(struct front_end *fe, int fd)
{
	struct vring_desc *desc = (struct vring_desc *)(fe->memory + FE_DESC);
	uint16_t *avail = (uint16_t *)(fe->memory + FE_AVAIL);
	struct virtio_mem_req req = {.type = htole16(VIRTIO_MEM_REQ_STATE)};
	const uint64_t gpa = fe->bitmap.backing.gpa;
	const uint16_t last = FE_QUEUE_SIZE - 1;
	struct vring_desc *table;

	table = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(table, MAP_FAILED);
	req.u.state.addr = htole64(gpa);
	req.u.state.nb_blocks = htole16(1);
	memcpy((uint8_t *)table + 0x10000, &req, sizeof(req));
	for (uint16_t i = 0; i < VRING_MAX_TABLE; i++)
		table[i] = (struct vring_desc){
			.addr = htole64(gpa + 0x10000 + (i < 24 ? i : 0)),
			.len = htole32(1),
			.flags = htole16(VRING_DESC_F_NEXT),
			.next = htole16(i + 1),
		};
	table[VRING_MAX_TABLE - 1] = (struct vring_desc){
		.addr = htole64(gpa + 0x20000),
		.len = htole32(sizeof(struct virtio_mem_resp)),
		.flags = htole16(VRING_DESC_F_WRITE),
	};
	for (uint16_t i = 0; i < last; i++)
		desc[i] = (struct vring_desc){
			.addr = htole64(gpa + 0x10000),
			.flags = htole16(VRING_DESC_F_NEXT),
			.next = htole16(i + 1),
		};
	desc[last] = (struct vring_desc){
		.addr = htole64(gpa),
		.len = htole32(VRING_MAX_TABLE * sizeof(*table)),
		.flags = htole16(VRING_DESC_F_INDIRECT),
	};
	memset(&avail[2], 0, FE_QUEUE_SIZE * sizeof(*avail));
	avail[1] = htole16(FE_QUEUE_SIZE);
	munmap(table, MIB);
}

/* Return: steps of the longest turn that answered such chains. */
static uint64_t longest_turn(uint64_t region_size)
{
	struct front_end *fe = front_end_new(
		region_size, FE_BLOCK, 1ULL << VIRTIO_RING_F_INDIRECT_DESC);
	struct backing *backing = &fe->bitmap.backing;
	int fd = memfd_create("region", MFD_CLOEXEC);
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = backing->gpa,
			   .size = MIB,
			   .uva = REGION_UVA(0)},
	};
	uint64_t steps;

	assert_int_equal(ftruncate(fd, MIB), 0);
	/* No discards are owed: only the queue's work counts. */
	blocks_clear(&backing->owed, 0, backing->owed.nr);
	front_end_start(fe);
	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fd, 1),
			 0);
	for (unsigned int i = 0; i < 500; i++) {
		struct vhost_user_mem_reg more = {
			.region = {.gpa = (200ULL + i) << 40,
				   .size = 4 * KIB,
				   .uva = REGION_UVA(200 + i)},
		};

		assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG,
						&more, sizeof(more), &fd, 1),
				 0);
	}
	virtio_mem_set_requested(&fe->dev, region_size);
	backing_note_plugged(backing, backing->gpa, region_size);
	put_largest_chain(fe, fd);
	fe->access->work.most_steps = 0;
	front_end_kick(fe);
	assert_false(fe->vu.vring.broken);
	assert_int_equal(fe->dev.answers[VIRTIO_MEM_STATE][VIRTIO_MEM_ACK],
			 FE_QUEUE_SIZE);
	steps = fe->access->work.most_steps;
	print_message("# longest turn at %llu GiB: %llu steps\n",
		      (unsigned long long)(region_size / GIB),
		      (unsigned long long)steps);
	front_end_free(fe);
	close(fd);
	return steps;
}

static void the_cost_of_a_turn_does_not_depend_on_the_region(void **state)
{
	uint64_t one = longest_turn(1024 * GIB);

	(void)state;
	/* At most one request beyond the bound. */
	assert_in_range(one, 1, 2 * WORK_TURN_STEPS);
	assert_int_equal(longest_turn(4096 * GIB), one);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
	static uint64_t indirect = 1ULL << VIRTIO_RING_F_INDIRECT_DESC;
	struct CMUnitTest tests[] = {
		T(buffers_in_unplugged_blocks_of_another_device),
		T(buffers_in_plugged_blocks_of_another_device),
		T(a_table_in_an_unplugged_block_of_another_device),
		T(a_ring_in_an_unplugged_block_of_another_device),
		cmocka_unit_test(the_memory_of_any_front_end_is_truncated),
		cmocka_unit_test(a_new_table_does_not_hide_a_loss),
		cmocka_unit_test(
			the_cost_of_a_turn_does_not_depend_on_the_region),
	};

	tests[2].initial_state = &indirect;
	return unit_run(tests, NULL, NULL);
}
