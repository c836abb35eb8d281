// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers before a backing: what each is told, in what order, and what
 * becomes of a request that one of them refuses, or does not answer.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "bitmap_backing.h"
#include "device/consumer.h"
#include "unit.h"

#define GPA	   (4 * GIB)
#define BLOCK	   (2 * MIB)
#define PER_SLOT   4
#define SLOT	   (PER_SLOT * BLOCK)
#define FIRST_SLOT 100

/* The last memslot is short. */
#define NR_BLOCKS   62
#define NR_SLOTS    16
#define REGION_SIZE (NR_BLOCKS * BLOCK)

#define NR_MAPPERS 3

/**
 * struct mapper - a consumer that maps what it is told
 * @consumer: NULL: it is none
 * @waits: @event is to be answered
 * @has: blocks; @slots: memslots
 * @subscribed: how often it was told that it is
 * @closed: why
 */
struct mapper {
	struct consumer *consumer;
	bool waits;
	struct consumer_event event;
	bool has[NR_BLOCKS];
	bool slots[NR_SLOTS];
	unsigned int subscribed;
	char closed[192];
};

/**
 * struct fixture - a device's backing, and consumers before it
 * @nr_done: answers to the device's requests; @result: of the last
 * @seed: of what is done at random
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

static void take_subscribed(void *arg)
{
	struct mapper *mapper = arg;

	mapper->subscribed++;
}

static void take_close(void *arg, const char *reason)
{
	struct mapper *mapper = arg;

	assert_non_null(mapper->consumer);
	snprintf(mapper->closed, sizeof(mapper->closed), "%s", reason);
	mapper->consumer = NULL;
	mapper->waits = false;
	memset(mapper->has, 0, sizeof(mapper->has));
	memset(mapper->slots, 0, sizeof(mapper->slots));
}

static const struct consumer_ops ops = {
	.tell = take_event,
	.subscribed = take_subscribed,
	.close = take_close,
};

/* Events that are ready; none is waited for. */
static void run(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

static struct mapper *add_mapper(struct fixture *f, int i)
{
	struct mapper *mapper = &f->mappers[i];
	const struct consumer_memslots any = {0};
	char name[] = "mapper0";
	struct error err;

	name[6] += i;
	memset(mapper, 0, sizeof(*mapper));
	assert_int_equal(consumer_new(&mapper->consumer, &f->consumers, name,
				      &any, 0, &ops, mapper, &err),
			 0);
	/* Not before its subscription was answered. */
	assert_false(mapper->waits);
	run(f);
	return mapper;
}

/* Blocks and memslots as the event says; each comes once and goes once. */
static void do_event(struct mapper *mapper)
{
	const struct consumer_event *event = &mapper->event;
	uint64_t first = (event->gpa - GPA) / BLOCK;
	uint64_t end = first + event->size / BLOCK;
	uint64_t slot = event->slot - FIRST_SLOT, slots_size = 0;

	assert_true(event->size && !(event->size % BLOCK) && end <= NR_BLOCKS);
	for (uint64_t i = first; i < end; i++) {
		assert_false(event->populate && mapper->has[i]);
		mapper->has[i] = event->populate;
	}
	if (event->nr_slots)
		assert_int_equal(event->slots_gpa, GPA + slot * SLOT);
	for (uint64_t i = slot; i < slot + event->nr_slots; i++) {
		assert_false(event->populate && mapper->slots[i]);
		mapper->slots[i] = event->populate;
		slots_size += i == NR_SLOTS - 1 ? REGION_SIZE % SLOT : SLOT;
	}
	assert_int_equal(event->slots_size, slots_size);
	/* It has the memslots of its blocks, and no other. */
	for (uint64_t i = 0; i < NR_SLOTS; i++) {
		bool used = false;

		for (uint64_t j = 0; j < PER_SLOT; j++)
			used |= i * PER_SLOT + j < NR_BLOCKS &&
				mapper->has[i * PER_SLOT + j];
		assert_int_equal(mapper->slots[i], used);
	}
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

static void refuse_event(struct mapper *mapper)
{
	assert_true(mapper->waits);
	mapper->waits = false;
	assert_int_equal(consumer_answer(mapper->consumer, mapper->event.seq,
					 false, "it is full"),
			 0);
}

static void leave(struct fixture *f, struct mapper *mapper)
{
	struct consumer *consumer = mapper->consumer;

	take_close(mapper, "it left");
	consumer_gone(consumer);
	run(f);
}

/* As the device does it: what is plugged reads zero. */
static int plug(struct fixture *f, uint64_t first, uint64_t nr)
{
	for (uint64_t i = first; i < first + nr; i++)
		if (f->bitmap.dirty[i])
			assert_int_equal(backing_discard(f->backing,
							 GPA + i * BLOCK,
							 BLOCK),
					 0);
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

/* What the mapper has is what is plugged. */
static void expect_true(const struct fixture *f, const struct mapper *mapper)
{
	for (uint64_t i = 0; i < NR_BLOCKS; i++)
		assert_int_equal(mapper->has[i],
				 blocks_count(&f->backing->plugged, i, 1));
}

static void without_consumers_all_is_passed_on(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(plug(f, 0, 3), 0);
	assert_int_equal(unplug(f, 1, 1), 0);
	f->bitmap.fail = -ENOMEM;
	assert_int_equal(plug(f, 1, 1), -ENOMEM);
	assert_string_equal(f->backing->reason, "the test wants it");
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

static void a_plug_is_answered_when_all_have_it(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0), *b = add_mapper(f, 1);

	assert_int_equal(a->subscribed, 1);
	assert_int_equal(plug(f, 2, 7), -EINPROGRESS);
	/* The memory is there when they are told. */
	assert_int_equal(f->backing->plugged.set, 7);
	expect_event(a, true, 2, 7, 0, 3);
	expect_event(b, true, 2, 7, 0, 3);
	accept_event(a);
	assert_int_equal(f->nr_done, 0);
	accept_event(b);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	/* Of a memslot that is there already. */
	assert_int_equal(plug(f, 0, 2), -EINPROGRESS);
	expect_event(a, true, 0, 2, 0, 0);
	accept_event(b);
	accept_event(a);
	assert_int_equal(f->nr_done, 2);
}

static void memory_goes_when_all_have_let_go(void **state)
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
	/* It is still there, and not given back. */
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
	/* Who has it lets go before it is unplugged; who has not answered? */
	expect_event(a, false, 0, 4, 0, 1);
	accept_event(a);
	assert_int_equal(f->backing->plugged.set, 4);
	/* Refuses too: nobody wants it any more. */
	refuse_event(c);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->reason,
			    "consumer mapper1 refuses to populate: it is full");
	assert_int_equal(f->backing->plugged.set, 0);
	/* All three are consumers still, and the next may succeed. */
	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	accept_event(a);
	accept_event(b);
	accept_event(c);
	assert_int_equal(f->result, 0);
}

static void an_unplug_that_one_refuses_has_not_been(void **state)
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
	/* The guest may use it as soon as it is answered. */
	assert_int_equal(f->nr_done, 0);
	expect_event(a, true, 1, 3, 0, 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->reason,
			    "consumer mapper1 refuses to discard: it is full");
	assert_int_equal(f->bitmap.nr_log, 0);
	expect_true(f, a);
	expect_true(f, b);
}

