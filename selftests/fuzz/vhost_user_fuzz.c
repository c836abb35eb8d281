// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A fuzzed front end: messages of any contents, size and order, with
 * descriptors of any kind, whole or in parts, while a guest's driver uses the
 * queue. Each run is one or several connections.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "front_end.h"
#include "fuzz.h"
#include "fuzz_device.h"
#include "unit.h"

/*
 * Size of the region: the bitmaps of a large one would take most of the time.
 */
#define REGION_SIZE (1 * GIB)

/* Size of a file that is truncated while in use. */
#define FRAGILE_SIZE (64 * KIB)

/* Maximum number of bytes sent without a header. */
#define RAW_MAX 64

enum step {
	STEP_MESSAGE,
	STEP_RAW,
	STEP_KICK,
	STEP_REQUEST,
	STEP_MEMORY,
	STEP_FRAGILE,
	STEP_CUT,
	STEP_RESIZE,
	STEP_BACKING,
	STEP_FINISH,
	STEP_RECONNECT,
	STEP_NR,
	/* The back end gets no turn after the step. */
	STEP_NO_TURN = 0x80,
};

/* Kinds of descriptors that a message may have. */
enum kind {
	KIND_MEMORY,
	KIND_KICK,
	KIND_CALL,
	KIND_ERR,
	KIND_CHANNEL,
	KIND_FRAGILE,
	KIND_REGION,
	KIND_PIPE,
	KIND_TIMER,
	KIND_EPOLL,
	KIND_NR,
};

static struct front_end *fe;
static int kinds[KIND_NR];
static uint8_t *truth;

/* Kinds that this run has sent or written. */
static uint32_t used_kinds;

static uint64_t nr_blocks(void)
{
	return REGION_SIZE / FE_BLOCK;
}

void fuzz_set_up(void)
{
	int channel[2], pipes[2];

	fe = front_end_new(REGION_SIZE, FE_BLOCK, 1ULL << VIRTIO_F_RING_PACKED);
	fuzz_require(!fcntl(fe->kick, F_SETFL, O_NONBLOCK));
	truth = calloc(nr_blocks(), 1);
	fuzz_require(truth);
	fuzz_require(
		!socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, channel) &&
		!pipe(pipes));
	kinds[KIND_MEMORY] = fe->memory_fd;
	kinds[KIND_KICK] = fe->kick;
	kinds[KIND_CALL] = fe->call;
	kinds[KIND_ERR] = fe->err;
	kinds[KIND_CHANNEL] = channel[1];
	kinds[KIND_FRAGILE] = memfd_create("fragile", 0);
	kinds[KIND_REGION] = memfd_create("region", MFD_ALLOW_SEALING);
	kinds[KIND_PIPE] = pipes[1];
	kinds[KIND_TIMER] = timerfd_create(CLOCK_MONOTONIC, 0);
	kinds[KIND_EPOLL] = epoll_create1(0);
	for (int i = 0; i < KIND_NR; i++)
		fuzz_require(kinds[i] >= 0);
	fuzz_require(!ftruncate(kinds[KIND_REGION], REGION_SIZE));
	/* Sealed, so that it may serve as an inflight region. */
	fuzz_require(!fcntl(kinds[KIND_REGION], F_ADD_SEALS, F_SEAL_SHRINK));
	fuzz_require(!ftruncate(kinds[KIND_FRAGILE], FRAGILE_SIZE));
	/* Reads of the back end from the other end are not checked. */
	fe->channel = channel[0];
}

/* Invariants of the device. */
static void check_device(void)
{
	const struct virtio_mem *dev = &fe->dev;
	const struct blocks *plugged = &dev->backing->plugged;
	uint64_t usable = dev->usable_region_size / FE_BLOCK;

	fuzz_require(dev->requested_size <= dev->usable_region_size);
	fuzz_require(dev->usable_region_size <= REGION_SIZE);
	fuzz_require(plugged->set == blocks_count(plugged, 0, plugged->nr));
	/* Only the guest plugs, unless the input makes others plug. */
	if (!fe->bitmap.truth)
		fuzz_require(plugged->set == blocks_count(plugged, 0, usable));
}

