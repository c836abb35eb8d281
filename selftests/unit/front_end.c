// SPDX-License-Identifier: GPL-2.0-or-later
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fd_message.h"
#include "front_end.h"
#include "unit.h"

static void config_changed(void *arg)
{
	struct front_end *fe = arg;

	vhost_channel_config_changed(&fe->vu);
}

static bool answered(void *arg, const struct virtio_mem_resp *resp)
{
	struct front_end *fe = arg;

	return vhost_user_answered(&fe->vu, resp);
}

static socklen_t make_address(const struct front_end *fe,
			      struct sockaddr_un *addr)
{
	/* An abstract address: the first byte is 0, and no file remains. */
	*addr = (struct sockaddr_un){.sun_family = AF_UNIX};
	memcpy(addr->sun_path + 1, fe->name, strlen(fe->name));
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			   strlen(fe->name));
}

static int listen_abstract(struct front_end *fe)
{
	/* A test may have several of them, consecutively or at once. */
	static unsigned int serial;
	struct sockaddr_un addr;
	socklen_t size;
	int fd;

	snprintf(fe->name, sizeof(fe->name), "vmemd-test-%d-%u", (int)getpid(),
		 serial++);
	size = make_address(fe, &addr);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, size), 0);
	assert_int_equal(listen(fd, 4), 0);
	return fd;
}

/*
 * A device of @first's daemon; if @first is NULL, the first device of a new
 * daemon.
 */
static struct front_end *new_device(const struct front_end *first, uint64_t gpa,
				    uint64_t region_size, uint64_t block_size,
				    uint64_t ring_features)
{
	struct front_end *fe = calloc(1, sizeof(*fe));

	assert_non_null(fe);
	if (first) {
		fe->event = sd_event_ref(first->event);
		fe->access = first->access;
	} else {
		assert_true(sd_event_new(&fe->event) >= 0);
		fe->access = &fe->own;
	}
	assert_int_equal(guest_access_add(fe->access, &fe->dev), 0);
	fe->dev.work_done = &fe->access->work;
	bitmap_backing_init(&fe->bitmap, gpa, region_size, block_size);
	fe->dev.config_changed = config_changed;
	fe->dev.answered = answered;
	fe->dev.arg = fe;
	virtio_mem_start(&fe->dev, &fe->bitmap.backing, 0, false);
	vhost_user_init(&fe->vu, fe->event, &fe->dev, fe->access);
	assert_int_equal(vhost_user_listen(&fe->vu, listen_abstract(fe)), 0);

	fe->memory_fd = memfd_create("guest", MFD_CLOEXEC);
	assert_int_equal(ftruncate(fe->memory_fd, FE_MEMORY), 0);
	fe->memory = mmap(NULL, FE_MEMORY, PROT_READ | PROT_WRITE, MAP_SHARED,
			  fe->memory_fd, 0);
	assert_ptr_not_equal(fe->memory, MAP_FAILED);
	fe->kick = eventfd(0, EFD_CLOEXEC);
	fe->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fe->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fe->fd = -1;
	fe->channel = -1;
	fe->features = FE_FEATURES | ring_features;
	fe->vu.offer_packed = fe->features & 1ULL << VIRTIO_F_RING_PACKED;
	front_end_new_ring(fe);
	return fe;
}

/* The daemon keeps all devices to its end; a test may end one earlier. */
static void leave_access(struct front_end *fe)
{
	struct guest_access *access = fe->access;

	for (size_t i = 0; i < access->nr; i++)
		if (access->devices[i] == &fe->dev)
			access->devices[i--] = access->devices[--access->nr];
}

static void free_device(struct front_end *fe)
{
	front_end_close(fe);
	vhost_user_stop(&fe->vu);
	virtio_mem_stop(&fe->dev);
	bitmap_backing_free(&fe->bitmap);
	if (fe->access == &fe->own)
		guest_access_stop(fe->access);
	else
		leave_access(fe);
	sd_event_unref(fe->event);
	munmap(fe->memory, FE_MEMORY);
	close(fe->memory_fd);
	close(fe->kick);
	close(fe->call);
	close(fe->err);
	free(fe);
}

