// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The back end with a driver of each virtqueue format: whole requests, from the
 * socket to the call descriptor.
 */
#include <endian.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "formats.h"
#include "front_end.h"

#define GPA   FE_REGION_GPA
#define BLOCK FE_BLOCK

static void plug(struct front_end *fe, unsigned int block)
{
	front_end_put(fe, VIRTIO_MEM_REQ_PLUG, GPA + block * BLOCK, 1, 24, 10);
}

static void assert_answered(struct front_end *fe, uint16_t answer)
{
	struct virtio_mem_resp resp;

	assert_true(front_end_used(fe, &resp));
	assert_int_equal(le16toh(resp.type), answer);
}

static void assert_not_answered(struct front_end *fe)
{
	struct virtio_mem_resp resp;

	assert_false(front_end_used(fe, &resp));
}

/* The driver requests an interrupt for the next answer. */
static void want_interrupt(struct front_end *fe)
{
	if (driver_has(&fe->driver, VIRTIO_RING_F_EVENT_IDX))
		driver_want_interrupt_after(&fe->driver, 1);
}

static void requests_are_answered(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	/* The queue has 128 descriptors: it wraps a few times. */
	for (unsigned int i = 0; i < 512; i++) {
		want_interrupt(fe);
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_count(fe->call), 1);
	}
	assert_int_equal(fe->bitmap.backing.plugged.set, 512);
	assert_int_equal(front_end_unplug(fe, GPA, 512), VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	assert_false(fe->vu.vring.broken);
}

/* More requests than one turn handles. */
static void many_requests_at_once(void **state)
{
	struct front_end *fe = *state;
	unsigned int nr = 3 * VHOST_USER_BUDGET + 1;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < nr; i++)
		plug(fe, i);
	want_interrupt(fe);
	front_end_kick(fe);
	assert_true(front_end_count(fe->call) >= 1);
	for (unsigned int i = 0; i < nr; i++)
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	assert_not_answered(fe);
}

static int on_other(sd_event_source *source, int fd, uint32_t revents,
		    void *arg)
{
	(void)fd;
	(void)revents;
	*(bool *)arg = true;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

static bool answered_one(struct front_end *fe)
{
	struct virtio_mem_resp resp;

	return front_end_used(fe, &resp);
}

/* A driver whose queue never becomes empty, and another event source. */
static void a_full_queue_does_not_starve_others(void **state)
{
	struct front_end *fe = *state;
	sd_event_source *source = NULL;
	int other = eventfd(1, EFD_CLOEXEC);
	unsigned int answered = 0;
	uint64_t one = 1;
	bool had = false;

	front_end_start(fe);
	for (unsigned int i = 0; i < 2 * VHOST_USER_BUDGET; i++)
		front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 1,
			      sizeof(struct virtio_mem_req),
			      sizeof(struct virtio_mem_resp));
	assert_int_equal(write(fe->kick, &one, sizeof(one)), sizeof(one));
	assert_true(sd_event_run(fe->event, 0) > 0);
	assert_true(sd_event_add_io(fe->event, &source, other, EPOLLIN,
				    on_other, &had) >= 0);
	while (!had) {
		for (; answered_one(fe); answered++)
			front_end_put(fe, VIRTIO_MEM_REQ_STATE, GPA, 1,
				      sizeof(struct virtio_mem_req),
				      sizeof(struct virtio_mem_resp));
		assert_true(answered <= 4 * VHOST_USER_BUDGET);
		assert_true(sd_event_run(fe->event, 0) > 0);
	}
	sd_event_source_disable_unref(source);
	close(other);
}

