// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers in front of a backing: the events that each one gets, their order,
 * and the result of a request that a consumer refuses or does not answer.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timer.h"
#include "bitmap_backing.h"
#include "device/consumer.h"
#include "device/vmem_device.h"
#include "unit.h"

#define GPA	   (4 * GIB)
#define BLOCK	   (2 * MIB)
#define PER_SLOT   4
#define SLOT	   (PER_SLOT * BLOCK)
#define FIRST_SLOT 100

/* The last memslot is shorter. */
#define NR_BLOCKS   62
#define NR_SLOTS    16
#define REGION_SIZE (NR_BLOCKS * BLOCK)

#define NR_MAPPERS 3

/**
 * struct mapper - a consumer that maps populated blocks
 * @consumer: NULL if not subscribed, or away
 * @waits: @event has not been answered yet
 * @has: mapped blocks, which it may keep while it is away
 * @slots: memslots, which it may keep while it is away
 * @repeating: it is back, and gets events again for blocks that it may have
 * @subscribed: number of "subscribed" notifications
 * @closed: reason of the close
 */
struct mapper {
	struct consumer *consumer;
	bool waits;
	struct consumer_event event;
	bool has[NR_BLOCKS];
	bool slots[NR_SLOTS];
	bool repeating;
	unsigned int subscribed;
	char closed[192];
};

/**
 * struct fixture - a device's backing with consumers
 * @nr_done: number of answers to the device's requests
 * @result: the last answer
 * @seed: for random steps
 */
struct fixture {
	struct bitmap_backing bitmap;
	struct backing *backing;
	sd_event *event;
	struct consumers consumers;
	struct mapper mappers[NR_MAPPERS];
	unsigned int nr_done;
	int result;
	uint64_t seed;
};

static void on_done(void *arg, int result)
{
	struct fixture *f = arg;

	f->nr_done++;
	f->result = result;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	bitmap_backing_init(&f->bitmap, GPA, REGION_SIZE, BLOCK);
	f->backing = &f->bitmap.backing;
	f->backing->done = on_done;
	f->backing->arg = f;
	assert_true(sd_event_new(&f->event) >= 0);
	assert_int_equal(consumers_start(&f->consumers, f->event, f->backing,
					 SLOT, FIRST_SLOT),
			 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	consumers_stop(&f->consumers);
	sd_event_unref(f->event);
	bitmap_backing_free(&f->bitmap);
	free(f);
	return 0;
}

static void take_event(void *arg, const struct consumer_event *event)
{
	struct mapper *mapper = arg;

	assert_false(mapper->waits);
	mapper->waits = true;
	mapper->event = *event;
}

/* The mapper has exactly the memslots of its blocks. */
static void expect_slots(const struct mapper *mapper)
{
	for (uint64_t i = 0; i < NR_SLOTS; i++) {
		bool used = false;

		for (uint64_t j = 0; j < PER_SLOT; j++)
			used |= i * PER_SLOT + j < NR_BLOCKS &&
				mapper->has[i * PER_SLOT + j];
		assert_int_equal(mapper->slots[i], used);
	}
}

static void take_subscribed(void *arg)
{
	struct mapper *mapper = arg;

	mapper->subscribed++;
	mapper->repeating = false;
	expect_slots(mapper);
}

static void take_close(void *arg, const char *reason)
{
	struct mapper *mapper = arg;

	assert_non_null(mapper->consumer);
	snprintf(mapper->closed, sizeof(mapper->closed), "%s",
		 reason ? reason : "");
	mapper->consumer = NULL;
	mapper->waits = false;
}

static const struct consumer_ops ops = {
	.tell = take_event,
	.subscribed = take_subscribed,
	.close = take_close,
};

/* Handle the ready events without waiting. */
static void run(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

/* Time within which something has to happen: tests make time limits short. */
#define SOON_USEC (5 * 1000000ULL)

/* Wait for the next event of the loop. */
static void run_one(struct fixture *f)
{
	if (sd_event_run(f->event, SOON_USEC) <= 0)
		fail_msg("nothing happens");
}

static void wait_for_done(struct fixture *f, unsigned int nr_done)
{
	while (f->nr_done < nr_done)
		run_one(f);
}

/* Return: as consumer_new(). */
static int subscribe(struct fixture *f, struct mapper *mapper, const char *name,
		     const struct peer *peer)
{
	const struct consumer_config config = {.name = name, .peer = *peer};
	struct error err;
	int ret;

	ret = consumer_new(&mapper->consumer, &f->consumers, &config, &ops,
			   mapper, &err);
	/* No event precedes the answer to the subscription. */
	assert_false(mapper->waits);
	return ret;
}

/* The mapper keeps its mappings. */
static void come_back(struct fixture *f, int i)
{
	struct mapper *mapper = &f->mappers[i];
	char name[] = "mapper0";

	name[6] += i;
	mapper->closed[0] = '\0';
	mapper->repeating = true;
	memset(mapper->slots, 0, sizeof(mapper->slots));
	assert_int_equal(subscribe(f, mapper, name, &PEER_UNKNOWN), 0);
	run(f);
}

static struct mapper *add_mapper(struct fixture *f, int i)
{
	struct mapper *mapper = &f->mappers[i];
	char name[] = "mapper0";

	name[6] += i;
	memset(mapper, 0, sizeof(*mapper));
	assert_int_equal(subscribe(f, mapper, name, &PEER_UNKNOWN), 0);
	run(f);
	return mapper;
}

/*
 * Map or unmap as the event says. Each block and memslot is added once and
 * removed once, except for repeated populates.
 */
static void do_event(struct mapper *mapper)
{
	const struct consumer_event *event = &mapper->event;
	uint64_t first = (event->gpa - GPA) / BLOCK;
	uint64_t end = first + event->size / BLOCK;
	uint64_t slot = event->slot - FIRST_SLOT, slots_size = 0;

	assert_true(event->size && !(event->size % BLOCK) && end <= NR_BLOCKS);
	for (uint64_t i = first; i < end; i++) {
		assert_false(event->populate && mapper->has[i] &&
			     !mapper->repeating);
		mapper->has[i] = event->populate;
	}
	if (event->nr_slots)
		assert_int_equal(event->slots_gpa, GPA + slot * SLOT);
	for (uint64_t i = slot; i < slot + event->nr_slots; i++) {
		assert_false(event->populate && mapper->slots[i] &&
			     !mapper->repeating);
		mapper->slots[i] = event->populate;
		slots_size += i == NR_SLOTS - 1 ? REGION_SIZE % SLOT : SLOT;
	}
	assert_int_equal(event->slots_size, slots_size);
	if (!mapper->repeating)
		expect_slots(mapper);
}

static void accept_event(struct mapper *mapper)
{
	assert_true(mapper->waits);
	mapper->waits = false;
	do_event(mapper);
	assert_int_equal(
		consumer_answer(mapper->consumer, mapper->event.seq, true, ""),
		0);
}

static void accept_all(struct mapper *mapper)
{
	while (mapper->waits)
		accept_event(mapper);
}

static void refuse_event(struct mapper *mapper)
{
	assert_true(mapper->waits);
	mapper->waits = false;
	assert_int_equal(consumer_answer(mapper->consumer, mapper->event.seq,
					 false, "it is full"),
			 0);
}

/* The mapper unmaps everything and unsubscribes. */
static void leave(struct fixture *f, struct mapper *mapper)
{
	struct consumer *consumer = mapper->consumer;

	memset(mapper, 0, sizeof(*mapper));
	consumer_unsubscribe(consumer);
	run(f);
}

/* The connection ends, but the mappings stay. */
static void lose(struct fixture *f, struct mapper *mapper)
{
	struct consumer *consumer = mapper->consumer;

	take_close(mapper, "its connection has ended");
	consumer_gone(consumer);
	run(f);
}

/* Plug as the device does: plugged memory reads zero. */
static int plug(struct fixture *f, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first; i < first + nr; i++)
		if (f->bitmap.dirty[i] &&
		    backing_discard(f->backing, GPA + i * BLOCK, BLOCK))
			return -EBUSY;
	return backing_plug(f->backing, GPA + first * BLOCK, nr * BLOCK);
}

static int unplug(struct fixture *f, uint64_t first, uint64_t nr)
{
	return backing_unplug(f->backing, GPA + first * BLOCK, nr * BLOCK);
}

static void expect_event(const struct mapper *mapper, bool populate,
			 uint64_t first, uint64_t nr, uint64_t slot,
			 uint32_t nr_slots)
{
	const struct consumer_event *event = &mapper->event;

	assert_true(mapper->waits);
	assert_int_equal(event->populate, populate);
	assert_int_equal(event->gpa, GPA + first * BLOCK);
	assert_int_equal(event->size, nr * BLOCK);
	assert_int_equal(event->nr_slots, nr_slots);
	if (nr_slots)
		assert_int_equal(event->slot, FIRST_SLOT + slot);
}

/* The mapped blocks are the plugged blocks. */
static void expect_true(const struct fixture *f, const struct mapper *mapper)
{
	for (uint64_t i = 0; i < NR_BLOCKS; i++)
		assert_int_equal(mapper->has[i],
				 blocks_count(&f->backing->plugged, i, 1));
}

#define AWAY(name) "consumer " name " is away and may still map memory"
#define BACK(name) "consumer " name " is back and has not caught up"

/* Forget a consumer, as an operator does. */
static void forget(struct fixture *f, const char *name)
{
	struct error err;

	assert_int_equal(consumers_forget(&f->consumers, name, NULL, &err), 0);
	run(f);
}

static void without_consumers_requests_pass_through(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 3), 0);
	assert_int_equal(unplug(f, 1, 1), 0);
	f->bitmap.fail = -ENOMEM;
	assert_int_equal(plug(f, 1, 1), -ENOMEM);
	assert_string_equal(f->backing->error.text, "the test wants it");
	f->bitmap.fail = 0;
	f->bitmap.repeated = true;
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK), 0);
	f->bitmap.later = true;
	assert_int_equal(backing_unplug_all(f->backing), -EINPROGRESS);
	assert_true(bitmap_backing_finish(&f->bitmap));
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
	backing_answer_lost(f->backing);
	assert_int_equal(f->bitmap.lost, 1);
}

static void a_plug_is_answered_when_all_have_populated(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(a->subscribed, 1);
	assert_int_equal(plug(f, 2, 7), -EINPROGRESS);
	/* The memory is plugged before the events. */
	assert_int_equal(f->backing->plugged.set, 7);
	expect_event(a, true, 2, 7, 0, 3);
	expect_event(b, true, 2, 7, 0, 3);
	accept_event(a);
	assert_int_equal(f->nr_done, 0);
	accept_event(b);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	/* Blocks of a memslot that exists already. */
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	expect_event(a, true, 0, 2, 0, 0);
	accept_event(b);
	accept_event(a);
	assert_int_equal(f->nr_done, 2);
}

