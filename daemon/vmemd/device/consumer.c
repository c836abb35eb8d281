// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers: who else maps a device's memory, and must know before the guest.
 *
 * A vhost device in the kernel has a table of the guest's memory, VFIO pins
 * what a device may reach, a VMM may have maps of its own. Memory that the
 * guest is told of before them is memory that a device cannot reach, and memory
 * that they keep after it is gone is not given back, or is another owner's.
 *
 * Place. struct consumers stands between the device and its backing, as the
 * backing's filter (backing.h). Neither knows what the filter does. Without
 * consumers every operation is passed on as it is.
 *
 *	plug:	backing plugs -> all are told -> the guest is answered
 *	unplug:	all let go -> backing unplugs -> the guest is answered
 *
 * One rule. Each consumer has a set of blocks, @told, that he has been told of
 * and has taken. There is one set that all are to have: what is plugged, less
 * the blocks of a request that are on their way out (the hole). Whatever has
 * happened - a request, a refusal, a change by others, a consumer that is new -
 * a consumer is told of the first difference, answers, and is told of the next,
 * until there is none. He has one event to answer at a time. What is to go
 * comes before what is to come. So undoing is not a case of its own: the set is
 * what it was, and consumers come back to it.
 *
 * Away. What a consumer has mapped does not go with its connection, nor with
 * vmemd: a VMM may restart a thread, or vmemd be killed. A device that can reach
 * memory which was given back writes into somebody else's. So a consumer that has
 * been told of blocks and whose connection ends, or that was closed, keeps its
 * claim on them. It is away, until one of these:
 *
 *	- it is back: the same process subscribes by the same name. It is told to
 *	  let go of what it may have and is not to have, and then again of all
 *	  that it is to have. From then on what it has is known.
 *	- it unsubscribes, which says that it has let go of all
 *	- its process has ended, and its maps with it, see base/peer.c
 *	- an operator says that it has gone
 *
 * Requests wait for one that has just gone away, @answer_usec long. Then what
 * it would have to be told of is answered BUSY: a plug, and an unplug of what it
 * may have. What it may have is not discarded.
 *
 * A daemon that is started again finds the claims in a file (claims.c). Who has
 * one is away, and may have any block.
 *
 * Refusal. One who refuses to populate has the plug undone: the others let go,
 * the backing unplugs, the guest is answered BUSY. One who refuses to let go
 * has the unplug end before the backing was asked: the others populate again,
 * then the guest is answered BUSY, since it may use the memory after that. What
 * was done by others, UNPLUG_ALL, what must be undone, and what was there when
 * he came cannot be refused: he is closed instead, and away. The device's owner
 * is told by the reason of the answer.
 *
 * Where a plug cannot be undone, as the backing fails, it stands: the consumer
 * that refused is closed, and the guest is answered ACK. The other way round
 * the guest would be told that it has no memory which it has.
 *
 * Time. One who does not answer in @answer_usec is closed, and counts as having
 * refused: he is away, as he may still have maps. Events have a bounded size, so
 * that one who has much to do answers many.
 *
 * A consumer that is new is told of all that is there first, an event for each
 * run of blocks. Meanwhile requests do not wait until he has it, but they do
 * wait until he has let go. One that is back is told of all again, and what he
 * is not told of then has gone meanwhile.
 *
 * The end of a consumer. It may be noticed anywhere, also while the list is
 * walked. So it is marked, and freed by reap() from the loop. One that is marked
 * is told nothing and has nothing.
 *
 * Where the next difference is looked for. A guest chooses how many runs of
 * blocks there are, and there is an event for each. So a consumer remembers up
 * to where there is no difference, of each kind, and recheck() goes back to
 * where something has changed.
 *
 * Memslots. An event has the blocks, and the memslots that have come or will go
 * by it: VFIO maps the former, vhost the latter, which have unplugged blocks as
 * well. Memslots are reckoned by what the consumer has, so that each comes once
 * and goes once for him.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/log.h"
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

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- The set that all are to have --- */

/* First block from @from on that is in it. */
static uint64_t next_wanted(const struct consumers *consumers, uint64_t from)
{
	const struct blocks *plugged = &consumers->backing->plugged;
	uint64_t end = consumers->first + consumers->nr;
	uint64_t next = blocks_next(plugged, from, true);

	if (!consumers->hole || next < consumers->first || next >= end)
		return next;
	return blocks_next(plugged, end, true);
}

