// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers: processes other than the guest that map a device's memory.
 *
 * A vhost device in the kernel has a table of guest memory, VFIO pins the
 * memory that a device may access, and a VMM may have its own mappings. A
 * consumer must map a block before the guest uses it, or the device cannot
 * access the block. A consumer must unmap a block before it is unplugged and
 * discarded, or the memory is not freed, or its next owner's data is exposed
 * to the device.
 *
 * Placement. struct consumers is the filter (backing.h) between a device and
 * its backing. Without consumers, it passes each operation on unchanged.
 *
 *	plug:	backing plugs -> consumers populate -> guest gets the answer
 *	unplug:	consumers discard -> backing unplugs -> guest gets the answer
 *
 * Synchronisation. @told is the set of blocks that a consumer has populated.
 * The wanted set is the same for all consumers: the plugged blocks, less the
 * blocks of the current request while they are being unplugged (the hole). A
 * consumer gets an event for the first difference between the two sets, answers
 * it, and gets the next event, until the sets are equal. Discards are sent
 * before populates. One event at a time is outstanding per consumer. Requests,
 * refusals, changes by other processes and new consumers are all handled this
 * way. To undo a change, the wanted set is changed back.
 *
 * Away. A consumer's mappings may outlive its connection and vmemd: a VMM may
 * restart a thread, vmemd may be killed. A device that still maps freed memory
 * can corrupt its next owner's data. So a consumer that may have blocks keeps
 * its claim on them when its connection ends or is closed. It is away until one
 * of these:
 *
 *	- The same process subscribes with the same name. It is sent discards
 *	  for the blocks that it may have and must not have, then populates for
 *	  all wanted blocks. After that @told is certain again.
 *	- The consumer unsubscribes, which states that it maps nothing.
 *	- Its process ends, which removes its mappings; see base/peer.c.
 *	- An operator states that the consumer is gone.
 *
 * Requests wait up to @answer_usec for a consumer that has just gone away, to be
 * back and to have all wanted blocks again. After that the consumer is late:
 * plugs, and unplugs of blocks that it may have, are answered BUSY, whether it
 * is away or still catches up. So a consumer cannot hold up the guest by slow
 * answers. Blocks that the consumer may have are not discarded.
 *
 * A restarted daemon reads the consumers from a file (claims.c). Each of them
 * is away, and may have any block.
 *
 * Refusal. If a consumer refuses a populate, the plug is undone: the other
 * consumers discard, the backing unplugs, and the guest gets BUSY. If a
 * consumer refuses a discard, the unplug ends before it reaches the backing:
 * the other consumers populate again, and then the guest gets BUSY, because it
 * may use the memory after the answer. The answer's reason names the consumer.
 * These cannot be refused: changes by other processes, UNPLUG_ALL, the undoing
 * of a change, and blocks that were plugged before the consumer subscribed. A
 * consumer that refuses one of them is closed, and is away.
 *
 * If the backing fails to undo a plug, the plug stands: the consumer that
 * refused is closed, and the guest gets ACK. With any other answer the guest
 * would not know about memory that it has. The request waits again for late
 * consumers that are connected, as the guest will use the memory. One that
 * still lacks it after that is closed.
 *
 * Timeout. A consumer that does not answer within @answer_usec is closed. This
 * counts as a refusal. The consumer is away, since it may still have mappings.
 * The size of an event is bounded, so that a long operation is answered in
 * parts.
 *
 * Each step of a request has a time limit, too, for consumers that answer in time
 * but have many events:
 *
 *	- A plug is undone. A consumer that has not populated it is late (@slow)
 *	  until it has caught up.
 *	- A plug is undone without a consumer that has not discarded it. This
 *	  consumer is late, too, and the blocks that it may have are not
 *	  discarded.
 *	- An unplug is given up as if a consumer had refused it.
 *	- A consumer is closed if it has not populated again what stays plugged:
 *	  the guest may use this memory after the answer.
 *
 * UNPLUG_ALL has no such limits: it has as many events as the region needs, and
 * no other request follows without it.
 *
 * A new consumer first gets an event for each run of plugged blocks. Until it
 * has them all, requests do not wait for its populates, but they do wait for
 * its discards. A consumer that is back gets all wanted blocks again; any other
 * block was unplugged meanwhile.
 *
 * Lifetime. A consumer may end while the list is being walked. So it is only
 * marked (@ended), and reap() frees it from the event loop. A marked consumer
 * gets no events and has no blocks.
 *
 * Cost. The guest chooses the number of runs of blocks, and each run is an
 * event. So each consumer has a range per direction outside of which there is no
 * difference, and recheck() extends the ranges by a change. A request costs a
 * search of its own blocks if the consumer is in sync, not of the region.
 *
 * Memslots. An event has the blocks, which VFIO maps, and the memslots that it
 * adds or removes, which vhost maps and which include unplugged blocks. The
 * memslots are derived from @told, so that a consumer sees each of them added
 * and removed once.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
#include "base/timer.h"
#include "common/min_max.h"
#include "device/budget.h"
#include "device/consumer.h"

_Static_assert(CLAIMS_MAX >= CONSUMERS_MAX + CONSUMERS_ROOT,
	       "each consumer's claim has a place");

static struct consumers *to_consumers(const struct backing *backing)
{
	return backing->filter_arg;
}

static uint64_t block_of(const struct consumers *consumers, uint64_t gpa)
{
	const struct backing *backing = consumers->backing;

	return (gpa - backing->gpa) / backing->block_size;
}

static uint64_t gpa_of(const struct consumers *consumers, uint64_t block)
{
	const struct backing *backing = consumers->backing;

	return backing->gpa + block * backing->block_size;
}

/* --- The wanted set --- */

/* First wanted block at or after @from, or the number of blocks. */
static uint64_t next_wanted(const struct consumers *consumers, uint64_t from)
{
	const struct blocks *plugged = &consumers->backing->plugged;
	uint64_t end = consumers->first + consumers->nr;
	uint64_t next = blocks_next(plugged, from, true);

	if (!consumers->hole || next < consumers->first || next >= end)
		return next;
	return blocks_next(plugged, end, true);
}

/* First block at or after @from that is not wanted. */
static uint64_t next_unwanted(const struct consumers *consumers, uint64_t from)
{
	const struct blocks *plugged = &consumers->backing->plugged;
	uint64_t next = blocks_next(plugged, from, false);

	if (!consumers->hole || from >= consumers->first + consumers->nr)
		return next;
	return min(next, from > consumers->first ? from : consumers->first);
}

static bool is_wanted(const struct consumers *consumers, uint64_t block)
{
	return next_wanted(consumers, block) == block;
}

static void add_range(struct consumer_range *range, uint64_t from, uint64_t end)
{
	if (range->from >= range->end) {
		range->from = from;
		range->end = end;
		return;
	}
	range->from = min(range->from, from);
	range->end = max(range->end, end);
}

/* The wanted set, or the consumer's set, may have changed in a range. */
static void recheck_one(struct consumer *consumer, uint64_t from, uint64_t end)
{
	add_range(&consumer->to_discard, from, end);
	add_range(&consumer->to_populate, from, end);
}