static void what_the_backing_refuses_comes_back(void **state)
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
	assert_string_equal(f->backing->reason, "the test wants it");
	expect_true(f, a);
}

static void a_plug_that_cannot_be_undone_stands(void **state)
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
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->backing->plugged.set, 0);
}

static void who_has_gone_is_not_waited_for(void **state)
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
	/* The one who refused leaves while it is undone. */
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

static void who_does_not_answer_has_refused_and_is_closed(void **state)
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
	/* Without it, the guest's next try does it. */
	assert_int_equal(plug(f, 0, 4), -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
}

static void a_new_one_is_told_what_is_there(void **state)
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
	/* A plug does not wait until it has all, an unplug until it let go. */
	assert_int_equal(plug(f, 20, 1), 0);
	assert_int_equal(unplug(f, 4, 1), -EINPROGRESS);
	accept_event(a);
	expect_event(a, false, 4, 1, 0, 0);
	assert_int_equal(f->nr_done, 0);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(a->subscribed, 0);
	/* What it has not been told of need not be let go. */
	assert_int_equal(unplug(f, 60, 1), 0);
	expect_event(a, true, 20, 1, 5, 1);
	accept_event(a);
	expect_event(a, true, 61, 1, 15, 1);
	accept_event(a);
	assert_int_equal(a->subscribed, 1);
	assert_false(a->waits);
	expect_true(f, a);
}

