// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A fuzzed guest driver. The front end is valid, and its setup is restored
 * before each run. The input decides the contents of the guest's memory, when
 * the queue is kicked, and the results of the backing.
 *
 * Page protection bounds the daemon's accesses: the pages of unplugged blocks
 * are inaccessible in its mapping of the region, and so is the surrounding of
 * the guest's memory (fuzz.c). Bytes in the same page as memory that are not
 * shared must not change.
 *
 * The event loop runs until everything is set up. Afterwards this target calls
 * the loop's handlers itself: turns of the loop would take most of the time.
 *
 * The target counts what the daemon writes: a response is 10 bytes, and nothing
 * else changes except the device's ring.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "front_end.h"
#include "fuzz.h"
#include "fuzz_device.h"
#include "unit.h"

/*
 * Blocks of one page, so that each one can be made accessible separately. The
 * guest may choose from all of them.
 */
#define BLOCK	    (4 * KIB)
#define NR_BLOCKS   64ULL
#define REGION_SIZE (NR_BLOCKS * BLOCK)

/* The guest's other memory: it ends within a page. */
#define MEMORY_SIZE (16 * KIB - 128)
#define MEMORY_FILE (16 * KIB)
#define QUEUE_SIZE  16

#define DESC	0x0000
#define AVAIL	0x0400
#define USED	0x0800
#define BUFFERS 0x1000
#define TABLES	0x2000

/* Number of queues of different formats. */
#define NR_FORMATS 4

/* Maximum number of buffers of a request and its response. */
#define PARTS_MAX 8

/* Number of turns after which the loop must be idle. */
#define TURNS_MAX 64

/* Blocks of this size are compared at once first. */
#define COMPARED 256

/* Contents of the file behind its shared part. */
#define CANARY 0x5a

enum step {
	STEP_KICK,
	STEP_REQUEST,
	STEP_MEMORY,
	STEP_DESCRIPTOR,
	STEP_AVAILABLE,
	STEP_RESIZE,
	STEP_BACKING,
	STEP_FINISH,
	STEP_NR,
};

/* A handler of the event loop. */
struct handler {
	sd_event_source *source;
	int fd;
	sd_event_io_handler_t io;
	sd_event_handler_t deferred;
	void *arg;
	bool pending;
};

static struct handler handlers[16];
static size_t nr_handlers;
static struct handler *kick_handler;
static struct front_end *fe;
static int region_fd;
static uint8_t *memory;
static uint8_t *region_map;
static const struct driver_layout layout = {
	.desc = DESC,
	.avail = AVAIL,
	.used = USED,
	.tables = TABLES,
};

/* The setup of the front end, for each format. */
static struct {
	struct vring_queue ring;
	uint64_t features;
} formats[NR_FORMATS];

static struct driver driver;
static uint64_t popped;
static uint64_t pushed;
static uint64_t accessible;
static uint8_t canary[MEMORY_FILE - MEMORY_SIZE];
static uint8_t truth[NR_BLOCKS];
static bool resized;

int __real_sd_event_add_io(sd_event *event, sd_event_source **source, int fd,
			   uint32_t events, sd_event_io_handler_t handler,
			   void *arg);
int __wrap_sd_event_add_io(sd_event *event, sd_event_source **source, int fd,
			   uint32_t events, sd_event_io_handler_t handler,
			   void *arg);
int __real_sd_event_add_defer(sd_event *event, sd_event_source **source,
			      sd_event_handler_t handler, void *arg);
int __wrap_sd_event_add_defer(sd_event *event, sd_event_source **source,
			      sd_event_handler_t handler, void *arg);
int __real_sd_event_source_set_enabled(sd_event_source *source, int enabled);
int __wrap_sd_event_source_set_enabled(sd_event_source *source, int enabled);

int __real_vring_pop(struct vring_queue *vring,
		     const struct guest_memory *guest,
		     struct vring_request *request, struct error *err);
int __wrap_vring_pop(struct vring_queue *vring,
		     const struct guest_memory *guest,
		     struct vring_request *request, struct error *err);
void __real_vring_push(struct vring_queue *vring,
		       const struct vring_chain *chain, size_t written);