static void recheck(struct consumers *consumers, uint64_t from, uint64_t end)
{
	struct consumer *consumer;

	for (consumer = consumers->list; consumer; consumer = consumer->next)
		recheck_one(consumer, from, end);
}

static void recheck_all(struct consumers *consumers)
{
	recheck(consumers, 0, consumers->backing->plugged.nr);
}

/* The wanted set may have changed in the range of the request. */
static void recheck_request(struct consumers *consumers)
{
	recheck(consumers, consumers->first, consumers->first + consumers->nr);
}

static bool overlaps(const struct consumers *consumers,
		     const struct consumer_event *event)
{
	uint64_t first = block_of(consumers, event->gpa);
	uint64_t nr = event->size / consumers->backing->block_size;

	return first < consumers->first + consumers->nr &&
	       consumers->first < first + nr;
}

/* --- Events --- */

/*
 * First block of @range that is in @has and not in @has_not, or its end.
 * @in_hole: within the hole, each block of @has counts as a difference; false:
 * none does
 */
static uint64_t next_difference(const struct consumers *consumers,
				const struct blocks *has,
				const struct blocks *has_not,
				const struct consumer_range *range,
				bool in_hole)
{
	uint64_t at = range->from, hole = range->end, end = range->end;

	if (consumers->hole) {
		hole = min(hole, consumers->first);
		end = min(end, consumers->first + consumers->nr);
	}

	if (at < hole)
		at = blocks_next_missing(has, has_not, at, hole);
	if (at < hole)
		return at;
	if (at < end && in_hole)
		at = blocks_next_until(has, at, end, true);
	else if (at < end)
		at = end;
	return at < end ? at
			: blocks_next_missing(has, has_not, at, range->end);
}

/* End of an event for the run @first to @end, cut at the maximum size. */
static uint64_t limit_event(const struct consumers *consumers, uint64_t first,
			    uint64_t end)
{
	uint64_t most = CONSUMER_EVENT_MAX / consumers->backing->block_size;

	return min(end, first + (most ? most : 1));
}

/* The next run to discard: the consumer has its first and its last block. */
static bool find_discard(struct consumer *consumer, uint64_t *first,
			 uint64_t *end)
{
	const struct consumers *consumers = consumer->consumers;
	const struct blocks *told = &consumer->told;
	struct consumer_range *range = &consumer->to_discard;
	uint64_t at = next_difference(
		consumers, told, &consumers->backing->plugged, range, true);

	range->from = at;
	if (at >= range->end)
		return false;
	*first = at;
	*end = blocks_end_before(
		told, limit_event(consumers, at, next_wanted(consumers, at)));
	return true;
}

/*
 * The next run to populate. Below @repeat_from, it has only blocks that the
 * consumer does not have.
 */
static bool find_populate(struct consumer *consumer, uint64_t *first,
			  uint64_t *end)
{
	const struct consumers *consumers = consumer->consumers;
	const struct blocks *told = &consumer->told;
	struct consumer_range *range = &consumer->to_populate;
	uint64_t at = next_difference(consumers, &consumers->backing->plugged,
				      told, range, false);

	range->from = at;
	if (at >= range->end)
		at = told->nr;
	if (at > consumer->repeat_from)
		at = min(at, next_wanted(consumers, consumer->repeat_from));
	if (at == told->nr)
		return false;
	*first = at;
	*end = limit_event(consumers, at, next_unwanted(consumers, at));
	if (at < consumer->repeat_from)
		*end = min(*end, min(consumer->repeat_from,
				     blocks_next(told, at, true)));
	return true;
}

/*
 * The memslots in which the consumer has no blocks besides @first to @end - 1.
 * Only the first and the last memslot of the range can have others. For a
 * populate, blocks from @repeat_from on do not count: the consumer may not have
 * them.
 */
static void find_slots(const struct consumer *consumer, uint64_t first,
		       uint64_t end, struct consumer_event *event)
{
	const struct consumers *consumers = consumer->consumers;
	const struct backing *backing = consumers->backing;
	const struct blocks *told = &consumer->told;
	uint64_t per_slot = consumers->slot_size / backing->block_size;
	uint64_t slot = first / per_slot;
	uint64_t slots_end = (end - 1) / per_slot + 1;
	uint64_t until = min(slots_end * per_slot, told->nr);

	if (event->populate)
		until = min(until, consumer->repeat_from);
	if (until > end && blocks_count(told, end, until - end))
		slots_end--;
	if (blocks_count(told, slot * per_slot, first - slot * per_slot))
		slot++;
	if (slot >= slots_end)
		return;
	event->nr_slots = slots_end - slot;
	event->slot = consumers->first_slot + slot;
	event->slots_gpa = backing->gpa + slot * consumers->slot_size;
	event->slots_size =
		min(slots_end * consumers->slot_size, backing->size) -
		slot * consumers->slot_size;
}

static void wait_no_more(struct consumer *consumer)
{
	consumer->awaited = false;
	sd_event_source_set_enabled(consumer->grace, SD_EVENT_OFF);
}

/* The consumer's set equals the wanted set. */
static void take_part(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	consumer->in_sync = true;
	consumer->slow = false;
	consumer->subscribed = true;
	consumer->repeat_from = consumer->told.nr;
	wait_no_more(consumer);
	claims_set_subscribed(&consumers->claims, consumer->claim);
	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "consumer %s takes part", consumer->name);
	consumer->ops->subscribed(consumer->arg);
}

/*
 * Send an event for the next difference, unless one is outstanding.
 *
 * Return: true if the consumer is in sync; if it is away, true once requests no
 * longer wait for it.
 */
static bool tell(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;
	struct consumer_event *event = &consumer->event;
	uint64_t first, end;
	bool populate;

	if (consumer->away)
		return !consumer->awaited;
	if (consumer->out)
		return false;
	populate = !find_discard(consumer, &first, &end);
	if (populate && !find_populate(consumer, &first, &end)) {
		if (!consumer->in_sync)
			take_part(consumer);
		consumer->slow = false;
		return true;
	}
	*event = (struct consumer_event){
		.seq = ++consumers->last_seq,
		.populate = populate,
		.gpa = gpa_of(consumers, first),
		.size = (end - first) * consumers->backing->block_size,
	};
	find_slots(consumer, first, end, event);
	consumer->out = true;
	timer_start(consumer->timer, consumers->answer_usec);
	consumer->ops->tell(consumer->arg, event);
	return false;
}

/* May the consumer map blocks of the range? An outstanding event counts. */
static bool holds(const struct consumer *consumer, uint64_t first, uint64_t nr)
{
	const struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;
	uint64_t event_first, event_nr;

	if (consumer->ended)
		return false;
	if (blocks_count(&consumer->told, first, nr))
		return true;
	if (!consumer->out)
		return false;
	event_first = block_of(consumers, event->gpa);
	event_nr = event->size / consumers->backing->block_size;
	return event_first < first + nr && first < event_first + event_nr;
}

/*
 * Does a consumer that was away, or that was too slow for a request, have events
 * left? Until then @told is uncertain, or not what a request that was answered BUSY
 * has left.
 */
