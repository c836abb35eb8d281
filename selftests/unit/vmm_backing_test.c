// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that a front end maps, with the real back end. The front end here
 * behaves as QEMU 11.1 does: it answers a request of the back end before it
 * carries it out, and sends its memory table afterwards.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "backing/vmm.h"
#include "base/timer.h"
#include "fd_message.h"
#include "front_end.h"
#include "unit.h"

#define GPA    (15ULL << 40)
#define REGION (1024 * GIB)
#define SLOT   GIB
#define BLOCK  FE_BLOCK
/* Ends of the first two memslots, in blocks. */
#define END_0 (GIB / BLOCK)
#define END_1 (4 * GIB / BLOCK)

/* A bound on the wait for a timer of the back end, far beyond its value. */
#define TIMER_USEC (60 * 1000000ULL)

#define PROTOCOL_FEATURES                                         \
	((FE_PROTOCOL_FEATURES &                                  \
	  ~(1ULL << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) | \
	 1ULL << VHOST_USER_PROTOCOL_F_SHMEM)

/**
 * struct vmm - a front end that maps memory
 * @files: memory and state, which a service manager keeps for the daemon
 * @left: memory of an earlier daemon whose files were lost, -1 if none
 * @nr_left: number of @mapped entries that are mappings of @left; they come
 *	first
 * @mapped: offsets of mappings, @nr_mapped of them
 * @gpa: address of the device's memory BAR
 * @hidden: the memory table lacks the mapping at this offset
 * @split: the memory table has two parts of the mapping at this offset
 * @refuse: requests for this offset are refused
 * @meddle: another call of the backing fails while memory is unmapped
 * @own: entries of the memory table for the VMM's own memory
 */
struct vmm {
	struct front_end *fe;
	struct vmm_backing ours;
	int files[2];
	int left;
	unsigned int nr_left;
	struct vhost_user_mmap mapped[VHOST_USER_MEM_TABLE_SIZE];
	unsigned int nr_mapped;
	uint64_t gpa;
	uint64_t hidden;
	uint64_t split;
	uint64_t refuse;
	bool meddle;
	unsigned int own;
};

static void begin_daemon(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	struct error err;

	if (vmm_attach(&vmm->ours, fe->event, &fe->vu, dup(vmm->files[0]),
		       dup(vmm->files[1]), REGION, BLOCK, SLOT, &err))
		fail_msg("%s", err.text);
	virtio_mem_start(&fe->dev, &vmm->ours.backing,
			 vmm->ours.state.header->requested_size,
			 vmm->ours.state.header->used);
	/* Discard the owed memory first. */
	do
		work_begin_turn(&fe->access->work);
	while (virtio_mem_work(&fe->dev) > 0);
}

static void end_daemon(struct vmm *vmm)
{
	front_end_close(vmm->fe);
	virtio_mem_stop(&vmm->fe->dev);
	vmm_detach(&vmm->ours);
}

static int set_up(void **state)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	assert_non_null(vmm);
	front_end_set_up(state);
	vmm->fe = *state;
	/*
	 * The feature is not offered, because the memory does not survive a
	 * reset.
	 */
	vmm->fe->features &= ~(1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND);
	virtio_mem_stop(&vmm->fe->dev);
	for (int i = 0; i < 2; i++) {
		vmm->files[i] = vmm_make_file("test");
		assert_true(vmm->files[i] >= 0);
	}
	vmm->left = -1;
	vmm->gpa = GPA;
	vmm->hidden = UINT64_MAX;
	vmm->split = UINT64_MAX;
	vmm->refuse = UINT64_MAX;
	vmm->own = 1;
	begin_daemon(vmm);
	assert_int_equal(vmm_place(&vmm->ours, GPA, NULL), 0);
	virtio_mem_set_requested(&vmm->fe->dev, REGION);
	*state = vmm;
	return 0;
}

static int tear_down(void **state)
{
	struct vmm *vmm = *state;
	void *fe = vmm->fe;

	end_daemon(vmm);
	close(vmm->files[0]);
	close(vmm->files[1]);
	if (vmm->left >= 0)
		close(vmm->left);
	free(vmm);
	return front_end_tear_down(&fe);
}

static void list(const struct vmm *vmm, struct vhost_user_mem_table *table,
		 uint64_t offset, uint64_t size)
{
	table->regions[table->nr++] = (struct vhost_user_region){
		.gpa = vmm->gpa + offset,
		.size = size,
		.uva = 2 * FE_UVA + offset,
		.mmap_offset = offset,
	};
}

/* The memory table: own memory, then mappings, each with its own descriptor. */
static void send_table(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	struct vhost_user_mem_table table = {.nr = vmm->own};
	int fds[VHOST_USER_MEM_TABLE_SIZE];

	for (unsigned int i = 0; i < vmm->own; i++) {
		table.regions[i] = (struct vhost_user_region){
			.gpa = FE_GPA + i * FE_MEMORY,
			.size = FE_MEMORY,
			.uva = FE_UVA + i * FE_MEMORY,
		};
		fds[i] = fe->memory_fd;
	}
	for (unsigned int i = 0; i < vmm->nr_mapped; i++) {
		const struct vhost_user_mmap *mapping = &vmm->mapped[i];
		uint32_t at = table.nr;

		if (mapping->shm_offset == vmm->split) {
			list(vmm, &table, mapping->shm_offset,
			     mapping->len / 2);
			list(vmm, &table,
			     mapping->shm_offset + mapping->len / 2 + BLOCK,
			     mapping->len / 2 - BLOCK);
		} else if (mapping->shm_offset != vmm->hidden) {
			list(vmm, &table, mapping->shm_offset, mapping->len);
		}
		for (; at < table.nr; at++)
			fds[at] = i < vmm->nr_left ? vmm->left : vmm->files[0];
	}
	assert_int_equal(
		front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
			       offsetof(struct vhost_user_mem_table, regions) +
				       table.nr * sizeof(table.regions[0]),
			       fds, table.nr),
		0);
}

static void negotiate_without_channel(struct vmm *vmm,
				      uint64_t protocol_features)
{
	struct front_end *fe = vmm->fe;

	front_end_connect(fe);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_PROTOCOL_FEATURES),
			 PROTOCOL_FEATURES);
	front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
		       &protocol_features, sizeof(protocol_features), NULL, 0);
}

static void negotiate(struct vmm *vmm, uint64_t protocol_features)
{
	negotiate_without_channel(vmm, protocol_features);
	if (protocol_features == PROTOCOL_FEATURES)
		front_end_give_channel(vmm->fe);
}

/* A driver starts to use the queue. */
static void start_driver(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;

	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	send_table(vmm);
	front_end_start_ring(fe);
}

/*
 * Receive a request of the back end. Return: false if there is none; @fd may be
 * NULL.
 */
static bool asked(struct vmm *vmm, uint32_t *request,
		  struct vhost_user_mmap *mmap, int *fd)
{
	struct vhost_user_header header;
	size_t nr_fds = 1;
	int got;

	front_end_run(vmm->fe);
	if (fd_message_receive(vmm->fe->channel, &header, sizeof(header), &got,
			       &nr_fds,
			       MSG_DONTWAIT) != (ssize_t)sizeof(header))
		return false;
	if (header.size)
		assert_int_equal(recv(vmm->fe->channel, mmap, sizeof(*mmap),
				      MSG_DONTWAIT),
				 header.size);
	*request = header.request;
	if (fd)
		*fd = nr_fds ? got : -1;
	else if (nr_fds)
		close(got);
	return true;
}

static void reply(struct vmm *vmm, uint32_t request, uint64_t value)
{
	struct __attribute__((packed)) {
		struct vhost_user_header header;
		uint64_t value;
	} message = {
		.header = {.request = request,
			   .flags = VHOST_USER_FLAGS_VERSION |
				    VHOST_USER_FLAGS_REPLY,
			   .size = sizeof(value)},
		.value = value,
	};

	assert_int_equal(send(vmm->fe->channel, &message, sizeof(message), 0),
			 sizeof(message));
	front_end_run(vmm->fe);
}

