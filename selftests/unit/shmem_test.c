// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Memory that a front end maps, with the real back end: the front end here
 * behaves as QEMU 11.1 does. It answers what it is asked for before it carries
 * it out, and sends its memory table after that.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_ring.h>

#include "backing/vmm.h"
#include "fd_message.h"
#include "front_end.h"
#include "unit.h"

#define GPA    (15ULL << 40)
#define REGION (1024 * GIB)
#define SLOT   GIB
#define BLOCK  FE_BLOCK
/* The first slots end here, in blocks. */
#define END_0 (GIB / BLOCK)
#define END_1 (4 * GIB / BLOCK)

/* Longest wait for a timer of the back end's, far beyond what it takes. */
#define TIMER_USEC (60 * 1000000ULL)

#define PROTOCOL_FEATURES                                         \
	((FE_PROTOCOL_FEATURES &                                  \
	  ~(1ULL << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)) | \
	 1ULL << VHOST_USER_PROTOCOL_F_SHMEM)

/**
 * struct vmm - a front end that maps memory
 * @files: memory and state, as whoever starts the daemon keeps them
 * @left: memory of a daemon whose files nobody has kept, -1 if there was none
 * @mapped: offsets of mappings; @nr_mapped of them, of which the first @nr_left
 *	are of @left
 * @gpa: where its BAR is
 * @refuse: what is asked for at this offset is refused
 * @own: entries of its memory table that are its own memory
 */
struct vmm {
	struct front_end *fe;
	struct shmem shmem;
	int files[2];
	int left;
	unsigned int nr_left;
	struct vhost_user_mmap mapped[VHOST_USER_MEM_TABLE_SIZE];
	unsigned int nr_mapped;
	uint64_t gpa;
	uint64_t refuse;
	unsigned int own;
};

static void begin_daemon(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	struct error err;

	if (vmm_attach(&vmm->shmem, fe->event, &fe->vu, dup(vmm->files[0]),
		       dup(vmm->files[1]), REGION, BLOCK, SLOT, &err))
		fail_msg("%s", err.text);
	virtio_mem_start(&fe->dev, &vmm->shmem.backing,
			 vmm->shmem.state.header->requested_size,
			 vmm->shmem.state.header->used);
	/* Old memory is given back before it is waited for. */
	do
		work_begin_turn(&fe->access->work);
	while (virtio_mem_work(&fe->dev) > 0);
}

static void end_daemon(struct vmm *vmm)
{
	front_end_close(vmm->fe);
	virtio_mem_stop(&vmm->fe->dev);
	vmm_detach(&vmm->shmem);
}

static int set_up(void **state)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	assert_non_null(vmm);
	front_end_set_up(state);
	vmm->fe = *state;
	/* It is not offered where memory does not survive a reset. */
	vmm->fe->features &= ~(1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND);
	virtio_mem_stop(&vmm->fe->dev);
	for (int i = 0; i < 2; i++) {
		vmm->files[i] = vmm_make_file("test");
		assert_true(vmm->files[i] >= 0);
	}
	vmm->left = -1;
	vmm->gpa = GPA;
	vmm->refuse = UINT64_MAX;
	vmm->own = 1;
	begin_daemon(vmm);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, NULL), 0);
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

/* The memory table: own memory, then mappings, each with its own descriptor. */
static void send_table(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	struct vhost_user_mem_table table = {.nr = vmm->own + vmm->nr_mapped};
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
		table.regions[vmm->own + i] = (struct vhost_user_region){
			.gpa = vmm->gpa + vmm->mapped[i].shm_offset,
			.size = vmm->mapped[i].len,
			.uva = 2 * FE_UVA + vmm->mapped[i].shm_offset,
			.mmap_offset = vmm->mapped[i].fd_offset,
		};
		fds[vmm->own + i] =
			i < vmm->nr_left ? vmm->left : vmm->files[0];
	}
	assert_int_equal(
		front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
			       offsetof(struct vhost_user_mem_table, regions) +
				       table.nr * sizeof(table.regions[0]),
			       fds, table.nr),
		0);
}

static void give_channel(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	int channel[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
	if (fe->channel >= 0)
		close(fe->channel);
	fe->channel = channel[0];
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL,
					0, &channel[1], 1),
			 0);
	close(channel[1]);
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
		give_channel(vmm);
}