static void a_new_one_cannot_refuse_what_is_there(void **state)
{
	struct fixture *f = *state;
	struct mapper *a;

	assert_int_equal(plug(f, 1, 1), 0);
	a = add_mapper(f, 0);
	refuse_event(a);
	assert_null(a->consumer);
	assert_int_equal(f->backing->plugged.set, 1);
}

static void a_repeated_request_waits_for_them_too(void **state)
{
	struct fixture *f = *state;
	struct mapper *a = add_mapper(f, 0);

	/* As after a restart: plugged, and nobody was told. */
	backing_note_plugged(f->backing, GPA, BLOCK);
	f->bitmap.repeated = true;
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK),
			 -EINPROGRESS);
	accept_event(a);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(backing_repeat(f->backing, true, GPA, BLOCK), -EINVAL);
}

/* Whatever the request before it was. */
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
	assert_string_equal(f->backing->reason,
			    "consumer mapper0 refuses to populate: it is full");
	assert_int_equal(f->backing->plugged.set, 0);
	assert_non_null(a->consumer);
}

static void what_others_change_is_told_and_not_asked(void **state)
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
	/* Not from under it. */
	assert_int_equal(backing_discard(f->backing, GPA + 2 * BLOCK, BLOCK),
			 -EBUSY);
	assert_non_null(strstr(f->backing->reason, "mapper0"));
	run(f);
	expect_event(a, false, 2, 1, 0, 0);
	accept_event(a);
	assert_int_equal(backing_discard(f->backing, GPA + 2 * BLOCK, BLOCK),
			 0);
	assert_int_equal(f->nr_done, 0);
}

static void verify_tells_them_what_it_found(void **state)
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

static void who_could_not_take_part_is_refused(void **state)
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
	struct consumer *consumer;
	struct error err;

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		assert_int_equal(
			consumer_new(&consumer, &f->consumers, "vhost-net0",
				     &refused[i].memslots, refused[i].others,
				     &ops, NULL, &err),
			-ENOSPC);
		assert_int_equal(strncmp(err.text, "vhost-net0 can have ", 20),
				 0);
		assert_non_null(strstr(err.text, refused[i].text));
	}
	for (int i = 0; i < CONSUMERS_MAX; i++)
		assert_int_equal(consumer_new(&consumer, &f->consumers, "x",
					      i ? &fits : &any, 3, &ops,
					      &f->mappers[0], &err),
				 0);
	assert_int_equal(consumer_new(&consumer, &f->consumers, "x", &any, 0,
				      &ops, NULL, &err),
			 -EUSERS);
	f->mappers[0].consumer = consumer;
	/* A device that comes later must leave room for all of them. */
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

static void answers_to_nothing_are_refused(void **state)
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

/* Of a sequence that is the same each time. */
static unsigned int below(struct fixture *f, unsigned int n)
{
	f->seed = f->seed * 6364136223846793005ULL + 1442695040888963407ULL;
	return (unsigned int)(f->seed >> 33) % n;
}

/**
 * struct model - what a request must come to
 * @active: it has no answer
 * @plug, @first, @nr: it
 */
struct model {
	bool active;
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

/* It is all done, or nothing is; and who takes part has what is plugged. */
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
		if (f->mappers[i].consumer && f->mappers[i].subscribed)
			expect_true(f, &f->mappers[i]);
	m->active = false;
}