static void the_driver_gets_the_interrupts_it_requests(void **state)
{
	struct front_end *fe = *state;
	bool event = driver_has(&fe->driver, VIRTIO_RING_F_EVENT_IDX);
	/* Number of entries per request, as the event index counts. */
	unsigned int per =
		driver_has(&fe->driver, VIRTIO_F_RING_PACKED) &&
				!driver_has(&fe->driver,
					    VIRTIO_RING_F_INDIRECT_DESC)
			? 2
			: 1;

	front_end_serve(fe, GIB);
	want_interrupt(fe);
	front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA, 1);
	assert_int_equal(front_end_count(fe->call), 1);
	if (event)
		driver_want_interrupt_after(&fe->driver, 2 * per);
	else
		driver_want_interrupt(&fe->driver, false);
	front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA, 1);
	assert_int_equal(front_end_count(fe->call), 0);
	if (!event)
		driver_want_interrupt(&fe->driver, true);
	front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA, 1);
	assert_int_equal(front_end_count(fe->call), 1);
}

static void a_stopped_ring_goes_on_where_it_was(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < 300; i++) {
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
		if (i % 7)
			continue;
		assert_int_equal(front_end_stop_ring(fe),
				 driver_base(&fe->driver));
		plug(fe, ++i);
		front_end_run(fe);
		assert_not_answered(fe);
		front_end_start_ring(fe);
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	}
}

static void a_pending_request_is_left_to_the_next_start(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	front_end_plug(fe, GPA, 1);
	fe->bitmap.later = true;
	plug(fe, 1);
	front_end_kick(fe);
	assert_true(virtio_mem_busy(&fe->dev));
	assert_int_equal(front_end_stop_ring(fe), driver_base(&fe->driver));
	front_end_start_ring(fe);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_int_equal(fe->bitmap.lost, 1);
	assert_not_answered(fe);
	fe->bitmap.later = false;
	fe->bitmap.repeated = true;
	front_end_run(fe);
	assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	assert_not_answered(fe);
	assert_int_equal(fe->bitmap.backing.plugged.set, 2);
}

static void a_late_answer_is_signalled(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	for (unsigned int i = 0; i < 200; i++) {
		plug(fe, i);
		want_interrupt(fe);
		front_end_kick(fe);
		assert_not_answered(fe);
		assert_int_equal(front_end_count(fe->call), 0);
		assert_true(bitmap_backing_finish(&fe->bitmap));
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_count(fe->call), 1);
		front_end_run(fe);
	}
}

/* Send one of the messages with which front ends start a ring. */
static void send_start(struct front_end *fe, char part)
{
	uint64_t ret;

	switch (part) {
	case 'c':
		ret = front_end_set(fe, VHOST_USER_SET_VRING_CALL, 0, fe->call);
		break;
	case 'k':
		ret = front_end_set(fe, VHOST_USER_SET_VRING_KICK, 0, fe->kick);
		break;
	default:
		ret = front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1);
	}
	assert_int_equal(ret, 0);
}

/*
 * A daemon may end after an answer and before its interrupt. Nothing else wakes
 * the driver, which waits for this answer. Front ends have different orders.
 */
static void an_answer_of_an_earlier_daemon_is_signalled(void **state)
{
	static const char *const orders[] = {
		"cke", "kce", "kec", "cek", "eck", "ekc",
	};
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	for (size_t i = 0; i < sizeof(orders) / sizeof(orders[0]); i++) {
		front_end_set(fe, VHOST_USER_SET_VRING_CALL,
			      VHOST_USER_VRING_NOFD, -1);
		front_end_count(fe->call);
		want_interrupt(fe);
		plug(fe, i);
		front_end_kick(fe);
		assert_int_equal(front_end_count(fe->call), 0);
		front_end_close(fe);
		front_end_connect(fe);
		front_end_negotiate(fe);
		front_end_share_memory(fe);
		front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
				    FE_QUEUE_SIZE);
		front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr,
			       sizeof(addr), NULL, 0);
		for (const char *part = orders[i]; *part; part++)
			send_start(fe, *part);
		assert_true(front_end_count(fe->call) > 0);
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	}
}

/*
 * The features say the format, and may come after all other messages. Any size
 * and base are values that a packed queue can have.
 */