static void memory_is_unplugged_when_all_have_discarded(void **state)
{
	struct fixture *f = *state;
	struct mapper *a, *b;

	assert_int_equal(plug(f, 0, 10), 0);
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	accept_event(a);
	accept_event(b);
	assert_int_equal(unplug(f, 2, 6), -EINPROGRESS);
	expect_event(a, false, 2, 6, 1, 1);
	/* The memory is still plugged and not discarded. */
	assert_int_equal(f->backing->plugged.set, 10);
	accept_event(a);
	assert_int_equal(f->backing->plugged.set, 10);
	assert_int_equal(backing_discard(f->backing, GPA + 40 * BLOCK, BLOCK),
			 0);
	accept_event(b);
	assert_int_equal(f->backing->plugged.set, 4);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(backing_unplug_all(f->backing), -EINPROGRESS);
	expect_event(a, false, 0, 10, 0, 3);
	accept_event(a);
	accept_event(b);
	assert_int_equal(f->backing->plugged.set, 0);
	assert_int_equal(f->nr_done, 2);
}

static void a_plug_that_one_refuses_is_undone(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1),
		      *c = add_mapper(f, 2);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	refuse_event(b);
	/*
	 * @a discards before the unplug; @c has not answered the populate yet.
	 */
	expect_event(a, false, 0, 4, 0, 1);
	accept_event(a);
	assert_int_equal(f->backing->plugged.set, 4);
	/* A late refusal has no effect. */
	refuse_event(c);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper1 refuses to populate: it is full");
	assert_int_equal(f->backing->plugged.set, 0);
	/* All three stay subscribed, and the next request may succeed. */
	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	accept_event(c);
	assert_int_equal(f->result, 0);
}

static void an_unplug_that_one_refuses_changes_nothing(void **state)
{
	struct fixture *f = *state;
	struct mapper *a, *b;

	assert_int_equal(plug(f, 0, 4), 0);
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	accept_event(a);
	accept_event(b);
	f->bitmap.nr_log = 0;
	assert_int_equal(unplug(f, 1, 3), -EINPROGRESS);
	accept_event(a);
	refuse_event(b);
	/*
	 * The guest may use the memory once the request is answered, so
	 * populates come first.
	 */
	assert_int_equal(f->nr_done, 0);
	expect_event(a, true, 1, 3, 0, 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper1 refuses to discard: it is full");
	assert_int_equal(f->bitmap.nr_log, 0);
	expect_true(f, a);
	expect_true(f, b);
}

static void an_unplug_that_the_backing_refuses_is_undone(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 0, 4), 0);
	a = add_mapper(f, 0);
	accept_event(a);
	f->bitmap.fail = -ENOMEM;
	f->bitmap.later = true;
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	assert_true(bitmap_backing_finish(&f->bitmap));
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	assert_int_equal(f->result, -ENOMEM);
	assert_string_equal(f->backing->error.text, "the test wants it");
	expect_true(f, a);
}

static void a_plug_that_cannot_be_undone_succeeds(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	f->bitmap.fail = -ENOMEM;
	refuse_event(b);
	accept_event(a);
	assert_null(b->consumer);
	assert_non_null(strstr(b->closed, "cannot be undone"));
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 4);
	expect_true(f, a);
}

static void unplug_all_cannot_be_refused(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 5, 4), 0);
	a = add_mapper(f, 0);
	accept_event(a);
	assert_int_equal(backing_unplug_all(f->backing), -EINPROGRESS);
	refuse_event(a);
	assert_null(a->consumer);
	assert_non_null(strstr(a->closed, "it is full"));
	/* The memory that it has mapped stays plugged. */
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text, AWAY("mapper0"));
	assert_int_equal(f->backing->plugged.set, 4);
}

static void a_consumer_that_unsubscribed_is_not_awaited(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	leave(f, b);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	leave(f, a);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
	/* The refusing consumer leaves during the rollback. */
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(b);
	refuse_event(a);
	leave(f, a);
	f->bitmap.fail = -ENOMEM;
	accept_event(b);
	accept_event(b);
	assert_int_equal(f->nr_done, 3);
	assert_int_equal(f->result, 0);
	expect_true(f, b);
}

static void no_answer_is_a_refusal_and_closes(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	f->consumers.answer_usec = 1000;
	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	accept_event(a);
	while (b->consumer)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	assert_non_null(strstr(b->closed, "in time"));
	accept_event(a);
	assert_int_equal(f->result, -EBUSY);
	assert_int_equal(f->backing->plugged.set, 0);
	/* The closed consumer may have mapped the blocks. */
	assert_int_equal(plug(f, 0, 4), -EBUSY);
	assert_int_equal(plug(f, 8, 4), -EBUSY);
	assert_string_equal(f->backing->error.text, AWAY("mapper1"));
	/* Once the consumer is forgotten, the next request succeeds. */
	forget(f, "mapper1");
	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
}

static void a_new_consumer_gets_the_plugged_blocks(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 1, 1), 0);
	assert_int_equal(plug(f, 3, 4), 0);
	assert_int_equal(plug(f, 60, 2), 0);
	a = add_mapper(f, 0);
	expect_event(a, true, 1, 1, 0, 1);
	accept_event(a);
	expect_event(a, true, 3, 4, 1, 1);
	/*
	 * A new consumer does not delay a plug, but an unplug waits for its
	 * discard.
	 */
	assert_int_equal(plug(f, 20, 1), 0);
	assert_int_equal(unplug(f, 4, 1), -EINPROGRESS);
	accept_event(a);
	expect_event(a, false, 4, 1, 0, 0);
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(a->subscribed, 0);
	/* Blocks not yet populated there need no discard. */
	assert_int_equal(unplug(f, 60, 1), 0);
	expect_event(a, true, 20, 1, 5, 1);
	accept_event(a);
	expect_event(a, true, 61, 1, 15, 1);
	accept_event(a);
	assert_int_equal(a->subscribed, 1);
	assert_false(a->waits);
	expect_true(f, a);
}

static void a_new_consumer_cannot_refuse_plugged_blocks(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 1, 1), 0);
	a = add_mapper(f, 0);
	refuse_event(a);
	assert_null(a->consumer);
	assert_int_equal(f->backing->plugged.set, 1);
}

static void a_repeated_request_waits_for_consumers(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);

	/* As after a restart: plugged, without a populate. */
	backing_note_plugged(f->backing, GPA, BLOCK);
	f->bitmap.repeated = true;
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK),
			 -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK), -EINVAL);
}

/* Independent of the previous request. */
static void a_repeated_request_can_be_refused(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 8, 2), 0);
	assert_int_equal(backing_unplug(f->backing, GPA + 8 * BLOCK, 2 * BLOCK),
			 0);
	a = add_mapper(f, 0);
	backing_note_plugged(f->backing, GPA, BLOCK);
	f->bitmap.repeated = true;
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK),
			 -EINPROGRESS);
	refuse_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper0 refuses to populate: it is full");
	assert_int_equal(f->backing->plugged.set, 0);
	assert_non_null(a->consumer);
}

static void changes_by_others_cannot_be_refused(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	backing_note_plugged(f->backing, GPA, 5 * BLOCK);
	consumers_changed(&f->consumers);
	assert_false(a->waits);
	run(f);
	expect_event(a, true, 0, 5, 0, 2);
	accept_event(a);
	refuse_event(b);
	assert_null(b->consumer);
	assert_int_equal(f->backing->plugged.set, 5);
	backing_note_unplugged(f->backing, GPA + 2 * BLOCK, BLOCK);
	consumers_changed(&f->consumers);
	/* Mapped memory is not discarded. */
	assert_int_equal(backing_discard(f->backing, GPA + 2 * BLOCK, BLOCK),
			 -EBUSY);
	assert_non_null(strstr(f->backing->error.text, "mapper0"));
	run(f);
	expect_event(a, false, 2, 1, 0, 0);
	accept_event(a);
	assert_int_equal(backing_discard(f->backing, GPA + 2 * BLOCK, BLOCK),
			 0);
	assert_int_equal(f->nr_done, 0);
}

static void verify_notifies_consumers(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);
	uint8_t truth[NR_BLOCKS] = {[7] = 1};

	f->bitmap.truth = truth;
	f->bitmap.stale = true;
	assert_int_equal(backing_verify(f->backing), 1);
	run(f);
	expect_event(a, true, 7, 1, 1, 1);
	accept_event(a);
	assert_int_equal(backing_verify(f->backing), 0);
	run(f);
	assert_false(a->waits);
}

static void a_consumer_with_too_few_memslots_is_refused(void **state)
{
	struct fixture *f = *state;
	const struct {
		struct consumer_memslots memslots;
		uint64_t others;
		const char *text;
	} refused[] = {
		{{NR_SLOTS - 1, 0, 0},
		 0,
		 "can have 15 memslots, 0 are used and 16 reserved"},
		{{NR_SLOTS, 1, 0},
		 0,
		 "can have 16 memslots, 1 are used and 16 reserved"},
		{{NR_SLOTS + 6, 6, 1},
		 0,
		 "can have 22 memslots, 6 are used and 17 reserved"},
		{{NR_SLOTS + 9, 6, 1},
		 3,
		 "can have 25 memslots, 6 are used and 20 reserved"},
		{{NR_SLOTS, UINT64_MAX, 0}, 0, "are used and 16 reserved"},
		{{UINT64_MAX - 1, 0, UINT64_MAX},
		 0,
		 "0 are used and 18446744073709551615 reserved"},
	};
	const struct consumer_memslots fits = {NR_SLOTS + 10, 6, 1}, any = {0};
	struct consumer_config config = {.name = "vhost-net0",
					 .peer = PEER_UNKNOWN};
	struct consumer *consumer;
	struct error err;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		config.memslots = refused[i].memslots;
		config.others = refused[i].others;
		assert_int_equal(consumer_new(&consumer, &f->consumers, &config,
					      &ops, NULL, &err),
				 -ENOSPC);
		assert_int_equal(strncmp(err.text, "vhost-net0 can have ", 20),
				 0);
		assert_non_null(strstr(err.text, refused[i].text));
	}
	config.name = "x";
	config.others = 3;
	for (int i = 0; i < CONSUMERS_MAX; i++) {
		config.memslots = i ? fits : any;
		assert_int_equal(consumer_new(&consumer, &f->consumers, &config,
					      &ops, &f->mappers[0], &err),
				 0);
	}
	config.memslots = any;
	assert_int_equal(consumer_new(&consumer, &f->consumers, &config, &ops,
				      NULL, &err),
			 -EUSERS);
	/* Root's consumers have places of their own. */
	config.peer.uid = 0;
	for (int i = 0; i < CONSUMERS_ROOT; i++)
		assert_int_equal(consumer_new(&consumer, &f->consumers, &config,
					      &ops, &f->mappers[0], &err),
				 0);
	assert_int_equal(consumer_new(&consumer, &f->consumers, &config, &ops,
				      NULL, &err),
			 -EUSERS);
	f->mappers[0].consumer = consumer;
	/* A device attached later must leave memslots for all consumers. */
	assert_int_equal(consumers_check(&f->consumers, 3, &err), 0);
	assert_int_equal(consumers_check(&f->consumers, 4, &err), -ENOSPC);
	assert_string_equal(err.text,
			    "x can have 26 memslots, 6 are used and 21 "
			    "reserved");
	while (f->consumers.list) {
		consumer_gone(f->consumers.list);
		run(f);
	}
	assert_int_equal(consumers_check(&f->consumers, 4, &err), 0);
}