/* A driver starts to work the queue. */
static void start_driver(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;

	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	send_table(vmm);
	front_end_start_ring(fe);
}

/* What the back end asks for. Return: whether it does; @fd may be NULL. */
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

static void note_mapping(struct vmm *vmm, uint32_t request,
			 const struct vhost_user_mmap *mmap)
{
	unsigned int i = 0;

	if (request == VHOST_USER_BACKEND_SHMEM_MAP) {
		vmm->mapped[vmm->nr_mapped++] = *mmap;
		return;
	}
	while (i < vmm->nr_mapped &&
	       vmm->mapped[i].shm_offset != mmap->shm_offset)
		i++;
	assert_true(i < vmm->nr_mapped);
	assert_int_equal(vmm->mapped[i].len, mmap->len);
	if (i < vmm->nr_left)
		vmm->nr_left--;
	vmm->nr_mapped--;
	memmove(&vmm->mapped[i], &vmm->mapped[i + 1],
		(vmm->nr_mapped - i) * sizeof(vmm->mapped[0]));
}

/* Do all that the back end asks for. Return: how often it asked. */
static unsigned int serve(struct vmm *vmm)
{
	struct vhost_user_mmap mmap;
	unsigned int nr = 0;
	uint32_t request;

	while (asked(vmm, &request, &mmap, NULL)) {
		if (request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
			continue;
		nr++;
		if (mmap.shm_offset == vmm->refuse) {
			reply(vmm, request, 1);
			continue;
		}
		reply(vmm, request, 0);
		note_mapping(vmm, request, &mmap);
		send_table(vmm);
	}
	return nr;
}

/* A front end and a driver that are there; what they are told is taken. */
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

/* A request, with all that it takes. Return: how often the VMM was asked. */
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
	return vmm->shmem.backing.plugged.set;
}

static void slots_grow_up_to_the_end(void **state)
{
	const struct vmm *vmm = *state;
	static const uint64_t ends[] = {1, 4, 16, 64, 256, 1024};
	uint64_t offset = 0;

	assert_int_equal(vmm->shmem.nr_slots, 6);
	for (unsigned int i = 0; i < 6; i++) {
		assert_int_equal(vmm->shmem.slots[i].offset, offset);
		offset += vmm->shmem.slots[i].size;
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
	/* Said is not done: the guest is told when the table has it. */
	reply(vmm, what, 0);
	expect_no_answer(vmm);
	note_mapping(vmm, what, &mmap);
	send_table(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
	/* Others in it need nothing. */
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 + 9, 1,
				 VIRTIO_MEM_RESP_ACK),
			 0);
}

/* Plug the first block. Return: what the front end is asked for, with @mmap. */
static uint32_t start_plug(struct vmm *vmm, struct vhost_user_mmap *mmap)
{
	uint32_t what;

	start(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	assert_true(asked(vmm, &what, mmap, NULL));
	return what;
}

static void a_table_before_the_answer_does_as_well(void **state)
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
	/* Not discarded while the guest could still touch it. */
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
		assert_int_equal(mmap.shm_offset, vmm->shmem.slots[i].offset);
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

static void when_one_is_refused_all_is_undone(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	vmm->refuse = 4 * GIB;
	/* Two are mapped, the third is not, two are unmapped. */
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1,
				 END_1 - END_0 + 2, VIRTIO_MEM_RESP_BUSY),
			 5);
	assert_int_equal(plugged(vmm), 0);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_non_null(strstr(vmm->fe->dev.last_failure, "refuses to map"));
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
	assert_non_null(strstr(vmm->fe->dev.last_failure, "table is full"));
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
	/* Its timer asks for something else, whose reply is the last word. */
	while (!asked(vmm, &what, &mmap, NULL))
		assert_true(sd_event_run(vmm->fe->event, TIMER_USEC) > 0);
	assert_int_equal(what, VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
	expect_no_answer(vmm);
	reply(vmm, what, 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
	assert_non_null(strstr(vmm->fe->dev.last_failure, "agreed to map"));
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
	assert_non_null(strstr(vmm->fe->dev.last_failure, "0xe0000000000"));
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
	assert_int_equal(vmm_place(&vmm->shmem, GPA + 1, &err), -EINVAL);
	assert_int_equal(vmm_place(&vmm->shmem, -REGION + BLOCK, &err),
			 -EINVAL);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, &err), 0);
	config_of(vmm, &config);
	assert_int_equal(le64toh(config.addr), GPA);
	assert_int_equal(le64toh(config.region_size), REGION);
	assert_int_equal(le64toh(config.requested_size), GIB);
	/* It may be another while nobody uses it. */
	assert_int_equal(vmm_place(&vmm->shmem, GPA + GIB, &err), 0);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, &err), 0);
	start_driver(vmm);
	assert_int_equal(vmm_place(&vmm->shmem, GPA + GIB, &err), -EBUSY);
	/* And it lasts. */
	end_daemon(vmm);
	begin_daemon(vmm);
	assert_true(vmm->shmem.backing.placed);
	assert_int_equal(vmm->shmem.backing.gpa, GPA);
}