/* First block from @from on that is not in it. */
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

/* From block @from on the set has changed, or what a consumer has of it. */
static void recheck_one(struct consumer *consumer, uint64_t from)
{
	consumer->discard_from = min(consumer->discard_from, from);
	consumer->populate_from = min(consumer->populate_from, from);
}

static void recheck(struct consumers *consumers, uint64_t from)
{
	struct consumer *consumer;

	for (consumer = consumers->list; consumer; consumer = consumer->next)
		recheck_one(consumer, from);
}

static bool overlaps(const struct consumers *consumers,
		     const struct consumer_event *event)
{
	uint64_t first = block_of(consumers, event->gpa);
	uint64_t nr = event->size / consumers->backing->block_size;

	return first < consumers->first + consumers->nr &&
	       consumers->first < first + nr;
}

/* --- Telling --- */

/*
 * First block from @from on that one set has and the other has not. Of the hole
 * nobody is to have anything: @in_hole, what is found there counts, else not.
 */
static uint64_t next_difference(const struct consumers *consumers,
				const struct blocks *has,
				const struct blocks *has_not, uint64_t from,
				bool in_hole)
{
	uint64_t hole = consumers->hole ? consumers->first : has->nr;
	uint64_t end = consumers->hole ? hole + consumers->nr : has->nr;
	uint64_t at = from;

	if (at < hole)
		at = blocks_next_missing(has, has_not, at, hole);
	if (at < hole)
		return at;
	if (at < end && in_hole)
		at = blocks_next_until(has, at, end, true);
	else if (at < end)
		at = end;
	return at < end ? at : blocks_next_missing(has, has_not, at, has->nr);
}

/* Where an event ends that begins with block @first. */
static uint64_t limit_event(const struct consumers *consumers, uint64_t first,
			    uint64_t end)
{
	uint64_t most = CONSUMER_EVENT_MAX / consumers->backing->block_size;

	return min(end, first + (most ? most : 1));
}

/* A run that is to go: it begins and ends with blocks that are there. */
static bool find_discard(struct consumer *consumer, uint64_t *first,
			 uint64_t *end)
{
	const struct consumers *consumers = consumer->consumers;
	const struct blocks *told = &consumer->told;
	uint64_t at =
		next_difference(consumers, told, &consumers->backing->plugged,
				consumer->discard_from, true);

	consumer->discard_from = at;
	if (at == told->nr)
		return false;
	*first = at;
	*end = blocks_end_before(
		told, limit_event(consumers, at, next_wanted(consumers, at)));
	return true;
}

/* A run that is to come: nothing of it is there, or it is to be repeated. */
static bool find_populate(struct consumer *consumer, uint64_t *first,
			  uint64_t *end)
{
	const struct consumers *consumers = consumer->consumers;
	const struct blocks *told = &consumer->told;
	uint64_t at = next_difference(consumers, &consumers->backing->plugged,
				      told, consumer->populate_from, false);

	consumer->populate_from = at;
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
 * The memslots of which blocks @first to @end - 1 are all that the consumer
 * has, or will have. The outer two may have others of his. What is still to be
 * repeated to him he may not have.
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

/* It has all that is there, and nothing else. */
static void take_part(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	consumer->in_sync = true;
	consumer->subscribed = true;
	consumer->repeat_from = consumer->told.nr;
	wait_no_more(consumer);
	claims_set_subscribed(&consumers->claims, consumer->claim);
	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "consumer %s takes part", consumer->name);
	consumer->ops->subscribed(consumer->arg);
}

/*
 * Tell of the next difference. Return: whether there is none, nor was; of one
 * that is away, whether it is waited for no more.
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
	sd_event_source_set_time_relative(consumer->timer,
					  consumers->answer_usec);
	sd_event_source_set_enabled(consumer->timer, SD_EVENT_ONESHOT);
	consumer->ops->tell(consumer->arg, event);
	return false;
}

/* Does a consumer have blocks of the range, or may be taking some just now? */
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

/* Tell all. Return: whether the request need not wait for any. */
static bool tell_all(struct consumers *consumers)
{
	struct consumer *consumer;
	bool settled = true;

	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (consumer->ended || tell(consumer))
			continue;
		if (consumer->subscribed ||
		    (consumers->hole &&
		     holds(consumer, consumers->first, consumers->nr)))
			settled = false;
	}
	return settled;
}