static void the_format_may_come_last(void **state)
{
	struct front_end *fe = *state;
	bool packed = driver_has(&fe->driver, VIRTIO_F_RING_PACKED);
	uint32_t base = packed ? 5U | 1U << 15 | 5U << 16 | 1U << 31 : 5;
	struct vhost_user_vring_addr addr = {
		.desc_uva = FE_UVA + FE_DESC,
		.avail_uva = FE_UVA + FE_AVAIL,
		.used_uva = FE_UVA + FE_USED,
	};

	front_end_connect(fe);
	front_end_set(fe, VHOST_USER_SET_PROTOCOL_FEATURES,
		      FE_PROTOCOL_FEATURES, -1);
	front_end_share_memory(fe);
	if (packed)
		assert_int_equal(
			front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM, 100),
			0);
	assert_int_equal(front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
					     FE_QUEUE_SIZE),
			 0);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_BASE, base), 0);
	front_end_call(fe, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL,
		       0);
	send_start(fe, 'k');
	send_start(fe, 'e');
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	virtio_mem_set_requested(&fe->dev, GIB);
	for (unsigned int i = 0; i < 200; i++)
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
}

/*
 * A disabled queue is not written to: the driver may have been reset, and the
 * memory may have another use. The answer is given when the queue goes on.
 */
static void an_answer_waits_for_a_disabled_queue(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	fe->bitmap.later = true;
	plug(fe, 0);
	front_end_kick(fe);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0), 0);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	front_end_run(fe);
	assert_not_answered(fe);
	assert_int_equal(fe->bitmap.lost, 1);
	fe->bitmap.later = false;
	fe->bitmap.repeated = true;
	/* A region that is replaced meanwhile changes nothing. */
	close(front_end_get_inflight(fe));
	front_end_count(fe->call);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1), 0);
	assert_true(front_end_count(fe->call) > 0);
	assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	assert_not_answered(fe);
	assert_int_equal(fe->bitmap.backing.plugged.set, 1);
}

/*
 * cloud-hypervisor only disables the queue when the driver resets the device,
 * and sends all its messages again for the next driver.
 */
static void a_disabled_queue_is_set_up_again(void **state)
{
	struct front_end *fe = *state;
	int inflight = -1;
	uint64_t other = fe->features & ~(1ULL << VIRTIO_RING_F_EVENT_IDX);

	front_end_serve(fe, GIB);
	for (unsigned int i = 0; i < 20; i++) {
		for (unsigned int n = 0; n < i; n++)
			front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA, 1);
		fe->bitmap.later = i % 2;
		plug(fe, 2 * i);
		front_end_kick(fe);
		assert_int_equal(
			front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0),
			0);
		if (i % 3 == 1)
			fe->features = other;
		front_end_new_ring(fe);
		assert_int_equal(front_end_set(fe, VHOST_USER_SET_FEATURES,
					       fe->features, -1),
				 0);
		if (inflight < 0)
			inflight = front_end_get_inflight(fe);
		front_end_set_inflight(fe, inflight);
		plug(fe, 2 * i + 1);
		front_end_start_ring(fe);
		assert_int_equal(fe->bitmap.later,
				 bitmap_backing_finish(&fe->bitmap));
		fe->bitmap.later = false;
		front_end_run(fe);
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
		assert_not_answered(fe);
		assert_int_equal(fe->bitmap.backing.plugged.set, 2 * (i + 1));
	}
	close(inflight);
}

/*
 * The next driver's queue may have another size. Until the queue is enabled,
 * what the front end has sent so far may be of two drivers.
 */
static void a_disabled_queue_may_get_another_size(void **state)
{
	struct front_end *fe = *state;
	struct vhost_user_inflight inflight = {
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE / 2,
	};
	union vhost_user_payload reply;

	front_end_serve(fe, GIB);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0), 0);
	assert_int_equal(front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
					     FE_QUEUE_SIZE / 2),
			 0);
	front_end_send(fe, VHOST_USER_GET_INFLIGHT_FD, 0, &inflight,
		       sizeof(inflight), NULL, 0);
	assert_int_equal(
		front_end_receive(fe, VHOST_USER_GET_INFLIGHT_FD, &reply),
		sizeof(inflight));
	front_end_new_ring(fe);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 1), 0);
	assert_int_equal(
		front_end_set_vring(fe, VHOST_USER_SET_VRING_ENABLE, 0), 0);
	/* The region is too small for this size, but a new one follows. */
	assert_int_equal(front_end_set_vring(fe, VHOST_USER_SET_VRING_NUM,
					     FE_QUEUE_SIZE),
			 0);
	close(front_end_get_inflight(fe));
	front_end_new_ring(fe);
	front_end_start_ring(fe);
	assert_int_equal(front_end_plug(fe, GPA, 1), VIRTIO_MEM_RESP_ACK);
}