/* QEMU 11.1 crashes on what it gets before. */
static void nothing_is_said_before_a_driver_is_there(void **state)
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
	struct backing *backing = &vmm->shmem.backing;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(backing_plug(backing, GPA, BLOCK), -ENOTCONN);
		assert_string_equal(backing->reason,
				    "no front end to map memory");
		assert_int_equal(backing->plugged.set, 0);
		assert_false(vmm->shmem.change.active);
		start(vmm);
		front_end_close(vmm->fe);
	}
}

/* Memory that is still there must not count as given back. */
static void a_discard_that_fails_is_told(void **state)
{
	struct vmm *vmm = *state;
	struct backing *backing = &vmm->shmem.backing;

	assert_int_equal(backing_discard(backing, GPA, BLOCK), 0);
	assert_int_equal(fcntl(vmm->files[0], F_ADD_SEALS, F_SEAL_WRITE), 0);
	backing->reason[0] = '\0';
	assert_int_equal(backing_discard(backing, GPA, BLOCK), -EPERM);
	assert_non_null(strstr(backing->reason, strerror(EPERM)));
}

static void what_a_reset_dropped_is_mapped_before_requests(void **state)
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

static void a_stop_in_the_middle_changes_nothing(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;

	assert_int_equal(start_plug(vmm, &mmap), VHOST_USER_BACKEND_SHMEM_MAP);
	front_end_stop_ring(vmm->fe);
	assert_int_equal(plugged(vmm), 0);
	assert_false(virtio_mem_busy(&vmm->fe->dev));
	/* Nor does anybody think that it was plugged. */
	assert_int_equal(vmm->shmem.change.result, -ENOTCONN);
	/* The request is still in the queue. */
	start_driver(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
}

/* The daemon is gone at once, and another one has its files. */
static void restart(struct vmm *vmm)
{
	end_daemon(vmm);
	begin_daemon(vmm);
	vmm->fe->dev.requested_size = REGION;
}

static void another_daemon_goes_on(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_ACK);
	restart(vmm);
	assert_int_equal(plugged(vmm), 2);
	/* The VMM has kept its mappings. */
	start(vmm);
	assert_int_equal(vmm->nr_mapped, 2);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0 - 1, 2, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(vmm->nr_mapped, 0);
}

/* A daemon that is given one file of before, and one that is not of it. */
static void refuse_files(struct vmm *vmm, int memory_fd, int state_fd,
			 const char *why)
{
	struct front_end *fe = vmm->fe;
	struct error err = {0};

	assert_int_equal(vmm_attach(&vmm->shmem, fe->event, &fe->vu, memory_fd,
				    state_fd, REGION, BLOCK, SLOT, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, why));
}

/* The guest has blocks of it, and nothing says which, or no contents of them. */
static void half_of_the_files_is_refused(void **state)
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
	/* A service manager tries again with the same ones. */
	for (int i = 0; i < 2; i++) {
		refuse_files(vmm, dup(vmm->files[0]), dup(new[1]), "no state");
		refuse_files(vmm, dup(new[0]), dup(vmm->files[1]),
			     "memory is new");
	}
	assert_int_equal(front_end_open_fds(), fds);
	close(new[0]);
	close(new[1]);
	assert_int_equal(pread(vmm->files[0], text, 4, BLOCK), 4);
	assert_memory_equal(text, "used", 4);
	/* Both of them are as good as before. */
	begin_daemon(vmm);
	start(vmm);
	assert_int_equal(plugged(vmm), 8);
}