/* --- The request --- */

/* One that is in no list. */
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
 * It has nothing mapped. From here on it is told nothing, and waited for no
 * longer.
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

/* Requests wait for it from now on, but not for long. */
static void await_consumer(struct consumer *consumer)
{
	consumer->awaited = true;
	sd_event_source_set_time_relative(consumer->grace,
					  consumer->consumers->answer_usec);
	sd_event_source_set_enabled(consumer->grace, SD_EVENT_ONESHOT);
}

/*
 * There is no way to it any more. What it was asked to take it may have taken,
 * and what it was asked to let go it may have kept. One that has nothing has
 * ended.
 * @awaited: requests wait for it; but not again for one that has not caught up
 *	since it was away last: coming and going does not hold up a guest
 */
static void leave(struct consumer *consumer, bool awaited)
{
	struct consumers *consumers = consumer->consumers;
	const struct consumer_event *event = &consumer->event;

	if (consumer->out && event->populate)
		blocks_set(&consumer->told, block_of(consumers, event->gpa),
			   event->size / consumers->backing->block_size);
	if (!consumer->told.set) {
		end_consumer(consumer);
		return;
	}
	consumer->out = false;
	sd_event_source_set_enabled(consumer->timer, SD_EVENT_OFF);
	consumer->away = true;
	consumer->ops = NULL;
	consumer->arg = NULL;
	if (consumers->refuser == consumer)
		consumers->refuser = NULL;
	if (!awaited)
		wait_no_more(consumer);
	else if (consumer->in_sync)
		await_consumer(consumer);
	consumer->in_sync = false;
	if (consumer->process)
		sd_event_source_set_enabled(consumer->process, SD_EVENT_ON);
	kick(consumers);
}

/* From the loop, where nobody walks the list. */
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
		    "consumer %s is one no more: %s", consumer->name, reason);
	consumer->ops->close(consumer->arg, reason);
	leave(consumer, false);
}

/* One that is away and is waited for no more. */
static const struct consumer *next_away(const struct consumer *consumer)
{
	while (consumer &&
	       (consumer->ended || !consumer->away || consumer->awaited))
		consumer = consumer->next;
	return consumer;
}

/* One that would have to be told of a plug, and cannot be. */
static const struct consumer *find_untold(const struct consumers *consumers)
{
	const struct consumer *consumer = next_away(consumers->list);

	while (consumer && !consumer->subscribed)
		consumer = next_away(consumer->next);
	return consumer;
}

/* One that may have blocks of the request, and cannot be told to let go. */
static const struct consumer *find_holder(const struct consumers *consumers)
{
	const struct consumer *consumer = next_away(consumers->list);

	while (consumer && !holds(consumer, consumers->first, consumers->nr))
		consumer = next_away(consumer->next);
	return consumer;
}

/* Why a request is answered BUSY. */
static void note_away(char reason[BACKING_REASON_MAX],
		      const struct consumer *consumer)
{
	snprintf(reason, BACKING_REASON_MAX,
		 "consumer %s is away and may still map memory",
		 consumer->name);
}

/* Is one to come back soon, or to be told of all again? */
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

/* The backing has tried to make the device's change, with this result. */
static void change_ended(struct consumers *consumers, int ret)
{
	consumers->hole = false;
	/* What is plugged was not as believed, anywhere. */
	recheck(consumers, ret == -EAGAIN ? 0 : consumers->first);
	consumers->result = ret;
	consumers->step = ret || consumers->change != CONSUMERS_PLUG
				  ? CONSUMERS_RESTORING
				  : CONSUMERS_TELLING;
}

/* The backing has tried to undo a plug. */
static void undo_ended(struct consumers *consumers, int ret)
{
	const struct blocks *plugged = &consumers->backing->plugged;

	consumers->hole = false;
	recheck(consumers, ret == -EAGAIN ? 0 : consumers->first);
	consumers->step = CONSUMERS_RESTORING;
	if (!ret || !blocks_count(plugged, consumers->first, consumers->nr))
		return;
	log_limited(&consumers->limit, LOG_LEVEL_WARNING, consumers->label,
		    "a plug that %s cannot be undone: %s; it stands",
		    consumers->reason, consumers->backing->reason);
	consumers->result = 0;
	if (consumers->refuser)
		close_consumer(consumers->refuser,
			       "what it refused cannot be undone");
}