static bool catches_up(const struct consumer *consumer)
{
	if (consumer->slow)
		return true;
	return !consumer->away && !consumer->in_sync &&
	       (consumer->subscribed ||
		consumer->repeat_from < consumer->told.nr);
}

/* Does a request that needs this consumer get BUSY? */
static bool is_late(const struct consumer *consumer)
{
	return !consumer->ended && !consumer->awaited &&
	       (consumer->away || catches_up(consumer));
}

/* Does a request in progress wait for what the consumer has not done yet? */
static bool holds_up(const struct consumer *consumer)
{
	const struct consumers *consumers = consumer->consumers;

	return !consumer->ended && !is_late(consumer) &&
	       (consumer->subscribed ||
		(consumers->hole &&
		 holds(consumer, consumers->first, consumers->nr)));
}

/* Send events. Return: whether the request need not wait for a consumer. */
static bool tell_all(struct consumers *consumers)
{
	struct consumer *consumer;
	bool settled = true;

	for (consumer = consumers->list; consumer; consumer = consumer->next)
		if (!consumer->ended && !tell(consumer) && holds_up(consumer))
			settled = false;
	return settled;
}

/* --- The request --- */

/* Free a consumer that is in no list. */
static void release_consumer(struct consumer *consumer)
{
	sd_event_source_disable_unref(consumer->timer);
	sd_event_source_disable_unref(consumer->grace);
	sd_event_source_disable_unref(consumer->process);
	peer_close(&consumer->peer);
	blocks_free(&consumer->told);
	free(consumer);
}

static void free_consumer(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;
	struct consumer **at = &consumers->list;

	while (*at != consumer)
		at = &(*at)->next;
	*at = consumer->next;
	release_consumer(consumer);
}

static void kick(struct consumers *consumers)
{
	sd_event_source_set_enabled(consumers->kick, SD_EVENT_ONESHOT);
}

static void note_released(const struct consumers *consumers)
{
	const struct backing *backing = consumers->backing;

	if (backing->released)
		backing->released(backing->arg);
}

/*
 * The consumer maps nothing any more: drop its claim, send no events, and do
 * not wait for it.
 */
static void end_consumer(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	consumer->ended = true;
	consumer->out = false;
	consumer->awaited = false;
	consumers->nr_consumers--;
	claims_remove(&consumers->claims, consumer->claim);
	if (consumers->refuser == consumer)
		consumers->refuser = NULL;
	sd_event_source_set_enabled(consumer->timer, SD_EVENT_OFF);
	sd_event_source_set_enabled(consumer->grace, SD_EVENT_OFF);
	if (consumer->process)
		sd_event_source_set_enabled(consumer->process, SD_EVENT_OFF);
	kick(consumers);
	note_released(consumers);
}

/* Requests wait for the consumer, for @answer_usec at most. */
static void await_consumer(struct consumer *consumer)
{
	consumer->awaited = true;
	timer_start(consumer->grace, consumer->consumers->answer_usec);
}

/*
 * The process cannot be watched now: try again later, as for one that was not
 * found. Its pidfd is kept, because the process may have no PID here by which it
 * could be found again.
 */
static void lose_process(struct consumer *consumer)
{
	consumer->process = sd_event_source_disable_unref(consumer->process);
	consumer->unfound = true;
}

/*
 * May the consumer have blocks? It may have executed an outstanding populate.
 */
static bool has_claim(const struct consumer *consumer)
{
	return consumer->told.set ||
	       (consumer->out && consumer->event.populate);
}

/*
 * The connection is gone. The consumer may have executed an outstanding
 * populate, and may not have executed an outstanding discard. A consumer
 * without blocks ends.
 * @awaited: requests wait for the consumer to return. They do not wait again
 *	unless it was in sync since it was last away, so that a consumer which
 *	reconnects repeatedly cannot stall the guest.
 */
static void leave(struct consumer *consumer, bool awaited)
{
	struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;

	if (!has_claim(consumer)) {
		end_consumer(consumer);
		return;
	}
	if (consumer->out && event->populate)
		blocks_set(&consumer->told, block_of(consumers, event->gpa),
			   event->size / consumers->backing->block_size);
	consumer->out = false;
	sd_event_source_set_enabled(consumer->timer, SD_EVENT_OFF);
	consumer->away = true;
	consumer->slow = false;
	consumer->ops = NULL;
	consumer->arg = NULL;
	if (consumers->refuser == consumer)
		consumers->refuser = NULL;
	if (!awaited)
		wait_no_more(consumer);
	else if (consumer->in_sync)
		await_consumer(consumer);
	if (consumer->process &&
	    sd_event_source_set_enabled(consumer->process, SD_EVENT_ON) < 0)
		lose_process(consumer);
	if (consumer->unfound && !consumer->awaited)
		timer_start(consumer->grace, consumers->answer_usec);
	consumer->in_sync = false;
	kick(consumers);
}

/* Free ended consumers. Runs from the event loop, outside any list walk. */
static void reap(struct consumers *consumers)
{
	struct consumer *consumer = consumers->list, *next;

	for (; consumer; consumer = next) {
		next = consumer->next;
		if (consumer->ended)
			free_consumer(consumer);
	}
}

static void close_consumer(struct consumer *consumer, const char *reason)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_WARNING, consumers->label,
		    "consumer %s is closed: %s", consumer->name, reason);
	consumer->ops->close(consumer->arg, reason);
	leave(consumer, false);
}

/* The next late consumer, from @consumer on. */
static const struct consumer *next_late(const struct consumer *consumer)
{
	while (consumer && !is_late(consumer))
		consumer = consumer->next;
	return consumer;
}

/* A late consumer that would have to populate a plug. */
static const struct consumer *find_untold(const struct consumers *consumers)
{
	const struct consumer *consumer = next_late(consumers->list);

	while (consumer && !consumer->subscribed)
		consumer = next_late(consumer->next);
	return consumer;
}

/* A late consumer that may have blocks of the request. */
static const struct consumer *find_holder(const struct consumers *consumers)
{
	const struct consumer *consumer = next_late(consumers->list);

	while (consumer && !holds(consumer, consumers->first, consumers->nr))
		consumer = next_late(consumer->next);
	return consumer;
}

/* The error of a request that is answered BUSY because of a consumer. */
static int busy_for_late(struct error *err, const struct consumer *consumer)
{
	return error_set(
		err, -EBUSY,
		consumer->away ? "consumer %s is away and may still map memory"
		: consumer->slow
			? "consumer %s is too slow and has not caught up"
			: "consumer %s is back and has not caught up",
		consumer->name);
}

/* Is any consumer awaited? */
static bool is_awaited(const struct consumers *consumers)
{
	const struct consumer *consumer = consumers->list;

	while (consumer && !consumer->awaited)
		consumer = consumer->next;
	return consumer;
}

static int do_change(struct consumers *consumers)
{
	struct backing *backing = consumers->backing;
	uint64_t gpa = gpa_of(consumers, consumers->first);
	uint64_t size = consumers->nr * backing->block_size;

	switch (consumers->change) {
	case CONSUMERS_PLUG:
		return backing->ops->plug(backing, gpa, size);
	case CONSUMERS_UNPLUG:
		return backing->ops->unplug(backing, gpa, size);
	default:
		return backing->ops->unplug_all(backing);
	}
}