static bool is_at(const struct vhost_user_mmap *mapping,
		  const struct vhost_user_mmap *mmap)
{
	return mapping->shm_offset == mmap->shm_offset &&
	       mapping->len == mmap->len;
}

static bool overlaps(const struct vhost_user_mmap *mapping,
		     const struct vhost_user_mmap *mmap)
{
	return mapping->shm_offset < mmap->shm_offset + mmap->len &&
	       mmap->shm_offset < mapping->shm_offset + mapping->len;
}

/*
 * As the protocol demands: nothing is mapped over a mapping, and a mapping is
 * unmapped as a whole.
 */
static bool is_possible(const struct vmm *vmm, uint32_t request,
			const struct vhost_user_mmap *mmap)
{
	bool map = request == VHOST_USER_BACKEND_SHMEM_MAP;

	for (unsigned int i = 0; i < vmm->nr_mapped; i++)
		if (map ? overlaps(&vmm->mapped[i], mmap)
			: is_at(&vmm->mapped[i], mmap))
			return !map;
	return map;
}

static void note_mapping(struct vmm *vmm, uint32_t request,
			 const struct vhost_user_mmap *mmap)
{
	unsigned int i = 0;

	assert_true(is_possible(vmm, request, mmap));
	if (request == VHOST_USER_BACKEND_SHMEM_MAP) {
		vmm->mapped[vmm->nr_mapped++] = *mmap;
		return;
	}
	while (!is_at(&vmm->mapped[i], mmap))
		i++;
	if (i < vmm->nr_left)
		vmm->nr_left--;
	vmm->nr_mapped--;
	memmove(&vmm->mapped[i], &vmm->mapped[i + 1],
		(vmm->nr_mapped - i) * sizeof(vmm->mapped[0]));
}

/* Serve all requests of the back end. Return: their number. */
static unsigned int serve(struct vmm *vmm)
{
	struct vhost_user_mmap mmap;
	unsigned int nr = 0;
	uint32_t request;

	while (asked(vmm, &request, &mmap, NULL)) {
		if (request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
			continue;
		nr++;
		if (vmm->meddle && request == VHOST_USER_BACKEND_SHMEM_UNMAP)
			error_set(&vmm->ours.backing.error, -EIO, "another");
		if (mmap.shm_offset == vmm->refuse ||
		    !is_possible(vmm, request, &mmap)) {
			reply(vmm, request, 1);
			continue;
		}
		reply(vmm, request, 0);
		note_mapping(vmm, request, &mmap);
		send_table(vmm);
	}
	return nr;
}

/* Start a front end and a driver; discard the first notifications. */
static void start(struct vmm *vmm)
{
	negotiate(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	serve(vmm);
}

static void put(struct vmm *vmm, uint16_t type, uint64_t block, uint16_t nr)
{
	front_end_put(vmm->fe, type, GPA + block * BLOCK, nr,
		      sizeof(struct virtio_mem_req),
		      sizeof(struct virtio_mem_resp));
	front_end_kick(vmm->fe);
}

static void expect_no_answer(struct vmm *vmm)
{
	struct virtio_mem_resp resp;

	front_end_run(vmm->fe);
	assert_false(front_end_used(vmm->fe, &resp));
}

static void expect_answer(struct vmm *vmm, uint16_t type)
{
	struct virtio_mem_resp resp;

	front_end_run(vmm->fe);
	assert_true(front_end_used(vmm->fe, &resp));
	assert_int_equal(le16toh(resp.type), type);
}

/*
 * Make a request of the driver and serve the back end. Return: number of
 * requests to the VMM.
 */
static unsigned int request(struct vmm *vmm, uint16_t type, uint64_t block,
			    uint16_t nr, uint16_t answer)
{
	unsigned int asks;

	put(vmm, type, block, nr);
	asks = serve(vmm);
	expect_answer(vmm, answer);
	return asks;
}

static uint64_t plugged(const struct vmm *vmm)
{
	return vmm->ours.backing.plugged.set;
}

static void slots_grow_up_to_the_end(void **state)
{
	const struct vmm *vmm = *state;
	static const uint64_t ends[] = {1, 4, 16, 64, 256, 1024};
	uint64_t offset = 0;

	assert_int_equal(vmm->ours.nr_slots, 6);
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(vmm->ours.slots[i].offset, offset);
		offset += vmm->ours.slots[i].size;
		assert_int_equal(offset, ends[i] * GIB);
	}
	assert_int_equal(vmm_default_slot(1024 * GIB, BLOCK), GIB);
	assert_int_equal(vmm_default_slot(1025 * GIB, BLOCK), 2 * GIB);
	assert_int_equal(vmm_default_slot(GIB, BLOCK), 128ULL << 20);
	assert_int_equal(vmm_default_slot(64ULL << 20, BLOCK), 64ULL << 20);
	assert_int_equal(vmm_default_slot(64 * GIB, GIB), GIB);
}

static void the_region_is_offered_as_shared_memory(void **state)
{
	struct vmm *vmm = *state;
	union vhost_user_payload payload;

	negotiate(vmm, PROTOCOL_FEATURES);
	front_end_send(vmm->fe, VHOST_USER_GET_SHMEM_CONFIG, 0, NULL, 0, NULL,
		       0);
	assert_int_equal(front_end_receive(vmm->fe, VHOST_USER_GET_SHMEM_CONFIG,
					   &payload),
			 8 + 256 * 8);
	assert_int_equal(payload.shmem_config.nr, 1);
	assert_int_equal(payload.shmem_config.sizes[0], REGION);
	assert_int_equal(payload.shmem_config.sizes[1], 0);
}

static void a_front_end_that_cannot_map_is_refused(void **state)
{
	struct vmm *vmm = *state;

	negotiate(vmm,
		  PROTOCOL_FEATURES & ~(1ULL << VHOST_USER_PROTOCOL_F_SHMEM));
	assert_true(front_end_closed(vmm->fe));
}

static void the_first_block_of_a_slot_maps_it(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	struct stat ours, theirs;
	uint32_t what;
	int fd;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0 + 5, 2);
	assert_true(asked(vmm, &what, &mmap, &fd));
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_MAP);
	assert_int_equal(mmap.shmem_id, 0);
	assert_int_equal(mmap.fd_offset, GIB);
	assert_int_equal(mmap.shm_offset, GIB);
	assert_int_equal(mmap.len, 3 * GIB);
	assert_int_equal(mmap.flags, VHOST_USER_MMAP_RW);
	assert_int_equal(fstat(fd, &theirs), 0);
	assert_int_equal(fstat(vmm->files[0], &ours), 0);
	assert_int_equal(theirs.st_ino, ours.st_ino);
	assert_int_equal(theirs.st_size, REGION);
	close(fd);
	/*
	 * A positive reply is not enough: the guest is answered when the table
	 * has the mapping.
	 */
	reply(vmm, what, 0);
	expect_no_answer(vmm);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
	/* Other blocks of the memslot need no mapping. */
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 + 9, 1,
				 VIRTIO_MEM_RESP_ACK),
			 0);
}

static void assert_populated(struct vmm *vmm, uint64_t nr)
{
	const struct backing *backing = &vmm->ours.backing;

	assert_int_equal(backing->ops->populated_slots(backing), nr);
}

static void populated_slots_are_counted(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	assert_populated(vmm, 0);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 2, VIRTIO_MEM_RESP_ACK);
	assert_populated(vmm, 1);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1, VIRTIO_MEM_RESP_ACK);
	assert_populated(vmm, 2);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 2, VIRTIO_MEM_RESP_ACK);
	assert_populated(vmm, 1);
}

/* Plug the first block. Return: the back end's request, with @mmap. */
static uint32_t start_plug(struct vmm *vmm, struct vhost_user_mmap *mmap)
{
	uint32_t what;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	assert_true(asked(vmm, &what, mmap, NULL));
	return what;
}