/* Regions of bystanders, away from all others. */
static uint64_t bystander_gpa(unsigned int i)
{
	return (64ULL + i) << 40;
}

static void add_bystanders(struct front_end *fe)
{
	const char *number = getenv(FE_BYSTANDERS);
	unsigned int nr = number ? (unsigned int)atoi(number) : 0;

	assert_true(nr <= FE_MAX_BYSTANDERS);
	for (unsigned int i = 0; i < nr; i++) {
		struct front_end *other =
			front_end_add(fe, bystander_gpa(i), GIB, FE_BLOCK);

		fe->bystanders[fe->nr_bystanders++] = other;
		front_end_serve(other, GIB);
		assert_int_equal(front_end_plug(other, bystander_gpa(i), 2),
				 VIRTIO_MEM_RESP_ACK);
	}
}

/* The bystanders' blocks are unchanged, and they are served. */
static void end_bystanders(struct front_end *fe)
{
	for (unsigned int i = 0; i < fe->nr_bystanders; i++) {
		struct front_end *other = fe->bystanders[i];

		assert_true(vhost_user_driver_ready(&other->vu));
		assert_int_equal(other->bitmap.backing.plugged.set, 2);
		assert_int_equal(
			front_end_unplug(other, bystander_gpa(i) + FE_BLOCK, 1),
			VIRTIO_MEM_RESP_ACK);
		assert_int_equal(other->bitmap.backing.plugged.set, 1);
	}
	/* The requests above may consult any device, so all are freed last. */
	for (unsigned int i = 0; i < fe->nr_bystanders; i++)
		free_device(fe->bystanders[i]);
}

/*
 * A device with a region of this size, and its front end.
 * @ring_features: accepted features of VRING_FEATURES
 */
struct front_end *front_end_new(uint64_t region_size, uint64_t block_size,
				uint64_t ring_features)
{
	struct front_end *fe = new_device(NULL, FE_REGION_GPA, region_size,
					  block_size, ring_features);

	add_bystanders(fe);
	return fe;
}

/*
 * Another device of @first's daemon, with a region at @gpa. It is freed before
 * @first.
 */
struct front_end *front_end_add(struct front_end *first, uint64_t gpa,
				uint64_t region_size, uint64_t block_size)
{
	return new_device(first, gpa, region_size, block_size,
			  first->features & VRING_FEATURES);
}

void front_end_free(struct front_end *fe)
{
	end_bystanders(fe);
	free_device(fe);
}

/* The test's initial state: features of VRING_FEATURES that are accepted. */
int front_end_set_up(void **state)
{
	const uint64_t *ring_features = *state;

	*state = front_end_new(FE_REGION_SIZE, FE_BLOCK,
			       ring_features ? *ring_features : 0);
	return 0;
}

int front_end_tear_down(void **state)
{
	front_end_free(*state);
	return 0;
}

/*
 * Run the back end's event loop until it is idle. Return: whether it had any
 * work.
 */
bool front_end_run(struct front_end *fe)
{
	bool any = false;
	int ret;

	do {
		work_begin_turn(&fe->access->work);
		ret = sd_event_run(fe->event, 0);
		work_end_turn(&fe->access->work, 0);
		any = any || ret > 0;
	} while (ret > 0);
	assert_int_equal(ret, 0);
	return any;
}

void front_end_connect(struct front_end *fe)
{
	struct sockaddr_un addr;
	socklen_t size = make_address(fe, &addr);

	fe->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fe->fd >= 0);
	assert_int_equal(connect(fe->fd, (struct sockaddr *)&addr, size), 0);
	front_end_run(fe);
}

void front_end_close(struct front_end *fe)
{
	if (fe->fd >= 0)
		close(fe->fd);
	if (fe->channel >= 0)
		close(fe->channel);
	fe->fd = -1;
	fe->channel = -1;
	front_end_run(fe);
}

/* Has the back end closed the connection? Drops unread replies. */
bool front_end_closed(struct front_end *fe)
{
	char byte;
	ssize_t got;

	front_end_run(fe);
	do
		got = recv(fe->fd, &byte, 1, MSG_DONTWAIT);
	while (got > 0);
	return got == 0 || errno == ECONNRESET;
}