void __wrap_vring_push(struct vring_queue *vring,
		       const struct vring_chain *chain, size_t written);

int __wrap_vring_pop(struct vring_queue *vring,
		     const struct guest_memory *guest,
		     struct vring_request *request, struct error *err)
{
	int ret = __real_vring_pop(vring, guest, request, err);

	popped += ret > 0;
	return ret;
}

void __wrap_vring_push(struct vring_queue *vring,
		       const struct vring_chain *chain, size_t written)
{
	fuzz_require(written == sizeof(struct virtio_mem_resp));
	pushed++;
	__real_vring_push(vring, chain, written);
}

static void add_handler(const struct handler *handler)
{
	fuzz_require(nr_handlers < sizeof(handlers) / sizeof(handlers[0]));
	handlers[nr_handlers++] = *handler;
}

int __wrap_sd_event_add_io(sd_event *event, sd_event_source **source, int fd,
			   uint32_t events, sd_event_io_handler_t handler,
			   void *arg)
{
	int ret =
		__real_sd_event_add_io(event, source, fd, events, handler, arg);

	if (ret >= 0)
		add_handler(&(struct handler){
			.source = *source,
			.fd = fd,
			.io = handler,
			.arg = arg,
		});
	return ret;
}

int __wrap_sd_event_add_defer(sd_event *event, sd_event_source **source,
			      sd_event_handler_t handler, void *arg)
{
	int ret = __real_sd_event_add_defer(event, source, handler, arg);

	if (ret >= 0)
		add_handler(&(struct handler){
			.source = *source,
			.fd = -1,
			.deferred = handler,
			.arg = arg,
		});
	return ret;
}

int __wrap_sd_event_source_set_enabled(sd_event_source *source, int enabled)
{
	if (!kick_handler)
		return __real_sd_event_source_set_enabled(source, enabled);
	for (size_t i = 0; i < nr_handlers; i++)
		if (handlers[i].source == source)
			handlers[i].pending = enabled == SD_EVENT_ONESHOT;
	return 0;
}

static void kick(void)
{
	kick_handler->pending = true;
}

/* Call the handlers as the event loop does, until it would be idle. */
static void run_handlers(void)
{
	bool any = true;

	for (int turns = 0; any; turns++) {
		any = false;
		fuzz_require(turns < TURNS_MAX);
		for (size_t i = 0; i < nr_handlers; i++) {
			struct handler *handler = &handlers[i];

			if (!handler->pending)
				continue;
			any = true;
			handler->pending = false;
			work_begin_turn(&fe->access->work);
			if (handler->io)
				handler->io(handler->source, handler->fd,
					    EPOLLIN, handler->arg);
			else
				handler->deferred(handler->source,
						  handler->arg);
		}
	}
}

static void share(int fd, uint64_t gpa, uint64_t uva, uint64_t size)
{
	struct vhost_user_mem_reg reg = {
		.region = {.gpa = gpa, .size = size, .uva = uva},
	};

	fuzz_require(!front_end_call(fe, VHOST_USER_ADD_MEM_REG, &reg,
				     sizeof(reg), &fd, 1));
}

/* The daemon's mapping of the region. */
static uint8_t *find_region(void)
{
	for (size_t i = 0; i < fe->vu.memory.nr; i++)
		if (fe->vu.memory.regions[i].gpa == FE_REGION_GPA)
			return fe->vu.memory.regions[i].hva;
	abort();
}

static void start_ring(uint64_t ring_features)
{
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + DESC,
		.avail_uva = FE_UVA + AVAIL,
		.used_uva = FE_UVA + USED,
	};

	fuzz_require(!front_end_set(fe, VHOST_USER_SET_FEATURES,
				    FE_FEATURES | ring_features, -1));
	driver_init(&driver, memory, FE_GPA, &layout,
		    FE_FEATURES | ring_features, QUEUE_SIZE);
	fuzz_require(
		!front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM, QUEUE_SIZE));
	fuzz_require(!front_end_set_vring(fe, VHOST_USER_SET_VRING_BASE,
					  driver_base(&driver)));
	fuzz_require(!front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr,
				     sizeof(addr), NULL, 0));
	fuzz_require(
		!front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call));
	fuzz_require(!front_end_set(fe, VHOST_USER_SET_VRING_ERR, 0, fe->err));
	fuzz_require(
		!front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick));
	fuzz_require(!front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1));
	fuzz_require(vhost_user_driver_ready(&fe->vu));
}