/* Does the step have a time limit? That of AWAITING is @grace. */
static bool is_limited(const struct consumers *consumers)
{
	switch (consumers->step) {
	case CONSUMERS_LETTING_GO:
	case CONSUMERS_TELLING:
	case CONSUMERS_RETRACTING:
	case CONSUMERS_RESTORING:
		return consumers->list &&
		       consumers->change != CONSUMERS_UNPLUG_ALL;
	default:
		return false;
	}
}

/* The time limit of the step begins. */
static void limit_step(struct consumers *consumers)
{
	if (is_limited(consumers))
		timer_start(consumers->deadline,
			    CONSUMERS_STEP_ANSWERS * consumers->answer_usec);
	else
		sd_event_source_set_enabled(consumers->deadline, SD_EVENT_OFF);
}

static void set_step(struct consumers *consumers, enum consumers_step step)
{
	consumers->step = step;
	limit_step(consumers);
}

/*
 * The backing has executed the request, or failed to. Others may set its error
 * before the request ends.
 */
static void change_ended(struct consumers *consumers, int ret)
{
	consumers->hole = false;
	if (ret)
		consumers->error = consumers->backing->error;
	/* -EAGAIN: any block of @plugged may have changed. */
	if (ret == -EAGAIN)
		recheck_all(consumers);
	else
		recheck_request(consumers);
	consumers->result = ret;
	set_step(consumers, ret || consumers->change != CONSUMERS_PLUG
				    ? CONSUMERS_RESTORING
				    : CONSUMERS_TELLING);
}

/* The plug stands, and the guest will use it: wait for late consumers again. */
static void wait_for_late(struct consumers *consumers)
{
	struct consumer *consumer;

	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (consumer->away || consumer->ended || !consumer->subscribed)
			continue;
		consumer->slow = false;
		if (is_late(consumer))
			await_consumer(consumer);
	}
}

/* The backing has undone a plug, or failed to. */
static void undo_ended(struct consumers *consumers, int ret)
{
	const struct blocks *plugged = &consumers->backing->plugged;

	consumers->hole = false;
	if (ret == -EAGAIN)
		recheck_all(consumers);
	else
		recheck_request(consumers);
	set_step(consumers, CONSUMERS_RESTORING);
	if (!ret || !blocks_count(plugged, consumers->first, consumers->nr))
		return;
	log_limited(&consumers->limit, LOG_LEVEL_WARNING, consumers->label,
		    "%s; the plug cannot be undone and stays: %s",
		    consumers->error.text, consumers->backing->error.text);
	consumers->result = 0;
	if (consumers->refuser)
		close_consumer(consumers->refuser,
			       "the plug that it refused cannot be undone");
	wait_for_late(consumers);
}

/*
 * All consumers but late ones have answered. If the request also needs a late one,
 * the request fails, and a plug is undone.
 */
static void give_up_on_late(struct consumers *consumers)
{
	const struct consumer *late = NULL;

	if (consumers->step == CONSUMERS_TELLING)
		late = find_untold(consumers);
	else if (consumers->step == CONSUMERS_LETTING_GO)
		late = find_holder(consumers);
	if (!late)
		return;
	/* Undone blocks stay owed while the late consumer may have them. */
	consumers->hole = consumers->step == CONSUMERS_TELLING;
	set_step(consumers,
		 consumers->hole ? CONSUMERS_RETRACTING : CONSUMERS_RESTORING);
	consumers->result = busy_for_late(&consumers->error, late);
	recheck_request(consumers);
}

/*
 * Send events and advance the request as far as possible.
 *
 * Return: -EINPROGRESS, or the result of the request, which has ended then.
 */
static int go_on_request(struct consumers *consumers)
{
	struct backing *backing = consumers->backing;
	bool settled;
	int ret;

	for (;;) {
		enum consumers_step step = consumers->step;

		settled = tell_all(consumers);
		if (step == CONSUMERS_AWAITING && !is_awaited(consumers)) {
			set_step(consumers, CONSUMERS_IDLE);
			return 0;
		}
		if (!settled && step != CONSUMERS_CHANGING &&
		    step != CONSUMERS_UNDOING)
			return -EINPROGRESS;
		give_up_on_late(consumers);
		/* The wanted set has changed: send events first. */
		if (consumers->step != step)
			continue;
		switch (step) {
		case CONSUMERS_LETTING_GO:
			set_step(consumers, CONSUMERS_CHANGING);
			ret = do_change(consumers);
			if (ret == -EINPROGRESS)
				return ret;
			change_ended(consumers, ret);
			break;
		case CONSUMERS_RETRACTING:
			set_step(consumers, CONSUMERS_UNDOING);
			ret = backing->ops->unplug(
				backing, gpa_of(consumers, consumers->first),
				consumers->nr * backing->block_size);
			if (ret == -EINPROGRESS)
				return ret;
			undo_ended(consumers, ret);
			break;
		case CONSUMERS_TELLING:
		case CONSUMERS_RESTORING:
			set_step(consumers, CONSUMERS_IDLE);
			consumers->refuser = NULL;
			if (consumers->result && consumers->error.code)
				backing->error = consumers->error;
			return consumers->result;
		default:
			/* The backing is busy with it, or there is no request. */
			return -EINPROGRESS;
		}
	}
}

/* Advance the request from outside the device's call. */
static void advance_request(struct consumers *consumers)
{
	const struct backing *backing = consumers->backing;
	int ret = go_on_request(consumers);

	if (ret != -EINPROGRESS && backing->done)
		backing->done(backing->arg, ret);
}

static void consumers_ended(struct backing *backing, int result)
{
	struct consumers *consumers = to_consumers(backing);

	if (consumers->step == CONSUMERS_UNDOING)
		undo_ended(consumers, result);
	else
		change_ended(consumers, result);
	advance_request(consumers);
}

static int on_kick(sd_event_source *source __attribute__((unused)), void *arg)
{
	reap(arg);
	advance_request(arg);
	return 0;
}

/* --- What the device calls --- */

static void begin_request(struct consumers *consumers,
			  enum consumers_change change, uint64_t gpa,
			  uint64_t size)
{
	consumers->change = change;
	consumers->first = block_of(consumers, gpa);
	consumers->nr = size / consumers->backing->block_size;
	consumers->result = 0;
	consumers->error = (struct error){0};
}

static int begin_unplug(struct consumers *consumers)
{
	const struct consumer *holder = find_holder(consumers);

	if (holder)
		return busy_for_late(&consumers->backing->error, holder);
	consumers->hole = true;
	recheck_request(consumers);
	set_step(consumers, CONSUMERS_LETTING_GO);
	return go_on_request(consumers);
}

static int begin_plug(struct consumers *consumers, int ret)
{
	if (ret == -EINPROGRESS)
		return ret;
	change_ended(consumers, ret);
	return go_on_request(consumers);
}