/* The features that define the format cannot change while the queue runs. */
static void a_started_queue_keeps_its_format(void **state)
{
	struct front_end *fe = *state;
	uint64_t features = fe->features ^ 1ULL << VIRTIO_RING_F_EVENT_IDX;

	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_start(fe);
	/* The same features again, and others that do not concern the queue. */
	assert_int_equal(
		front_end_set(fe, VHOST_USER_SET_FEATURES, fe->features, -1),
		0);
	front_end_send(fe, VHOST_USER_SET_FEATURES, 0, &features,
		       sizeof(features), NULL, 0);
	assert_true(front_end_closed(fe));
	front_end_close(fe);
	front_end_new_ring(fe);
	front_end_start(fe);
	assert_int_equal(front_end_request(fe, VIRTIO_MEM_REQ_STATE, GPA, 1),
			 VIRTIO_MEM_RESP_ACK);
}

/* --- Requests in flight --- */

/* Bases that front ends set for a queue whose back end was killed. */
enum lie {
	THE_DRIVERS_INDEX,
	NOTHING,
	NONSENSE,
	NR_LIES,
};

static uint32_t lie(const struct front_end *fe, enum lie which)
{
	bool packed = driver_has(&fe->driver, VIRTIO_F_RING_PACKED);
	uint32_t next = fe->driver.next | (uint32_t)fe->driver.avail_wrap << 15;

	switch (which) {
	case THE_DRIVERS_INDEX:
		return packed ? next | next << 16 : fe->driver.avail;
	case NONSENSE:
		return packed ? UINT32_MAX : 12345;
	default:
		return 0;
	}
}

/* Connect again, with the region of the previous connection or without one. */
static void come_back_with(struct front_end *fe, int inflight_fd, uint32_t base)
{
	front_end_close(fe);
	front_end_connect(fe);
	front_end_negotiate(fe);
	front_end_share_memory(fe);
	if (inflight_fd >= 0)
		front_end_set_inflight(fe, inflight_fd);
	fe->lost = true;
	fe->lost_base = base;
	front_end_start_ring(fe);
	fe->lost = false;
}

static void come_back(struct front_end *fe, int inflight_fd)
{
	come_back_with(fe, inflight_fd, lie(fe, THE_DRIVERS_INDEX));
}