static void begin_random(struct fixture *f, struct model *m)
{
	unsigned int nr_done = f->nr_done;
	uint64_t first = below(f, NR_BLOCKS);
	uint64_t nr = 1 + below(f, NR_BLOCKS - first);
	uint64_t in = blocks_count(&f->backing->plugged, first, nr);
	int ret;

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

static void step_mapper(struct fixture *f, int i)
{
	struct mapper *mapper = &f->mappers[i];

	if (!mapper->consumer)
		add_mapper(f, i);
	else if (!below(f, 40))
		leave(f, mapper);
	else if (mapper->waits && !below(f, 6))
		refuse_event(mapper);
	else if (mapper->waits)
		accept_event(mapper);
}

static void random_requests_are_done_by_all_or_not_at_all(void **state)
{
	struct fixture *f = *state;
	struct model m = {};

	for (int i = 0; i < NR_STEPS; i++) {
		unsigned int nr_done = f->nr_done;

		f->bitmap.fail = 0;
		/* Not where a plug is undone: that is a case of its own. */
		if (!below(f, 10) && f->consumers.step == CONSUMERS_CHANGING)
			f->bitmap.fail = -ENOMEM;
		if (!m.active)
			begin_random(f, &m);
		else if (!below(f, 4))
			bitmap_backing_finish(&f->bitmap);
		else
			step_mapper(f, below(f, NR_MAPPERS));
		if (f->nr_done == nr_done)
			continue;
		assert_int_equal(f->nr_done, nr_done + 1);
		check_answer(f, &m, f->result);
	}
	/* It was not all of one kind. */
	assert_true(m.nr_acks > NR_STEPS / 100);
	assert_true(m.nr_busy > NR_STEPS / 100);
}

/* --- Many runs --- */

/* Every other one of them is plugged: each is an event. */
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
 * Answer all events there are. Return: how many; @most: steps of the one that
 * took most of them.
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

/* The next difference is not looked for from the start again. */
static void an_event_costs_as_much_however_many_there_are(void **state)
{
	static const struct consumer_ops many_ops = {
		.tell = take_many,
		.subscribed = no_word,
		.close = no_reason,
	};
	const struct consumer_memslots any = {0};
	struct consumers consumers = {};
	struct bitmap_backing bitmap;
	struct backing *backing = &bitmap.backing;
	struct consumer_event event;
	struct consumer *consumer;
	struct work work = {};
	sd_event *loop;
	uint64_t most;
	struct error err;

	(void)state;
	assert_true(sd_event_new(&loop) >= 0);
	bitmap_backing_init(&bitmap, GPA, MANY * BLOCK, BLOCK);
	for (uint64_t i = 0; i < MANY; i += 2)
		blocks_set(&backing->plugged, i, 1);
	backing_count(backing, &work);
	assert_int_equal(
		consumers_start(&consumers, loop, backing, SLOT, FIRST_SLOT),
		0);
	assert_int_equal(consumer_new(&consumer, &consumers, "many", &any, 0,
				      &many_ops, &event, &err),
			 0);
	assert_true(sd_event_run(loop, 0) > 0);
	assert_int_equal(answer_all(consumer, &event, &work, &most), MANY / 2);
	assert_in_range(most, 1, 256);
	/* Nor is its end, where it has blocks far behind. */
	backing_note_unplugged(backing, GPA, MANY * BLOCK);
	backing_note_plugged(backing, GPA + 2 * BLOCK, BLOCK);
	consumers_changed(&consumers);
	work_begin_turn(&work);
	assert_true(sd_event_run(loop, 0) > 0);
	assert_in_range(work.steps, 1, 2048);
	assert_int_equal(answer_all(consumer, &event, &work, &most), 2);
	assert_in_range(most, 1, 2048);
	assert_int_equal(consumer->told.set, 1);
	consumers_stop(&consumers);
	sd_event_unref(loop);
	bitmap_backing_free(&bitmap);
}

/* --- The end of a consumer --- */

static void leave_when_told(void *arg, const struct consumer_event *event)
{
	struct mapper *mapper = arg;

	(void)event;
	consumer_gone(mapper->consumer);
	mapper->consumer = NULL;
}

/* It may be noticed while all are told: whoever tells goes on from there. */
static void one_that_ends_while_all_are_told_is_freed_later(void **state)
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

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(without_consumers_all_is_passed_on),
		T(a_plug_is_answered_when_all_have_it),
		T(memory_goes_when_all_have_let_go),
		T(a_plug_that_one_refuses_is_undone),
		T(an_unplug_that_one_refuses_has_not_been),
		T(what_the_backing_refuses_comes_back),
		T(a_plug_that_cannot_be_undone_stands),
		T(unplug_all_cannot_be_refused),
		T(who_has_gone_is_not_waited_for),
		T(who_does_not_answer_has_refused_and_is_closed),
		T(a_new_one_is_told_what_is_there),
		T(a_new_one_cannot_refuse_what_is_there),
		T(a_repeated_request_waits_for_them_too),
		T(a_repeated_request_can_be_refused),
		T(what_others_change_is_told_and_not_asked),
		T(verify_tells_them_what_it_found),
		T(who_could_not_take_part_is_refused),
		T(answers_to_nothing_are_refused),
		cmocka_unit_test(an_event_costs_as_much_however_many_there_are),
		T(one_that_ends_while_all_are_told_is_freed_later),
		T(random_requests_are_done_by_all_or_not_at_all),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