/* A daemon was killed before it had made its state, or before it was used. */
static void files_without_contents_are_new(void **state)
{
	struct vmm *vmm = *state;

	end_daemon(vmm);
	close(vmm->files[1]);
	vmm->files[1] = vmm_make_file("test");
	begin_daemon(vmm);
	assert_false(vmm->shmem.state.found);
	end_daemon(vmm);
	close(vmm->files[0]);
	vmm->files[0] = vmm_make_file("test");
	begin_daemon(vmm);
	assert_true(vmm->shmem.state.found);
}

static void a_slot_that_was_mapped_in_vain_is_unmapped(void **state)
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
	/* Then the request comes again. */
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 1);
}

static void an_answer_that_was_lost_is_given_once(void **state)
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

/* cloud-hypervisor gives it last. */
static void the_queue_waits_for_its_channel(void **state)
{
	struct vmm *vmm = *state;

	negotiate_without_channel(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	give_channel(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	/* Another front end, with a request and a mapping that are there. */
	front_end_close(vmm->fe);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 1, 1);
	negotiate_without_channel(vmm, PROTOCOL_FEATURES);
	start_driver(vmm);
	expect_no_answer(vmm);
	give_channel(vmm);
	assert_int_equal(serve(vmm), 0);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
}

/* It is lost before a request, or while one waits for a mapping. */
static void a_channel_that_is_lost_is_waited_for(void **state)
{
	struct vmm *vmm = *state;
	struct vhost_user_mmap mmap;
	uint32_t what;

	start(vmm);
	close(vmm->fe->channel);
	vmm->fe->channel = -1;
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	give_channel(vmm);
	/* There is news of the configuration besides. */
	do
		assert_true(asked(vmm, &what, &mmap, NULL));
	while (what != VHOST_USER_BACKEND_SHMEM_MAP);
	close(vmm->fe->channel);
	vmm->fe->channel = -1;
	expect_no_answer(vmm);
	assert_int_equal(plugged(vmm), 0);
	give_channel(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 1);
	expect_no_answer(vmm);
}

/* The driver kicks before its front end's end is noticed; either may be first. */
static void a_channel_that_takes_nothing_is_waited_for(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	assert_int_equal(shutdown(vmm->fe->channel, SHUT_RD), 0);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_no_answer(vmm);
	give_channel(vmm);
	assert_int_equal(serve(vmm), 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	/* The next front end finds it in the ring. */
	assert_int_equal(shutdown(vmm->fe->channel, SHUT_RD), 0);
	put(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 1);
	expect_no_answer(vmm);
	front_end_close(vmm->fe);
	start(vmm);
	expect_answer(vmm, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(plugged(vmm), 2);
	expect_no_answer(vmm);
}

static void a_suspend_is_not_promised(void **state)
{
	struct vmm *vmm = *state;

	front_end_connect(vmm->fe);
	assert_int_equal(front_end_get(vmm->fe, VHOST_USER_GET_FEATURES),
			 FE_OFFERED &
				 ~(1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND));
}

/* What a start says on standard error. */
static void note_start(struct vmm *vmm, char *text, size_t size)
{
	int pipe_fds[2], kept = dup(STDERR_FILENO);
	ssize_t len;

	assert_int_equal(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
	dup2(pipe_fds[1], STDERR_FILENO);
	close(pipe_fds[1]);
	start(vmm);
	dup2(kept, STDERR_FILENO);
	close(kept);
	len = read(pipe_fds[0], text, size - 1);
	assert_true(len >= 0);
	text[len] = '\0';
	close(pipe_fds[0]);
}

/* The service is stopped, and started again without its files. */
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

/* The same, with blocks in two slots, and a place for the region. */
static void lose_blocks(struct vmm *vmm)
{
	start(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_PLUG, END_0, 8, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(pwrite(vmm->files[0], "used", 4, BLOCK), 4);
	lose_files(vmm);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, NULL), 0);
	assert_int_equal(plugged(vmm), 0);
}

static void assert_lost(struct vmm *vmm, uint64_t blocks)
{
	struct virtio_mem_config config;
	char text[4] = "";

	assert_true(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), blocks);
	front_end_config(vmm->fe, &config);
	assert_int_equal(config.plugged_size, blocks * BLOCK);
	assert_int_equal(config.usable_region_size, REGION);
	/* What the guest has written is there, and no more has been. */
	assert_int_equal(pread(vmm->left, text, 4, BLOCK), 4);
	assert_memory_equal(text, "used", 4);
}

/* The guest is not to be taken for the one at fault. */
static void blocks_that_are_not_known_are_left_alone(void **state)
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
	/* Whole slots are mapped, and any block of them may be the guest's. */
	assert_lost(vmm, END_1);
	assert_int_equal(vmm->nr_mapped, 2);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY),
		0);
	assert_non_null(strstr(dev->last_failure, "the state was lost"));
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
	/* Killed now, with its files, the daemon finds the same again. */
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_lost(vmm, END_1);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY);
}