void front_end_send_raw(struct front_end *fe, const void *bytes, size_t size,
			const int *fds, size_t nr_fds)
{
	assert_int_equal(fd_message_send(fe->fd, bytes, size, fds, nr_fds, 0),
			 size);
}

void front_end_send(struct front_end *fe, uint32_t request, uint32_t flags,
		    const void *payload, uint32_t size, const int *fds,
		    size_t nr_fds)
{
	struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_FLAGS_VERSION | flags,
		.size = size,
	};
	uint8_t bytes[sizeof(header) + 8192];

	assert_true(size <= 8192);
	memcpy(bytes, &header, sizeof(header));
	if (size)
		memcpy(bytes + sizeof(header), payload, size);
	front_end_send_raw(fe, bytes, sizeof(header) + size, fds, nr_fds);
	front_end_run(fe);
}

/* Take the reply to @request. Return: the size of its payload. */
uint32_t front_end_receive(struct front_end *fe, uint32_t request,
			   union vhost_user_payload *payload)
{
	struct vhost_user_header header;

	assert_int_equal(recv(fe->fd, &header, sizeof(header), MSG_DONTWAIT),
			 sizeof(header));
	assert_int_equal(header.request, request);
	assert_int_equal(header.flags,
			 VHOST_USER_FLAGS_VERSION | VHOST_USER_FLAGS_REPLY);
	assert_true(header.size <= sizeof(*payload));
	if (header.size)
		assert_int_equal(
			recv(fe->fd, payload, header.size, MSG_DONTWAIT),
			header.size);
	return header.size;
}

/* Send a message that is acknowledged. Return: the acknowledgment's value. */
uint64_t front_end_call(struct front_end *fe, uint32_t request,
			const void *payload, uint32_t size, const int *fds,
			size_t nr_fds)
{
	union vhost_user_payload reply;

	front_end_send(fe, request, VHOST_USER_FLAGS_NEED_REPLY, payload, size,
		       fds, nr_fds);
	assert_int_equal(front_end_receive(fe, request, &reply),
			 sizeof(reply.u64));
	return reply.u64;
}

uint64_t front_end_get(struct front_end *fe, uint32_t request)
{
	union vhost_user_payload reply;

	front_end_send(fe, request, 0, NULL, 0, NULL, 0);
	assert_int_equal(front_end_receive(fe, request, &reply),
			 sizeof(reply.u64));
	return reply.u64;
}

uint64_t front_end_set(struct front_end *fe, uint32_t request, uint64_t value,
		       int fd)
{
	return front_end_call(fe, request, &value, sizeof(value), &fd, fd >= 0);
}

uint64_t front_end_set_vring(struct front_end *fe, uint32_t request,
			     uint32_t num)
{
	struct vhost_user_vring_state vring = {.num = num};

	return front_end_call(fe, request, &vring, sizeof(vring), NULL, 0);
}

/* The driver sets up an empty queue. */
void front_end_new_ring(struct front_end *fe)
{
	static const struct driver_layout layout = {
		.desc = FE_DESC,
		.avail = FE_AVAIL,
		.used = FE_USED,
		.tables = FE_TABLES,
	};

	memset(fe->memory, 0, FE_MEMORY);
	driver_init(&fe->driver, fe->memory, FE_GPA, &layout, fe->features,
		    FE_QUEUE_SIZE);
}

/* Replace the backend channel. */
void front_end_give_channel(struct front_end *fe)
{
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

/* Negotiation, including the driver's features. */
void front_end_negotiate(struct front_end *fe)
{
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_FEATURES),
			 FE_OFFERED | (fe->vu.offer_packed
					       ? 1ULL << VIRTIO_F_RING_PACKED
					       : 0));
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_PROTOCOL_FEATURES),
			 FE_PROTOCOL_FEATURES);
	front_end_send(fe, VHOST_USER_SET_PROTOCOL_FEATURES, 0,
		       &(uint64_t){FE_PROTOCOL_FEATURES}, 8, NULL, 0);
	assert_int_equal(
		front_end_call(fe, VHOST_USER_SET_OWNER, NULL, 0, NULL, 0), 0);
	front_end_give_channel(fe);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
}

