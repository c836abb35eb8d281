// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The back end with a driver of each format of virtqueues: whole requests, over
 * the socket and back by the call descriptor.
 */
#include <endian.h>
#include <string.h>

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

/* The driver wants to be told of the next request that is answered. */
static void want_interrupt(struct front_end *fe)
{
	if (driver_has(&fe->driver, VIRTIO_RING_F_EVENT_IDX))
		driver_want_interrupt_after(&fe->driver, 1);
}

static void requests_are_answered(void **state)
{
	struct front_end *fe = *state;

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	/* The queue has 128 descriptors: it wraps a few times. */
	for (unsigned int i = 0; i < 512; i++) {
		want_interrupt(fe);
		assert_int_equal(front_end_request(fe, VIRTIO_MEM_REQ_PLUG,
						   GPA + i * BLOCK, 1),
				 VIRTIO_MEM_RESP_ACK);
		assert_int_equal(front_end_count(fe->call), 1);
	}
	assert_int_equal(fe->bitmap.backing.plugged.set, 512);
	assert_int_equal(front_end_request(fe, VIRTIO_MEM_REQ_UNPLUG, GPA, 512),
			 VIRTIO_MEM_RESP_ACK);
	assert_int_equal(fe->bitmap.backing.plugged.set, 0);
	assert_false(fe->vu.vring.broken);
}

/* More than are carried out before others have their turn. */
static void many_requests_at_once(void **state)
{
	struct front_end *fe = *state;
	unsigned int nr = 3 * VHOST_USER_BUDGET + 1;

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	for (unsigned int i = 0; i < nr; i++)
		plug(fe, i);
	want_interrupt(fe);
	front_end_kick(fe);
	assert_true(front_end_count(fe->call) >= 1);
	for (unsigned int i = 0; i < nr; i++)
		assert_answered(fe, VIRTIO_MEM_RESP_ACK);
	assert_not_answered(fe);
}

static void the_driver_is_told_when_it_wants_to_be(void **state)
{
	struct front_end *fe = *state;
	bool event = driver_has(&fe->driver, VIRTIO_RING_F_EVENT_IDX);
	/* Of the entries that the event index counts, one request takes so. */
	unsigned int per =
		driver_has(&fe->driver, VIRTIO_F_RING_PACKED) &&
				!driver_has(&fe->driver,
					    VIRTIO_RING_F_INDIRECT_DESC)
			? 2
			: 1;

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
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

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	for (unsigned int i = 0; i < 300; i++) {
		assert_int_equal(front_end_request(fe, VIRTIO_MEM_REQ_PLUG,
						   GPA + i * BLOCK, 1),
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

static void a_request_that_waits_is_left_to_the_next(void **state)
{
	struct front_end *fe = *state;

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_request(fe, VIRTIO_MEM_REQ_PLUG, GPA, 1);
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

static void a_late_answer_is_told(void **state)
{
	struct front_end *fe = *state;

	front_end_start(fe);
	virtio_mem_set_requested(&fe->dev, GIB);
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

/* What it is read by may not change under a queue that is read. */
static void a_started_queue_keeps_its_format(void **state)
{
	struct front_end *fe = *state;
	uint64_t features = fe->features ^ 1ULL << VIRTIO_RING_F_EVENT_IDX;

	virtio_mem_set_requested(&fe->dev, GIB);
	front_end_start(fe);
	/* The same again, and with others that are none of the queue's. */
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

int main(void)
{
	const struct format_case cases[] = {
		FORMAT_CASE(requests_are_answered),
		FORMAT_CASE(many_requests_at_once),
		FORMAT_CASE(the_driver_is_told_when_it_wants_to_be),
		FORMAT_CASE(a_stopped_ring_goes_on_where_it_was),
		FORMAT_CASE(a_request_that_waits_is_left_to_the_next),
		FORMAT_CASE(a_late_answer_is_told),
		FORMAT_CASE(a_started_queue_keeps_its_format),
	};

	return formats_run(cases, sizeof(cases) / sizeof(cases[0]),
			   front_end_set_up, front_end_tear_down);
}