/* Requests that change blocks do not start while a consumer is awaited. */
static int consumers_await(struct backing *backing)
{
	struct consumers *consumers = to_consumers(backing);

	if (!is_awaited(consumers))
		return 0;
	set_step(consumers, CONSUMERS_AWAITING);
	return -EINPROGRESS;
}

static int consumers_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);
	const struct consumer *untold = find_untold(consumers);

	if (untold)
		return busy_for_late(&backing->error, untold);
	begin_request(consumers, CONSUMERS_PLUG, gpa, size);
	set_step(consumers, CONSUMERS_CHANGING);
	return begin_plug(consumers, do_change(consumers));
}

static int consumers_unplug(struct backing *backing, uint64_t gpa,
			    uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);

	begin_request(consumers, CONSUMERS_UNPLUG, gpa, size);
	return begin_unplug(consumers);
}

static int consumers_unplug_all(struct backing *backing)
{
	struct consumers *consumers = to_consumers(backing);

	begin_request(consumers, CONSUMERS_UNPLUG_ALL, backing->gpa,
		      backing->size);
	return begin_unplug(consumers);
}

/* The backing has executed the request before; consumers may not have. */
static int consumers_repeat(struct backing *backing, bool plug, uint64_t gpa,
			    uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);

	begin_request(consumers, plug ? CONSUMERS_PLUG : CONSUMERS_UNPLUG, gpa,
		      size);
	set_step(consumers, CONSUMERS_CHANGING);
	return begin_plug(consumers,
			  backing->ops->repeat(backing, plug, gpa, size));
}

static int consumers_verify(struct backing *backing)
{
	struct consumers *consumers = to_consumers(backing);
	int ret = backing->ops->verify(backing);

	if (ret > 0)
		consumers_changed(consumers);
	return ret;
}

static int busy_for_holder(struct backing *backing,
			   const struct consumer *consumer)
{
	return error_set(&backing->error, -EBUSY,
			 "discard: consumer %s may still map the memory",
			 consumer->name);
}

/* Memory that a consumer may still map must not be discarded. */
static int consumers_discard(struct backing *backing, uint64_t gpa,
			     uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);
	const struct consumer *consumer;
	int ret;

	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (!holds(consumer, block_of(consumers, gpa),
			   size / backing->block_size))
			continue;
		return busy_for_holder(backing, consumer);
	}
	ret = backing->ops->discard(backing, gpa, size);
	if (ret == -EAGAIN)
		consumers_changed(consumers);
	return ret;
}

/* The first block from @from on that a consumer may have (@held), or has not. */
static uint64_t next_held_by(const struct consumer *consumer, uint64_t from,
			     uint64_t end, bool held)
{
	const struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;
	uint64_t out, out_end, at;

	if (consumer->ended)
		return held ? end : from;
	at = blocks_next_until(&consumer->told, from, end, held);
	if (!consumer->out)
		return at;
	out = block_of(consumers, event->gpa);
	out_end = out + event->size / consumers->backing->block_size;
	if (held)
		return from < out_end ? min(at, out > from ? out : from) : at;
	if (at < out || at >= out_end)
		return at;
	return blocks_next_until(&consumer->told, min(out_end, end), end,
				 false);
}

/* Split a range where a claim begins or ends; see struct backing_ops. */
static uint64_t consumers_kept(struct backing *backing, uint64_t first,
			       uint64_t end, bool *kept)
{
	const struct consumers *consumers = to_consumers(backing);
	const struct consumer *consumer, *holder = NULL;
	uint64_t until = end, at, before;

	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		at = next_held_by(consumer, first, end, true);
		if (at == first)
			holder = consumer;
		until = min(until, at);
	}
	*kept = holder;
	if (!holder)
		return until;
	busy_for_holder(backing, holder);
	at = first;
	do {
		before = at;
		for (consumer = consumers->list; consumer;
		     consumer = consumer->next)
			at = next_held_by(consumer, at, end, false);
	} while (at != before);
	return at;
}

static const struct backing_ops consumers_filter = {
	.plug = consumers_plug,
	.unplug = consumers_unplug,
	.unplug_all = consumers_unplug_all,
	.repeat = consumers_repeat,
	.verify = consumers_verify,
	.discard = consumers_discard,
	.kept = consumers_kept,
	.await = consumers_await,
	.ended = consumers_ended,
};

/* --- What consumers call --- */

/*
 * Apply a consumer's refusal of its event to the request.
 *
 * Return: whether the consumer may stay connected.
 */
static bool refuse_event(struct consumers *consumers, struct consumer *consumer,
			 const char *reason)
{
	const struct consumer_event *event = &consumer->event;

	/* Another consumer has refused before: the event is obsolete. */
	if (is_wanted(consumers, block_of(consumers, event->gpa)) !=
	    event->populate)
		return true;
	if (!consumer->subscribed || !overlaps(consumers, event))
		return false;
	if (event->populate && consumers->step == CONSUMERS_TELLING)
		set_step(consumers, CONSUMERS_RETRACTING);
	else if (!event->populate && consumers->step == CONSUMERS_LETTING_GO &&
		 consumers->change == CONSUMERS_UNPLUG)
		set_step(consumers, CONSUMERS_RESTORING);
	else
		return false;
	consumers->hole = event->populate;
	recheck_request(consumers);
	consumers->refuser = consumer;
	consumers->result = error_set(
		&consumers->error, -EBUSY, "consumer %s refuses to %s: %.*s",
		consumer->name, event->populate ? "populate" : "discard",
		CONSUMER_REASON_MAX - 1, reason);
	return true;
}

static void process_ended(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "the process of consumer %s has ended", consumer->name);
	end_consumer(consumer);
}

/* The process of an absent consumer has ended, and so have its mappings. */
static int on_process_end(sd_event_source *source __attribute__((unused)),
			  int fd __attribute__((unused)),
			  uint32_t revents __attribute__((unused)), void *arg)
{
	process_ended(arg);
	return 0;
}

/* Watch for the end of the process, while away. Return: 0, or an errno. */
static int watch_process(struct consumer *consumer)
{
	int ret;

	if (consumer->peer.pidfd < 0)
		return 0;
	ret = sd_event_add_io(consumer->consumers->event, &consumer->process,
			      consumer->peer.pidfd, EPOLLIN, on_process_end,
			      consumer);
	if (ret < 0)
		return ret;
	ret = sd_event_source_set_enabled(
		consumer->process, consumer->away ? SD_EVENT_ON : SD_EVENT_OFF);
	if (ret < 0)
		consumer->process =
			sd_event_source_disable_unref(consumer->process);
	return ret < 0 ? ret : 0;
}

/* Look again for a process that could not be found, or could not be watched. */
static void find_process(struct consumer *consumer)
{
	int ret = consumer->peer.pidfd < 0 ? peer_find(&consumer->peer) : 0;

	consumer->unfound = ret && ret != -ESRCH;
	if (ret == -ESRCH)
		process_ended(consumer);
	else if (!ret && watch_process(consumer))
		lose_process(consumer);
	if (consumer->unfound)
		timer_start(consumer->grace, consumer->consumers->answer_usec);
}