/*
 * Nobody is to be waited for. One that is away cannot take part: the request
 * ends, and what was done of it is undone.
 */
static void give_up_on_away(struct consumers *consumers)
{
	const struct consumer *away = NULL;

	if (consumers->step == CONSUMERS_TELLING)
		away = find_untold(consumers);
	else if (consumers->step == CONSUMERS_LETTING_GO)
		away = find_holder(consumers);
	if (!away)
		return;
	/* What it may have of a plug that is undone is owed until it lets go. */
	consumers->hole = consumers->step == CONSUMERS_TELLING;
	consumers->step =
		consumers->hole ? CONSUMERS_RETRACTING : CONSUMERS_RESTORING;
	consumers->result = -EBUSY;
	note_away(consumers->reason, away);
	recheck(consumers, consumers->first);
}

/*
 * Go on with the request, and tell consumers of whatever there is.
 *
 * Return: -EINPROGRESS, or its result. It is no more then.
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
			consumers->step = CONSUMERS_IDLE;
			return 0;
		}
		if (!settled && step != CONSUMERS_CHANGING &&
		    step != CONSUMERS_UNDOING)
			return -EINPROGRESS;
		give_up_on_away(consumers);
		/* Others are to be told of that first. */
		if (consumers->step != step)
			continue;
		switch (step) {
		case CONSUMERS_LETTING_GO:
			consumers->step = CONSUMERS_CHANGING;
			ret = do_change(consumers);
			if (ret == -EINPROGRESS)
				return ret;
			change_ended(consumers, ret);
			break;
		case CONSUMERS_RETRACTING:
			consumers->step = CONSUMERS_UNDOING;
			ret = backing->ops->unplug(
				backing, gpa_of(consumers, consumers->first),
				consumers->nr * backing->block_size);
			if (ret == -EINPROGRESS)
				return ret;
			undo_ended(consumers, ret);
			break;
		case CONSUMERS_TELLING:
		case CONSUMERS_RESTORING:
			consumers->step = CONSUMERS_IDLE;
			consumers->refuser = NULL;
			if (consumers->result && consumers->reason[0])
				snprintf(backing->reason,
					 sizeof(backing->reason), "%s",
					 consumers->reason);
			return consumers->result;
		default:
			/* The backing has it, or there is no request. */
			return -EINPROGRESS;
		}
	}
}

/* Go on outside of the device's call. */
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
	consumers->reason[0] = '\0';
}

static int begin_unplug(struct consumers *consumers)
{
	consumers->hole = true;
	recheck(consumers, consumers->first);
	consumers->step = CONSUMERS_LETTING_GO;
	return go_on_request(consumers);
}

static int begin_plug(struct consumers *consumers, int ret)
{
	if (ret == -EINPROGRESS)
		return ret;
	change_ended(consumers, ret);
	return go_on_request(consumers);
}

/* Requests that change anything are not judged before who was there is back. */
static int consumers_await(struct backing *backing)
{
	struct consumers *consumers = to_consumers(backing);

	if (!is_awaited(consumers))
		return 0;
	consumers->step = CONSUMERS_AWAITING;
	return -EINPROGRESS;
}

static int consumers_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);
	const struct consumer *untold = find_untold(consumers);

	if (untold) {
		note_away(backing->reason, untold);
		return -EBUSY;
	}
	begin_request(consumers, CONSUMERS_PLUG, gpa, size);
	consumers->step = CONSUMERS_CHANGING;
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

/* It is carried out already; but consumers may not have been told. */
static int consumers_repeat(struct backing *backing, bool plug, uint64_t gpa,
			    uint64_t size)
{
	struct consumers *consumers = to_consumers(backing);

	begin_request(consumers, plug ? CONSUMERS_PLUG : CONSUMERS_UNPLUG, gpa,
		      size);
	consumers->step = CONSUMERS_CHANGING;
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

/* Memory that somebody still has is not to be taken from under him. */
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
		snprintf(backing->reason, sizeof(backing->reason),
			 "discard: consumer %s has not let go yet",
			 consumer->name);
		return -EBUSY;
	}
	ret = backing->ops->discard(backing, gpa, size);
	if (ret == -EAGAIN)
		consumers_changed(consumers);
	return ret;
}