static void the_table_may_come_before_the_answer(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	what = start_plug(vmm, &mmap);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
}

static void the_last_block_of_a_slot_unmaps_it(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	start(vmm);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 3, VIRTIO_MEM_RESP_ACK),
		1);
	assert_int_equal(pwrite(vmm->files[0], "old", 3, 0), 3);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_UNPLUG, 1, 2, VIRTIO_MEM_RESP_ACK),
		0);
	put(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 1);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_UNMAP);
	assert_int_equal(mmap.shm_offset, 0);
	assert_int_equal(mmap.len, GIB);
	reply(vmm, what, 0);
	expect_no_answer(vmm);
	/* Memory is not discarded while the guest could still access it. */
	assert_true(lseek(vmm->files[0], 0, SEEK_DATA) == 0);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_true(lseek(vmm->files[0], 0, SEEK_DATA) < 0);
	assert_int_equal(plugged(vmm), 0);
}

static void several_slots_are_asked_for_one_by_one(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, END_1 - END_0 + 2);
	for (unsigned int i = 0; i < 3; i++) {
		uint32_t another;

		assert_true(asked(vmm, &what, &mmap, NULL));
		assert_int_equal(mmap.shm_offset, vmm->ours.slots[i].offset);
		assert_false(asked(vmm, &another, &mmap, NULL));
		reply(vmm, what, 0);
		assert_false(asked(vmm, &another, &mmap, NULL));
		expect_no_answer(vmm);
		note_mapping(vmm, what, &mmap);
		send_table(vmm);
	}
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 3);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_int_equal(plugged(vmm), 0);
}

static void a_refused_mapping_undoes_all(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	vmm->refuse = 4 * GIB;
	/* The reason is that of the request, whatever fails meanwhile. */
	vmm->meddle = true;
	/*
	 * Two slots are mapped, the third is refused, and the two are unmapped.
	 */
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1,
				 END_1 - END_0 + 2, VIRTIO_MEM_RESP_BUSY),
			 5);
	assert_int_equal(plugged(vmm), 0);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "refuses to map"));
	vmm->refuse = UINT64_MAX;
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1,
				 END_1 - END_0 + 2, VIRTIO_MEM_RESP_ACK),
			 3);
}

static void a_full_table_is_not_overflowed(void **state)
{
	struct vmm *vmm = *state;

	vmm->own = 7;
	start(vmm);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK),
		1);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1,
				 VIRTIO_MEM_RESP_BUSY),
			 0);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "table is full"));
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 1, 1, VIRTIO_MEM_RESP_ACK),
		0);
}

/* A front end whose own memory has more entries than the protocol allows. */
static void a_longer_table_is_used_too(void **state)
{
	struct vmm *vmm = *state;

	vmm->own = VMM_TABLE_SIZE + 1;
	start(vmm);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK),
		1);
	/* Also while its table is shorter. */
	vmm->own = VMM_TABLE_SIZE - 1;
	send_table(vmm);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_1, 1,
				 VIRTIO_MEM_RESP_ACK),
			 1);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_1, 1, VIRTIO_MEM_RESP_ACK);
	vmm->own = VHOST_USER_MEM_TABLE_SIZE - 1;
	send_table(vmm);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1,
				 VIRTIO_MEM_RESP_BUSY),
			 0);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "of 32 entries"));
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 1, VIRTIO_MEM_RESP_ACK),
		1);
}

/* The guest maps another device over a part of a slot. */
static void a_slot_may_be_listed_in_parts(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 2, VIRTIO_MEM_RESP_ACK);
	vmm->split = 0;
	send_table(vmm);
	assert_int_equal(serve(vmm), 0);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 2, 1, VIRTIO_MEM_RESP_ACK),
		0);
	/* Also for a driver that starts with it. */
	front_end_close(vmm->fe);
	start(vmm);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 3, 1, VIRTIO_MEM_RESP_ACK),
		0);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 1);
}

/* Plug blocks in the first slot; the guest maps another device over it. */
static void hide_a_slot(struct vmm *vmm)
{
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 4, VIRTIO_MEM_RESP_ACK);
	vmm->hidden = 0;
	send_table(vmm);
}

static void a_hidden_slot_affects_no_other(void **state)
{
	struct vmm *vmm = *state;

	hide_a_slot(vmm);
	assert_int_equal(serve(vmm), 1);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 2, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0, 2, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(vmm->nr_mapped, 1);
	/* Blocks in the slot cannot be plugged, but unplugged. */
	request(vmm, VIRTIO_MEM_REQ_PLUG, 4, 1, VIRTIO_MEM_RESP_BUSY);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "refuses to map"));
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 3, 1, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 3);
	/* A change that needs both slots is undone. */
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 1);
	vmm->hidden = UINT64_MAX;
	send_table(vmm);
	assert_int_equal(serve(vmm), 0);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2,
				 VIRTIO_MEM_RESP_ACK),
			 1);
}

/* The change begins while the correction is in progress. */
static void a_correction_does_not_fail_a_change(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	hide_a_slot(vmm);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(mmap.shm_offset, 0);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 2);
	expect_no_answer(vmm);
	reply(vmm, what, 1);
	serve(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 6);
}

/* Slots are corrected after a change that does not concern them. */
static void a_change_is_followed_by_corrections(void **state)
{
	struct vmm *vmm = *state;

	hide_a_slot(vmm);
	assert_int_equal(serve(vmm), 1);
	vmm->hidden = UINT64_MAX;
	vmm->nr_mapped = 0;
	/* The mapping of the change, and the missing one. */
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 2,
				 VIRTIO_MEM_RESP_ACK),
			 2);
	assert_int_equal(vmm->nr_mapped, 2);
}

/* The time of the next attempt has come. Return: number of requests to the VMM. */
static unsigned int try_again(struct vmm *vmm)
{
	vmm->ours.correct_at = 0;
	timer_start(vmm->ours.timer, 0);
	return serve(vmm);
}

static void refused_corrections_become_rare(void **state)
{
	struct vmm *vmm = *state;
	uint64_t first;

	start(vmm);
	first = vmm->ours.again_usec;
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 4, VIRTIO_MEM_RESP_ACK);
	vmm->hidden = 0;
	send_table(vmm);
	serve(vmm);
	assert_int_equal(vmm->ours.again_usec, 2 * first);
	for (int i = 0; i < 20; i++)
		assert_int_equal(try_again(vmm), 1);
	assert_int_equal(vmm->ours.again_usec, 64 * first);
	vmm->hidden = UINT64_MAX;
	send_table(vmm);
	assert_int_equal(vmm->ours.again_usec, first);
}

/* The guest could otherwise cause a refused request to the VMM by each of its own. */
static void changes_bring_no_correction_forward(void **state)
{
	struct vmm *vmm = *state;
	uint64_t until, due;

	hide_a_slot(vmm);
	assert_int_equal(serve(vmm), 1);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1, VIRTIO_MEM_RESP_ACK);
	sd_event_source_get_time(vmm->ours.timer, &until);
	for (int i = 0; i < 3; i++) {
		assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 + 1, 1,
					 VIRTIO_MEM_RESP_ACK),
				 0);
		assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0 + 1,
					 1, VIRTIO_MEM_RESP_ACK),
				 0);
		/* A change that needs the slot asks for it, but only once. */
		assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, 4, 1,
					 VIRTIO_MEM_RESP_BUSY),
				 1);
	}
	/* The time of the next attempt is the same as before. */
	sd_event_source_get_time(vmm->ours.timer, &due);
	assert_int_equal(due, until);
	assert_int_equal(try_again(vmm), 1);
}