/* Text that the function writes to standard error for @size. */
static const char *noted(struct fixture *f, uint64_t size)
{
	static char text[512];
	int fd = memfd_create("log", MFD_CLOEXEC);
	int saved = dup(STDERR_FILENO);
	ssize_t length;

	log_init(LOG_LEVEL_WARNING);
	assert_int_equal(dup2(fd, STDERR_FILENO), STDERR_FILENO);
	consumers_note_requested(&f->consumers, size);
	log_init(LOG_LEVEL_ERR);
	assert_int_equal(dup2(saved, STDERR_FILENO), STDERR_FILENO);
	length = pread(fd, text, sizeof(text) - 1, 0);
	assert_true(length >= 0);
	text[length] = '\0';
	close(saved);
	close(fd);
	return text;
}

#define TOO_MANY                                                           \
	"vfio0 can have 3 mappings, 8 MiB in blocks of 2 MiB may need 4; " \
	"blocks of 4 MiB would fit"

/* What is requested counts, and what is plugged, but not the region. */
static void who_could_not_map_each_block_is_refused(void **state)
{
	struct fixture *f = *state;
	struct consumer_config config = {
		.name = "vfio0",
		.mappings = 3,
		.requested_size = 4 * BLOCK,
		.peer = PEER_UNKNOWN,
	};
	struct mapper *a = &f->mappers[0];
	struct error err;

	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 -ENOSPC);
	assert_string_equal(err.text, TOO_MANY);
	config.requested_size = 0;
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 -ENOSPC);
	assert_string_equal(err.text, TOO_MANY);
	assert_int_equal(unplug(f, 3, 1), 0);
	config.requested_size = 3 * BLOCK;
	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 0);
	run(f);
	accept_all(a);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 3 * BLOCK, &err), 0);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 4 * BLOCK, &err),
		-ENOSPC);
	assert_string_equal(err.text, TOO_MANY);
	/* Others may set the size all the same, which is logged. */
	assert_string_equal(noted(f, 3 * BLOCK), "");
	assert_non_null(
		strstr(noted(f, 4 * BLOCK),
		       "another process has requested too much: " TOO_MANY));
	/* Its limit counts while it is away. */
	lose(f, a);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 4 * BLOCK, &err),
		-ENOSPC);
	config.mappings = 4;
	a->repeating = true;
	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 0);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 4 * BLOCK, &err), 0);
}

/*
 * It comes back with the limits that it had. Others have gone beyond them; without
 * it, all requests would be answered busy for good.
 */
static void who_is_back_is_not_refused(void **state)
{
	struct fixture *f = *state;
	struct consumer_config config = {
		.name = "vfio0",
		.memslots = {.limit = NR_SLOTS},
		.mappings = 3,
		.requested_size = 3 * BLOCK,
		.peer = PEER_UNKNOWN,
	};
	struct mapper *a = &f->mappers[0];
	struct error err;

	assert_int_equal(plug(f, 0, 3), 0);
	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 0);
	run(f);
	accept_all(a);
	for (int i = 0; i < 2; i++) {
		lose(f, a);
		config.requested_size = i ? 3 * BLOCK : 4 * BLOCK;
		config.others = i;
		a->repeating = true;
		memset(a->slots, 0, sizeof(a->slots));
		assert_int_equal(consumer_new(&a->consumer, &f->consumers,
					      &config, &ops, a, &err),
				 0);
		run(f);
		accept_all(a);
		assert_int_equal(a->subscribed, i + 2);
		assert_int_equal(unplug(f, 2, 1), -EINPROGRESS);
		accept_event(a);
		assert_int_equal(plug(f, 2, 1), -EINPROGRESS);
		accept_event(a);
		assert_int_equal(f->result, 0);
		/* Another one of that name is new, and is refused. */
		assert_int_equal(consumer_new(&a->consumer, &f->consumers,
					      &config, &ops, a, &err),
				 -ENOSPC);
	}
}

/* Before the guest is asked for it, and before the kernel keeps it. */
static void a_size_that_one_could_not_map_is_not_requested(void **state)
{
	struct fixture *f = *state;
	const struct consumer_config config = {
		.name = "vfio0",
		.mappings = 3,
		.peer = PEER_UNKNOWN,
	};
	struct vmem_device *device = calloc(1, sizeof(*device));
	struct mapper *a = &f->mappers[0];
	struct error err;

	assert_non_null(device);
	consumers_stop(&f->consumers);
	device->dev.backing = f->backing;
	assert_int_equal(consumers_start(&device->consumers, f->event,
					 f->backing, SLOT, FIRST_SLOT),
			 0);
	assert_int_equal(consumer_new(&a->consumer, &device->consumers, &config,
				      &ops, a, &err),
			 0);
	assert_int_equal(vmem_device_set_requested(device, 4 * BLOCK, &err),
			 -ENOSPC);
	assert_string_equal(err.text, TOO_MANY);
	assert_int_equal(vmem_device_promised_size(device), 0);
	/* One that the kernel has not answered yet counts. */
	device->dev.requested_size = 2 * BLOCK;
	assert_int_equal(vmem_device_promised_size(device), 2 * BLOCK);
	device->resizing_to = 3 * BLOCK;
	assert_int_equal(vmem_device_promised_size(device), 3 * BLOCK);
	device->resizing_to = BLOCK;
	assert_int_equal(vmem_device_promised_size(device), 2 * BLOCK);
	consumers_stop(&device->consumers);
	free(device);
}

static void answers_without_an_event_are_refused(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);

	assert_int_equal(consumer_answer(a->consumer, 0, true, ""), -ENOENT);
	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	assert_int_equal(
		consumer_answer(a->consumer, a->event.seq + 1, true, ""),
		-ENOENT);
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	assert_int_equal(consumer_answer(a->consumer, a->event.seq, true, ""),
			 -ENOENT);
	assert_int_equal(f->nr_done, 1);
}

/* --- Anything, in any order --- */

#define NR_STEPS 200000

/* A pseudo-random number below @n; the sequence is always the same. */
static unsigned int below(struct fixture *f, unsigned int n)
{
	f->seed = f->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(f->seed >> 33) % n;
}

/**
 * struct model - the expected result of a request
 * @active: the request has no answer yet
 * @awaiting: backing_await() has not finished yet
 * @plug: plug or unplug
 * @before: plugged blocks before the request
 * @first: first block
 * @nr: number of blocks
 * @nr_acks: number of successful requests
 * @nr_busy: number of refused requests
 */
struct model {
	bool active;
	bool awaiting;
	bool plug;
	bool before[NR_BLOCKS];
	uint64_t first;
	uint64_t nr;
	unsigned int nr_acks;
	unsigned int nr_busy;
};

static void copy_plugged(const struct fixture *f, bool plugged[NR_BLOCKS])
{
	for (uint64_t i = 0; i < NR_BLOCKS; i++)
		plugged[i] = blocks_count(&f->backing->plugged, i, 1);
}

/*
 * A request is carried out completely or not at all; subscribed consumers have
 * mapped the plugged blocks.
 */
static void check_answer(struct fixture *f, struct model *m, int result)
{
	bool after[NR_BLOCKS];

	copy_plugged(f, after);
	if (result) {
		assert_int_equal(memcmp(after, m->before, sizeof(after)), 0);
		m->nr_busy++;
	} else {
		for (uint64_t i = 0; i < m->nr; i++)
			m->before[m->first + i] = m->plug;
		assert_int_equal(memcmp(after, m->before, sizeof(after)), 0);
		m->nr_acks++;
	}
	for (int i = 0; i < NR_MAPPERS; i++)
		if (f->mappers[i].consumer && f->mappers[i].subscribed &&
		    !f->mappers[i].repeating)
			expect_true(f, &f->mappers[i]);
	m->active = false;
}

/* Mapped memory is never discarded. */
static void expect_no_stale_maps(const struct fixture *f)
{
	for (int i = 0; i < NR_MAPPERS; i++)
		for (uint64_t b = 0; b < NR_BLOCKS; b++)
			assert_false(f->mappers[i].has[b] &&
				     !f->bitmap.dirty[b]);
}

static void begin_random(struct fixture *f, struct model *m)
{
	unsigned int nr_done = f->nr_done;
	uint64_t first = below(f, NR_BLOCKS);
	uint64_t nr = 1 + below(f, NR_BLOCKS - first);
	uint64_t in = blocks_count(&f->backing->plugged, first, nr);
	int ret;

	if (!m->awaiting && backing_await(f->backing) == -EINPROGRESS) {
		m->awaiting = true;
		return;
	}
	m->awaiting = false;
	f->bitmap.later = below(f, 2);
	f->bitmap.nr_log = 0;
	m->first = first;
	m->nr = nr;
	copy_plugged(f, m->before);
	m->active = true;
	if (!below(f, 8)) {
		m->first = 0;
		m->nr = NR_BLOCKS;
		m->plug = false;
		ret = backing_unplug_all(f->backing);
	} else if (!in) {
		m->plug = true;
		ret = plug(f, first, nr);
	} else if (in == nr) {
		m->plug = false;
		ret = unplug(f, first, nr);
	} else {
		m->active = false;
		return;
	}
	assert_int_equal(f->nr_done, nr_done);
	if (ret != -EINPROGRESS)
		check_answer(f, m, ret);
}

/* Discard an unplugged block, as the device does between requests. */
static void discard_random(struct fixture *f)
{
	uint64_t block = below(f, NR_BLOCKS);

	if (f->bitmap.dirty[block] &&
	    !blocks_count(&f->backing->plugged, block, 1))
		backing_discard(f->backing, GPA + block * BLOCK, BLOCK);
}

static void step_mapper(struct fixture *f, int i)
{
	struct mapper *mapper = &f->mappers[i];

	if (!mapper->consumer)
		come_back(f, i);
	else if (!below(f, 80))
		leave(f, mapper);
	else if (!below(f, 40))
		lose(f, mapper);
	else if (mapper->waits && !below(f, 6))
		refuse_event(mapper);
	else if (mapper->waits)
		accept_event(mapper);
}