/* The ring may be in them, and is looked for before a driver is there. */
static void blocks_that_are_not_known_can_be_reached(void **state)
{
	struct vmm *vmm = *state;
	const struct virtio_mem *dev = &vmm->fe->dev;

	lose_blocks(vmm);
	negotiate(vmm, PROTOCOL_FEATURES);
	assert_int_equal(virtio_mem_accessible(dev, GPA, BLOCK), 0);
	send_table(vmm);
	assert_false(vmm->shmem.running);
	assert_int_equal(virtio_mem_accessible(dev, GPA, REGION), 4 * GIB);
	assert_int_equal(virtio_mem_accessible(dev, GPA + 4 * GIB, BLOCK), 0);
}

/* The mappings are not in the next table. */
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

/* A guest may have its rings anywhere, also in what was lost. */
static void a_ring_in_unknown_blocks_waits_for_them(void **state)
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
	assert_true(vmm->shmem.backing.lost);
	expect_other_answered(other);
	front_end_free(other);
}

/* Have the request that was put be at @gpa. */
static void move_request(struct front_end *other, uint64_t gpa)
{
	struct vring_desc *desc =
		(struct vring_desc *)(other->memory + FE_DESC);

	for (int i = 0; i < FE_QUEUE_SIZE; i++)
		if (desc[i].addr)
			desc[i].addr =
				htole64(le64toh(desc[i].addr) - FE_GPA + gpa);
}

/* @left: what was lost is still mapped */
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

static void a_request_in_unknown_blocks_waits_for_them(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other = put_into_unread(vmm, true);

	assert_true(vmm->shmem.backing.lost);
	expect_other_answered(other);
	front_end_free(other);
}

/* Then it is the guest's fault. */
static void a_request_in_no_blocks_breaks_its_queue_later(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other = put_into_unread(vmm, false);

	assert_false(vmm->shmem.backing.lost);
	assert_true(other->vu.vring.broken);
	front_end_free(other);
}

/* A place that is wrong may be another device's. */
static void memory_of_other_devices_is_not_left(void **state)
{
	struct vmm *vmm = *state;
	struct front_end *other;

	lose_blocks(vmm);
	other = add_other(vmm);
	assert_int_equal(backing_note_file(&other->bitmap.backing, vmm->left),
			 0);
	start(vmm);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	front_end_free(other);
}

static void unplug_all_makes_them_known(void **state)
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
	assert_false(vmm->shmem.backing.lost);
	front_end_config(vmm->fe, &config);
	assert_int_equal(config.plugged_size, 0);
	assert_true(config.usable_region_size < REGION);
	/* From here on as ever. */
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_ERROR);
	assert_int_equal(
		request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK),
		1);
	assert_int_equal(plugged(vmm), 8);
	assert_int_equal(fstat(vmm->files[0], &st), 0);
	assert_int_equal(vmm->shmem.backing.memory_ino, st.st_ino);
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 8);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