/* Invariants of the connection. */
static void check_connection(void)
{
	const struct vhost_user *vu = &fe->vu;

	for (size_t i = 0; i < vu->memory.nr; i++) {
		const struct guest_memory_region *region =
			&vu->memory.regions[i];

		fuzz_require(region->hva >= (uint8_t *)region->map.start &&
			     region->hva + region->size <=
				     (uint8_t *)region->map.start +
					     region->map.size);
	}
	if (vu->fd >= 0)
		return;
	fuzz_require(!vu->memory.nr && vu->kick_fd < 0 && vu->call_fd < 0 &&
		     vu->err_fd < 0 && vu->backend_fd < 0 && !vu->in.nr_fds);
	fuzz_require(!vhost_user_driver_ready(vu) && !vu->waiting);
}

/* Replies are complete, each with a payload of the proper size. */
static void check_replies(void)
{
	static uint8_t bytes[64 * KIB];
	struct vhost_user_header header;
	ssize_t got, at = 0;

	got = recv(fe->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (got <= 0 || got == sizeof(bytes))
		return;
	while (at < got) {
		fuzz_require(got - at >= (ssize_t)sizeof(header));
		memcpy(&header, bytes + at, sizeof(header));
		at += sizeof(header);
		fuzz_require(header.flags == (VHOST_USER_FLAGS_VERSION |
					      VHOST_USER_FLAGS_REPLY));
		fuzz_require(header.request < VHOST_USER_NR_REQUESTS);
		fuzz_require(header.size <= sizeof(union vhost_user_payload) &&
			     header.size <= got - at);
		at += header.size;
	}
}

static void turn(void)
{
	/* Most turns have no work, and no replies. */
	if (front_end_run(fe))
		check_replies();
	check_device();
	check_connection();
}

static size_t choose_fds(struct fuzz_input *in, int *fds)
{
	size_t nr = fuzz_u8(in) & 0xf;

	for (size_t i = 0; i < nr; i++) {
		uint8_t kind = fuzz_u8(in) % KIND_NR;

		fds[i] = kinds[kind];
		used_kinds |= 1U << kind;
	}
	return nr;
}

/* A message of its proper size, unless the input sets another. */
static void send_message(struct fuzz_input *in)
{
	uint8_t bytes[sizeof(struct vhost_user_header) + 512];
	struct vhost_user_header header;
	size_t nr_fds, size;
	uint16_t claimed;
	int fds[FUZZ_FDS_MAX];

	header.request = fuzz_u8(in);
	header.flags = fuzz_u8(in);
	nr_fds = choose_fds(in, fds);
	size = fuzz_u16(in) % 512;
	claimed = fuzz_u16(in);
	header.size = claimed ? claimed : size;
	memcpy(bytes, &header, sizeof(header));
	fuzz_bytes(in, bytes + sizeof(header), size);
	fuzz_send(fe->fd, bytes, sizeof(header) + size, fds, nr_fds);
}

static void send_raw(struct fuzz_input *in)
{
	uint8_t bytes[RAW_MAX];
	int fds[FUZZ_FDS_MAX];
	size_t nr_fds = choose_fds(in, fds);
	size_t size = fuzz_u8(in) % RAW_MAX;

	fuzz_bytes(in, bytes, size);
	if (size)
		fuzz_send(fe->fd, bytes, size, fds, nr_fds);
}

static void write_memory(struct fuzz_input *in)
{
	size_t at = fuzz_u16(in) * 4ULL;
	size_t size = fuzz_u8(in);

	if (size > FE_MEMORY - at)
		size = FE_MEMORY - at;
	fuzz_bytes(in, fe->memory + at, size);
}

/* Write to a file that the back end has mapped. */
static void write_files(struct fuzz_input *in)
{
	uint8_t bytes[256];
	off_t at = fuzz_u16(in);
	size_t size = fuzz_u8(in);

	used_kinds |= 1U << KIND_FRAGILE | 1U << KIND_REGION;
	fuzz_bytes(in, bytes, size);
	fuzz_require(pwrite(kinds[KIND_FRAGILE], bytes, size, at) ==
		     (ssize_t)size);
	fuzz_require(pwrite(kinds[KIND_REGION], bytes, size, at) ==
		     (ssize_t)size);
}

static void put_request(struct fuzz_input *in)
{
	uint16_t type = fuzz_u16(in);
	uint64_t gpa = FE_REGION_GPA + fuzz_u16(in) * FE_BLOCK;
	uint16_t nr = fuzz_u16(in);
	uint8_t sizes = fuzz_u8(in);

	front_end_put(fe, type, gpa, nr, 24 - (sizes & 0xf), 10 + (sizes >> 4));
}

static void kick(void)
{
	uint64_t one = 1;

	(void)!write(fe->kick, &one, sizeof(one));
}

static void set_backing(struct fuzz_input *in)
{
	static const int errors[] = {0,	      -ENOMEM, -EBUSY,	-EAGAIN,
				     -ENOSPC, -EEXIST, -ESTALE, -EIO};
	struct bitmap_backing *bitmap = &fe->bitmap;
	uint8_t how = fuzz_u8(in);

	fuzz_backing_fails(bitmap, how, errors);
	if (how & 128) {
		memset(truth, 0, nr_blocks());
		memset(truth + fuzz_u8(in), 1, fuzz_u8(in)); /* < nr_blocks() */
		bitmap->truth = truth;
		bitmap->stale = true;
	}
}

static void begin_connection(void)
{
	int pair[2];

	fuzz_require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	fe->fd = pair[0];
	fuzz_require(!vhost_user_adopt(&fe->vu, pair[1]));
}

static void end_connection(void)
{
	close(fe->fd);
	fe->fd = -1;
	front_end_run(fe);
	fuzz_require(fe->vu.fd < 0);
	check_device();
	check_connection();
}

static void take_step(struct fuzz_input *in, uint8_t step)
{
	switch ((step & ~STEP_NO_TURN) % STEP_NR) {
	case STEP_MESSAGE:
		send_message(in);
		break;
	case STEP_RAW:
		send_raw(in);
		break;
	case STEP_KICK:
		kick();
		break;
	case STEP_REQUEST:
		put_request(in);
		kick();
		break;
	case STEP_MEMORY:
		write_memory(in);
		break;
	case STEP_FRAGILE:
		write_files(in);
		break;
	case STEP_CUT:
		used_kinds |= 1U << KIND_FRAGILE;
		fuzz_require(!ftruncate(kinds[KIND_FRAGILE], fuzz_u16(in)));
		break;
	case STEP_RESIZE:
		virtio_mem_set_requested(
			&fe->dev, fuzz_u16(in) % (nr_blocks() + 1) * FE_BLOCK);
		break;
	case STEP_BACKING:
		set_backing(in);
		break;
	case STEP_FINISH:
		bitmap_backing_finish(&fe->bitmap);
		break;
	case STEP_RECONNECT:
		end_connection();
		begin_connection();
		break;
	}
	if (!(step & STEP_NO_TURN))
		turn();
}

/* Restore everything that a run may have changed. */
static void start_anew(void)
{
	uint8_t bytes[4096];

	fuzz_device_restart(fe, false);
	front_end_new_ring(fe);
	front_end_count(fe->kick);
	front_end_count(fe->call);
	front_end_count(fe->err);
	while (recv(fe->channel, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
	/* Discard what the run has written to files. */
	if (used_kinds & 1U << KIND_FRAGILE) {
		fuzz_require(!ftruncate(kinds[KIND_FRAGILE], 0));
		fuzz_require(!ftruncate(kinds[KIND_FRAGILE], FRAGILE_SIZE));
	}
	if (used_kinds & 1U << KIND_REGION)
		fuzz_require(
			!fallocate(kinds[KIND_REGION],
				   FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				   0, REGION_SIZE));
	used_kinds = 0;
}

void fuzz_one(struct fuzz_input *in)
{
	start_anew();
	begin_connection();
	while (in->left)
		take_step(in, fuzz_u8(in));
	turn();
	end_connection();
	while (bitmap_backing_finish(&fe->bitmap))
		;
	check_device();
}