/* Keep the daemon's state for each format, and the loop's handlers. */
static void keep_formats(void)
{
	static const uint64_t ring_features[NR_FORMATS] = {
		0,
		1ULL << VIRTIO_RING_F_INDIRECT_DESC |
			1ULL << VIRTIO_RING_F_EVENT_IDX,
		1ULL << VIRTIO_F_RING_PACKED,
		VRING_FEATURES,
	};

	for (int i = 0; i < NR_FORMATS; i++) {
		if (i)
			front_end_stop_ring(fe);
		start_ring(ring_features[i]);
		formats[i].ring = fe->vu.vring;
		formats[i].features = fe->vu.features;
	}
	front_end_run(fe);
	for (size_t i = 0; i < nr_handlers; i++)
		if (handlers[i].fd == fe->vu.kick_fd)
			kick_handler = &handlers[i];
	fuzz_require(kick_handler);
	fuzz_source_fd = fe->vu.kick_fd;
	fuzz_sinks[0].fd = fe->vu.call_fd;
	fuzz_sinks[1].fd = fe->vu.err_fd;
}

/*
 * Make only plugged blocks accessible. The device calls it after each change,
 * before it writes the answer and reads the next request.
 */
static void protect_unplugged(void *arg __attribute__((unused)))
{
	/* The bitmap is one word. */
	uint64_t plugged = fe->bitmap.backing.plugged.map[0];
	uint64_t changed = plugged ^ accessible;

	while (changed) {
		unsigned int first = __builtin_ctzll(changed), nr = 1;
		bool now = plugged >> first & 1;

		while (first + nr < NR_BLOCKS && changed >> (first + nr) & 1 &&
		       now == (plugged >> (first + nr) & 1))
			nr++;
		changed &= ~((~0ULL >> (64 - nr)) << first);
		fuzz_require(
			!mprotect(region_map + first * BLOCK, nr * BLOCK,
				  now ? PROT_READ | PROT_WRITE : PROT_NONE));
	}
	accessible = plugged;
}

void fuzz_set_up(void)
{
	fe = front_end_new(REGION_SIZE, BLOCK, 1ULL << VIRTIO_F_RING_PACKED);
	memset(canary, CANARY, sizeof(canary));
	virtio_mem_stop(&fe->dev);
	fe->dev.changed = protect_unplugged;
	virtio_mem_start(&fe->dev, &fe->bitmap.backing, 0, true);
	region_fd = memfd_create("region", 0);
	fuzz_require(!ftruncate(region_fd, REGION_SIZE) &&
		     !ftruncate(fe->memory_fd, MEMORY_FILE));
	memory = fe->memory;
	front_end_connect(fe);
	front_end_negotiate(fe);
	share(fe->memory_fd, FE_GPA, FE_UVA, MEMORY_SIZE);
	share(region_fd, FE_REGION_GPA, FE_UVA + GIB, REGION_SIZE);
	region_map = find_region();
	fuzz_require(!mprotect(region_map, REGION_SIZE, PROT_NONE));
	keep_formats();
}

static uint64_t nr_answers(void)
{
	uint64_t nr = 0;

	for (int i = 0; i < VIRTIO_MEM_NR_REQUESTS; i++)
		for (int j = 0; j < VIRTIO_MEM_NR_ANSWERS; j++)
			nr += fe->dev.answers[i][j];
	return nr;
}

