/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Consumers: other processes that map a device's memory; see consumer.c. */
#ifndef CONSUMER_H
#define CONSUMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <systemd/sd-event.h>

#include "backing/backing.h"
#include "base/blocks.h"
#include "base/log.h"
#include "base/peer.h"
#include "device/claims.h"

/* Consumers per device: enough for a VMM and its vhost and VFIO devices. */
#define CONSUMERS_MAX 8

/*
 * Additional places for root, so that absent consumers of other users, which
 * keep their places, cannot lock root out.
 */
#define CONSUMERS_ROOT 2

/* Size of a consumer's reason, including the NUL; the rest is cut off. */
#define CONSUMER_REASON_MAX 96

/*
 * Time limit for a consumer's answer. It is long for a few ioctls, and short
 * enough for the guest, whose request waits meanwhile.
 */
#define CONSUMER_ANSWER_USEC (10 * 1000000ULL)

/*
 * Maximum size of an event. Pinning this much takes a fraction of
 * CONSUMER_ANSWER_USEC even in an emulated machine, which pins 50 MiB/s; each
 * answer shows that the consumer is alive.
 */
#define CONSUMER_EVENT_MAX (128ULL << 20)

/*
 * The time limit of each step of a request, in time limits of one answer. A Linux
 * guest's request is of one event or a few. A change and its undoing are two steps,
 * so the limit is half of the time after which Linux reports a hung task.
 */
#define CONSUMERS_STEP_ANSWERS 6

/**
 * struct consumer_event - a populate or discard that is sent to a consumer
 * @seq: sequence number, repeated in the answer
 * @populate: true: the range is populated now and the consumer may map it;
 *	false: the consumer must unmap all of the range
 * @gpa: start of the range, which is whole blocks
 * @size: bytes. A range to populate has no block that the consumer already
 *	has, unless the event is a repeat. A range to discard may include
 *	blocks that the consumer does not have.
 * @nr_slots: number of memslots that this event adds or removes
 * @slot: KVM's id of the first memslot; ids and addresses of the others follow
 * @slots_gpa: start of the first memslot
 * @slots_size: bytes in these memslots; the region's last may be shorter
 */
struct consumer_event {
	uint64_t seq;
	bool populate;
	uint64_t gpa;
	uint64_t size;
	uint32_t nr_slots;
	uint32_t slot;
	uint64_t slots_gpa;
	uint64_t slots_size;
};

/**
 * struct consumer_memslots - how many memslots a consumer can handle
 * @limit: maximum number; 0: no limit
 * @used: memslots in use for memory other than this daemon's devices
 * @reserved: further memslots that such other memory will need
 */
struct consumer_memslots {
	uint64_t limit;
	uint64_t used;
	uint64_t reserved;
};

/**
 * struct consumer_config - parameters of consumer_new()
 * @name: chosen by the consumer; cut if it is longer than CONSUMER_NAME_MAX
 * @memslots: how many memslots the consumer can handle
 * @others: most memslots that the daemon's other devices may use
 * @mappings: how many separate mappings the consumer can have; 0: no limit
 * @requested_size: bytes that the guest is, or will be, asked to plug
 * @peer: the consumer's process; consumer_new() takes it over on success
 */
struct consumer_config {
	const char *name;
	struct consumer_memslots memslots;
	uint64_t others;
	uint64_t mappings;
	uint64_t requested_size;
	struct peer peer;
};

struct consumer;

/**
 * struct consumer_ops - the transport of a connected consumer
 * @tell: send an event, which consumer_answer() will answer
 * @subscribed: report that the consumer has all populated blocks, and that
 *	requests wait for it from now on
 * @close: close the connection for this reason; NULL: vmemd ends, and the
 *	consumer is not to know more than if it was killed. @arg is not used
 *	afterwards
 *
 * These functions must not call into consumer.c.
 */
struct consumer_ops {
	void (*tell)(void *arg, const struct consumer_event *event);
	void (*subscribed)(void *arg);
	void (*close)(void *arg, const char *reason);
};

/**
 * struct consumer_range - a range of blocks
 * @from: first block
 * @end: end, exclusive; the range is empty unless it is above @from
 */
struct consumer_range {
	uint64_t from;
	uint64_t end;
};

/**
 * struct consumer - a process that maps the device's memory
 * @consumers: all consumers of the device
 * @next: next in the list of @consumers
 * @name: chosen by the consumer
 * @memslots: how many memslots the consumer can handle
 * @mappings: how many separate mappings the consumer can have; 0: no limit
 * @ops: its transport, NULL while it is away
 * @arg: for @ops
 * @peer: its process
 * @process: event source for the end of the process, enabled while the
 *	consumer is away; NULL without a pidfd
 * @claim: index of its entry in the claims file, or CLAIMS_NONE
 * @told: blocks that the consumer has, or may have, mapped
 * @repeat_from: @told is uncertain from this block on, because the consumer
 *	was away; these blocks are sent again
 * @to_discard: no block outside of this range has to be discarded
 * @to_populate: no block outside of this range has to be populated, except for
 *	@repeat_from
 * @subscribed: the consumer has had all populated blocks at some time, so
 *	requests wait for it
 * @in_sync: the same since it connected last
 * @away: its connection has ended, but its mappings may still exist
 * @slow: a step of a request took too long because of it; no request waits for
 *	it until it is in sync
 * @awaited: requests wait until it is in sync again, or @grace expires
 * @grace: timer of @awaited
 * @unfound: its process was not found, or cannot be watched, for want of
 *	descriptors or memory; @grace is also the timer of the next attempt
 * @out: @event has not been answered yet
 * @event: the last event sent
 * @timer: limits the time to answer @event
 * @answers: number of answers, for the status
 * @refusals: number of answers that were refusals
 * @ended: no longer a consumer; reap() frees it
 */