static int on_timeout(sd_event_source *source __attribute__((unused)),
		      uint64_t usec __attribute__((unused)), void *arg)
{
	struct consumer *consumer = arg;
	struct consumers *consumers = consumer->consumers;

	refuse_event(consumers, consumer, "it has not answered");
	close_consumer(consumer, "it has not answered in time");
	advance_request(consumers);
	return 0;
}

/* May the consumer lack wanted blocks of the request, now or after its answer? */
static bool lacks(const struct consumer *consumer)
{
	const struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;
	const struct blocks *plugged = &consumers->backing->plugged;
	uint64_t end = consumers->first + consumers->nr;
	uint64_t certain =
		min(end, max(consumers->first, consumer->repeat_from));

	if (consumer->out && !event->populate && overlaps(consumers, event))
		return true;
	return blocks_next_missing(plugged, &consumer->told, consumers->first,
				   certain) < certain ||
	       blocks_next_until(plugged, certain, end, true) < end;
}

/* A consumer is too slow for a step other than LETTING_GO: wait no more for it. */
static void give_up_on(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	if (consumers->step == CONSUMERS_RESTORING && lacks(consumer)) {
		close_consumer(consumer,
			       "it is too slow to populate what stays plugged");
		return;
	}
	log_limited(&consumers->limit, LOG_LEVEL_WARNING, consumers->label,
		    "consumer %s is too slow for a request, which no longer "
		    "waits for it",
		    consumer->name);
	consumer->slow = true;
}

/* The step has waited long enough for consumers, which do answer. */
static int on_deadline(sd_event_source *source __attribute__((unused)),
		       uint64_t usec __attribute__((unused)), void *arg)
{
	struct consumers *consumers = arg;
	const struct consumer *holder = NULL;
	struct consumer *consumer;

	/* One that is awaited holds up the step, but is not slow yet. */
	limit_step(consumers);
	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (!consumer->out || !holds_up(consumer))
			continue;
		if (consumers->step == CONSUMERS_LETTING_GO)
			holder = consumer;
		else
			give_up_on(consumer);
	}
	if (holder) {
		consumers->result = error_set(
			&consumers->error, -EBUSY,
			"consumer %s is too slow to discard", holder->name);
		consumers->hole = false;
		set_step(consumers, CONSUMERS_RESTORING);
		recheck_request(consumers);
	}
	advance_request(consumers);
	return 0;
}

/* Requests stop waiting for the consumer. */
static int on_grace(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct consumer *consumer = arg;
	struct consumers *consumers = consumer->consumers;
	bool was_awaited = consumer->awaited;

	consumer->awaited = false;
	if (consumer->unfound && consumer->away)
		find_process(consumer);
	if (!was_awaited || consumer->ended)
		return 0;
	if (consumer->away)
		log_limited(&consumers->limit, LOG_LEVEL_WARNING,
			    consumers->label,
			    "consumer %s is away; until it is back or its "
			    "process ends, requests are answered busy",
			    consumer->name);
	else if (consumers->step == CONSUMERS_RESTORING && lacks(consumer))
		close_consumer(consumer,
			       "it has not caught up with what stays plugged");
	else if (catches_up(consumer))
		log_limited(&consumers->limit, LOG_LEVEL_WARNING,
			    consumers->label,
			    "consumer %s is back and has not caught up; until "
			    "then, requests are answered busy",
			    consumer->name);
	advance_request(consumers);
	return 0;
}

/**
 * consumer_answer() - handle a consumer's answer to its event
 * @consumer: the consumer; may have been closed on return
 * @seq: sequence number of the event
 * @ok: the consumer has executed the event; false: it refuses
 * @reason: reason of a refusal; cut at CONSUMER_REASON_MAX
 *
 * Return: 0; -ENOENT: the event @seq is not outstanding.
 */
int consumer_answer(struct consumer *consumer, uint64_t seq, bool ok,
		    const char *reason)
{
	struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;
	uint64_t block_size = consumers->backing->block_size;
	uint64_t first = block_of(consumers, event->gpa);
	char text[CONSUMER_REASON_MAX + 64];

	if (!consumer->out || event->seq != seq)
		return -ENOENT;
	consumer->out = false;
	sd_event_source_set_enabled(consumer->timer, SD_EVENT_OFF);
	consumer->answers++;
	if (ok) {
		(event->populate ? blocks_set : blocks_clear)(
			&consumer->told, first, event->size / block_size);
		/* Repeats are sent in order, so @told is certain up to here. */
		if (event->populate && first >= consumer->repeat_from)
			consumer->repeat_from =
				first + event->size / block_size;
		recheck_one(consumer, first, first + event->size / block_size);
		if (!event->populate)
			note_released(consumers);
	} else {
		consumer->refusals++;
		if (!refuse_event(consumers, consumer, reason)) {
			snprintf(text, sizeof(text),
				 "it refuses what cannot be refused: %s",
				 reason);
			close_consumer(consumer, text);
		}
	}
	advance_request(consumers);
	return 0;
}

/*
 * The connection of a consumer has ended. Its mappings may still exist. A
 * request that waits for the consumer continues from the event loop.
 */
void consumer_gone(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "the connection of consumer %s has ended", consumer->name);
	leave(consumer, true);
}

/* A consumer states that it maps nothing and ends its subscription. */
void consumer_unsubscribe(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "consumer %s has unsubscribed", consumer->name);
	end_consumer(consumer);
}

/*
 * May @peer act as this absent consumer? Processes of other users, except root,
 * may not.
 */
static bool is_same(const struct consumer *consumer, const struct peer *peer)
{
	return (!peer->uid || peer->uid == consumer->peer.uid) &&
	       peer_may_be(&consumer->peer, peer);
}

/* Is @peer known to be the consumer's process, as far as PIDs can show? */
static bool is_process(const struct consumer *consumer, const struct peer *peer)
{
	return peer->pid && consumer->peer.pid == peer->pid &&
	       is_same(consumer, peer);
}

/*
 * Find a consumer that @peer may act as.
 * @away: an absent one. Otherwise one that counts as connected, although its
 *	process has opened another connection for it: the end of the first
 *	connection has not been read yet
 */
static struct consumer *find(const struct consumers *consumers,
			     const char *name, const struct peer *peer,
			     bool away)
{
	struct consumer *consumer = consumers->list;

	while (consumer && (consumer->ended || consumer->away != away ||
			    strcmp(consumer->name, name) ||
			    !(away ? is_same : is_process)(consumer, peer)))
		consumer = consumer->next;
	return consumer;
}

/* Close the old connection of a consumer that its process replaces. */
static void leave_for_another(struct consumer *old)
{
	if (old)
		close_consumer(old,
			       "its process has another connection for it");
}

/**
 * consumers_forget() - end the absent consumers of a name
 * @consumers: the device's consumers
 * @name: the name
 * @peer: the process that states that it maps nothing; the process's old
 *	connection is closed if it still counts as connected. NULL: an operator
 *	states that the consumer is gone.
 * @err: set on error
 *
 * Return: 0; -ENOENT: no consumer of that name is away; -EBUSY: one is
 * connected.
 */