/* Request an inflight region. Return: its descriptor. */
int front_end_get_inflight(struct front_end *fe)
{
	struct vhost_user_inflight inflight = {
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE,
	};
	struct {
		struct vhost_user_header header;
		struct vhost_user_inflight inflight;
	} __attribute__((packed)) reply;
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = &reply, .iov_len = sizeof(reply)};
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd;

	front_end_send(fe, VHOST_USER_GET_INFLIGHT_FD, 0, &inflight,
		       sizeof(inflight), NULL, 0);
	assert_int_equal(recvmsg(fe->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC),
			 sizeof(reply));
	assert_int_equal(reply.header.request, VHOST_USER_GET_INFLIGHT_FD);
	assert_int_equal(reply.inflight.mmap_size,
			 inflight_size(FE_QUEUE_SIZE));
	assert_int_equal(reply.inflight.mmap_offset, 0);
	assert_non_null(CMSG_FIRSTHDR(&mh));
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	return fd;
}

void front_end_set_inflight(struct front_end *fe, int fd)
{
	struct vhost_user_inflight inflight = {
		.mmap_size = inflight_size(FE_QUEUE_SIZE),
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE,
	};

	assert_int_equal(front_end_call(fe, VHOST_USER_SET_INFLIGHT_FD,
					&inflight, sizeof(inflight), &fd, 1),
			 0);
}

void front_end_share_memory(struct front_end *fe)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = FE_GPA, .size = FE_MEMORY, .uva = FE_UVA},
	};

	assert_int_equal(front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
					sizeof(reg), &fe->memory_fd, 1),
			 0);
}

/* Set up the queue; the kick descriptor starts it, and it is enabled. */
void front_end_start_ring(struct front_end *fe)
{
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};

	assert_int_equal(front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
					     FE_QUEUE_SIZE),
			 0);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_BASE,
				    fe->lost ? fe->lost_base
					     : driver_base(&fe->driver)),
		0);
	assert_int_equal(front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr,
					sizeof(addr), NULL, 0),
			 0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call), 0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_VRING_ERR, 0, fe->err), 0);
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick), 0);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1), 0);
}

/* The whole start, up to a driver that is ready. */
void front_end_start(struct front_end *fe)
{
	front_end_connect(fe);
	front_end_negotiate(fe);
	front_end_share_memory(fe);
	front_end_start_ring(fe);
	assert_int_equal(front_end_set(fe, VHOST_USER_SET_STATUS, 15, -1), 0);
	assert_int_equal(front_end_get(fe, VHOST_USER_GET_STATUS), 15);
	assert_true(vhost_user_driver_ready(&fe->vu));
	front_end_count(fe->call);
}

/* Start with a requested size. */
void front_end_serve(struct front_end *fe, uint64_t requested)
{
	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, requested);
}

/* Stop the queue. Return: its position. */
uint32_t front_end_stop_ring(struct front_end *fe)
{
	struct vhost_user_vring_state vring = {};
	union vhost_user_payload reply;

	front_end_send(fe, VHOST_USER_GET_VRING_BASE, 0, &vring, sizeof(vring),
		       NULL, 0);
	assert_int_equal(
		front_end_receive(fe, VHOST_USER_GET_VRING_BASE, &reply),
		sizeof(reply.vring_state));
	return reply.vring_state.num;
}

static size_t buffers_of(uint16_t slot)
{
	return FE_BUFFERS + slot * 64ULL;
}

/* The whole configuration space, in host byte order. */
void front_end_config(struct front_end *fe, struct virtio_mem_config *config)
{
	struct vhost_user_config message = {.size = sizeof(*config)};
	uint32_t size = offsetof(struct vhost_user_config, data) + message.size;
	union vhost_user_payload reply;

	front_end_send(fe, VHOST_USER_GET_CONFIG, 0, &message, size, NULL, 0);
	assert_int_equal(front_end_receive(fe, VHOST_USER_GET_CONFIG, &reply),
			 size);
	memcpy(config, reply.config.data, sizeof(*config));
	config->block_size = le64toh(config->block_size);
	config->node_id = le16toh(config->node_id);
	config->addr = le64toh(config->addr);
	config->region_size = le64toh(config->region_size);
	config->usable_region_size = le64toh(config->usable_region_size);
	config->plugged_size = le64toh(config->plugged_size);
	config->requested_size = le64toh(config->requested_size);
}