static void random_requests_are_done_by_all_or_none(void **state)
{
	struct fixture *f = *state;
	struct model m = {};

	for (int i = 0; i < NR_STEPS; i++) {
		unsigned int nr_done = f->nr_done;

		f->bitmap.fail = 0;
		/* Not during a rollback, which has its own case. */
		if (!below(f, 10) && f->consumers.step == CONSUMERS_CHANGING)
			f->bitmap.fail = -ENOMEM;
		/*
		 * Between two requests, half of the steps are left to the
		 * mappers, so that one that is away can come back.
		 */
		if (!m.active && !m.awaiting && below(f, 2))
			begin_random(f, &m);
		else if (!below(f, 4))
			bitmap_backing_finish(&f->bitmap);
		else
			step_mapper(f, below(f, NR_MAPPERS));
		if (!below(f, 8))
			discard_random(f);
		expect_no_stale_maps(f);
		if (f->nr_done == nr_done)
			continue;
		assert_int_equal(f->nr_done, nr_done + 1);
		if (m.awaiting)
			begin_random(f, &m);
		else
			check_answer(f, &m, f->result);
	}
	/* Both results have occurred. */
	assert_true(m.nr_acks > NR_STEPS / 100);
	assert_true(m.nr_busy > NR_STEPS / 100);
}

/* --- Many runs --- */

/* Every other block is plugged: each is one event. */
#define MANY 32768ULL

static void take_many(void *arg, const struct consumer_event *event)
{
	*(struct consumer_event *)arg = *event;
}

static void no_word(void *arg __attribute__((unused)))
{
}

static void no_reason(void *arg __attribute__((unused)),
		      const char *reason __attribute__((unused)))
{
}

/*
 * Answer all events. Return: their number.
 * @most: out: the maximum number of steps of one answer
 */
static uint64_t answer_all(struct consumer *consumer,
			   struct consumer_event *event, struct work *work,
			   uint64_t *most)
{
	uint64_t nr = 0;

	*most = 0;
	for (; consumer->out; nr++) {
		work_begin_turn(work);
		assert_int_equal(
			consumer_answer(consumer, event->seq, true, ""), 0);
		if (work->steps > *most)
			*most = work->steps;
	}
	return nr;
}

/**
 * struct many - a consumer of a region in which every other block is plugged
 * @loop: the event loop
 * @bitmap: the backing
 * @consumers: its consumers
 * @consumer: the only one
 * @event: its event, to be answered
 * @work: counts the steps
 */
struct many {
	sd_event *loop;
	struct bitmap_backing bitmap;
	struct consumers consumers;
	struct consumer *consumer;
	struct consumer_event event;
	struct work work;
};

static void many_start(struct many *m)
{
	static const struct consumer_ops many_ops = {
		.tell = take_many,
		.subscribed = no_word,
		.close = no_reason,
	};
	const struct consumer_config config = {.name = "many",
					       .peer = PEER_UNKNOWN};
	struct backing *backing = &m->bitmap.backing;
	struct error err;

	memset(m, 0, sizeof(*m));
	assert_true(sd_event_new(&m->loop) >= 0);
	bitmap_backing_init(&m->bitmap, GPA, MANY * BLOCK, BLOCK);
	for (uint64_t i = 0; i < MANY; i += 2)
		blocks_set(&backing->plugged, i, 1);
	backing_count(backing, &m->work);
	assert_int_equal(consumers_start(&m->consumers, m->loop, backing, SLOT,
					 FIRST_SLOT),
			 0);
	assert_int_equal(consumer_new(&m->consumer, &m->consumers, &config,
				      &many_ops, &m->event, &err),
			 0);
	assert_true(sd_event_run(m->loop, 0) > 0);
}

static void many_stop(struct many *m)
{
	consumers_stop(&m->consumers);
	sd_event_unref(m->loop);
	bitmap_backing_free(&m->bitmap);
}

/*
 * The search for the next difference does not start from the beginning each
 * time.
 */
static void the_cost_of_an_event_does_not_depend_on_their_number(void **state)
{
	struct many m;
	struct backing *backing = &m.bitmap.backing;
	uint64_t most;

	(void)state;
	many_start(&m);
	assert_int_equal(answer_all(m.consumer, &m.event, &m.work, &most),
			 MANY / 2);
	assert_in_range(most, 1, 256);
	/*
	 * Neither does the search for the end of a discard, with distant
	 * blocks.
	 */
	backing_note_unplugged(backing, GPA, MANY * BLOCK);
	backing_note_plugged(backing, GPA + 2 * BLOCK, BLOCK);
	consumers_changed(&m.consumers);
	work_begin_turn(&m.work);
	assert_true(sd_event_run(m.loop, 0) > 0);
	assert_in_range(m.work.steps, 1, 2048);
	assert_int_equal(answer_all(m.consumer, &m.event, &m.work, &most),
			 MANY * BLOCK / CONSUMER_EVENT_MAX + 1);
	assert_in_range(most, 1, 2048);
	assert_int_equal(m.consumer->told.set, 1);
	many_stop(&m);
}

/*
 * A guest may plug every other block of a large region. A consumer that has them
 * all is not compared with all of them again for each request.
 */
static void the_cost_of_a_request_does_not_depend_on_the_blocks(void **state)
{
	struct many m;
	struct backing *backing = &m.bitmap.backing;
	uint64_t most;

	(void)state;
	many_start(&m);
	assert_int_equal(answer_all(m.consumer, &m.event, &m.work, &most),
			 MANY / 2);
	for (int i = 0; i < 3; i++) {
		work_begin_turn(&m.work);
		assert_int_equal(backing_plug(backing, GPA + BLOCK, BLOCK),
				 -EINPROGRESS);
		assert_in_range(m.work.steps, 1, 64);
		assert_int_equal(
			answer_all(m.consumer, &m.event, &m.work, &most), 1);
		assert_in_range(most, 1, 64);
		assert_int_equal(m.consumer->told.set, MANY / 2 + 1);
		work_begin_turn(&m.work);
		assert_int_equal(backing_unplug(backing, GPA + BLOCK, BLOCK),
				 -EINPROGRESS);
		assert_in_range(m.work.steps, 1, 64);
		assert_int_equal(
			answer_all(m.consumer, &m.event, &m.work, &most), 1);
		assert_in_range(most, 1, 64);
		assert_int_equal(m.consumer->told.set, MANY / 2);
		m.bitmap.dirty[1] = 0;
	}
	many_stop(&m);
}

/* --- The end of a consumer --- */

static void leave_when_told(void *arg, const struct consumer_event *event)
{
	struct mapper *mapper = arg;

	(void)event;
	consumer_unsubscribe(mapper->consumer);
	mapper->consumer = NULL;
}

/*
 * A consumer may end inside its callback while the others are still to be
 * called.
 */
static void a_consumer_that_ends_in_its_callback_is_freed_later(void **state)
{
	static const struct consumer_ops leaving_ops = {
		.tell = leave_when_told,
		.subscribed = take_subscribed,
		.close = take_close,
	};
	struct fixture *f = *state;
	struct mapper *stays = add_mapper(f, 0), *leaves = add_mapper(f, 1);

	leaves->consumer->ops = &leaving_ops;
	assert_int_equal(backing_plug(f->backing, GPA, BLOCK), -EINPROGRESS);
	assert_null(leaves->consumer);
	assert_int_equal(f->consumers.nr_consumers, 1);
	accept_event(stays);
	run(f);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_null(f->consumers.list->next);
}

/* --- Away --- */

/* Other calls of the backing may fail before the request is answered. */
static void the_reason_is_that_of_the_request(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 0, 4), 0);
	a = add_mapper(f, 0);
	accept_event(a);
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	f->bitmap.fail = -ENOMEM;
	accept_event(a);
	f->bitmap.fail = 0;
	/* It populates again what is still plugged. */
	assert_int_equal(f->nr_done, 0);
	error_set(&f->backing->error, -EIO, "another");
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -ENOMEM);
	assert_string_equal(f->backing->error.text, "the test wants it");
}

/* A mapper of blocks 0 to 3 whose connection has ended. */
static struct mapper *lose_mapper(struct fixture *f)
{
	struct mapper *a = add_mapper(f, 0);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->result, 0);
	lose(f, a);
	return a;
}

/* The grace period of the only consumer ends soon. */
static void shorten_grace(struct fixture *f)
{
	timer_start(f->consumers.list->grace, 1000);
}