int consumers_forget(struct consumers *consumers, const char *name,
		     const struct peer *peer, struct error *err)
{
	struct consumer *consumer;
	bool there = false, forgotten = false;

	if (peer)
		leave_for_another(find(consumers, name, peer, false));
	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (consumer->ended || strcmp(consumer->name, name))
			continue;
		there |= !consumer->away;
		if (!consumer->away || (peer && !is_same(consumer, peer)))
			continue;
		log_limited(&consumers->limit, LOG_LEVEL_WARNING,
			    consumers->label, "consumer %s is forgotten: %s",
			    consumer->name,
			    peer ? "it maps nothing any more"
				 : "an operator states that it is gone");
		end_consumer(consumer);
		forgotten = true;
	}
	if (forgotten)
		return 0;
	return there ? error_set(err, -EBUSY, "consumer %s is connected", name)
		     : error_set(err, -ENOENT, "no consumer %s is away", name);
}

/* Another process has plugged or unplugged blocks: send events soon. */
void consumers_changed(struct consumers *consumers)
{
	if (!consumers->backing)
		return;
	recheck_all(consumers);
	kick(consumers);
}

/*
 * Can the consumer handle all memslots of this device, those of @others, and
 * the ones that it has reserved?
 */
static int check_memslots(const struct consumers *consumers, const char *name,
			  const struct consumer_memslots *memslots,
			  uint64_t others, struct error *err)
{
	uint64_t reserved =
		(consumers->backing->size - 1) / consumers->slot_size + 1;

	if (__builtin_add_overflow(reserved, others, &reserved) ||
	    __builtin_add_overflow(reserved, memslots->reserved, &reserved))
		reserved = UINT64_MAX;
	return budget_check_consumer(name, memslots->limit, memslots->used,
				     reserved, err);
}

/*
 * Can the consumer map all that may be plugged? More than the requested size is
 * plugged while the guest shrinks.
 */
static int check_mappings(const struct consumers *consumers,
			  const struct consumer_config *config,
			  struct error *err)
{
	const struct backing *backing = consumers->backing;
	uint64_t plugged = backing->plugged.set * backing->block_size;

	return budget_check_mappings(config->name, config->mappings,
				     plugged > config->requested_size
					     ? plugged
					     : config->requested_size,
				     backing->block_size, err);
}

/* Can the consumer handle all memslots, and map all that may be plugged? */
static int check_limits(const struct consumers *consumers,
			const struct consumer_config *config, struct error *err)
{
	int ret = check_memslots(consumers, config->name, &config->memslots,
				 config->others, err);

	return ret ? ret : check_mappings(consumers, config, err);
}

/**
 * consumers_check() - check each consumer's limit of memslots
 * @consumers: the device's consumers
 * @others: most memslots that the daemon's other devices may use
 * @err: set on error; names the consumer
 *
 * Return: 0; -ENOSPC: a consumer could not handle that many.
 */
int consumers_check(const struct consumers *consumers, uint64_t others,
		    struct error *err)
{
	const struct consumer *consumer;
	int ret = 0;

	for (consumer = consumers->list; !ret && consumer;
	     consumer = consumer->next)
		if (!consumer->ended)
			ret = check_memslots(consumers, consumer->name,
					     &consumer->memslots, others, err);
	return ret;
}

/**
 * consumers_check_mappings() - check each consumer's limit of mappings
 * @consumers: the device's consumers
 * @size: bytes that the guest is to be asked to plug
 * @err: set on error; names the consumer, and a block size that would fit
 *
 * Return: 0; -ENOSPC: a consumer could not map that many blocks.
 */
int consumers_check_mappings(const struct consumers *consumers, uint64_t size,
			     struct error *err)
{
	const struct consumer *consumer;
	int ret = 0;

	for (consumer = consumers->list; !ret && consumer;
	     consumer = consumer->next)
		if (!consumer->ended)
			ret = budget_check_mappings(
				consumer->name, consumer->mappings, size,
				consumers->backing->block_size, err);
	return ret;
}

/*
 * Another process has set the requested size, which is in force already. A plug that
 * is too much for a consumer gets BUSY, but only the log says why.
 */
void consumers_note_requested(struct consumers *consumers, uint64_t size)
{
	struct error err;

	if (consumers_check_mappings(consumers, size, &err))
		log_limited(
			&consumers->limit, LOG_LEVEL_WARNING, consumers->label,
			"another process has requested too much: %s", err.text);
}

/* The lowest limit of memslots of any consumer; 0: no limit. */
uint64_t consumers_limit(const struct consumers *consumers)
{
	const struct consumer *consumer;
	uint64_t least = 0;

	for (consumer = consumers->list; consumer; consumer = consumer->next)
		if (!consumer->ended && consumer->memslots.limit &&
		    (!least || consumer->memslots.limit < least))
			least = consumer->memslots.limit;
	return least;
}

static int add_sources(struct consumer *consumer)
{
	sd_event *event = consumer->consumers->event;
	int ret;

	ret = timer_add(event, &consumer->timer, on_timeout, consumer);
	if (ret >= 0)
		ret = timer_add(event, &consumer->grace, on_grace, consumer);
	return ret < 0 ? ret : 0;
}

/* Make a consumer without blocks. Return: 0, or an errno with @err set. */
static int make_consumer(struct consumer **consumerp,
			 struct consumers *consumers, const char *name,
			 struct error *err)
{
	struct consumer *consumer = calloc(1, sizeof(*consumer));
	int ret;

	if (!consumer)
		goto no_memory;
	consumer->consumers = consumers;
	consumer->peer = PEER_UNKNOWN;
	consumer->claim = CLAIMS_NONE;
	snprintf(consumer->name, sizeof(consumer->name), "%s", name);
	ret = add_sources(consumer);
	if (ret) {
		release_consumer(consumer);
		error_set(err, ret, "event loop: %s", strerror(-ret));
		return ret;
	}
	if (blocks_init(&consumer->told, consumers->backing->plugged.nr)) {
		release_consumer(consumer);
		goto no_memory;
	}
	consumer->told.work = consumers->backing->plugged.work;
	consumer->repeat_from = consumer->told.nr;
	recheck_one(consumer, 0, consumer->told.nr);
	*consumerp = consumer;
	return 0;

no_memory:
	error_set(err, -ENOMEM, "out of memory");
	return -ENOMEM;
}

static void list_consumer(struct consumers *consumers,
			  struct consumer *consumer)
{
	consumer->next = consumers->list;
	consumers->list = consumer;
	consumers->nr_consumers++;
}