/* The guest waits for the undo: it is repeated at a constant rate. */
static void a_refused_undo_is_repeated_soon(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint64_t now, due, first;
	uint32_t what;

	start(vmm);
	first = vmm->ours.again_usec;
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2);
	assert_true(asked(vmm, &what, &mmap, NULL));
	reply(vmm, what, 0);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	assert_true(asked(vmm, &what, &mmap, NULL));
	reply(vmm, what, 1);
	for (int i = 0; i < 4; i++) {
		assert_true(asked(vmm, &what, &mmap, NULL));
		assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_UNMAP);
		reply(vmm, what, 1);
		sd_event_source_get_time(vmm->ours.timer, &due);
		sd_event_now(vmm->fe->event, CLOCK_MONOTONIC, &now);
		assert_true(due <= now + first);
		timer_start(vmm->ours.timer, 0);
	}
	expect_no_answer(vmm);
	serve(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 0);
}

/* A refused mapping is there again: a request does not wait for the retry. */
static void a_table_ends_the_wait_for_a_retry(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK);
	vmm->nr_mapped = 0;
	send_table(vmm);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_MAP);
	reply(vmm, what, 1);
	vmm->nr_mapped = 1;
	send_table(vmm);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 1, 1, VIRTIO_MEM_RESP_ACK),
		0);
}

static void a_mapping_that_is_never_listed_is_busy(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	what = start_plug(vmm, &mmap);
	reply(vmm, what, 0);
	expect_no_answer(vmm);
	/*
	 * The back end's timer sends another request, whose reply comes last.
	 */
	while (!asked(vmm, &what, &mmap, NULL))
		assert_true(sd_event_run(vmm->fe->event, TIMER_USEC) > 0);
	assert_int_equal(what, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "agreed to map"));
	assert_int_equal(plugged(vmm), 0);
}

static void a_region_that_is_elsewhere_is_not_used(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	vmm->gpa = 14ULL << 40;
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_BUSY),
		2);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "0xe0000000000"));
}

static void config_of(struct vmm *vmm, struct virtio_mem_config *config)
{
	struct vhost_user_config message = {.size = sizeof(*config)};
	union vhost_user_payload payload;

	front_end_send(vmm->fe, VHOST_USER_GET_CONFIG, 0, &message,
		       12 + sizeof(*config), NULL, 0);
	assert_int_equal(
		front_end_receive(vmm->fe, VHOST_USER_GET_CONFIG, &payload),
		12 + sizeof(*config));
	memcpy(config, payload.config.data, sizeof(*config));
}

static void without_a_place_there_is_no_memory(void **state)
{
	struct vmm *vmm = *state;
	struct virtio_mem_config config;
	struct error err;

	end_daemon(vmm);
	close(vmm->files[1]);
	vmm->files[1] = vmm_make_file("test");
	begin_daemon(vmm);
	vmm->fe->dev.requested_size = GIB;
	negotiate(vmm, PROTOCOL_FEATURES);
	assert_false(vmm->fe->dev.asked_early);
	config_of(vmm, &config);
	assert_int_equal(config.region_size, 0);
	assert_int_equal(config.requested_size, 0);
	assert_int_equal(le64toh(config.block_size), BLOCK);
	assert_true(vmm->fe->dev.asked_early);
	assert_int_equal(vmm_place(&vmm->ours, GPA + 1, &err), -EINVAL);
	assert_int_equal(vmm_place(&vmm->ours, -REGION + BLOCK, &err), -EINVAL);
	assert_int_equal(vmm_place(&vmm->ours, GPA, &err), 0);
	config_of(vmm, &config);
	assert_int_equal(le64toh(config.addr), GPA);
	assert_int_equal(le64toh(config.region_size), REGION);
	assert_int_equal(le64toh(config.requested_size), GIB);
	/* The place may be changed while no driver uses it. */
	assert_int_equal(vmm_place(&vmm->ours, GPA + GIB, &err), 0);
	assert_int_equal(vmm_place(&vmm->ours, GPA, &err), 0);
	start_driver(vmm);
	assert_int_equal(vmm_place(&vmm->ours, GPA + GIB, &err), -EBUSY);
	/* The place is persistent. */
	end_daemon(vmm);
	begin_daemon(vmm);
	assert_true(vmm->ours.backing.placed);
	assert_int_equal(vmm->ours.backing.gpa, GPA);
}

/* QEMU 11.1 crashes on requests before that. */
static void nothing_is_sent_before_a_driver_is_ready(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	negotiate(vmm, PROTOCOL_FEATURES);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	assert_false(asked(vmm, &what, &mmap, NULL));
	start_driver(vmm);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	front_end_stop_ring(vmm->fe);
	virtio_mem_set_requested(&vmm->fe->dev, 2 * GIB);
	assert_false(asked(vmm, &what, &mmap, NULL));
}

static void without_a_front_end_nothing_is_plugged(void **state)
{
	struct vmm *vmm = *state;
	struct backing *backing = &vmm->ours.backing;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(backing_plug(backing, GPA, BLOCK), -ENOTCONN);
		assert_string_equal(backing->error.text,
				    "no front end to map memory");
		assert_int_equal(backing->plugged.set, 0);
		assert_false(vmm->ours.change.active);
		start(vmm);
		front_end_close(vmm->fe);
	}
}

/* Memory that is still allocated must not count as discarded. */
static void a_failed_discard_is_reported(void **state)
{
	struct vmm *vmm = *state;
	struct backing *backing = &vmm->ours.backing;

	assert_int_equal(backing_discard(backing, GPA, BLOCK), 0);
	assert_int_equal(fcntl(vmm->files[0], F_ADD_SEALS, F_SEAL_WRITE), 0);
	backing->error = (struct error){0};
	assert_int_equal(backing_discard(backing, GPA, BLOCK), -EPERM);
	assert_non_null(strstr(backing->error.text, strerror(EPERM)));
}

static void dropped_mappings_are_restored_before_requests(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(vmm->nr_mapped, 2);
	front_end_stop_ring(vmm->fe);
	vmm->nr_mapped = 0;
	put(vmm, VIRTIO_MEM_REQ_PLUG, 7, 1);
	start_driver(vmm);
	expect_no_answer(vmm);
	assert_int_equal(serve(vmm), 2);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 3);
}

static void a_pause_changes_nothing(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 2, VIRTIO_MEM_RESP_ACK);
	front_end_stop_ring(vmm->fe);
	start_driver(vmm);
	assert_int_equal(serve(vmm), 0);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 2, VIRTIO_MEM_RESP_ACK),
		1);
}