static const struct backing_filter consumers_filter = {
	.plug = consumers_plug,
	.unplug = consumers_unplug,
	.unplug_all = consumers_unplug_all,
	.repeat = consumers_repeat,
	.verify = consumers_verify,
	.discard = consumers_discard,
	.await = consumers_await,
	.ended = consumers_ended,
};

/* --- What consumers say --- */

/*
 * One has refused an event, which is not out any more: what becomes of the
 * request. Return: whether the consumer may stay.
 */
static bool refuse_event(struct consumers *consumers, struct consumer *consumer,
			 const char *reason)
{
	const struct consumer_event *event = &consumer->event;

	/* It is not asked for any more: another has refused before him. */
	if (is_wanted(consumers, block_of(consumers, event->gpa)) !=
	    event->populate)
		return true;
	if (!consumer->subscribed || !overlaps(consumers, event))
		return false;
	if (event->populate && consumers->step == CONSUMERS_TELLING)
		consumers->step = CONSUMERS_RETRACTING;
	else if (!event->populate && consumers->step == CONSUMERS_LETTING_GO &&
		 consumers->change == CONSUMERS_UNPLUG)
		consumers->step = CONSUMERS_RESTORING;
	else
		return false;
	consumers->hole = event->populate;
	recheck(consumers, consumers->first);
	consumers->result = -EBUSY;
	consumers->refuser = consumer;
	snprintf(consumers->reason, sizeof(consumers->reason),
		 "consumer %s refuses to %s: %.*s", consumer->name,
		 event->populate ? "populate" : "discard",
		 CONSUMER_REASON_MAX - 1, reason);
	return true;
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

/* It was away for long. */
static int on_grace(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct consumer *consumer = arg;
	struct consumers *consumers = consumer->consumers;

	consumer->awaited = false;
	if (consumer->away)
		log_limited(&consumers->limit, LOG_LEVEL_WARNING,
			    consumers->label,
			    "consumer %s is away; until it is back or its "
			    "process ends, requests are answered busy",
			    consumer->name);
	advance_request(consumers);
	return 0;
}

/* The process of one that is away has ended, and its maps with it. */
static int on_process_end(sd_event_source *source __attribute__((unused)),
			  int fd __attribute__((unused)),
			  uint32_t revents __attribute__((unused)), void *arg)
{
	struct consumer *consumer = arg;
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "the process of consumer %s has ended", consumer->name);
	end_consumer(consumer);
	return 0;
}

/**
 * consumer_answer() - a consumer's answer
 * @seq: of the event
 * @ok: it has done it
 * @reason: why not, up to CONSUMER_REASON_MAX
 *
 * The consumer may have been closed when this returns.
 *
 * Return: 0; -ENOENT: no event of that number is to be answered.
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
		/* Repeats come in order, and all before is as it is to be. */
		if (event->populate && first >= consumer->repeat_from)
			consumer->repeat_from =
				first + event->size / block_size;
		recheck_one(consumer, first);
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
 * The connection of a consumer has ended, and what it maps may not have. What has
 * waited for it goes on from the loop.
 */
void consumer_gone(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "the connection of consumer %s has ended", consumer->name);
	leave(consumer, true);
}

/* A consumer has let go of all, and is one no more. */
void consumer_unsubscribe(struct consumer *consumer)
{
	struct consumers *consumers = consumer->consumers;

	log_limited(&consumers->limit, LOG_LEVEL_INFO, consumers->label,
		    "consumer %s has unsubscribed", consumer->name);
	end_consumer(consumer);
}

/*
 * Is this the process of a consumer that was there? Another user's can say what
 * it wants.
 */
static bool is_same(const struct consumer *consumer, const struct peer *peer)
{
	return (!peer->uid || peer->uid == consumer->peer.uid) &&
	       peer_may_be(&consumer->peer, peer);
}

/* Is the process known to be that of a consumer? */
static bool is_process(const struct consumer *consumer, const struct peer *peer)
{
	return peer->pid && consumer->peer.pid == peer->pid &&
	       is_same(consumer, peer);
}

/*
 * One that seems to be connected, while its process speaks for it on another
 * connection: the end of the first has not been read yet.
 */
static struct consumer *find_present(const struct consumers *consumers,
				     const char *name, const struct peer *peer)
{
	struct consumer *consumer = consumers->list;

	while (consumer &&
	       (consumer->ended || consumer->away ||
		strcmp(consumer->name, name) || !is_process(consumer, peer)))
		consumer = consumer->next;
	return consumer;
}