/* An absent consumer is back. Its set is uncertain: repeat all blocks. */
static void resume(struct consumer *consumer,
		   const struct consumer_config *config,
		   const struct consumer_ops *ops, void *arg)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "consumer %s is back", consumer->name);
	consumer->away = false;
	consumer->in_sync = false;
	consumer->repeat_from = 0;
	recheck_one(consumer, 0, consumer->told.nr);
	consumer->memslots = config->memslots;
	consumer->mappings = config->mappings;
	claims_set_mappings(&consumers->claims, consumer->claim,
			    consumer->mappings);
	consumer->ops = ops;
	consumer->arg = arg;
	if (consumer->process)
		sd_event_source_set_enabled(consumer->process, SD_EVENT_OFF);
	/* A claim of another PID namespace has no process until now. */
	if (consumer->peer.pidfd < 0 && config->peer.pidfd >= 0) {
		consumer->peer = config->peer;
		claims_set_peer(&consumers->claims, consumer->claim,
				&consumer->peer);
	} else if (config->peer.pidfd >= 0) {
		close(config->peer.pidfd);
	}
	if (!consumer->process && consumer->peer.pidfd >= 0) {
		consumer->unfound = false;
		if (watch_process(consumer))
			lose_process(consumer);
	}
	kick(consumers);
}

/**
 * consumers_keep() - record consumers in a file and load those found in it
 * @consumers: the device's consumers
 * @fd: the file; the caller keeps it
 * @region: see claims_open()
 * @pid_namespace: see claims_open()
 * @err: set on error
 *
 * Return: 0; an errno of claims_open(); -ENOMEM; an errno of sd-event's.
 */
int consumers_keep(struct consumers *consumers, int fd,
		   const struct claims_region *region, uint64_t pid_namespace,
		   struct error *err)
{
	struct claims *claims = &consumers->claims;
	struct consumer *consumer;
	int ret;

	ret = claims_open(claims, fd, region, pid_namespace, err);
	for (int i = 0; !ret && i < CLAIMS_MAX; i++) {
		const struct claim *was = &claims->was[i];
		struct peer peer;
		int found;

		if (!was->used)
			continue;
		found = claims_peer(claims, was, &peer);
		if (found == -ESRCH) {
			claims_remove(claims, i);
			continue;
		}
		ret = make_consumer(&consumer, consumers, was->name, err);
		if (ret) {
			peer_close(&peer);
			break;
		}
		consumer->peer = peer;
		consumer->unfound = found;
		consumer->claim = i;
		consumer->away = true;
		consumer->subscribed = was->subscribed;
		consumer->mappings = claims->mappings[i];
		blocks_set(&consumer->told, 0, consumer->told.nr);
		list_consumer(consumers, consumer);
		await_consumer(consumer);
		if (watch_process(consumer))
			lose_process(consumer);
		log_info_of(consumers->label,
			    "waiting for consumer %s of an earlier vmemd",
			    consumer->name);
	}
	return ret;
}

/**
 * consumer_new() - add a consumer, or reconnect an absent one
 * @consumerp: set to the consumer; valid until @ops->close() or
 *	consumer_gone()
 * @consumers: the device's consumers
 * @config: parameters; its peer is taken over on success
 * @ops: the transport; stays the caller's
 * @arg: for @ops
 * @err: set on error
 *
 * Events are sent from the event loop, not before this returns. A consumer that
 * reconnects is not refused for its limits: while it is away, all requests are
 * answered BUSY. Others may have gone beyond its limits meanwhile.
 *
 * Return: 0; -ENODEV: there is no device; -ENOSPC: a new consumer cannot handle
 * enough memslots or mappings; -EUSERS: too many consumers; -ENOMEM; an errno of
 * sd-event's.
 */
int consumer_new(struct consumer **consumerp, struct consumers *consumers,
		 const struct consumer_config *config,
		 const struct consumer_ops *ops, void *arg, struct error *err)
{
	unsigned int most =
		CONSUMERS_MAX + (config->peer.uid ? 0 : CONSUMERS_ROOT);
	struct consumer *consumer, *old;
	int ret;

	if (!consumers->backing)
		return error_set(err, -ENODEV, "there is no device");
	old = find(consumers, config->name, &config->peer, false);
	consumer = find(consumers, config->name, &config->peer, true);
	ret = check_limits(consumers, config, err);
	if (consumer || (old && has_claim(old))) {
		if (ret)
			log_limited(&consumers->limit, LOG_LEVEL_WARNING,
				    consumers->label, "%s", err->text);
		leave_for_another(old);
		consumer = find(consumers, config->name, &config->peer, true);
		resume(consumer, config, ops, arg);
		*consumerp = consumer;
		return 0;
	}
	/* The old connection stays until nothing can fail any more. */
	if (ret)
		return ret;
	if (consumers->nr_consumers - (old != NULL) >= most)
		return error_set(err, -EUSERS, "there are %u consumers already",
				 most);
	ret = make_consumer(&consumer, consumers, config->name, err);
	if (ret)
		return ret;
	consumer->peer = config->peer;
	ret = watch_process(consumer);
	if (ret) {
		/* The caller keeps the peer. */
		consumer->peer = PEER_UNKNOWN;
		release_consumer(consumer);
		return error_set(err, ret, "event loop: %s", strerror(-ret));
	}
	leave_for_another(old);
	consumer->memslots = config->memslots;
	consumer->mappings = config->mappings;
	consumer->ops = ops;
	consumer->arg = arg;
	consumer->claim = claims_add(&consumers->claims, consumer->name,
				     &consumer->peer, consumer->mappings);
	list_consumer(consumers, consumer);
	kick(consumers);
	*consumerp = consumer;
	return 0;
}

/**
 * consumers_start() - become the filter of a device's backing
 * @consumers: zeroed, except for @label
 * @event: the event loop
 * @backing: the backing; stays the caller's
 * @slot_size: bytes per memslot, a multiple of the block size; the region's
 *	last memslot may be shorter
 * @first_slot: KVM's id of the region's first memslot
 *
 * Return: 0, or an errno of sd-event's.
 */
int consumers_start(struct consumers *consumers, sd_event *event,
		    struct backing *backing, uint64_t slot_size,
		    uint32_t first_slot)
{
	int ret;

	ret = sd_event_add_defer(event, &consumers->kick, on_kick, consumers);
	if (ret < 0)
		return ret;
	sd_event_source_set_enabled(consumers->kick, SD_EVENT_OFF);
	ret = timer_add(event, &consumers->deadline, on_deadline, consumers);
	if (ret < 0) {
		consumers->kick =
			sd_event_source_disable_unref(consumers->kick);
		return ret;
	}
	consumers->event = event;
	consumers->slot_size = slot_size;
	consumers->first_slot = first_slot;
	consumers->answer_usec = CONSUMER_ANSWER_USEC;
	consumers->backing = backing;
	backing_set_filter(backing, &consumers_filter, consumers);
	return 0;
}

/*
 * Stop filtering. Connections to consumers end without a last line, as if vmemd
 * was killed: the consumers are away, their claims stay in the file, and they
 * connect to the next vmemd. A request in progress is not answered.
 */
void consumers_stop(struct consumers *consumers)
{
	if (!consumers->backing)
		return;
	while (consumers->list) {
		if (consumers->list->ops && !consumers->list->ended)
			consumers->list->ops->close(consumers->list->arg, NULL);
		free_consumer(consumers->list);
	}
	consumers->kick = sd_event_source_disable_unref(consumers->kick);
	consumers->deadline =
		sd_event_source_disable_unref(consumers->deadline);
	backing_set_filter(consumers->backing, NULL, NULL);
	claims_close(&consumers->claims);
	memset(consumers, 0, sizeof(*consumers));
}