static void a_stop_during_a_request_changes_nothing(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;

	assert_int_equal(start_plug(vmm, &mmap), VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_stop_ring(vmm->fe);
	assert_int_equal(plugged(vmm), 0);
	assert_false(virtio_mem_busy(&vmm->fe->dev));
	/* The result says that nothing was plugged. */
	assert_int_equal(vmm->ours.change.result, -ENOTCONN);
	/* The request is still in the queue. */
	reply(vmm, VHOST_USER_BACKEND_SHMEM_MAP, 1);
	start_driver(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
}

/* The daemon is killed, and another one gets its files. */
static void restart(struct vmm *vmm)
{
	end_daemon(vmm);
	begin_daemon(vmm);
	vmm->fe->dev.requested_size = REGION;
}

static void another_daemon_continues(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_ACK);
	restart(vmm);
	assert_int_equal(plugged(vmm), 2);
	/* The VMM kept its mappings. */
	start(vmm);
	assert_int_equal(vmm->nr_mapped, 2);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(vmm->nr_mapped, 0);
}

/* A daemon that gets one old and one new file. */
static void refuse_files(struct vmm *vmm, int memory_fd, int state_fd,
			 int error, const char *why)
{
	struct front_end *fe = vmm->fe;
	struct error err = {0};

	assert_int_equal(vmm_attach(&vmm->ours, fe->event, &fe->vu, memory_fd,
				    state_fd, REGION, BLOCK, SLOT, &err),
			 error);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

/*
 * The guest has blocks, but either the state that lists them or their contents
 * are missing.
 */
static void one_of_two_files_is_refused(void **state)
{
	struct vmm *vmm = *state;
	int new[] = {vmm_make_file("test"), vmm_make_file("test")};
	unsigned int fds;
	char text[4] = "";

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(pwrite(vmm->files[0], "used", 4, BLOCK), 4);
	end_daemon(vmm);
	fds = front_end_open_fds();
	/* A service manager retries with the same files. */
	for (int i = 0; i < 2; i++) {
		refuse_files(vmm, dup(vmm->files[0]), dup(new[1]), -EINVAL,
			     "no state");
		refuse_files(vmm, dup(new[0]), dup(vmm->files[1]), -EINVAL,
			     "memory is new");
	}
	assert_int_equal(front_end_open_fds(), fds);
	close(new[0]);
	close(new[1]);
	assert_int_equal(pread(vmm->files[0], text, 4, BLOCK), 4);
	assert_memory_equal(text, "used", 4);
	/* Both original files are still valid. */
	begin_daemon(vmm);
	start(vmm);
	assert_int_equal(plugged(vmm), 8);
}

/*
 * A daemon was killed before it initialized its state, or before its first use.
 */
static void files_without_contents_are_new(void **state)
{
	struct vmm *vmm = *state;

	end_daemon(vmm);
	close(vmm->files[1]);
	vmm->files[1] = vmm_make_file("test");
	begin_daemon(vmm);
	assert_false(vmm->ours.state.found);
	end_daemon(vmm);
	close(vmm->files[0]);
	vmm->files[0] = vmm_make_file("test");
	begin_daemon(vmm);
	assert_true(vmm->ours.state.found);
}

/* Files that cannot be read, written or resized. */
static void unusable_files_are_refused(void **state)
{
	struct vmm *vmm = *state;
	char path[64];
	int memory = vmm_make_file("test");
	int readable;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", memory);
	readable = open(path, O_RDONLY | O_CLOEXEC);
	assert_true(readable >= 0);
	end_daemon(vmm);
	refuse_files(vmm, -1, vmm_make_file("test"), -EBADF,
		     "\"memory\" descriptor: Bad file descriptor");
	refuse_files(vmm, readable, vmm_make_file("test"), -EINVAL,
		     "\"memory\" descriptor: Invalid argument");
	refuse_files(vmm, dup(memory), -1, -EINVAL, "\"state\" descriptor");
	assert_int_equal(ftruncate(memory, BLOCK), 0);
	refuse_files(vmm, memory, vmm_make_file("test"), -EINVAL,
		     "nor of the region's size");
	begin_daemon(vmm);
}

/*
 * The state may be on a file system that cannot seal it. What it had is known,
 * so the device is served, but nothing that is acknowledged would survive.
 */
static void a_state_that_is_truncated(void **state)
{
	struct vmm *vmm = *state;
	struct backing *backing = &vmm->ours.backing;
	struct error err;

	end_daemon(vmm);
	close(vmm->files[1]);
	vmm->files[1] = memfd_create("unsealed", MFD_CLOEXEC);
	assert_true(vmm->files[1] >= 0);
	begin_daemon(vmm);
	assert_int_equal(vmm_place(&vmm->ours, GPA, NULL), 0);
	virtio_mem_set_requested(&vmm->fe->dev, REGION);
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 3, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(backing->ops->set_requested(backing, GIB, &err), 0);
	assert_int_equal(ftruncate(vmm->files[1], 0), 0);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 1, 1, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 3);
	assert_int_equal(backing->ops->set_requested(backing, GIB, &err), -EIO);
	assert_non_null(strstr(err.text, "truncated"));
	/* For the other tests' end: files that belong together. */
	end_daemon(vmm);
	for (int i = 0; i < 2; i++) {
		close(vmm->files[i]);
		vmm->files[i] = vmm_make_file("test");
	}
	begin_daemon(vmm);
}

static void an_unneeded_mapping_is_removed(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	what = start_plug(vmm, &mmap);
	note_mapping(vmm, what, &mmap);
	restart(vmm);
	negotiate(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	do
		assert_true(asked(vmm, &what, &mmap, NULL));
	while (what == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_UNMAP);
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	/* Then the request is handled again. */
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 1);
}

static void a_lost_answer_is_given_once(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 3, 4, VIRTIO_MEM_RESP_ACK);
	restart(vmm);
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 3, 4, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 4);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 3, 4, VIRTIO_MEM_RESP_ERROR);
	restart(vmm);
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 3, 3, VIRTIO_MEM_RESP_ERROR);
}