static void memory_of_a_consumer_that_is_away_is_kept(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = lose_mapper(f);

	/* A request waits for a consumer that has just left. */
	assert_int_equal(backing_await(f->backing), -EINPROGRESS);
	shorten_grace(f);
	wait_for_done(f, 2);
	assert_int_equal(unplug(f, 1, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, AWAY("mapper0"));
	assert_int_equal(backing_unplug_all(f->backing), -EBUSY);
	assert_int_equal(plug(f, 8, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, AWAY("mapper0"));
	assert_int_equal(f->backing->plugged.set, 4);
	/*
	 * Unplugged by others: the block is neither discarded nor plugged
	 * again.
	 */
	backing_note_unplugged(f->backing, GPA + BLOCK, BLOCK);
	consumers_changed(&f->consumers);
	run(f);
	assert_int_equal(backing_discard(f->backing, GPA + BLOCK, BLOCK),
			 -EBUSY);
	assert_int_equal(plug(f, 1, 1), -EBUSY);
	/*
	 * On return it gets a discard for the missing block, and populates for
	 * the rest.
	 */
	come_back(f, 0);
	expect_event(a, false, 1, 1, 0, 0);
	accept_event(a);
	assert_int_equal(backing_discard(f->backing, GPA + BLOCK, BLOCK), 0);
	expect_event(a, true, 0, 1, 0, 1);
	accept_event(a);
	expect_event(a, true, 2, 2, 0, 0);
	accept_event(a);
	assert_int_equal(a->subscribed, 2);
	expect_true(f, a);
	assert_int_equal(unplug(f, 2, 1), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->result, 0);
	assert_int_equal(plug(f, 1, 1), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->result, 0);
}

/* The consumer returns within the grace period, and the request continues. */
static void a_request_waits_for_a_consumer_to_return(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = lose_mapper(f);

	assert_int_equal(backing_await(f->backing), -EINPROGRESS);
	come_back(f, 0);
	assert_int_equal(f->nr_done, 1);
	accept_all(a);
	run(f);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
	assert_int_equal(backing_await(f->backing), 0);
	/* It leaves during an unplug, and gets the discard again. */
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	lose(f, a);
	assert_int_equal(f->nr_done, 2);
	come_back(f, 0);
	expect_event(a, false, 0, 4, 0, 1);
	accept_event(a);
	assert_int_equal(f->nr_done, 3);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
	/* It leaves during a plug. */
	assert_int_equal(plug(f, 4, 2), -EINPROGRESS);
	lose(f, a);
	assert_int_equal(f->nr_done, 3);
	come_back(f, 0);
	accept_all(a);
	assert_int_equal(f->nr_done, 4);
	assert_int_equal(f->result, 0);
	expect_true(f, a);
}

/*
 * A plug is undone if a consumer is lost during it. That consumer may have
 * mapped the memory.
 */
static void a_plug_is_undone_if_a_consumer_is_lost(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	f->consumers.answer_usec = 1000;
	/* @b leaves before it answers, with a short grace period. */
	do_event(b);
	lose(f, b);
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	while (!a->waits)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	expect_event(a, false, 0, 4, 0, 1);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_int_equal(f->backing->plugged.set, 0);
	assert_int_equal(backing_discard(f->backing, GPA, 4 * BLOCK), -EBUSY);
	come_back(f, 1);
	expect_event(b, false, 0, 4, 0, 1);
	accept_event(b);
	assert_int_equal(backing_discard(f->backing, GPA, 4 * BLOCK), 0);
}

/* A consumer without mappings is forgotten when it leaves. */
static void a_consumer_without_mappings_is_not_away(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);

	lose(f, a);
	assert_null(f->consumers.list);
	assert_int_equal(backing_await(f->backing), 0);
	assert_int_equal(plug(f, 0, 4), 0);
}

/* Fork. The child ends with this process, whose output it has open. */
static pid_t fork_child(void)
{
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (!pid && prctl(PR_SET_PDEATHSIG, SIGKILL))
		_exit(1);
	return pid;
}

static pid_t start_process(int *pidfd)
{
	struct peer peer = PEER_UNKNOWN;
	pid_t pid = fork_child();

	if (!pid) {
		pause();
		_exit(0);
	}
	peer.pid = pid;
	assert_int_equal(peer_find(&peer), 0);
	assert_true(peer.pidfd >= 0);
	*pidfd = peer.pidfd;
	return pid;
}

static void end_process(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* The mappings end with the process; the connection may end before. */
static void a_consumer_ends_with_its_process(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000};

	peer.pid = start_process(&peer.pidfd);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
	run(f);
	accept_all(a);
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	lose(f, a);
	assert_int_equal(f->nr_done, 0);
	assert_int_equal(f->backing->plugged.set, 4);
	end_process(peer.pid);
	wait_for_done(f, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
	run(f);
	assert_null(f->consumers.list);
}

/* Another process does not inherit the claim. */
static void another_process_of_the_same_name_is_another_consumer(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0], *b = &f->mappers[1];
	struct peer first = {.uid = 1000}, second = {.uid = 1000};
	const struct peer stranger = {.uid = 1001, .pidfd = -1};
	struct error err;

	first.pid = start_process(&first.pidfd);
	second.pid = start_process(&second.pidfd);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(subscribe(f, a, "mapper0", &first), 0);
	run(f);
	accept_all(a);
	lose(f, a);
	assert_int_equal(subscribe(f, b, "mapper0", &second), 0);
	run(f);
	accept_all(b);
	assert_int_equal(f->consumers.nr_consumers, 2);
	assert_int_equal(
		consumers_forget(&f->consumers, "mapper0", &stranger, &err),
		-EBUSY);
	assert_int_equal(consumers_forget(&f->consumers, "mapper1", NULL, &err),
			 -ENOENT);
	assert_int_equal(f->consumers.nr_consumers, 2);
	assert_int_equal(
		consumers_forget(&f->consumers, "mapper0", &first, &err), 0);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_non_null(b->consumer);
	/*
	 * The consumer has unmapped everything, but its connection has not
	 * ended yet.
	 */
	assert_int_equal(
		consumers_forget(&f->consumers, "mapper0", &second, &err), 0);
	assert_int_equal(f->consumers.nr_consumers, 0);
	assert_null(b->consumer);
	end_process(first.pid);
	end_process(second.pid);
}

static void *wait_for_end(void *arg)
{
	const int *pipes = arg;
	const pid_t tid = gettid();
	char end;

	(void)!write(pipes[1], &tid, sizeof(tid));
	(void)!read(pipes[2], &end, 1);
	return NULL;
}

/* Process ids are reused, also as thread ids; a thread id is no process. */
static void a_thread_id_is_no_process(void **state)
{
	struct peer peer = PEER_UNKNOWN;
	pthread_t thread;
	int pipes[4];

	(void)state;
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(pipe(pipes + 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_end, pipes), 0);
	assert_int_equal(read(pipes[0], &peer.pid, sizeof(peer.pid)),
			 sizeof(peer.pid));
	assert_int_equal(peer_find(&peer), -ESRCH);
	assert_int_equal(write(pipes[3], "", 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
	peer.pid = getpid();
	assert_int_equal(peer_find(&peer), 0);
	peer_close(&peer);
}

/*
 * The process may connect again before the end of the first connection is
 * noticed.
 */
static void a_second_connection_replaces_the_first(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0], *b = &f->mappers[1];
	struct peer first = {.uid = 1000}, again;

	first.pid = start_process(&first.pidfd);
	again = first;
	again.pidfd = dup(first.pidfd);
	assert_true(again.pidfd >= 0);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(subscribe(f, a, "mapper0", &first), 0);
	run(f);
	accept_all(a);
	assert_int_equal(subscribe(f, b, "mapper0", &again), 0);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_null(a->consumer);
	assert_non_null(strstr(a->closed, "another connection"));
	run(f);
	accept_all(b);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	accept_all(b);
	wait_for_done(f, 1);
	assert_int_equal(f->result, 0);
	end_process(first.pid);
}

/* A second connection that is refused does not replace the first. */
static void a_refused_connection_replaces_none(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0], *b = &f->mappers[1];
	struct peer first = {.uid = 1000};
	struct consumer_config config = {
		.name = "mapper0",
		.memslots = {.limit = NR_SLOTS - 1},
	};
	struct error err;

	first.pid = start_process(&first.pidfd);
	config.peer = first;
	config.peer.pidfd = dup(first.pidfd);
	assert_int_equal(subscribe(f, a, "mapper0", &first), 0);
	run(f);
	assert_int_equal(consumer_new(&b->consumer, &f->consumers, &config,
				      &ops, b, &err),
			 -ENOSPC);
	b->consumer = NULL;
	assert_non_null(a->consumer);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->result, 0);
	/* It has blocks now: a second connection continues it. */
	assert_int_equal(consumer_new(&b->consumer, &f->consumers, &config,
				      &ops, b, &err),
			 0);
	assert_null(a->consumer);
	assert_int_equal(f->consumers.nr_consumers, 1);
	run(f);
	accept_all(b);
	assert_int_equal(b->subscribed, 1);
	assert_int_equal(f->nr_done, 1);
	end_process(first.pid);
}

/* Nor does it take a second place when all are taken. */
static void a_second_connection_needs_no_other_place(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0], *b = &f->mappers[1];
	struct peer first = {.uid = 1000}, again;

	first.pid = start_process(&first.pidfd);
	again = first;
	again.pidfd = dup(first.pidfd);
	assert_int_equal(subscribe(f, a, "mapper0", &first), 0);
	for (int i = 1; i < CONSUMERS_MAX; i++)
		assert_int_equal(
			subscribe(f, &f->mappers[2], "x", &PEER_UNKNOWN), 0);
	assert_int_equal(subscribe(f, b, "mapper0", &again), 0);
	assert_null(a->consumer);
	assert_int_equal(f->consumers.nr_consumers, CONSUMERS_MAX);
	while (f->consumers.list) {
		consumer_gone(f->consumers.list);
		run(f);
	}
	end_process(first.pid);
}

/*
 * It is back, and takes its time for what it is told again: the guest is answered
 * busy, as if it was away.
 */
