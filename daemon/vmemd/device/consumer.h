/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who else maps the memory of a device, and is told first; see consumer.c. */
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

/* Of one device: a VMM, and its vhost and VFIO devices. */
#define CONSUMERS_MAX 8

/*
 * More of the superuser's: others that are away and keep their places do not
 * keep it out.
 */
#define CONSUMERS_ROOT 2

/* Longest reason of a consumer's that is kept, with its end. */
#define CONSUMER_REASON_MAX 96

/*
 * How long a consumer may take to answer: long for a few ioctls, short for a
 * guest, which waits for it.
 */
#define CONSUMER_ANSWER_USEC (10 * 1000000ULL)

/*
 * Most of an event. To pin it takes a part of the time that a consumer has, and
 * an answer to it is a sign of life: emulated machines pin 50 MiB a second.
 */
#define CONSUMER_EVENT_MAX (128ULL << 20)

/**
 * struct consumer_event - what a consumer is told
 * @seq: of its answer
 * @populate: the range is there now; else: let go of all that is there of it
 * @gpa, @size: whole blocks. What is populated was not there before. What is
 *	discarded may have parts that were not there.
 * @nr_slots: memslots that have come, or will go, by this; 0: none
 * @slot: id of the first in KVM; the others follow it, and it in memory
 * @slots_gpa, @slots_size: what they cover; the region's last may be short
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
 * struct consumer_memslots - memslots of the VM that a consumer has room for
 * @limit: that he can have; 0: any number
 * @used: of them, for what is no device of this daemon
 * @reserved: that will be needed besides, for what is no device of this daemon
 */
struct consumer_memslots {
	uint64_t limit;
	uint64_t used;
	uint64_t reserved;
};

/**
 * struct consumer_config - who wants to be a consumer
 * @name: its own choice, for people; cut if it is longer than CONSUMER_NAME_MAX
 * @memslots: that it has room for
 * @others: memslots that the daemon's other devices may come to
 * @peer: its process; the consumer's from then on, if it becomes one
 */
struct consumer_config {
	const char *name;
	struct consumer_memslots memslots;
	uint64_t others;
	struct peer peer;
};

struct consumer;

/**
 * struct consumer_ops - the way to a consumer
 * @tell: it has to answer, by consumer_answer()
 * @subscribed: it has all that is there, and takes part from here on
 * @close: it is a consumer no more, for this reason; @arg is not used again
 *
 * They do not call back.
 */
struct consumer_ops {
	void (*tell)(void *arg, const struct consumer_event *event);
	void (*subscribed)(void *arg);
	void (*close)(void *arg, const char *reason);
};

/**
 * struct consumer - somebody who maps the memory
 * @name: his own choice, for people
 * @memslots: that he has room for
 * @peer: his process
 * @process: its end, on while he is away; NULL if it cannot be noticed
 * @claim: index of his entry in the file of claims
 * @told: blocks that he has, or may have
 * @repeat_from: from this block on, what he has of @told is not known since he
 *	was away, and he is told of it again
 * @discard_from: no block before it is to go
 * @populate_from: no block before it is to come
 * @subscribed: he had all that was there once
 * @in_sync: he was told so since he has come, or come back
 * @away: his connection has ended, and what he maps may not have: there is no
 *	way to him
 * @awaited: he was away a short time ago: requests wait for him
 * @grace: for that
 * @out: he has not answered @event yet
 * @timer: for that
 * @answers: how many he has given; @refusals: how many of them were no
 * @ended: he is one no more, and to be freed from the loop
 */
struct consumer {
	struct consumers *consumers;
	struct consumer *next;
	char name[CONSUMER_NAME_MAX];
	struct consumer_memslots memslots;
	const struct consumer_ops *ops;
	void *arg;
	struct peer peer;
	sd_event_source *process;
	int claim;
	struct blocks told;
	uint64_t repeat_from;
	uint64_t discard_from;
	uint64_t populate_from;
	bool subscribed;
	bool in_sync;
	bool away;
	bool awaited;
	sd_event_source *grace;
	bool out;
	struct consumer_event event;
	sd_event_source *timer;
	uint64_t answers;
	uint64_t refusals;
	bool ended;
};

/**
 * enum consumers_step - how far the device's request is
 * @CONSUMERS_IDLE: there is none
 * @CONSUMERS_AWAITING: one is to come, when consumers that are away are back
 * @CONSUMERS_LETTING_GO: consumers let go of what is to be unplugged
 * @CONSUMERS_CHANGING: the backing carries it out
 * @CONSUMERS_TELLING: consumers are told what was plugged
 * @CONSUMERS_RETRACTING: one refused it; those who have it let go
 * @CONSUMERS_UNDOING: the backing unplugs it again
 * @CONSUMERS_RESTORING: consumers are told what is still there
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
 * struct consumers - the consumers of one device, before its backing
 * @label: for messages, see base/log.h; set by the user before
 *	consumers_start(), not owned
 * @limit: for messages that others can cause
 * @claims: where they are noted for the next daemon
 * @backing: what it stands before, NULL if it does not
 * @slot_size: bytes of a memslot; @first_slot: its id in KVM
 * @answer_usec: CONSUMER_ANSWER_USEC; shorter in tests
 * @kick: on while consumers are to be told of what has changed by itself, or
 *	have ended
 * @list: also those that have ended, until they are reaped
 * @nr_consumers: those that have not; also those that are away
 * @first, @nr: blocks of the request
 * @hole: they are not to be with any consumer, whatever is plugged
 * @result: of the request, as known so far
 * @reason: why not, where a consumer is the reason
 * @refuser: who it was, NULL if he has gone
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
	struct consumer *list;
	unsigned int nr_consumers;
	uint64_t last_seq;
	enum consumers_step step;
	enum consumers_change change;
	uint64_t first;
	uint64_t nr;
	bool hole;
	int result;
	char reason[BACKING_REASON_MAX];
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