/* cloud-hypervisor sends the channel last. */
static void the_queue_waits_for_its_channel(void **state)
{
	struct vmm *vmm = *state;

	negotiate_without_channel(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	front_end_give_channel(vmm->fe);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	/* Another front end, with a pending request and a mapping. */
	front_end_close(vmm->fe);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 1, 1);
	negotiate_without_channel(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	expect_no_answer(vmm);
	front_end_give_channel(vmm->fe);
	assert_int_equal(serve(vmm), 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
}

/*
 * The channel is lost before a request, or while a request waits for a mapping.
 */
static void requests_wait_for_a_lost_channel(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	start(vmm);
	close(vmm->fe->channel);
	vmm->fe->channel = -1;
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	front_end_give_channel(vmm->fe);
	/* Configuration changes may come in between. */
	do
		assert_true(asked(vmm, &what, &mmap, NULL));
	while (what != VHOST_USER_BACKEND_SHMEM_MAP);
	close(vmm->fe->channel);
	vmm->fe->channel = -1;
	expect_no_answer(vmm);
	assert_int_equal(plugged(vmm), 0);
	front_end_give_channel(vmm->fe);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 1);
	expect_no_answer(vmm);
}

/* The driver's kick may be handled before the front end's end is noticed. */
static void requests_wait_for_a_channel_that_fails(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	assert_int_equal(shutdown(vmm->fe->channel, SHUT_RD), 0);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	front_end_give_channel(vmm->fe);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	/* The next front end finds the request in the ring. */
	assert_int_equal(shutdown(vmm->fe->channel, SHUT_RD), 0);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1);
	expect_no_answer(vmm);
	front_end_close(vmm->fe);
	start(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
	expect_no_answer(vmm);
}

/* Wait for a request to map memory; notifications may come in between. */
static void expect_map(struct vmm *vmm, struct vhost_user_mmap *mmap)
{
	uint32_t what;

	do
		assert_true(asked(vmm, &what, mmap, NULL));
	while (what == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_MAP);
}

/*
 * The front end stops and starts the queue before it handles a request. It then
 * has two requests for the same mapping, and refuses the second one.
 */
static void a_request_before_a_stop_is_not_answered_twice(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap first, again, next;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2);
	expect_map(vmm, &first);
	front_end_stop_ring(vmm->fe);
	start_driver(vmm);
	expect_map(vmm, &again);
	assert_int_equal(again.shm_offset, first.shm_offset);
	reply(vmm, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	note_mapping(vmm, VHOST_USER_BACKEND_SHMEM_MAP, &first);
	send_table(vmm);
	expect_no_answer(vmm);
	assert_false(is_possible(vmm, VHOST_USER_BACKEND_SHMEM_MAP, &again));
	reply(vmm, VHOST_USER_BACKEND_SHMEM_MAP, 1);
	/* The mapping is there, so the request continues with the next one. */
	expect_map(vmm, &next);
	assert_int_equal(next.shm_offset, END_0 * BLOCK);
	reply(vmm, VHOST_USER_BACKEND_SHMEM_MAP, 0);
	note_mapping(vmm, VHOST_USER_BACKEND_SHMEM_MAP, &next);
	send_table(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
}

/* A new channel has no replies to requests on the old one. */
static void a_new_channel_begins_with_a_reply(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_map(vmm, &mmap);
	front_end_stop_ring(vmm->fe);
	front_end_give_channel(vmm->fe);
	start_driver(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
}

/*
 * Descriptors in flight are counted per user, so another process can use up
 * their number. The channel can be used again later.
 */
static void a_channel_outlives_a_lack_of_descriptors(void **state)
{
	struct vmm *vmm = *state;
	struct fd_crowd crowd;

	start(vmm);
	fd_crowd_begin(&crowd);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	fd_crowd_end(&crowd);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK),
		1);
}

static void persistent_suspend_is_not_offered(void **state)
{
	struct vmm *vmm = *state;

	front_end_connect(vmm->fe);
	assert_int_equal(front_end_get(vmm->fe, VHOST_USER_GET_FEATURES),
			 FE_OFFERED &
				 ~(1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND));
}

/* Call a function, and return the log messages. */
static void note(struct vmm *vmm, void (*call)(struct vmm *vmm), char *text,
		 size_t size)
{
	int pipe_fds[2], kept = dup(STDERR_FILENO);
	ssize_t len;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(pipe_fds[1], STDERR_FILENO);
	close(pipe_fds[1]);
	call(vmm);
	dup2(kept, STDERR_FILENO);
	close(kept);
	len = read(pipe_fds[0], text, size - 1);
	assert_true(len >= 0 || errno == EAGAIN);
	text[len > 0 ? len : 0] = '\0';
	close(pipe_fds[0]);
}

static void note_start(struct vmm *vmm, char *text, size_t size)
{
	note(vmm, start, text, size);
}

static void put_plug(struct vmm *vmm)
{
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
}

/* The log says for what a driver waits. */
static void a_wait_for_the_channel_is_logged(void **state)
{
	struct vmm *vmm = *state;
	char text[4096];

	negotiate_without_channel(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	note(vmm, put_plug, text, sizeof(text));
	assert_non_null(strstr(text, "backend channel"));
	expect_no_answer(vmm);
	front_end_give_channel(vmm->fe);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	note(vmm, put_plug, text, sizeof(text));
	assert_null(strstr(text, "backend channel"));
}

/* Let the back end's timer expire now. */
static void expire(struct vmm *vmm)
{
	int on = SD_EVENT_OFF;

	assert_true(sd_event_source_get_enabled(vmm->ours.timer, &on) >= 0);
	assert_int_equal(on, SD_EVENT_ONESHOT);
	timer_start(vmm->ours.timer, 0);
	assert_true(sd_event_run(vmm->fe->event, TIMER_USEC) > 0);
}

/* The log says that a front end does not answer; the answer still counts. */
static void a_missing_answer_is_logged(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	char text[4096];
	uint32_t what;

	what = start_plug(vmm, &mmap);
	note(vmm, expire, text, sizeof(text));
	assert_non_null(strstr(text, "a request to map memory for 10 s"));
	note(vmm, expire, text, sizeof(text));
	assert_non_null(strstr(text, "a request to map memory for 20 s"));
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	expire(vmm);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	note(vmm, expire, text, sizeof(text));
	assert_non_null(strstr(text, "a notification for 10 s"));
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
}

/* The service is stopped and started again without its files. */
static void lose_files(struct vmm *vmm)
{
	end_daemon(vmm);
	vmm->left = vmm->files[0];
	vmm->nr_left = vmm->nr_mapped;
	close(vmm->files[1]);
	for (int i = 0; i < 2; i++)
		vmm->files[i] = vmm_make_file("test");
	begin_daemon(vmm);
}

/* The same with blocks in two memslots, and a place for the region. */
static void lose_blocks(struct vmm *vmm)
{
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 8, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(pwrite(vmm->files[0], "used", 4, BLOCK), 4);
	lose_files(vmm);
	assert_int_equal(vmm_place(&vmm->ours, GPA, NULL), 0);
	assert_int_equal(plugged(vmm), 0);
}

static void assert_lost(struct vmm *vmm, uint64_t blocks)
{
	struct virtio_mem_config config;
	char text[4] = "";

	assert_true(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), blocks);
	front_end_config(vmm->fe, &config);
	assert_int_equal(config.plugged_size, blocks * BLOCK);
	assert_int_equal(config.usable_region_size, REGION);
	/* The guest's data is unchanged. */
	assert_int_equal(pread(vmm->left, text, 4, BLOCK), 4);
	assert_memory_equal(text, "used", 4);
}

/* The answers must not blame the guest. */
static void unknown_blocks_are_not_changed(void **state)
{
	struct vmm *vmm = *state;
	struct virtio_mem *dev = &vmm->fe->dev;
	char text[4096];

	note_start(vmm, text, sizeof(text));
	assert_null(strstr(text, "the state was lost"));
	front_end_close(vmm->fe);
	lose_blocks(vmm);
	note_start(vmm, text, sizeof(text));
	assert_non_null(strstr(text, "the state was lost: the VMM has 4 GiB"));
	/* Whole memslots are mapped; the guest may use any of their blocks. */
	assert_lost(vmm, END_1);
	assert_int_equal(vmm->nr_mapped, 2);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY),
		0);
	assert_non_null(strstr(dev->last_failure.text, "the state was lost"));
	virtio_mem_set_requested(dev, REGION);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 8, 8, VIRTIO_MEM_RESP_BUSY),
		0);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_1, 8,
				 VIRTIO_MEM_RESP_BUSY),
			 0);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 0, VIRTIO_MEM_RESP_ERROR);
	request(vmm, VIRTIO_MEM_REQ_STATE, 0, 8, VIRTIO_MEM_RESP_ACK);
	virtio_mem_sweep(dev);
	do
		work_begin_turn(&vmm->fe->access->work);
	while (virtio_mem_work(dev) > 0);
	/* A daemon killed now finds the same state again. */
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_lost(vmm, END_1);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY);
}

/*
 * The ring may be in unknown blocks, and is looked up before a driver is ready.
 */
static void unknown_blocks_can_be_accessed(void **state)
{
	struct vmm *vmm = *state;
	const struct virtio_mem *dev = &vmm->fe->dev;

	lose_blocks(vmm);
	negotiate(vmm, PROTOCOL_FEATURES);
	assert_int_equal(virtio_mem_accessible(dev, GPA, BLOCK), 0);
	send_table(vmm);
	assert_false(vmm->ours.running);
	assert_int_equal(virtio_mem_accessible(dev, GPA, REGION), 4 * GIB);
	assert_int_equal(virtio_mem_accessible(dev, GPA + 4 * GIB, BLOCK), 0);
}

/* Drop the mappings from the next memory table. */
static void drop_mappings(struct vmm *vmm)
{
	vmm->nr_left = 0;
	vmm->nr_mapped = 0;
}

/* Another device of the daemon, with a front end that shares no memory yet. */
static struct front_end *add_other(struct vmm *vmm)
{
	struct front_end *other =
		front_end_add(vmm->fe, GPA + 2 * REGION, GIB, BLOCK);

	virtio_mem_set_requested(&other->dev, GIB);
	front_end_connect(other);
	front_end_negotiate(other);
	return other;
}

static void share_at(struct front_end *other, uint64_t gpa, uint64_t uva)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = gpa, .size = FE_MEMORY, .uva = uva},
	};

	assert_int_equal(front_end_call(other, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &other->memory_fd, 1),
			 0);
}

static void put_to_other(struct front_end *other)
{
	front_end_put(other, VIRTIO_MEM_REQ_STATE, GPA + 2 * REGION, 1,
		      sizeof(struct virtio_mem_req),
		      sizeof(struct virtio_mem_resp));
}

static void expect_other_answered(struct front_end *other)
{
	struct virtio_mem_resp resp;

	front_end_run(other);
	assert_true(front_end_used(other, &resp));
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_ACK);
}

/* A guest may place its rings anywhere, also in unknown blocks. */
static void a_ring_may_be_in_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other;

	lose_blocks(vmm);
	other = add_other(vmm);
	share_at(other, GPA, FE_UVA);
	share_at(other, FE_GPA, 3 * FE_UVA);
	front_end_start_ring(other);
	put_to_other(other);
	front_end_kick(other);
	front_end_run(other);
	assert_false(other->vu.vring.mapped);
	start(vmm);
	assert_true(vmm->ours.backing.lost);
	expect_other_answered(other);
	front_end_free(other);
}