static void one_that_catches_up_slowly_holds_up_nobody(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = lose_mapper(f);

	assert_int_equal(backing_await(f->backing), -EINPROGRESS);
	come_back(f, 0);
	expect_event(a, true, 0, 4, 0, 1);
	shorten_grace(f);
	wait_for_done(f, 2);
	assert_true(a->waits);
	assert_int_equal(backing_await(f->backing), 0);
	assert_int_equal(plug(f, 8, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, BACK("mapper0"));
	assert_int_equal(unplug(f, 1, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, BACK("mapper0"));
	assert_int_equal(backing_unplug_all(f->backing), -EBUSY);
	/* Neither was it told of any of them. */
	accept_event(a);
	assert_false(a->waits);
	expect_true(f, a);
	assert_int_equal(a->subscribed, 2);
	assert_int_equal(plug(f, 8, 1), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 3);
	/* It goes in the middle of a plug, and may have taken it. */
	assert_int_equal(plug(f, 12, 2), -EINPROGRESS);
	do_event(a);
	f->consumers.answer_usec = 1000;
	lose(f, a);
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	come_back(f, 0);
	assert_true(a->waits);
	wait_for_done(f, 4);
	assert_int_equal(f->result, -EBUSY);
	assert_int_equal(blocks_count(&f->backing->plugged, 12, 2), 0);
	assert_int_equal(
		backing_discard(f->backing, GPA + 12 * BLOCK, 2 * BLOCK),
		-EBUSY);
	accept_all(a);
	run(f);
	expect_true(f, a);
	assert_int_equal(
		backing_discard(f->backing, GPA + 12 * BLOCK, 2 * BLOCK), 0);
}

/* A claim on one block is no reason to keep those around it. */
static void memory_around_a_claim_is_given_back(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);
	struct virtio_mem dev = {0};
	int ret;

	assert_int_equal(plug(f, 5, 1), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(plug(f, 9, 2), -EINPROGRESS);
	accept_event(a);
	lose(f, a);
	backing_note_unplugged(f->backing, GPA, REGION_SIZE);
	consumers_changed(&f->consumers);
	run(f);
	memset(f->bitmap.dirty, 1, NR_BLOCKS);
	virtio_mem_start(&dev, f->backing, 0, false);
	do
		ret = virtio_mem_work(&dev);
	while (ret > 0);
	assert_int_equal(ret, -EBUSY);
	for (uint64_t i = 0; i < NR_BLOCKS; i++)
		assert_int_equal(f->bitmap.dirty[i],
				 i == 5 || i == 9 || i == 10);
	/* What is being taken is kept as well. */
	come_back(f, 0);
	expect_event(a, false, 5, 6, 1, 2);
	assert_int_equal(virtio_mem_work(&dev), -EBUSY);
	accept_event(a);
	do
		ret = virtio_mem_work(&dev);
	while (ret > 0);
	assert_int_equal(ret, 0);
	for (uint64_t i = 0; i < NR_BLOCKS; i++)
		assert_int_equal(f->bitmap.dirty[i], 0);
	virtio_mem_stop(&dev);
}

/* A vmemd that ends is one that is back soon. */
static void the_end_of_vmemd_is_not_its_failure(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);

	consumers_stop(&f->consumers);
	assert_null(a->consumer);
	assert_string_equal(a->closed, "");
}

#define SLOW(name) "consumer " name " is too slow and has not caught up"

/* The mapper answers each event in time, and is slow all the same. */
static void be_slow(struct fixture *f, struct mapper *mapper)
{
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	assert_int_equal(sd_event_source_set_enabled(mapper->consumer->timer,
						     SD_EVENT_OFF),
			 0);
}

static void a_plug_that_takes_too_long_is_undone(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	f->consumers.answer_usec = 1000;
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	be_slow(f, a);
	accept_event(b);
	while (!b->waits)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	/* The other one takes it back; the slow one is not waited for. */
	assert_int_equal(f->nr_done, 0);
	expect_event(b, false, 8, 4, 2, 1);
	accept_event(b);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper0"));
	assert_int_equal(f->backing->plugged.set, 0);
	/* It may have mapped them, and stays connected. */
	assert_non_null(a->consumer);
	assert_int_equal(
		backing_discard(f->backing, GPA + 8 * BLOCK, 4 * BLOCK),
		-EBUSY);
	assert_int_equal(plug(f, 20, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper0"));
	assert_int_equal(unplug(f, 8, 4), -EBUSY);
	/* It has mapped, and unmaps. */
	accept_event(a);
	expect_event(a, false, 8, 4, 2, 1);
	accept_event(a);
	assert_false(a->waits);
	assert_int_equal(a->subscribed, 1);
	assert_int_equal(
		backing_discard(f->backing, GPA + 8 * BLOCK, 4 * BLOCK), 0);
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
	/* The time limit was that of the request. */
	assert_int_equal(sd_event_run(f->event, 20000), 0);
	expect_true(f, a);
	expect_true(f, b);
}

/* The guest may use the memory after the answer. */
static void an_unplug_that_takes_too_long_is_given_up(void **state)
{
	struct fixture *f = *state;
	struct mapper *a, *b;

	assert_int_equal(plug(f, 0, 8), 0);
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	accept_event(a);
	accept_event(b);
	f->consumers.answer_usec = 1000;
	assert_int_equal(unplug(f, 0, 8), -EINPROGRESS);
	be_slow(f, a);
	accept_event(b);
	while (!b->waits)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	expect_event(b, true, 0, 8, 0, 2);
	accept_event(b);
	accept_event(a);
	assert_int_equal(f->nr_done, 0);
	expect_event(a, true, 0, 8, 0, 2);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper0 is too slow to discard");
	expect_true(f, a);
	expect_true(f, b);
	assert_int_equal(unplug(f, 0, 8), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
}

/* Plugs 4 blocks; @a has not populated them in time, @b discards them now. */
static void plug_too_slowly(struct fixture *f, struct mapper *a,
			    struct mapper *b)
{
	f->consumers.answer_usec = 1000;
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	be_slow(f, a);
	accept_event(b);
	f->consumers.answer_usec = 1000;
	while (!b->waits)
		run_one(f);
	be_slow(f, b);
	expect_event(b, false, 8, 4, 2, 1);
}

/* The other consumers may be slow as well, and are not waited for either. */
static void undoing_a_plug_may_not_take_long(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	plug_too_slowly(f, a, b);
	wait_for_done(f, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper0"));
	assert_int_equal(f->backing->plugged.set, 0);
	assert_non_null(b->consumer);
	assert_true(b->waits);
	/* Either keeps the memory, and plugs wait for both. */
	accept_all(a);
	assert_int_equal(
		backing_discard(f->backing, GPA + 8 * BLOCK, 4 * BLOCK),
		-EBUSY);
	assert_int_equal(plug(f, 20, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper1"));
	accept_all(b);
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
}

static void undoing_a_refused_plug_may_not_take_long(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	accept_event(b);
	f->consumers.answer_usec = 1000;
	refuse_event(a);
	be_slow(f, b);
	assert_int_equal(f->nr_done, 0);
	wait_for_done(f, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper0 refuses to populate: it is full");
	assert_int_equal(f->backing->plugged.set, 0);
	assert_int_equal(
		backing_discard(f->backing, GPA + 8 * BLOCK, 4 * BLOCK),
		-EBUSY);
	accept_event(b);
	assert_false(b->waits);
	assert_int_equal(
		backing_discard(f->backing, GPA + 8 * BLOCK, 4 * BLOCK), 0);
}

/* The guest would use memory that the connected consumer has not mapped. */
static void who_takes_too_long_to_restore_is_closed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a, *b;

	assert_int_equal(plug(f, 0, 8), 0);
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	accept_event(a);
	accept_event(b);
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	accept_event(b);
	f->consumers.answer_usec = 1000;
	refuse_event(a);
	be_slow(f, b);
	expect_event(b, true, 0, 4, 0, 1);
	wait_for_done(f, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer mapper0 refuses to discard: it is full");
	assert_int_equal(f->backing->plugged.set, 8);
	assert_null(b->consumer);
	assert_non_null(strstr(b->closed, "too slow to populate"));
	assert_non_null(a->consumer);
	assert_int_equal(unplug(f, 0, 4), -EBUSY);
	assert_string_equal(f->backing->error.text, AWAY("mapper1"));
}

/* Its discard was obsolete before it was answered. */
static void who_takes_too_long_to_discard_is_closed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a, *b;

	assert_int_equal(plug(f, 0, 4), 0);
	a = add_mapper(f, 0);
	b = add_mapper(f, 1);
	accept_event(a);
	accept_event(b);
	f->consumers.answer_usec = 1000;
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	refuse_event(a);
	be_slow(f, b);
	expect_event(b, false, 0, 4, 0, 1);
	wait_for_done(f, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_null(b->consumer);
	assert_int_equal(f->backing->plugged.set, 4);
}

/* What others have plugged meanwhile is no reason to close one. */
static void who_is_told_of_much_else_is_not_closed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 0, 8), 0);
	a = add_mapper(f, 0);
	accept_event(a);
	f->bitmap.later = true;
	assert_int_equal(unplug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	backing_note_plugged(f->backing, GPA + 20 * BLOCK, BLOCK);
	consumers_changed(&f->consumers);
	run(f);
	expect_event(a, true, 20, 1, 5, 1);
	f->consumers.answer_usec = 1000;
	assert_true(bitmap_backing_finish(&f->bitmap));
	f->bitmap.later = false;
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	assert_int_equal(f->nr_done, 0);
	wait_for_done(f, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 5);
	assert_non_null(a->consumer);
	assert_int_equal(plug(f, 0, 1), -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper0"));
	accept_event(a);
	expect_true(f, a);
	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 2);
}

/* The guest gets the plug after all, so all of them have to map it. */
static void a_slow_consumer_maps_a_plug_that_stays(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	plug_too_slowly(f, a, b);
	f->bitmap.fail = -ENOMEM;
	accept_event(b);
	expect_event(b, true, 8, 4, 2, 1);
	accept_event(b);
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 4);
	expect_true(f, a);
	expect_true(f, b);
}

/* It does not hold it up without limit. */
static void who_is_slow_with_a_plug_that_stays_is_closed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	plug_too_slowly(f, a, b);
	f->bitmap.fail = -ENOMEM;
	f->consumers.answer_usec = 1000;
	accept_event(b);
	be_slow(f, b);
	accept_event(b);
	assert_int_equal(f->nr_done, 0);
	wait_for_done(f, 1);
	assert_int_equal(f->result, 0);
	assert_null(a->consumer);
	expect_true(f, b);
}

/* One that is back has to map it as well, but not before its grace ends again. */
static void a_consumer_that_is_back_maps_a_plug_that_stays(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	for (unsigned int late = 0; late < 2; late++) {
		f->bitmap.fail = 0;
		assert_int_equal(plug(f, 8 + 4 * late, 4), -EINPROGRESS);
		accept_event(b);
		do_event(a);
		f->consumers.answer_usec = 1000;
		lose(f, a);
		f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
		while (!b->waits)
			run_one(f);
		come_back(f, 0);
		f->bitmap.fail = -ENOMEM;
		f->consumers.answer_usec = late ? 1000 : CONSUMER_ANSWER_USEC;
		accept_event(b);
		be_slow(f, b);
		accept_event(b);
		assert_int_equal(f->nr_done, late);
		if (!late)
			accept_all(a);
		wait_for_done(f, late + 1);
		assert_int_equal(f->result, 0);
		expect_true(f, b);
		if (late) {
			assert_null(a->consumer);
			assert_non_null(strstr(a->closed, "stays plugged"));
			continue;
		}
		assert_non_null(a->consumer);
		accept_all(a);
		expect_true(f, a);
	}
}

/* It may have the plug, or not: it was away, and has not said so again. */
static void who_may_lack_a_plug_that_stays_is_closed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	accept_event(b);
	do_event(a);
	f->consumers.answer_usec = 1000;
	lose(f, a);
	f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
	while (!b->waits)
		run_one(f);
	/* What it is told first is something else. */
	backing_note_unplugged(f->backing, GPA, BLOCK);
	consumers_changed(&f->consumers);
	come_back(f, 0);
	expect_event(a, false, 0, 1, 0, 0);
	accept_event(b);
	f->bitmap.fail = -ENOMEM;
	f->consumers.answer_usec = 1000;
	accept_event(b);
	be_slow(f, b);
	accept_event(b);
	assert_int_equal(f->nr_done, 1);
	wait_for_done(f, 2);
	assert_int_equal(f->result, 0);
	assert_null(a->consumer);
	expect_true(f, b);
}

/* The time limit passes while only one that is away holds up the request. */
static void the_time_limit_begins_again(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	assert_int_equal(plug(f, 8, 4), -EINPROGRESS);
	accept_event(a);
	lose(f, b);
	f->consumers.answer_usec = 1000;
	timer_start(f->consumers.deadline, 1000);
	run_one(f);
	assert_int_equal(f->nr_done, 1);
	/* Now the other one is slow, with what another process has changed. */
	backing_note_plugged(f->backing, GPA + 20 * BLOCK, BLOCK);
	consumers_changed(&f->consumers);
	while (!a->waits)
		run_one(f);
	be_slow(f, a);
	while (!a->consumer->slow)
		run_one(f);
	forget(f, "mapper1");
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text, SLOW("mapper0"));
}

/* It may be of any size, and the guest has to have it done before anything else. */
static void an_unplug_of_all_may_take_long(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 0, 8), 0);
	a = add_mapper(f, 0);
	accept_event(a);
	f->consumers.answer_usec = 1000;
	assert_int_equal(backing_unplug_all(f->backing), -EINPROGRESS);
	be_slow(f, a);
	assert_int_equal(sd_event_run(f->event, 20000), 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
}

/* Requests wait for a consumer once, not each time it leaves. */
static void leaving_again_and_again_delays_requests_once(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = lose_mapper(f);

	assert_int_equal(backing_await(f->backing), -EINPROGRESS);
	shorten_grace(f);
	while (f->nr_done < 2) {
		come_back(f, 0);
		lose(f, a);
	}
	assert_int_equal(f->result, 0);
	assert_int_equal(backing_await(f->backing), 0);
	assert_int_equal(unplug(f, 0, 1), -EBUSY);
}

static void the_size_of_an_event_is_bounded(void **state)
{
	const uint64_t most = CONSUMER_EVENT_MAX / BLOCK;
	struct consumers consumers = {};
	struct mapper mapper = {};
	const struct consumer_config config = {.name = "slow",
					       .peer = PEER_UNKNOWN};
	struct bitmap_backing bitmap;
	sd_event *loop;
	struct error err;

	(void)state;
	assert_true(sd_event_new(&loop) >= 0);
	bitmap_backing_init(&bitmap, GPA, 3 * CONSUMER_EVENT_MAX, BLOCK);
	blocks_set(&bitmap.backing.plugged, 1, 2 * most);
	assert_int_equal(consumers_start(&consumers, loop, &bitmap.backing,
					 SLOT, FIRST_SLOT),
			 0);
	assert_int_equal(consumer_new(&mapper.consumer, &consumers, &config,
				      &ops, &mapper, &err),
			 0);
	for (uint64_t i = 0; i < 4; i++) {
		const bool populate = i < 2;

		if (i == 2)
			assert_int_equal(backing_unplug_all(&bitmap.backing),
					 -EINPROGRESS);
		while (!mapper.waits)
			assert_true(sd_event_run(loop, 0) > 0);
		assert_int_equal(mapper.event.populate, populate);
		assert_int_equal(mapper.event.gpa,
				 GPA + BLOCK + i % 2 * CONSUMER_EVENT_MAX);
		assert_int_equal(mapper.event.size, CONSUMER_EVENT_MAX);
		mapper.waits = false;
		assert_int_equal(consumer_answer(mapper.consumer,
						 mapper.event.seq, true, ""),
				 0);
	}
	assert_false(mapper.waits);
	assert_int_equal(bitmap.backing.plugged.set, 0);
	consumers_stop(&consumers);
	sd_event_unref(loop);
	bitmap_backing_free(&bitmap);
}

/* --- The next daemon --- */

static const struct claims_region claims_region = {7, GPA, REGION_SIZE};

static int keep(struct fixture *f, int fd, uint64_t region_id)
{
	struct claims_region region = claims_region;
	struct error err;

	region.region_id = region_id;
	return consumers_keep(&f->consumers, fd, &region, peer_namespace(),
			      &err);
}

/* The daemon ends and the next one starts. */
static void restart(struct fixture *f, int fd, uint64_t region_id)
{
	consumers_stop(&f->consumers);
	assert_int_equal(consumers_start(&f->consumers, f->event, f->backing,
					 SLOT, FIRST_SLOT),
			 0);
	assert_int_equal(keep(f, fd, region_id), 0);
}

static void the_next_daemon_knows_the_consumers(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0], *b = &f->mappers[1], *c;
	struct peer self = {.uid = 1000, .pid = getpid(), .pidfd = -1};
	struct peer other = {.uid = 1000};

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 4), 0);
	other.pid = start_process(&other.pidfd);
	assert_int_equal(subscribe(f, a, "mapper0", &self), 0);
	assert_int_equal(subscribe(f, b, "mapper1", &other), 0);
	c = add_mapper(f, 2);
	accept_all(a);
	accept_all(b);
	accept_all(c);
	/* One consumer unsubscribes, the other's process just ends. */
	leave(f, c);
	end_process(other.pid);
	restart(f, fd, 7);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_string_equal(f->consumers.list->name, "mapper0");
	/*
	 * It may have mapped any block; nothing is answered before it is back.
	 */
	assert_int_equal(backing_await(f->backing), -EINPROGRESS);
	assert_int_equal(backing_discard(f->backing, GPA + 40 * BLOCK, BLOCK),
			 -EBUSY);
	a->repeating = true;
	memset(a->slots, 0, sizeof(a->slots));
	assert_int_equal(subscribe(f, a, "mapper0", &self), 0);
	run(f);
	expect_event(a, false, 4, NR_BLOCKS - 4, 1, NR_SLOTS - 1);
	accept_event(a);
	assert_int_equal(backing_discard(f->backing, GPA + 40 * BLOCK, BLOCK),
			 0);
	expect_event(a, true, 0, 4, 0, 1);
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	run(f);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	/* The file is not valid for another region. */
	restart(f, fd, 8);
	assert_int_equal(f->consumers.nr_consumers, 0);
	close(fd);
}