/* Its process speaks for it on another connection from now on. */
static void leave_for_another(struct consumers *consumers, const char *name,
			      const struct peer *peer)
{
	struct consumer *consumer = find_present(consumers, name, peer);

	if (consumer)
		close_consumer(consumer,
			       "its process has another connection for it");
}

/**
 * consumers_forget() - those of this name that are away have nothing mapped
 * @peer: their process says so, also of one whose connection has not ended;
 *	NULL: an operator does
 * @err: what is wrong, on error
 *
 * Return: 0; -ENOENT none is; -EBUSY one is there.
 */
int consumers_forget(struct consumers *consumers, const char *name,
		     const struct peer *peer, struct error *err)
{
	struct consumer *consumer;
	bool there = false, forgotten = false;

	if (peer)
		leave_for_another(consumers, name, peer);
	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		if (consumer->ended || strcmp(consumer->name, name))
			continue;
		there |= !consumer->away;
		if (!consumer->away || (peer && !is_same(consumer, peer)))
			continue;
		log_limited(&consumers->limit, LOG_LEVEL_WARNING,
			    consumers->label, "consumer %s is forgotten: %s",
			    consumer->name,
			    peer ? "it has let go of all"
				 : "an operator says that it has gone");
		end_consumer(consumer);
		forgotten = true;
	}
	if (forgotten)
		return 0;
	return there ? error_set(err, -EBUSY, "consumer %s is connected", name)
		     : error_set(err, -ENOENT, "no consumer %s is away", name);
}

/* Others have plugged or unplugged blocks: consumers are told soon. */
void consumers_changed(struct consumers *consumers)
{
	if (!consumers->backing)
		return;
	recheck(consumers, 0);
	kick(consumers);
}