/* Move the pending request to @gpa. */
static void move_request(struct front_end *other, uint64_t gpa)
{
	struct vring_desc *desc =
		(struct vring_desc *)(other->memory + FE_DESC);

	for (int i = 0; i < FE_QUEUE_SIZE; i++)
		if (desc[i].addr)
			desc[i].addr =
				htole64(le64toh(desc[i].addr) - FE_GPA + gpa);
}

/*
 * Another device's request in a lost region whose table is not known yet.
 * @left: the lost memory is still mapped
 */
static struct front_end *put_into_unread(struct vmm *vmm, bool left)
{
	struct front_end *other;

	lose_blocks(vmm);
	if (!left)
		drop_mappings(vmm);
	other = add_other(vmm);
	share_at(other, FE_GPA, FE_UVA);
	share_at(other, GPA, 3 * FE_UVA);
	front_end_start_ring(other);
	put_to_other(other);
	move_request(other, GPA);
	front_end_kick(other);
	front_end_run(other);
	assert_false(other->vu.vring.broken);
	start(vmm);
	front_end_run(other);
	return other;
}

static void a_request_may_be_in_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other = put_into_unread(vmm, true);

	assert_true(vmm->ours.backing.lost);
	expect_other_answered(other);
	front_end_free(other);
}

/* Without mappings the request is the guest's fault. */
static void a_request_outside_unknown_blocks_breaks_its_queue(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other = put_into_unread(vmm, false);

	assert_false(vmm->ours.backing.lost);
	assert_true(other->vu.vring.broken);
	front_end_free(other);
}

/* A wrong place may be another device's memory. */
static void memory_of_other_devices_is_not_taken_for_lost(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other;

	lose_blocks(vmm);
	other = add_other(vmm);
	assert_int_equal(backing_note_file(&other->bitmap.backing, vmm->left),
			 0);
	start(vmm);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	front_end_free(other);
}

static void unplug_all_ends_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;
	struct virtio_mem *dev = &vmm->fe->dev;
	struct virtio_mem_config config;
	struct stat st;

	lose_blocks(vmm);
	start(vmm);
	virtio_mem_set_requested(dev, GIB);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 2);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_int_equal(plugged(vmm), 0);
	assert_false(vmm->ours.backing.lost);
	front_end_config(vmm->fe, &config);
	assert_int_equal(config.plugged_size, 0);
	assert_true(config.usable_region_size < REGION);
	/* Normal operation from here on. */
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK),
		1);
	assert_int_equal(plugged(vmm), 8);
	assert_int_equal(fstat(vmm->files[0], &st), 0);
	assert_int_equal(vmm->ours.backing.memory_ino, st.st_ino);
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 8);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* The table has parts of a mapping, which the front end does not unmap. */
static void parts_of_a_mapping_are_unmapped_as_a_whole(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	vmm->split = 0;
	start(vmm);
	assert_true(vmm->ours.backing.lost);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 2);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
}

/* The earlier daemon had smaller slots. */
static void mappings_of_other_slots_are_unmapped_as_listed(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	vmm->mapped[0].len = GIB / 2;
	vmm->mapped[1].len = GIB;
	start(vmm);
	assert_true(vmm->ours.backing.lost);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 3);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_false(vmm->ours.backing.lost);
}

static void a_system_reset_ends_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	assert_int_equal(virtio_mem_system_reset(&vmm->fe->dev), -EINPROGRESS);
	assert_int_equal(serve(vmm), 2);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_false(vmm->ours.backing.lost);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* @arg: the front end, as for all callbacks of the device. */
static void note_work(void *arg)
{
	struct front_end *fe = arg;

	fe->dev.work = NULL;
}

/* Blocks of the daemon's new file must be zero when they are plugged. */
static void owed_blocks_stay_owed_meanwhile(void **state)
{
	struct vmm *vmm = *state;
	const struct blocks *owed = &vmm->ours.backing.owed;
	char text[4] = "";

	lose_blocks(vmm);
	assert_int_equal(pwrite(vmm->files[0], "used", 4, 0), 4);
	backing_owe(&vmm->ours.backing, GPA, BLOCK);
	start(vmm);
	assert_true(vmm->ours.backing.lost);
	/* A block is never both plugged and owed. */
	assert_int_equal(blocks_count(owed, 0, END_1), 0);
	vmm->nr_left = 0;
	vmm->nr_mapped = 0;
	vmm->fe->dev.work = note_work;
	front_end_stop_ring(vmm->fe);
	send_table(vmm);
	assert_null(vmm->fe->dev.work);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(blocks_count(owed, 0, 1), 1);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	start_driver(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(pread(vmm->files[0], text, 4, 0), 4);
	assert_memory_equal(text, "\0\0\0\0", 4);
}

/* As after a VMM's reset, which drops all mappings. */
static void mappings_dropped_at_a_stop_end_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	front_end_stop_ring(vmm->fe);
	assert_lost(vmm, END_1);
	vmm->nr_left = 1;
	vmm->nr_mapped = 1;
	send_table(vmm);
	assert_lost(vmm, END_0);
	drop_mappings(vmm);
	start_driver(vmm);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* The mappings may also disappear before the stop. */
static void mappings_dropped_before_a_stop_end_unknown_blocks(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	drop_mappings(vmm);
	send_table(vmm);
	front_end_stop_ring(vmm->fe);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
}

/* A guest may disable the memory BAR for a moment and keeps its blocks. */
static void mappings_may_disappear_while_running(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap kept[2], mmap;
	uint32_t what;

	lose_blocks(vmm);
	start(vmm);
	memcpy(kept, vmm->mapped, sizeof(kept));
	drop_mappings(vmm);
	send_table(vmm);
	assert_lost(vmm, END_1);
	assert_false(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 8, 8, VIRTIO_MEM_RESP_BUSY),
		0);
	memcpy(vmm->mapped, kept, sizeof(kept));
	vmm->nr_left = 2;
	vmm->nr_mapped = 2;
	send_table(vmm);
	assert_lost(vmm, END_1);
	assert_false(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 2);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
}

/* Blocks can be unplugged while they have no mapping. */
static void unplug_all_works_without_mappings(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	drop_mappings(vmm);
	send_table(vmm);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 0);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* An unchanged table needs no walk over the sets of blocks. */
static void the_same_table_takes_no_work(void **state)
{
	struct vmm *vmm = *state;
	struct work work = {};

	lose_blocks(vmm);
	start(vmm);
	assert_lost(vmm, END_1);
	vmm->ours.backing.plugged.work = &work;
	vmm->ours.backing.owed.work = &work;
	vmm->ours.vu->shmem->memory(&vmm->ours);
	assert_int_equal(work.steps, 0);
	backing_count(&vmm->ours.backing, &vmm->fe->access->work);
}

static void mappings_that_stay_are_still_unknown(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	vmm->refuse = 0;
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_lost(vmm, END_1);
	/* One of the two mappings is removed. */
	vmm->refuse = GIB;
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 1);
	assert_lost(vmm, END_1);
	/* A daemon killed here still has to remove the other mapping. */
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_int_equal(plugged(vmm), END_1 - END_0);
	vmm->refuse = UINT64_MAX;
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 1);
	assert_false(vmm->ours.backing.lost);
}