/* Connect with an inflight region. Return: its descriptor. */
static int start_with_inflight(struct front_end *fe)
{
	int fd;

	front_end_connect(fe);
	front_end_negotiate(fe);
	fd = front_end_get_inflight(fe);
	front_end_set_inflight(fe, fd);
	front_end_share_memory(fe);
	front_end_start_ring(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	return fd;
}

static void a_request_in_flight_survives_its_connection(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	for (unsigned int i = 0; i < 130; i++) {
		fe->bitmap.later = true;
		fe->bitmap.repeated = false;
		plug(fe, i);
		front_end_kick(fe);
		assert_true(virtio_mem_busy(&fe->dev));
		come_back(fe, fd);
		assert_not_answered(fe);
		/* The request ends without an answer, and is handled again. */
		assert_true(bitmap_backing_finish(&fe->bitmap));
		assert_int_equal(fe->bitmap.lost, i + 1);
		fe->bitmap.later = false;
		fe->bitmap.repeated = true;
		front_end_run(fe);
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
		assert_not_answered(fe);
		assert_int_equal(fe->bitmap.backing.plugged.set, i + 1);
	}
	close(fd);
}

/* Number of marks in an inflight region, in the protocol's layouts. */
static unsigned int marks(const struct front_end *fe, int fd)
{
	bool packed = driver_has(&fe->driver, VIRTIO_F_RING_PACKED);
	off_t at = packed ? 32 : 16, size = packed ? 32 : 16;
	unsigned int nr = 0;
	uint8_t mark;

	for (int i = 0; i < FE_QUEUE_SIZE; i++) {
		assert_int_equal(pread(fd, &mark, 1, at + i * size), 1);
		nr += mark;
	}
	return nr;
}

static void a_request_in_flight_is_marked(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	assert_int_equal(marks(fe, fd), 0);
	fe->bitmap.later = true;
	plug(fe, 0);
	front_end_kick(fe);
	assert_true(virtio_mem_busy(&fe->dev));
	assert_int_equal(marks(fe, fd), 1);
	assert_true(bitmap_backing_finish(&fe->bitmap));
	assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	assert_int_equal(marks(fe, fd), 0);
	close(fd);
}

static void an_answered_request_is_not_repeated(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	for (unsigned int i = 0; i < 130; i++) {
		assert_int_equal(front_end_plug(fe, GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
		come_back(fe, fd);
		assert_not_answered(fe);
	}
	assert_int_equal(fe->bitmap.backing.plugged.set, 130);
	close(fd);
}

/* Requests are made while no back end is connected. */
static void assert_waiting_are_answered(struct front_end *fe, int inflight_fd)
{
	unsigned int block = 0;

	for (unsigned int round = 0; round < 40; round++) {
		unsigned int nr = round % 4;

		front_end_close(fe);
		for (unsigned int i = 0; i < nr; i++)
			plug(fe, block + i);
		come_back_with(fe, inflight_fd, lie(fe, round % NR_LIES));
		front_end_run(fe);
		for (unsigned int i = 0; i < nr; i++)
			assert_answered(fe, VIRTIO_MEM_RESP_ACK);
		assert_not_answered(fe);
		block += nr;
		assert_int_equal(fe->bitmap.backing.plugged.set, block);
	}
}

static void waiting_requests_are_answered_with_any_base(void **state)
{
	struct front_end *fe = *state;

	front_end_serve(fe, GIB);
	assert_waiting_are_answered(fe, -1);
}

static void waiting_requests_are_answered_with_a_region(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	assert_waiting_are_answered(fe, fd);
	close(fd);
}

/* The guest was reset while no back end was connected. */
static void the_base_and_region_of_an_earlier_driver(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	for (unsigned int i = 0; i < 20; i++) {
		uint32_t base = driver_base(&fe->driver);

		front_end_close(fe);
		front_end_new_ring(fe);
		plug(fe, i);
		come_back_with(fe, i % 2 ? fd : -1, base);
		front_end_run(fe);
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
		for (unsigned int n = 0; n < i; n++)
			assert_int_equal(front_end_request(fe,
							   VIRTIO_MEM_REQ_STATE,
							   GPA, 1),
					 VIRTIO_MEM_RESP_ACK);
		assert_not_answered(fe);
	}
	close(fd);
}

/* The queue is stopped properly, and another one is set up. */
static void a_stopped_queue_is_not_in_flight(void **state)
{
	struct front_end *fe = *state;
	int fd = start_with_inflight(fe);

	front_end_plug(fe, GPA, 1);
	fe->bitmap.later = true;
	plug(fe, 1);
	front_end_kick(fe);
	assert_int_equal(front_end_stop_ring(fe), driver_base(&fe->driver));
	bitmap_backing_finish(&fe->bitmap);
	fe->bitmap.later = false;
	/* The driver sets up another queue. */
	front_end_new_ring(fe);
	front_end_set_inflight(fe, fd);
	front_end_start_ring(fe);
	assert_not_answered(fe);
	assert_int_equal(front_end_plug(fe, GPA + 2 * BLOCK, 1),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 3);
	close(fd);
}

static void assert_inflight_ends(struct front_end *fe, uint32_t request,
				 struct vhost_user_inflight inflight, int fd)
{
	front_end_send(fe, request, 0, &inflight, sizeof(inflight), &fd,
		       fd >= 0);
	assert_true(front_end_closed(fe));
	front_end_close(fe);
	front_end_connect(fe);
	front_end_negotiate(fe);
}

static void bad_inflight_messages(void **state)
{
	const struct vhost_user_inflight good = {
		.mmap_size = inflight_size(FE_QUEUE_SIZE),
		.nr_queues = 1,
		.queue_size = FE_QUEUE_SIZE,
	};
	struct vhost_user_inflight bad = good;
	struct front_end *fe = *state;
	unsigned int open_fds;
	int fd;

	front_end_connect(fe);
	front_end_negotiate(fe);
	open_fds = front_end_open_fds();
	fd = front_end_get_inflight(fe);
	bad.nr_queues = 2;
	assert_inflight_ends(fe, VHOST_USER_GET_INFLIGHT_FD, bad, -1);
	assert_inflight_ends(fe, VHOST_USER_SET_INFLIGHT_FD, bad, fd);
	bad.nr_queues = 0;
	assert_inflight_ends(fe, VHOST_USER_GET_INFLIGHT_FD, bad, -1);
	bad = good;
	bad.queue_size = 0;
	assert_inflight_ends(fe, VHOST_USER_GET_INFLIGHT_FD, bad, -1);
	bad.queue_size = VRING_MAX_SIZE + 1;
	assert_inflight_ends(fe, VHOST_USER_GET_INFLIGHT_FD, bad, -1);
	assert_inflight_ends(fe, VHOST_USER_SET_INFLIGHT_FD, good, -1);
	/* The guest's memory is no region: it is not sealed. */
	assert_inflight_ends(fe, VHOST_USER_SET_INFLIGHT_FD, good,
			     fe->memory_fd);
	bad = good;
	bad.mmap_size--;
	assert_inflight_ends(fe, VHOST_USER_SET_INFLIGHT_FD, bad, fd);
	/* While the queue is started. */
	front_end_share_memory(fe);
	front_end_start_ring(fe);
	assert_inflight_ends(fe, VHOST_USER_SET_INFLIGHT_FD, good, fd);
	front_end_share_memory(fe);
	front_end_start_ring(fe);
	assert_inflight_ends(fe, VHOST_USER_GET_INFLIGHT_FD, good, -1);
	close(fd);
	assert_int_equal(front_end_open_fds(), open_fds);
}

int main(void)
{
	const struct format_case cases[] = {
		FORMAT_CASE(requests_are_answered),
		FORMAT_CASE(many_requests_at_once),
		FORMAT_CASE(a_full_queue_does_not_starve_others),
		FORMAT_CASE(the_driver_gets_the_interrupts_it_requests),
		FORMAT_CASE(a_stopped_ring_goes_on_where_it_was),
		FORMAT_CASE(a_pending_request_is_left_to_the_next_start),
		FORMAT_CASE(a_late_answer_is_signalled),
		FORMAT_CASE(an_answer_of_an_earlier_daemon_is_signalled),
		FORMAT_CASE(the_format_may_come_last),
		FORMAT_CASE(an_answer_waits_for_a_disabled_queue),
		FORMAT_CASE(a_disabled_queue_is_set_up_again),
		FORMAT_CASE(a_disabled_queue_may_get_another_size),
		FORMAT_CASE(a_started_queue_keeps_its_format),
		FORMAT_CASE(a_request_in_flight_survives_its_connection),
		FORMAT_CASE(a_request_in_flight_is_marked),
		FORMAT_CASE(an_answered_request_is_not_repeated),
		FORMAT_CASE(waiting_requests_are_answered_with_any_base),
		FORMAT_CASE(waiting_requests_are_answered_with_a_region),
		FORMAT_CASE(the_base_and_region_of_an_earlier_driver),
		FORMAT_CASE(a_stopped_queue_is_not_in_flight),
		FORMAT_CASE(bad_inflight_messages),
	};

	return formats_run(cases, sizeof(cases) / sizeof(cases[0]),
			   front_end_set_up, front_end_tear_down);
}