static void a_system_reset_makes_them_known(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	assert_int_equal(virtio_mem_system_reset(&vmm->fe->dev), -EINPROGRESS);
	assert_int_equal(serve(vmm), 2);
	assert_int_equal(vmm->nr_mapped, 0);
	assert_false(vmm->shmem.backing.lost);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* @arg: the front end, as for all that the device says. */
static void note_work(void *arg)
{
	struct front_end *fe = arg;

	fe->dev.work = NULL;
}

/* Blocks of our own file, which are to be zero when they are plugged. */
static void what_is_owed_stays_so_meanwhile(void **state)
{
	struct vmm *vmm = *state;
	const struct blocks *owed = &vmm->shmem.backing.owed;
	char text[4] = "";

	lose_blocks(vmm);
	assert_int_equal(pwrite(vmm->files[0], "used", 4, 0), 4);
	backing_owe(&vmm->shmem.backing, GPA, BLOCK);
	start(vmm);
	assert_true(vmm->shmem.backing.lost);
	/* A block is plugged or owed, and never both. */
	assert_int_equal(blocks_count(owed, 0, END_1), 0);
	vmm->nr_left = 0;
	vmm->nr_mapped = 0;
	vmm->fe->dev.work = note_work;
	front_end_stop_ring(vmm->fe);
	send_table(vmm);
	assert_null(vmm->fe->dev.work);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(blocks_count(owed, 0, 1), 1);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	start_driver(vmm);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(pread(vmm->files[0], text, 4, 0), 4);
	assert_memory_equal(text, "\0\0\0\0", 4);
}

/* As a VMM's reset, which drops all of them. */
static void what_is_gone_at_a_stop_is_no_blocks(void **state)
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
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* Or before it. */
static void what_was_gone_before_a_stop_is_no_blocks(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	drop_mappings(vmm);
	send_table(vmm);
	front_end_stop_ring(vmm->fe);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
}

/* A guest that turns the device's memory off for a moment has its blocks. */
static void a_table_without_them_ends_nothing(void **state)
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
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
}

/* What the guest unplugs while they are not there is unplugged as well. */
static void without_mappings_all_can_be_unplugged(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	drop_mappings(vmm);
	send_table(vmm);
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 0);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	virtio_mem_set_requested(&vmm->fe->dev, GIB);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 0, 8, VIRTIO_MEM_RESP_ACK);
}

/* Nobody walks over sets of blocks for what is known. */
static void the_same_table_takes_no_work(void **state)
{
	struct vmm *vmm = *state;
	struct work work = {};

	lose_blocks(vmm);
	start(vmm);
	assert_lost(vmm, END_1);
	vmm->shmem.backing.plugged.work = &work;
	vmm->shmem.backing.owed.work = &work;
	vmm->shmem.vu->shmem->memory(&vmm->shmem);
	assert_int_equal(work.steps, 0);
	backing_count(&vmm->shmem.backing, &vmm->fe->access->work);
}

static void what_is_not_given_up_stays_unknown(void **state)
{
	struct vmm *vmm = *state;

	lose_blocks(vmm);
	start(vmm);
	vmm->refuse = 0;
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_lost(vmm, END_1);
	/* One of two is. */
	vmm->refuse = GIB;
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 1);
	assert_lost(vmm, END_1);
	/* Killed there, the daemon has the other one still to do. */
	end_daemon(vmm);
	begin_daemon(vmm);
	start(vmm);
	assert_int_equal(plugged(vmm), END_1 - END_0);
	vmm->refuse = UINT64_MAX;
	assert_int_equal(request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0,
				 VIRTIO_MEM_RESP_ACK),
			 1);
	assert_false(vmm->shmem.backing.lost);
}

/* Linux would warn of a plugged size that it does not expect, and believe it. */
static void news_wait_until_they_are_known(void **state)
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

/* Nor is it asked for as a last word. */
static void what_is_never_given_up_is_busy(void **state)
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
	assert_non_null(strstr(vmm->fe->dev.last_failure, "agreed to unmap"));
	assert_false(asked(vmm, &what, &mmap, NULL));
	assert_lost(vmm, END_1);
}

static void other_memory_is_not_taken_for_blocks(void **state)
{
	struct vmm *vmm = *state;

	/* Somewhere else, or another part of a file. */
	lose_blocks(vmm);
	vmm->gpa = GPA + REGION;
	start(vmm);
	assert_false(vmm->shmem.backing.lost);
	vmm->gpa = GPA - GIB;
	send_table(vmm);
	assert_false(vmm->shmem.backing.lost);
	vmm->gpa = GPA + GIB;
	send_table(vmm);
	assert_false(vmm->shmem.backing.lost);
	vmm->gpa = GPA;
	send_table(vmm);
	assert_true(vmm->shmem.backing.lost);
}