/* In a process that is stepped through: the consumer of a claim is back. */
static void come_back_stepwise(struct fixture *f)
{
	struct peer found = {.uid = 1000, .pid = getpid()};

	found.pidfd = (int)syscall(SYS_pidfd_open, getppid(), 0);
	if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) || raise(SIGSTOP))
		_exit(1);
	f->mappers[0].repeating = true;
	_exit(subscribe(f, &f->mappers[0], "mapper0", &found) ? 1 : 0);
}

/*
 * The process of a claim may be known only when its consumer is back. vmemd may
 * be killed at any instruction then: the claim is there all the time.
 */
static void a_claim_is_never_lost(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct peer unknown = {.uid = 1000, .pidfd = -1};
	const uint64_t *words;
	size_t used = (16 + sizeof(struct claims_region)) / sizeof(*words);
	unsigned int steps = 0;
	int status;
	pid_t pid;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(subscribe(f, &f->mappers[0], "mapper0", &unknown), 0);
	run(f);
	accept_all(&f->mappers[0]);
	lose(f, &f->mappers[0]);
	words = mmap(NULL, CLAIMS_SIZE, PROT_READ, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(words, MAP_FAILED);
	assert_int_equal(words[used], 1);
	pid = fork_child();
	if (!pid)
		come_back_stepwise(f);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSTOPPED(status));
	for (; WIFSTOPPED(status); steps++) {
		if (*(volatile const uint64_t *)&words[used] != 1)
			fail_msg("no claim after %u steps", steps);
		assert_int_equal(ptrace(PTRACE_SINGLESTEP, pid, NULL, NULL), 0);
		assert_int_equal(waitpid(pid, &status, 0), pid);
	}
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(steps > 100);
	munmap((void *)words, CLAIMS_SIZE);
	/* The next daemon knows the process now. */
	restart(f, fd, 7);
	assert_int_equal(f->consumers.nr_consumers, 0);
	close(fd);
}

/* What it can map is known while it is away, and to the next daemon. */
static void the_next_daemon_knows_its_limit(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct consumer_config config = {
		.name = "vfio0",
		.mappings = 3,
		.requested_size = 2 * BLOCK,
		.peer = PEER_UNKNOWN,
	};
	struct mapper *a = &f->mappers[0];
	struct error err;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 2), 0);
	assert_int_equal(consumer_new(&a->consumer, &f->consumers, &config,
				      &ops, a, &err),
			 0);
	run(f);
	accept_all(a);
	restart(f, fd, 7);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 3 * BLOCK, &err), 0);
	assert_int_equal(
		consumers_check_mappings(&f->consumers, 4 * BLOCK, &err),
		-ENOSPC);
	assert_string_equal(err.text, TOO_MANY);
	close(fd);
}

/*
 * An older vmemd does not know limits: it leaves that of a consumer which has gone
 * to the next one in the same place.
 */
static void a_limit_is_not_anothers(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct consumer_config config = {
		.name = "vfio0",
		.mappings = 3,
		.requested_size = 2 * BLOCK,
		.peer = PEER_UNKNOWN,
	};
	struct mapper *a = &f->mappers[0];
	struct claim *claim;
	struct error err;

	for (int other = 0; other < 3; other++) {
		assert_int_equal(keep(f, fd, 7), 0);
		assert_int_equal(consumer_new(&a->consumer, &f->consumers,
					      &config, &ops, a, &err),
				 0);
		run(f);
		claim = (struct claim *)((char *)f->consumers.claims.file + 16 +
					 sizeof(claims_region));
		assert_string_equal(claim->name, "vfio0");
		if (!other)
			claim->pid = (uint64_t)getpid();
		else if (other == 1)
			claim->process_id++;
		else
			strcpy(claim->name, "vfio1");
		restart(f, fd, 7);
		assert_int_equal(f->consumers.nr_consumers, 1);
		assert_int_equal(consumers_check_mappings(&f->consumers,
							  4 * BLOCK, &err),
				 0);
		consumers_stop(&f->consumers);
		assert_int_equal(ftruncate(fd, 0), -1);
		close(fd);
		fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		assert_int_equal(consumers_start(&f->consumers, f->event,
						 f->backing, SLOT, FIRST_SLOT),
				 0);
	}
	close(fd);
}

/* Without a free descriptor, the process of a claim is found later. */
static void a_process_is_looked_for_again(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000};
	struct rlimit limit, none;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	/* It ends before it is found, or after. */
	for (int after = 0; after < 2; after++) {
		peer.pid = start_process(&peer.pidfd);
		f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
		assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
		run(f);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		restart(f, fd, 7);
		assert_int_equal(f->consumers.nr_consumers, 1);
		assert_int_equal(f->consumers.list->peer.pidfd, -1);
		f->consumers.answer_usec = 1000;
		timer_start(f->consumers.list->grace, 1000);
		/* Once more in vain. */
		while (f->consumers.list->awaited)
			assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
		assert_int_equal(f->consumers.list->peer.pidfd, -1);
		if (!after)
			end_process(peer.pid);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		while (after && f->consumers.list->peer.pidfd < 0)
			assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
		if (after)
			end_process(peer.pid);
		while (f->consumers.nr_consumers)
			assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
		run(f);
	}
	close(fd);
}

/* It connects again before it is looked for. */
static void a_process_that_is_back_is_not_looked_for(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000}, again;
	struct rlimit limit, none;
	int pidfd;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	peer.pid = start_process(&peer.pidfd);
	again = peer;
	again.pidfd = dup(peer.pidfd);
	assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
	run(f);
	accept_all(a);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	restart(f, fd, 7);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	a->repeating = true;
	memset(a->slots, 0, sizeof(a->slots));
	assert_int_equal(subscribe(f, a, "mapper0", &again), 0);
	pidfd = f->consumers.list->peer.pidfd;
	assert_true(pidfd >= 0);
	run(f);
	accept_all(a);
	f->consumers.answer_usec = 1000;
	lose(f, a);
	while (f->consumers.list->awaited)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	assert_int_equal(f->consumers.list->peer.pidfd, pidfd);
	end_process(peer.pid);
	while (f->consumers.nr_consumers)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	close(fd);
}