/* Linux warns of an unexpected plugged size, but adopts it. */
static void config_changes_wait_for_known_blocks(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	lose_blocks(vmm);
	start(vmm);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	assert_false(asked(vmm, &what, &mmap, NULL));
	drop_mappings(vmm);
	send_table(vmm);
	assert_false(asked(vmm, &what, &mmap, NULL));
	put(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
}

/* There is no further request whose reply would end the wait. */
static void mappings_that_never_disappear_are_busy(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	struct virtio_mem_resp resp;
	uint32_t what;

	lose_blocks(vmm);
	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
	assert_true(asked(vmm, &what, &mmap, NULL));
	assert_int_equal(what, VHOST_USER_BACKEND_SHMEM_UNMAP);
	reply(vmm, what, 0);
	expect_no_answer(vmm);
	while (!front_end_used(vmm->fe, &resp)) {
		assert_false(asked(vmm, &what, &mmap, NULL));
		if (!front_end_run(vmm->fe))
			assert_true(sd_event_run(vmm->fe->event, TIMER_USEC) >
				    0);
	}
	assert_int_equal(le16toh(resp.type), VIRTIO_MEM_RESP_BUSY);
	assert_non_null(
		strstr(vmm->fe->dev.last_failure.text, "agreed to unmap"));
	assert_false(asked(vmm, &what, &mmap, NULL));
	assert_lost(vmm, END_1);
}

static void other_memory_is_not_taken_for_blocks(void **state)
{
	struct vmm *vmm = *state;

	/* Another address, or another part of a file. */
	lose_blocks(vmm);
	vmm->gpa = GPA + REGION;
	start(vmm);
	assert_false(vmm->ours.backing.lost);
	vmm->gpa = GPA - GIB;
	send_table(vmm);
	assert_false(vmm->ours.backing.lost);
	vmm->gpa = GPA + GIB;
	send_table(vmm);
	assert_false(vmm->ours.backing.lost);
	vmm->gpa = GPA;
	send_table(vmm);
	assert_true(vmm->ours.backing.lost);
}

/* At a wrong place, other memory may look like lost blocks. */
static void a_region_of_unknown_blocks_can_be_moved(void **state)
{
	struct vmm *vmm = *state;
	struct error err;

	lose_blocks(vmm);
	negotiate(vmm, PROTOCOL_FEATURES);
	send_table(vmm);
	assert_lost(vmm, END_1);
	assert_int_equal(vmm_place(&vmm->ours, GPA + REGION, &err), 0);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	assert_int_equal(vmm_place(&vmm->ours, GPA, &err), 0);
	assert_lost(vmm, END_1);
	/* The place cannot change while a driver uses the device. */
	start_driver(vmm);
	assert_int_equal(vmm_place(&vmm->ours, GPA + REGION, &err), -EBUSY);
	assert_lost(vmm, END_1);
}

/* The daemon's own blocks are known, whatever else a front end lists. */
static void foreign_mappings_do_not_make_a_state_lost(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 8, VIRTIO_MEM_RESP_ACK);
	vmm->left = vmm_make_file("other");
	assert_int_equal(ftruncate(vmm->left, (off_t)REGION), 0);
	vmm->mapped[1] = vmm->mapped[0];
	vmm->mapped[0] = (struct vhost_user_mmap){.len = GIB};
	vmm->nr_mapped = 2;
	vmm->nr_left = 1;
	send_table(vmm);
	assert_false(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), 8);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0, 8, VIRTIO_MEM_RESP_ACK);
}

/* An earlier driver may use a device whose place is unknown. */
static void without_a_place_requests_wait(void **state)
{
	struct vmm *vmm = *state;
	struct virtio_mem *dev = &vmm->fe->dev;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
	lose_files(vmm);
	start(vmm);
	virtio_mem_set_requested(dev, REGION);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 8, 8, VIRTIO_MEM_RESP_BUSY);
	assert_non_null(strstr(dev->last_failure.text, "vmemctl place"));
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 1);
	assert_int_equal(vmm_place(&vmm->ours, GPA, NULL), 0);
	assert_true(vmm->ours.backing.lost);
	assert_int_equal(plugged(vmm), END_0);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 8, 8, VIRTIO_MEM_RESP_ACK);
}

static void an_invalid_reply_ends_the_connection(void **state)
{
	struct vmm *vmm = *state;
	static const uint8_t junk[20] = {9, 0, 0, 0, 1, 0, 0, 0, 8};

	start(vmm);
	assert_int_equal(send(vmm->fe->channel, junk, sizeof(junk), 0),
			 sizeof(junk));
	assert_true(front_end_closed(vmm->fe));
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(slots_grow_up_to_the_end),
		CASE(the_region_is_offered_as_shared_memory),
		CASE(a_front_end_that_cannot_map_is_refused),
		CASE(the_first_block_of_a_slot_maps_it),
		CASE(populated_slots_are_counted),
		CASE(the_table_may_come_before_the_answer),
		CASE(the_last_block_of_a_slot_unmaps_it),
		CASE(several_slots_are_asked_for_one_by_one),
		CASE(a_refused_mapping_undoes_all),
		CASE(a_full_table_is_not_overflowed),
		CASE(a_longer_table_is_used_too),
		CASE(a_slot_may_be_listed_in_parts),
		CASE(a_hidden_slot_affects_no_other),
		CASE(a_correction_does_not_fail_a_change),
		CASE(a_change_is_followed_by_corrections),
		CASE(refused_corrections_become_rare),
		CASE(changes_bring_no_correction_forward),
		CASE(a_refused_undo_is_repeated_soon),
		CASE(a_table_ends_the_wait_for_a_retry),
		CASE(a_mapping_that_is_never_listed_is_busy),
		CASE(a_region_that_is_elsewhere_is_not_used),
		CASE(without_a_place_there_is_no_memory),
		CASE(nothing_is_sent_before_a_driver_is_ready),
		CASE(without_a_front_end_nothing_is_plugged),
		CASE(a_failed_discard_is_reported),
		CASE(dropped_mappings_are_restored_before_requests),
		CASE(a_pause_changes_nothing),
		CASE(a_stop_during_a_request_changes_nothing),
		CASE(another_daemon_continues),
		CASE(one_of_two_files_is_refused),
		CASE(files_without_contents_are_new),
		CASE(unusable_files_are_refused),
		CASE(a_state_that_is_truncated),
		CASE(an_unneeded_mapping_is_removed),
		CASE(a_lost_answer_is_given_once),
		CASE(the_queue_waits_for_its_channel),
		CASE(a_wait_for_the_channel_is_logged),
		CASE(a_missing_answer_is_logged),
		CASE(requests_wait_for_a_lost_channel),
		CASE(requests_wait_for_a_channel_that_fails),
		CASE(a_request_before_a_stop_is_not_answered_twice),
		CASE(a_new_channel_begins_with_a_reply),
		CASE(a_channel_outlives_a_lack_of_descriptors),
		CASE(persistent_suspend_is_not_offered),
		CASE(unknown_blocks_are_not_changed),
		CASE(unknown_blocks_can_be_accessed),
		CASE(a_ring_may_be_in_unknown_blocks),
		CASE(a_request_may_be_in_unknown_blocks),
		CASE(a_request_outside_unknown_blocks_breaks_its_queue),
		CASE(memory_of_other_devices_is_not_taken_for_lost),
		CASE(unplug_all_ends_unknown_blocks),
		CASE(parts_of_a_mapping_are_unmapped_as_a_whole),
		CASE(mappings_of_other_slots_are_unmapped_as_listed),
		CASE(a_system_reset_ends_unknown_blocks),
		CASE(owed_blocks_stay_owed_meanwhile),
		CASE(mappings_dropped_at_a_stop_end_unknown_blocks),
		CASE(mappings_dropped_before_a_stop_end_unknown_blocks),
		CASE(mappings_may_disappear_while_running),
		CASE(unplug_all_works_without_mappings),
		CASE(the_same_table_takes_no_work),
		CASE(mappings_that_stay_are_still_unknown),
		CASE(config_changes_wait_for_known_blocks),
		CASE(mappings_that_never_disappear_are_busy),
		CASE(other_memory_is_not_taken_for_blocks),
		CASE(a_region_of_unknown_blocks_can_be_moved),
		CASE(foreign_mappings_do_not_make_a_state_lost),
		CASE(without_a_place_requests_wait),
		CASE(an_invalid_reply_ends_the_connection),
	};

	return unit_run(tests, NULL, NULL);
}