struct consumer {
	struct consumers *consumers;
	struct consumer *next;
	char name[CONSUMER_NAME_MAX];
	struct consumer_memslots memslots;
	uint64_t mappings;
	const struct consumer_ops *ops;
	void *arg;
	struct peer peer;
	sd_event_source *process;
	int claim;
	struct blocks told;
	uint64_t repeat_from;
	struct consumer_range to_discard;
	struct consumer_range to_populate;
	bool subscribed;
	bool in_sync;
	bool away;
	bool slow;
	bool awaited;
	sd_event_source *grace;
	bool unfound;
	bool out;
	struct consumer_event event;
	sd_event_source *timer;
	uint64_t answers;
	uint64_t refusals;
	bool ended;
};

/**
 * enum consumers_step - state of the device's request
 * @CONSUMERS_IDLE: no request
 * @CONSUMERS_AWAITING: the request starts once no consumer is awaited
 * @CONSUMERS_LETTING_GO: consumers discard the blocks to unplug
 * @CONSUMERS_CHANGING: the backing plugs or unplugs
 * @CONSUMERS_TELLING: consumers populate the plugged blocks
 * @CONSUMERS_RETRACTING: a consumer refused the plug; the others discard it
 * @CONSUMERS_UNDOING: the backing unplugs the refused plug
 * @CONSUMERS_RESTORING: consumers populate again what is still plugged
 */
enum consumers_step {
	CONSUMERS_IDLE,
	CONSUMERS_AWAITING,
	CONSUMERS_LETTING_GO,
	CONSUMERS_CHANGING,
	CONSUMERS_TELLING,
	CONSUMERS_RETRACTING,
	CONSUMERS_UNDOING,
	CONSUMERS_RESTORING,
};

enum consumers_change {
	CONSUMERS_PLUG,
	CONSUMERS_UNPLUG,
	CONSUMERS_UNPLUG_ALL,
};

/**
 * struct consumers - the consumers of one device: a filter of its backing
 * @label: prefix of messages, see base/log.h; set by the caller before
 *	consumers_start(), not owned
 * @limit: rate limit for messages that a client can cause
 * @claims: file in which consumers are recorded for the next daemon
 * @backing: the device's backing; NULL before consumers_start()
 * @event: the event loop
 * @slot_size: bytes per memslot
 * @first_slot: KVM's id of the region's first memslot
 * @answer_usec: CONSUMER_ANSWER_USEC, or less in tests
 * @kick: deferred call of on_kick(), which frees ended consumers and sends
 *	events
 * @deadline: limits the time of @step, see CONSUMERS_STEP_ANSWERS
 * @list: all consumers, including ended ones that are not freed yet
 * @nr_consumers: consumers that have not ended, including absent ones
 * @last_seq: sequence number of the last event
 * @step: state of the device's request
 * @change: kind of request
 * @first: first block of the request
 * @nr: number of blocks of the request
 * @hole: no consumer may have the request's blocks, even if they are plugged
 * @result: result of the request so far
 * @error: reason of @result; its code is 0 if it is not known
 * @refuser: consumer that refused; NULL once it is away or has ended
 */
struct consumers {
	const char *label;
	struct log_limit limit;
	struct claims claims;
	struct backing *backing;
	sd_event *event;
	uint64_t slot_size;
	uint32_t first_slot;
	uint64_t answer_usec;
	sd_event_source *kick;
	sd_event_source *deadline;
	struct consumer *list;
	unsigned int nr_consumers;
	uint64_t last_seq;
	enum consumers_step step;
	enum consumers_change change;
	uint64_t first;
	uint64_t nr;
	bool hole;
	int result;
	struct error error;
	struct consumer *refuser;
};

int consumers_start(struct consumers *consumers, sd_event *event,
		    struct backing *backing, uint64_t slot_size,
		    uint32_t first_slot);
int consumers_keep(struct consumers *consumers, int fd,
		   const struct claims_region *region, uint64_t pid_namespace,
		   struct error *err);
void consumers_stop(struct consumers *consumers);
void consumers_changed(struct consumers *consumers);
uint64_t consumers_limit(const struct consumers *consumers);
int consumers_check(const struct consumers *consumers, uint64_t others,
		    struct error *err);
int consumers_check_mappings(const struct consumers *consumers, uint64_t size,
			     struct error *err);
void consumers_note_requested(struct consumers *consumers, uint64_t size);

int consumer_new(struct consumer **consumerp, struct consumers *consumers,
		 const struct consumer_config *config,
		 const struct consumer_ops *ops, void *arg, struct error *err);
int consumer_answer(struct consumer *consumer, uint64_t seq, bool ok,
		    const char *reason);
void consumer_gone(struct consumer *consumer);
void consumer_unsubscribe(struct consumer *consumer);
int consumers_forget(struct consumers *consumers, const char *name,
		     const struct peer *peer, struct error *err);

#endif /* CONSUMER_H */