/* Number of configuration change notifications received. */
unsigned int front_end_config_changes(struct front_end *fe)
{
	struct vhost_user_header header;
	unsigned int count = 0;

	while (recv(fe->channel, &header, sizeof(header), MSG_DONTWAIT) ==
	       sizeof(header)) {
		assert_int_equal(header.request,
				 VHOST_USER_BACKEND_CONFIG_CHANGE_MSG);
		assert_int_equal(header.flags, VHOST_USER_FLAGS_VERSION);
		assert_int_equal(header.size, 0);
		count++;
	}
	return count;
}

/*
 * Put a request into the queue, in two descriptors. A request larger than its
 * place of 32 bytes goes to FE_LARGE, which has room for one.
 */
void front_end_put_bytes(struct front_end *fe, const void *request,
			 uint32_t request_size, uint32_t response_size)
{
	size_t at = buffers_of(fe->driver.next);
	size_t request_at = request_size > 32 ? FE_LARGE : at;
	const struct driver_buffer buffers[] = {
		{.gpa = FE_GPA + request_at, .size = request_size},
		{.gpa = FE_GPA + at + 32, .size = response_size, .write = true},
	};

	assert_true(request_size <= FE_MEMORY - FE_LARGE);
	memcpy(fe->memory + request_at, request, request_size);
	memset(fe->memory + at + 32, 0xee, 16);
	driver_add(&fe->driver, buffers, 2);
}

/* The same with a well-formed request; only the sizes may be wrong. */
void front_end_put(struct front_end *fe, uint16_t type, uint64_t gpa,
		   uint16_t nr_blocks, uint32_t request_size,
		   uint32_t response_size)
{
	struct virtio_mem_req req = {.type = htole16(type)};

	req.u.plug.addr = htole64(gpa);
	req.u.plug.nb_blocks = htole16(nr_blocks);
	assert_true(request_size <= sizeof(req));
	front_end_put_bytes(fe, &req, request_size, response_size);
}

void front_end_kick(struct front_end *fe)
{
	uint64_t one = 1;

	/* A driver without the event index may kick in any case. */
	if (!driver_has(&fe->driver, VIRTIO_RING_F_EVENT_IDX) ||
	    driver_needs_kick(&fe->driver))
		assert_int_equal(write(fe->kick, &one, sizeof(one)),
				 sizeof(one));
	front_end_run(fe);
}

/* Take the next used request. Return: false if there is none. */
bool front_end_used(struct front_end *fe, struct virtio_mem_resp *resp)
{
	uint32_t written;
	uint16_t id;

	if (!driver_take(&fe->driver, 2, &id, &written))
		return false;
	assert_int_equal(written, sizeof(*resp));
	memcpy(resp,
	       fe->memory + buffers_of(driver_slot_of(&fe->driver, id)) + 32,
	       sizeof(*resp));
	return true;
}

/* Make one request as a driver does. Return: the answer. */
uint16_t front_end_request(struct front_end *fe, uint16_t type, uint64_t gpa,
			   uint16_t nr_blocks)
{
	struct virtio_mem_resp resp;

	front_end_put(fe, type, gpa, nr_blocks, sizeof(struct virtio_mem_req),
		      sizeof(resp));
	front_end_kick(fe);
	assert_true(front_end_used(fe, &resp));
	return le16toh(resp.type);
}

uint16_t front_end_plug(struct front_end *fe, uint64_t gpa, uint16_t nr_blocks)
{
	return front_end_request(fe, VIRTIO_MEM_REQ_PLUG, gpa, nr_blocks);
}

uint16_t front_end_unplug(struct front_end *fe, uint64_t gpa,
			  uint16_t nr_blocks)
{
	return front_end_request(fe, VIRTIO_MEM_REQ_UNPLUG, gpa, nr_blocks);
}

uint16_t front_end_unplug_all(struct front_end *fe)
{
	return front_end_request(fe, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0);
}

/* Read an eventfd's count; 0 if it was not signalled. */
uint64_t front_end_count(int fd)
{
	uint64_t count;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : 0;
}

/* Number of open descriptors of this process, to find leaks. */
unsigned int front_end_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count;
}