/* It is back without a descriptor, and is lost again: the search goes on. */
static void a_process_is_looked_for_after_each_loss(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000}, again;
	struct rlimit limit, none;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	peer.pid = start_process(&peer.pidfd);
	again = peer;
	again.pidfd = -1;
	assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
	run(f);
	accept_all(a);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	restart(f, fd, 7);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	a->repeating = true;
	memset(a->slots, 0, sizeof(a->slots));
	assert_int_equal(subscribe(f, a, "mapper0", &again), 0);
	run(f);
	accept_all(a);
	/* Requests do not wait for one that is closed. */
	f->consumers.answer_usec = 1000;
	backing_note_plugged(f->backing, GPA + 8 * BLOCK, BLOCK);
	consumers_changed(&f->consumers);
	while (!a->waits)
		run_one(f);
	refuse_event(a);
	assert_null(a->consumer);
	while (f->consumers.list->peer.pidfd < 0)
		run_one(f);
	end_process(peer.pid);
	while (f->consumers.nr_consumers)
		run_one(f);
	close(fd);
}

static unsigned int count_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned int nr = 0;

	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* No descriptor can be added to the loop from now on. Return: for watch_again(). */
static int stop_watching(struct fixture *f)
{
	int epoll = sd_event_get_fd(f->event);
	int saved = dup(epoll), other = memfd_create("none", MFD_CLOEXEC);

	assert_int_equal(dup2(other, epoll), epoll);
	close(other);
	return saved;
}

static void watch_again(struct fixture *f, int saved)
{
	int epoll = sd_event_get_fd(f->event);

	assert_int_equal(dup3(saved, epoll, O_CLOEXEC), epoll);
	close(saved);
}

/* Handle the next event of the loop, while no source can be added to it. */
static void run_unwatched(struct fixture *f)
{
	int ret = sd_event_prepare(f->event), saved;

	if (!ret)
		ret = sd_event_wait(f->event, SOON_USEC);
	assert_true(ret > 0);
	saved = stop_watching(f);
	assert_true(sd_event_dispatch(f->event) >= 0);
	watch_again(f, saved);
}

/* It is found, but the kernel has no room to watch it. */
static void a_process_that_cannot_be_watched_is_looked_for_again(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000}, again;
	struct rlimit limit, none;
	unsigned int nr;

	assert_int_equal(keep(f, fd, 7), 0);
	assert_int_equal(plug(f, 0, 4), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 0;
	/* In the end it is looked for, or is back and lost again. */
	for (int back = 0; back < 2; back++) {
		peer.pid = start_process(&peer.pidfd);
		again = peer;
		again.pidfd = dup(peer.pidfd);
		f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
		assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
		run(f);
		accept_all(a);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
		restart(f, fd, 7);
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
		run(f);
		f->consumers.answer_usec = 1000;
		timer_start(f->consumers.list->grace, 1000);
		nr = count_descriptors();
		for (int i = 0; i < 3; i++)
			run_unwatched(f);
		/* That of the process. */
		assert_int_equal(count_descriptors(), nr + 1);
		assert_int_equal(f->consumers.nr_consumers, 1);
		if (back) {
			f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
			a->repeating = true;
			memset(a->slots, 0, sizeof(a->slots));
			assert_int_equal(subscribe(f, a, "mapper0", &again), 0);
			run(f);
			accept_all(a);
			lose(f, a);
		} else {
			close(again.pidfd);
			while (!f->consumers.list->process)
				run_one(f);
		}
		end_process(peer.pid);
		while (f->consumers.nr_consumers)
			run_one(f);
		run(f);
		memset(a, 0, sizeof(*a));
	}
	close(fd);
}

/* It is away, and cannot be watched: by its PID, or only by its descriptor. */
static void the_end_of_one_that_left_unwatched_is_noticed(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000};
	int saved;
	pid_t pid;

	assert_int_equal(plug(f, 0, 4), 0);
	for (int foreign = 0; foreign < 2; foreign++) {
		pid = start_process(&peer.pidfd);
		peer.pid = foreign ? 0 : pid;
		f->consumers.answer_usec = CONSUMER_ANSWER_USEC;
		assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
		run(f);
		accept_all(a);
		f->consumers.answer_usec = 1000;
		saved = stop_watching(f);
		take_close(a, "its connection has ended");
		consumer_gone(f->consumers.list);
		watch_again(f, saved);
		/* Once more in vain. */
		while (f->consumers.list->awaited)
			run_unwatched(f);
		assert_null(f->consumers.list->process);
		end_process(pid);
		while (f->consumers.nr_consumers)
			run_one(f);
		run(f);
		memset(a, 0, sizeof(*a));
	}
}

/* The next daemon starts without it, and looks for the process again. */
static void a_claim_that_cannot_be_watched_is_kept(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct mapper *a = &f->mappers[0];
	struct peer peer = {.uid = 1000};
	int saved;

	assert_int_equal(keep(f, fd, 7), 0);
	peer.pid = start_process(&peer.pidfd);
	assert_int_equal(subscribe(f, a, "mapper0", &peer), 0);
	run(f);
	saved = stop_watching(f);
	restart(f, fd, 7);
	watch_again(f, saved);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_null(f->consumers.list->process);
	f->consumers.answer_usec = 1000;
	timer_start(f->consumers.list->grace, 1000);
	end_process(peer.pid);
	while (f->consumers.nr_consumers)
		run_one(f);
	close(fd);
}

/* Any holder of the file may write to it. */
static void a_damaged_claims_file_is_refused(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("claims", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	static uint8_t page[CLAIMS_SIZE];
	const uint64_t bad = ~0ULL;
	unsigned int refused = 0;
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(keep(f, pipes[0], 7), -EINVAL);
	close(pipes[0]);
	close(pipes[1]);
	assert_int_equal(keep(f, fd, 7), 0);
	add_mapper(f, 0);
	consumers_stop(&f->consumers);
	assert_int_equal(pread(fd, page, CLAIMS_SIZE, 0), CLAIMS_SIZE);
	/*
	 * Damages each word in turn; the file is refused, or its claims are
	 * valid.
	 */
	for (off_t at = 0; at < CLAIMS_SIZE; at += sizeof(bad)) {
		int ret;

		assert_int_equal(pwrite(fd, &bad, sizeof(bad), at),
				 sizeof(bad));
		assert_int_equal(consumers_start(&f->consumers, f->event,
						 f->backing, SLOT, FIRST_SLOT),
				 0);
		ret = keep(f, fd, 7);
		if (ret)
			assert_int_equal(ret, -EINVAL);
		refused += ret != 0;
		if (at < 2 * (off_t)sizeof(bad))
			assert_int_equal(ret, -EINVAL);
		consumers_stop(&f->consumers);
		assert_int_equal(pwrite(fd, page, CLAIMS_SIZE, 0), CLAIMS_SIZE);
	}
	/*
	 * Magic, version, each "used"; and the process and state of the claim.
	 */
	assert_true(refused >= 2 + CLAIMS_MAX + 3);
	assert_int_equal(consumers_start(&f->consumers, f->event, f->backing,
					 SLOT, FIRST_SLOT),
			 0);
	assert_int_equal(pwrite(fd, &bad, sizeof(bad), 8), sizeof(bad));
	assert_int_equal(keep(f, fd, 7), -EINVAL);
	assert_int_equal(ftruncate(fd, 1), -1);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(without_consumers_requests_pass_through),
		T(a_plug_is_answered_when_all_have_populated),
		T(memory_is_unplugged_when_all_have_discarded),
		T(the_reason_is_that_of_the_request),
		T(a_plug_that_one_refuses_is_undone),
		T(an_unplug_that_one_refuses_changes_nothing),
		T(an_unplug_that_the_backing_refuses_is_undone),
		T(a_plug_that_cannot_be_undone_succeeds),
		T(unplug_all_cannot_be_refused),
		T(a_consumer_that_unsubscribed_is_not_awaited),
		T(no_answer_is_a_refusal_and_closes),
		T(a_new_consumer_gets_the_plugged_blocks),
		T(a_new_consumer_cannot_refuse_plugged_blocks),
		T(a_repeated_request_waits_for_consumers),
		T(a_repeated_request_can_be_refused),
		T(changes_by_others_cannot_be_refused),
		T(verify_notifies_consumers),
		T(a_consumer_with_too_few_memslots_is_refused),
		T(who_could_not_map_each_block_is_refused),
		T(who_is_back_is_not_refused),
		T(a_size_that_one_could_not_map_is_not_requested),
		T(answers_without_an_event_are_refused),
		cmocka_unit_test(
			the_cost_of_an_event_does_not_depend_on_their_number),
		cmocka_unit_test(
			the_cost_of_a_request_does_not_depend_on_the_blocks),
		T(a_consumer_that_ends_in_its_callback_is_freed_later),
		T(memory_of_a_consumer_that_is_away_is_kept),
		T(a_request_waits_for_a_consumer_to_return),
		T(a_plug_is_undone_if_a_consumer_is_lost),
		T(a_consumer_without_mappings_is_not_away),
		T(a_consumer_ends_with_its_process),
		T(another_process_of_the_same_name_is_another_consumer),
		T(a_second_connection_replaces_the_first),
		T(a_refused_connection_replaces_none),
		T(a_second_connection_needs_no_other_place),
		cmocka_unit_test(a_thread_id_is_no_process),
		T(one_that_catches_up_slowly_holds_up_nobody),
		T(memory_around_a_claim_is_given_back),
		T(the_end_of_vmemd_is_not_its_failure),
		T(a_plug_that_takes_too_long_is_undone),
		T(an_unplug_that_takes_too_long_is_given_up),
		T(undoing_a_plug_may_not_take_long),
		T(undoing_a_refused_plug_may_not_take_long),
		T(who_takes_too_long_to_restore_is_closed),
		T(who_takes_too_long_to_discard_is_closed),
		T(who_is_told_of_much_else_is_not_closed),
		T(a_slow_consumer_maps_a_plug_that_stays),
		T(who_is_slow_with_a_plug_that_stays_is_closed),
		T(a_consumer_that_is_back_maps_a_plug_that_stays),
		T(who_may_lack_a_plug_that_stays_is_closed),
		T(the_time_limit_begins_again),
		T(an_unplug_of_all_may_take_long),
		T(leaving_again_and_again_delays_requests_once),
		cmocka_unit_test(the_size_of_an_event_is_bounded),
		T(the_next_daemon_knows_the_consumers),
		T(a_claim_is_never_lost),
		T(the_next_daemon_knows_its_limit),
		T(a_limit_is_not_anothers),
		T(a_process_is_looked_for_again),
		T(a_process_that_is_back_is_not_looked_for),
		T(a_process_is_looked_for_after_each_loss),
		T(a_process_that_cannot_be_watched_is_looked_for_again),
		T(the_end_of_one_that_left_unwatched_is_noticed),
		T(a_claim_that_cannot_be_watched_is_kept),
		T(a_damaged_claims_file_is_refused),
		T(random_requests_are_done_by_all_or_none),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