/* Number of changed bytes outside the device's parts of the queue. */
static size_t count_changed(const uint8_t *before)
{
	bool packed = driver_has(&driver, VIRTIO_F_RING_PACKED);
	size_t desc =
		packed ? QUEUE_SIZE * sizeof(struct vring_packed_desc) : 0;
	size_t used =
		packed ? sizeof(struct vring_packed_desc_event)
		       : sizeof(struct vring_used) +
				 QUEUE_SIZE * sizeof(struct vring_used_elem) +
				 sizeof(uint16_t);
	size_t nr = 0;

	if (!memcmp(before, memory, MEMORY_FILE))
		return 0;
	for (size_t at = 0; at < MEMORY_FILE; at += COMPARED) {
		if (!memcmp(before + at, memory + at, COMPARED))
			continue;
		for (size_t i = at; i < at + COMPARED; i++)
			nr += before[i] != memory[i] && i >= DESC + desc &&
			      (i < USED || i >= USED + used);
	}
	return nr;
}

/* Let the daemon work, and check what it has done. */
static void turn(bool finish)
{
	static uint8_t before[MEMORY_FILE];
	const struct virtio_mem *dev = &fe->dev;
	const struct blocks *plugged = &dev->backing->plugged;
	uint64_t pushed_before = pushed;

	memcpy(before, memory, MEMORY_FILE);
	if (finish)
		bitmap_backing_finish(&fe->bitmap);
	run_handlers();

	fuzz_require(pushed <= popped);
	fuzz_require(count_changed(before) <=
		     (pushed - pushed_before) * sizeof(struct virtio_mem_resp));
	fuzz_require(!memcmp(memory + MEMORY_SIZE, canary, sizeof(canary)));
	fuzz_require(fe->vu.fd >= 0);
	fuzz_require(dev->requested_size <= dev->usable_region_size &&
		     dev->usable_region_size <= REGION_SIZE);
	fuzz_require(plugged->set == blocks_count(plugged, 0, NR_BLOCKS));
	fuzz_require(fe->vu.waiting == dev->current.active ||
		     fe->vu.vring.broken);
}

/* An address in the guest's memory or in the region. */
static uint64_t choose_address(struct fuzz_input *in)
{
	uint16_t value = fuzz_u16(in);

	if (value & 0x8000)
		return FE_REGION_GPA + (value & 0x7fff) * 64ULL % REGION_SIZE;
	return FE_GPA + value % MEMORY_FILE;
}

/* Cut a range into buffers. Return: their number. */
static uint16_t cut(struct driver_buffer *buffers, uint64_t gpa, size_t size,
		    uint16_t parts, bool write)
{
	for (uint16_t i = 0; i < parts; i++) {
		size_t part = i + 1 < parts ? size / parts : size;

		buffers[i] = (struct driver_buffer){
			.gpa = gpa,
			.size = part,
			.write = write,
		};
		gpa += part;
		size -= part;
	}
	return parts;
}

/* A request of a driver, almost valid. */
static void put_request(struct fuzz_input *in)
{
	struct virtio_mem_req req = {.type = htole16(fuzz_u8(in) % 5)};
	uint8_t block = fuzz_u8(in), nr_blocks = fuzz_u8(in);
	uint8_t shape = fuzz_u8(in), short_by = fuzz_u8(in);
	uint64_t from = choose_address(in), to = choose_address(in);
	size_t read_size = sizeof(req) - (short_by & 0xf);
	size_t write_size =
		sizeof(struct virtio_mem_resp) + 8 - (short_by >> 4);
	struct driver_buffer buffers[PARTS_MAX];
	uint16_t nr;

	req.u.plug.addr = htole64(FE_REGION_GPA + block * BLOCK);
	req.u.plug.nb_blocks = htole16(nr_blocks % (NR_BLOCKS + 2));
	if (from < FE_GPA + MEMORY_SIZE - sizeof(req))
		memcpy(memory + (from - FE_GPA), &req, sizeof(req));
	nr = cut(buffers, from, read_size, 1 + (shape & 3), false);
	nr += cut(buffers + nr, to, write_size, 1 + (shape >> 2 & 3), true);
	driver_add(&driver, buffers, nr);
	if (shape & 0x40)
		kick();
	if (shape & 0x80)
		turn(false);
}

static void write_memory(struct fuzz_input *in)
{
	size_t at = fuzz_u16(in) % MEMORY_SIZE;
	size_t size = fuzz_u8(in);

	if (size > MEMORY_SIZE - at)
		size = MEMORY_SIZE - at;
	fuzz_bytes(in, memory + at, size);
}