/* Where it was said to be by mistake, other memory may seem to be left. */
static void a_region_of_unknown_blocks_can_be_moved(void **state)
{
	struct vmm *vmm = *state;
	struct error err;

	lose_blocks(vmm);
	negotiate(vmm, PROTOCOL_FEATURES);
	send_table(vmm);
	assert_lost(vmm, END_1);
	assert_int_equal(vmm_place(&vmm->shmem, GPA + REGION, &err), 0);
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 0);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, &err), 0);
	assert_lost(vmm, END_1);
	/* But not under a driver. */
	start_driver(vmm);
	assert_int_equal(vmm_place(&vmm->shmem, GPA + REGION, &err), -EBUSY);
	assert_lost(vmm, END_1);
}

/* Blocks of ours are known, whatever else a front end lists. */
static void a_state_that_is_there_is_not_lost(void **state)
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
	assert_false(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), 8);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, END_0, 8, VIRTIO_MEM_RESP_ACK);
}

/* A driver of before may work a device that was not told where it is. */
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
	assert_non_null(strstr(dev->last_failure, "vmemctl place"));
	request(vmm, VIRTIO_MEM_REQ_UNPLUG, 0, 8, VIRTIO_MEM_RESP_BUSY);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_BUSY);
	assert_int_equal(vmm->nr_mapped, 1);
	assert_int_equal(vmm_place(&vmm->shmem, GPA, NULL), 0);
	assert_true(vmm->shmem.backing.lost);
	assert_int_equal(plugged(vmm), END_0);
	request(vmm, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, VIRTIO_MEM_RESP_ACK);
	request(vmm, VIRTIO_MEM_REQ_PLUG, 8, 8, VIRTIO_MEM_RESP_ACK);
}

static void what_is_no_reply_ends_the_connection(void **state)
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
		CASE(a_table_before_the_answer_does_as_well),
		CASE(the_last_block_of_a_slot_unmaps_it),
		CASE(several_slots_are_asked_for_one_by_one),
		CASE(when_one_is_refused_all_is_undone),
		CASE(a_full_table_is_not_overflowed),
		CASE(a_mapping_that_is_never_listed_is_busy),
		CASE(a_region_that_is_elsewhere_is_not_used),
		CASE(without_a_place_there_is_no_memory),
		CASE(nothing_is_said_before_a_driver_is_there),
		CASE(without_a_front_end_nothing_is_plugged),
		CASE(a_discard_that_fails_is_told),
		CASE(what_a_reset_dropped_is_mapped_before_requests),
		CASE(a_pause_changes_nothing),
		CASE(a_stop_in_the_middle_changes_nothing),
		CASE(another_daemon_goes_on),
		CASE(half_of_the_files_is_refused),
		CASE(files_without_contents_are_new),
		CASE(a_slot_that_was_mapped_in_vain_is_unmapped),
		CASE(an_answer_that_was_lost_is_given_once),
		CASE(the_queue_waits_for_its_channel),
		CASE(a_channel_that_is_lost_is_waited_for),
		CASE(a_channel_that_takes_nothing_is_waited_for),
		CASE(a_suspend_is_not_promised),
		CASE(blocks_that_are_not_known_are_left_alone),
		CASE(blocks_that_are_not_known_can_be_reached),
		CASE(a_ring_in_unknown_blocks_waits_for_them),
		CASE(a_request_in_unknown_blocks_waits_for_them),
		CASE(a_request_in_no_blocks_breaks_its_queue_later),
		CASE(memory_of_other_devices_is_not_left),
		CASE(unplug_all_makes_them_known),
		CASE(a_system_reset_makes_them_known),
		CASE(what_is_owed_stays_so_meanwhile),
		CASE(what_is_gone_at_a_stop_is_no_blocks),
		CASE(what_was_gone_before_a_stop_is_no_blocks),
		CASE(a_table_without_them_ends_nothing),
		CASE(without_mappings_all_can_be_unplugged),
		CASE(the_same_table_takes_no_work),
		CASE(what_is_not_given_up_stays_unknown),
		CASE(news_wait_until_they_are_known),
		CASE(what_is_never_given_up_is_busy),
		CASE(other_memory_is_not_taken_for_blocks),
		CASE(a_region_of_unknown_blocks_can_be_moved),
		CASE(a_state_that_is_there_is_not_lost),
		CASE(without_a_place_requests_wait),
		CASE(what_is_no_reply_ends_the_connection),
	};

	return unit_run(tests, NULL, NULL);
}