/*
 * Can he have all the memslots that may come, those of this device and of
 * @others with it?
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

/**
 * consumers_check() - could all of them take part with these devices besides?
 * @others: memslots that the daemon's other devices may come to
 * @err: who could not, and why, on error
 *
 * Return: 0; -ENOSPC.
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

/* Memslots that the one with the fewest can have; 0: none has a limit. */
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

	ret = sd_event_add_time_relative(event, &consumer->timer,
					 CLOCK_MONOTONIC, 0, 0, on_timeout,
					 consumer);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(consumer->timer,
						  SD_EVENT_OFF);
	if (ret >= 0)
		ret = sd_event_add_time_relative(event, &consumer->grace,
						 CLOCK_MONOTONIC, 0, 0,
						 on_grace, consumer);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(consumer->grace,
						  SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/* Notice the end of its process, when it is away. Return: 0, or an errno. */
static int watch_process(struct consumer *consumer)
{
	int ret;

	if (consumer->peer.pidfd < 0)
		return 0;
	ret = sd_event_add_io(consumer->consumers->event, &consumer->process,
			      consumer->peer.pidfd, EPOLLIN, on_process_end,
			      consumer);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(
			consumer->process,
			consumer->away ? SD_EVENT_ON : SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/* Make one that has nothing yet. Return: 0, or an errno with a text. */
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

static struct consumer *find_away(const struct consumers *consumers,
				  const char *name, const struct peer *peer)
{
	struct consumer *consumer = consumers->list;

	while (consumer &&
	       (consumer->ended || !consumer->away ||
		strcmp(consumer->name, name) || !is_same(consumer, peer)))
		consumer = consumer->next;
	return consumer;
}

/* It is back. What it has is not known: it is told all again. */
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
	recheck_one(consumer, 0);
	consumer->memslots = config->memslots;
	consumer->ops = ops;
	consumer->arg = arg;
	if (consumer->process)
		sd_event_source_set_enabled(consumer->process, SD_EVENT_OFF);
	/* It may have been one of another PID namespace that was looked for. */
	if (consumer->peer.pidfd < 0 && config->peer.pidfd >= 0) {
		consumer->peer = config->peer;
		claims_remove(&consumers->claims, consumer->claim);
		consumer->claim = claims_add(&consumers->claims, consumer->name,
					     &consumer->peer);
		if (consumer->subscribed)
			claims_set_subscribed(&consumers->claims,
					      consumer->claim);
		if (watch_process(consumer))
			log_debug_of(consumers->label,
				     "the end of consumer %s is not noticed",
				     consumer->name);
	} else if (config->peer.pidfd >= 0) {
		close(config->peer.pidfd);
	}
	kick(consumers);
}

/**
 * consumers_keep() - note who is a consumer in a file, and find who was one
 * @fd: of the file; not kept
 * @region, @pid_namespace: as of claims_open()
 * @err: what is wrong, on error
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

		if (!was->used)
			continue;
		if (claims_peer(claims, was, &peer)) {
			claims_remove(claims, i);
			continue;
		}
		ret = make_consumer(&consumer, consumers, was->name, err);
		if (ret) {
			peer_close(&peer);
			break;
		}
		consumer->peer = peer;
		consumer->claim = i;
		consumer->away = true;
		consumer->subscribed = was->subscribed;
		blocks_set(&consumer->told, 0, consumer->told.nr);
		list_consumer(consumers, consumer);
		await_consumer(consumer);
		ret = watch_process(consumer);
		if (ret)
			error_set(err, ret, "event loop: %s", strerror(-ret));
		log_info_of(consumers->label,
			    "consumer %s was there, and is waited for",
			    consumer->name);
	}
	return ret;
}

/**
 * consumer_new() - one more consumer, or one that is back
 * @consumerp: the consumer, until it is closed or has gone
 * @config: who it is; not owned but for its peer, on success
 * @ops: stays the caller's; @arg: for it
 * @err: what is wrong, on error
 *
 * He is told of what is there later, not before this returns.
 *
 * Return: 0; -ENODEV there is no device; -ENOSPC he could not take part;
 * -EUSERS there are too many; -ENOMEM; an errno of sd-event's.
 */
int consumer_new(struct consumer **consumerp, struct consumers *consumers,
		 const struct consumer_config *config,
		 const struct consumer_ops *ops, void *arg, struct error *err)
{
	unsigned int most =
		CONSUMERS_MAX + (config->peer.uid ? 0 : CONSUMERS_ROOT);
	struct consumer *consumer;
	int ret;

	if (!consumers->backing)
		return error_set(err, -ENODEV, "there is no device");
	ret = check_memslots(consumers, config->name, &config->memslots,
			     config->others, err);
	if (ret)
		return ret;
	leave_for_another(consumers, config->name, &config->peer);
	*consumerp = find_away(consumers, config->name, &config->peer);
	if (*consumerp) {
		resume(*consumerp, config, ops, arg);
		return 0;
	}
	if (consumers->nr_consumers >= most)
		return error_set(err, -EUSERS,
				 "%u consumers are all there can be", most);
	ret = make_consumer(&consumer, consumers, config->name, err);
	if (ret)
		return ret;
	consumer->peer = config->peer;
	ret = watch_process(consumer);
	if (ret) {
		/* Which stays the caller's. */
		consumer->peer = PEER_UNKNOWN;
		release_consumer(consumer);
		return error_set(err, ret, "event loop: %s", strerror(-ret));
	}
	consumer->memslots = config->memslots;
	consumer->ops = ops;
	consumer->arg = arg;
	consumer->claim =
		claims_add(&consumers->claims, consumer->name, &consumer->peer);
	list_consumer(consumers, consumer);
	kick(consumers);
	*consumerp = consumer;
	return 0;
}

/**
 * consumers_start() - stand before a device's backing
 * @consumers: zeroed
 * @backing: stays the caller's
 * @slot_size: a multiple of the block size; the region's last may be shorter
 * @first_slot: id of the first in KVM
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
	consumers->event = event;
	consumers->slot_size = slot_size;
	consumers->first_slot = first_slot;
	consumers->answer_usec = CONSUMER_ANSWER_USEC;
	consumers->backing = backing;
	backing_set_filter(backing, &consumers_filter, consumers);
	return 0;
}

/*
 * Stand there no longer. Consumers are closed, and their claims stay in the file;
 * a request is not answered.
 */
void consumers_stop(struct consumers *consumers)
{
	if (!consumers->backing)
		return;
	while (consumers->list) {
		if (consumers->list->ops && !consumers->list->ended)
			consumers->list->ops->close(consumers->list->arg,
						    "the device ends");
		free_consumer(consumers->list);
	}
	consumers->kick = sd_event_source_disable_unref(consumers->kick);
	backing_set_filter(consumers->backing, NULL, NULL);
	claims_close(&consumers->claims);
	memset(consumers, 0, sizeof(*consumers));
}