/* Write a descriptor of the ring, or of the table of a slot. */
static void write_descriptor(struct fuzz_input *in)
{
	struct driver_chain chain = {.slot = fuzz_u8(in) % QUEUE_SIZE};
	uint8_t how = fuzz_u8(in);
	struct driver_entry entry;

	entry = how & 16 ? driver_entry(&driver, &chain, how >> 5)
			 : driver_slot(&driver, chain.slot);
	*entry.gpa = htole64(how & 1 ? choose_address(in) : fuzz_u64(in));
	*entry.size = htole32(how & 2 ? fuzz_u8(in) : fuzz_u32(in));
	*entry.flags = htole16(how & 4 ? fuzz_u8(in) % 8 : fuzz_u16(in));
	if (entry.next)
		*entry.next = htole16(how & 8 ? fuzz_u8(in) % QUEUE_SIZE
					      : fuzz_u16(in));
}

/* Make any head available. */
static void make_available(uint16_t head)
{
	struct vring_avail *avail = (struct vring_avail *)(memory + AVAIL);

	avail->ring[le16toh(avail->idx) % QUEUE_SIZE] = htole16(head);
	avail->idx = htole16(le16toh(avail->idx) + 1);
}

static void set_backing(struct fuzz_input *in)
{
	static const int errors[] = {0,	      -ENOMEM, -EBUSY, -ENOSPC,
				     -EEXIST, -ESTALE, -EIO,   -EINTR};
	struct bitmap_backing *bitmap = &fe->bitmap;
	uint8_t how = fuzz_u8(in);

	fuzz_backing_fails(bitmap, how, errors);
	if (how & 128) {
		uint64_t bits = fuzz_u64(in);

		for (uint64_t i = 0; i < NR_BLOCKS; i++)
			truth[i] = bits >> i & 1;
		bitmap->truth = truth;
		bitmap->stale = true;
	}
}

static void take_step(struct fuzz_input *in)
{
	switch (fuzz_u8(in) % STEP_NR) {
	case STEP_KICK:
		kick();
		turn(false);
		break;
	case STEP_REQUEST:
		put_request(in);
		break;
	case STEP_MEMORY:
		write_memory(in);
		break;
	case STEP_DESCRIPTOR:
		write_descriptor(in);
		break;
	case STEP_AVAILABLE:
		make_available(fuzz_u8(in));
		break;
	case STEP_RESIZE:
		resized = true;
		virtio_mem_set_requested(&fe->dev,
					 fuzz_u8(in) % (NR_BLOCKS + 1) * BLOCK);
		break;
	case STEP_BACKING:
		set_backing(in);
		break;
	case STEP_FINISH:
		turn(true);
		break;
	}
}

/* Restore the state after the front end's setup. */
static void start_anew(int format)
{
	fuzz_device_restart(fe, true);
	protect_unplugged(NULL);
	memset(memory, 0, MEMORY_SIZE);
	memcpy(memory + MEMORY_SIZE, canary, sizeof(canary));
	fe->vu.vring = formats[format].ring;
	fe->vu.features = formats[format].features;
	fe->vu.waiting = false;
	driver_init(&driver, memory, FE_GPA, &layout, formats[format].features,
		    QUEUE_SIZE);
	popped = 0;
	pushed = 0;
	for (size_t i = 0; i < nr_handlers; i++)
		handlers[i].pending = false;
}

/* Drop configuration notifications, which would fill the socket. */
static void drain_channel(void)
{
	uint8_t bytes[4096];

	resized = false;
	if (recv(fe->channel, bytes, sizeof(bytes), MSG_DONTWAIT) < 0)
		fuzz_require(errno == EAGAIN);
}

void fuzz_one(struct fuzz_input *in)
{
	uint64_t answers;

	start_anew(fuzz_u8(in) % NR_FORMATS);
	answers = nr_answers();
	while (in->left)
		take_step(in);
	kick();
	turn(false);
	while (fe->bitmap.waits)
		turn(true);
	/* Not more answers than requests taken. */
	fuzz_require(nr_answers() - answers <= popped);
	if (resized)
		drain_channel();
}
