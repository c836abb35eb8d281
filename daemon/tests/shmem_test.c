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

#include "fd_message.h"
#include "front_end.h"
#include "shmem.h"
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
 * @mapped: offsets of mappings; @nr_mapped of them
 * @gpa: where its BAR is
 * @refuse: mappings at this offset are refused
 * @own: entries of its memory table that are its own memory
 */
struct vmm {
	struct front_end *fe;
	struct shmem shmem;
	int files[2];
	struct vhost_user_mmap mapped[VHOST_USER_MEM_TABLE_SIZE];
	unsigned int nr_mapped;
	uint64_t gpa;
	uint64_t refuse;
	unsigned int own;
};

static void begin_daemon(struct vmm *vmm)
{
	struct front_end *fe = vmm->fe;
	char text[256];

	if (shmem_attach(&vmm->shmem, fe->event, &fe->vu, dup(vmm->files[0]),
			 dup(vmm->files[1]), REGION, BLOCK, SLOT, text,
			 sizeof(text)))
		fail_msg("%s", text);
	virtio_mem_start(&fe->dev, &vmm->shmem.backing,
			 vmm->shmem.state.header->requested_size,
			 vmm->shmem.state.header->used);
	/* Old memory is given back before it is waited for. */
	while (virtio_mem_work(&vmm->fe->dev) > 0)
		;
}

static void end_daemon(struct vmm *vmm)
{
	front_end_close(vmm->fe);
	virtio_mem_stop(&vmm->fe->dev);
	shmem_detach(&vmm->shmem);
}

static int set_up(void **state)
{
	struct vmm *vmm = calloc(1, sizeof(*vmm));

	assert_non_null(vmm);
	front_end_set_up(state);
	vmm->fe = *state;
	virtio_mem_stop(&vmm->fe->dev);
	for (int i = 0; i < 2; i++) {
		vmm->files[i] = shmem_make_file("test");
		assert_true(vmm->files[i] >= 0);
	}
	vmm->gpa = GPA;
	vmm->refuse = UINT64_MAX;
	vmm->own = 1;
	begin_daemon(vmm);
	assert_int_equal(shmem_place(&vmm->shmem, GPA, NULL, 0), 0);
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
		fds[vmm->own + i] = vmm->files[0];
	}
	assert_int_equal(
		front_end_call(fe, VHOST_USER_SET_MEM_TABLE, &table,
			       offsetof(struct vhost_user_mem_table, regions) +
				       table.nr * sizeof(table.regions[0]),
			       fds, table.nr),
		0);
}

static void negotiate(struct vmm *vmm, uint64_t protocol_features)
{
	struct front_end *fe = vmm->fe;
	int channel[2];

	front_end_connect(fe);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_PROTOCOL_FEATURES),
			 PROTOCOL_FEATURES);
	front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
		       &protocol_features, sizeof(protocol_features), NULL, 0);
	if (protocol_features != PROTOCOL_FEATURES)
		return;
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel), 0);
	fe->channel = channel[0];
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_BACKEND_REQ_FD, NULL,
					0, &channel[1], 1),
			 0);
	close(channel[1]);
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
	vmm->mapped[i] = vmm->mapped[--vmm->nr_mapped];
}

/* Do all that the back end asks for. Return: how often it asked. */
static unsigned int serve(struct vmm *vmm)
{
	struct vhost_user_mmap mmap;
	unsigned int nr = 0;
	uint32_t request;

	while (asked(vmm, &request, &mmap, NULL)) {
		bool map = request == VHOST_USER_BACKEND_SHMEM_MAP;

		if (request == VHOST_USER_BACKEND_CONFIG_CHANGE_MSG)
			continue;
		nr++;
		if (map && mmap.shm_offset == vmm->refuse) {
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
	assert_int_equal(shmem_default_slot(1024 * GIB, BLOCK), GIB);
	assert_int_equal(shmem_default_slot(1025 * GIB, BLOCK), 2 * GIB);
	assert_int_equal(shmem_default_slot(GIB, BLOCK), 128ULL << 20);
	assert_int_equal(shmem_default_slot(64ULL << 20, BLOCK), 64ULL << 20);
	assert_int_equal(shmem_default_slot(64 * GIB, GIB), GIB);
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
	assert_non_null(strstr(vmm->fe->dev.last_failure, "does not list"));
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
	char text[256];

	end_daemon(vmm);
	assert_int_equal(ftruncate(vmm->files[1], 0), 0);
	begin_daemon(vmm);
	vmm->fe->dev.requested_size = GIB;
	negotiate(vmm, PROTOCOL_FEATURES);
	assert_false(vmm->fe->dev.asked_early);
	config_of(vmm, &config);
	assert_int_equal(config.region_size, 0);
	assert_int_equal(config.requested_size, 0);
	assert_int_equal(le64toh(config.block_size), BLOCK);
	assert_true(vmm->fe->dev.asked_early);
	assert_int_equal(shmem_place(&vmm->shmem, GPA + 1, text, sizeof(text)),
			 -EINVAL);
	assert_int_equal(
		shmem_place(&vmm->shmem, -REGION + BLOCK, text, sizeof(text)),
		-EINVAL);
	assert_int_equal(shmem_place(&vmm->shmem, GPA, text, sizeof(text)), 0);
	config_of(vmm, &config);
	assert_int_equal(le64toh(config.addr), GPA);
	assert_int_equal(le64toh(config.region_size), REGION);
	assert_int_equal(le64toh(config.requested_size), GIB);
	/* It may be another while nobody uses it. */
	assert_int_equal(
		shmem_place(&vmm->shmem, GPA + GIB, text, sizeof(text)), 0);
	assert_int_equal(shmem_place(&vmm->shmem, GPA, text, sizeof(text)), 0);
	start_driver(vmm);
	assert_int_equal(
		shmem_place(&vmm->shmem, GPA + GIB, text, sizeof(text)),
		-EBUSY);
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

static void without_a_channel_the_guest_is_told_busy(void **state)
{
	struct vmm *vmm = *state;

	start(vmm);
	close(vmm->fe->channel);
	vmm->fe->channel = -1;
	front_end_run(vmm->fe);
	put(vmm, VIRTIO_MEM_REQ_PLUG, 0, 1);
	expect_answer(vmm, VIRTIO_MEM_RESP_BUSY);
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
		CASE(what_a_reset_dropped_is_mapped_before_requests),
		CASE(a_pause_changes_nothing),
		CASE(a_stop_in_the_middle_changes_nothing),
		CASE(another_daemon_goes_on),
		CASE(a_slot_that_was_mapped_in_vain_is_unmapped),
		CASE(an_answer_that_was_lost_is_given_once),
		CASE(without_a_channel_the_guest_is_told_busy),
		CASE(what_is_no_reply_ends_the_connection),
	};

	return unit_run(tests, NULL, NULL);
}
