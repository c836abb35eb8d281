// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers on the control socket. A client becomes a consumer with
 * "subscribe", until it unsubscribes or its process ends. If its connection
 * ends before that, vmemd waits for it to subscribe again.
 *
 *	-> {"id":1,"method":"subscribe","params":{"name":"vhost-net0",
 *	    "memslots":509,"used":6}}
 *	<- {"id":1,"result":{"gpa":..,"size":..,"block_size":..,"slot_size":..,
 *	    "first_slot":..,"answer_ms":10000}}
 *	<- {"event":"populate","seq":7,"gpa":..,"size":..,"offset":..,
 *	    "memslots":{"first":..,"count":..,"gpa":..,"size":..,"offset":..}}
 *	-> {"id":2,"method":"done","params":{"seq":7,"ok":true}}
 *	<- {"id":2,"result":{}}
 *	<- {"event":"subscribed"}
 *	-> {"id":3,"method":"unsubscribe"}
 *	<- {"id":3,"result":{}}
 *
 * "memslots" is the number of memslots of the VM that the consumer can handle;
 * without it, there is no limit. "used" is the number of memslots in use for
 * memory other than this daemon's devices, and "reserved" is the number that
 * such memory will need in addition.
 *
 * "mappings" is the number of separate mappings that the consumer can have; 0 or
 * without it, there is no limit. Each block that the guest may plug counts as
 * one.
 *
 * An event "discard" has the same members as "populate". "offset" is the offset
 * in the region's memory. "memslots" is null if no memslot is added or removed.
 * "done" with "ok":false refuses the event; "reason" says why.
 * {"event":"closed","reason":..} is the last line to a consumer that is closed.
 * "unsubscribe" states that the consumer maps nothing any more. A process whose
 * consumer has lost its connection sends it with the consumer's "name" on any
 * connection.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/json_member.h"
#include "control/consumer_methods.h"

/* A client that is a consumer. */
struct subscription {
	struct control_client *client;
	struct consumer *consumer;
	uint64_t region_gpa;
};

static void add_range(json_object *object,
		      const struct subscription *subscription, uint64_t gpa,
		      uint64_t size)
{
	json_add_size(object, "gpa", gpa);
	json_add_size(object, "size", size);
	json_add_size(object, "offset", gpa - subscription->region_gpa);
}

static void send_event(void *arg, const struct consumer_event *event)
{
	const struct subscription *subscription = arg;
	json_object *object = json_object_new_object(), *slots = NULL;

	json_add_text(object, "event",
		      event->populate ? "populate" : "discard");
	json_add_size(object, "seq", event->seq);
	add_range(object, subscription, event->gpa, event->size);
	if (event->nr_slots) {
		slots = json_object_new_object();
		json_add_size(slots, "first", event->slot);
		json_add_size(slots, "count", event->nr_slots);
		add_range(slots, subscription, event->slots_gpa,
			  event->slots_size);
	}
	json_object_object_add(object, "memslots", slots);
	control_send(subscription->client, object);
}

static void send_subscribed(void *arg)
{
	const struct subscription *subscription = arg;
	json_object *object = json_object_new_object();

	json_add_text(object, "event", "subscribed");
	control_send(subscription->client, object);
}

static void send_close(void *arg, const char *reason)
{
	struct subscription *subscription = arg;
	json_object *object = NULL;

	if (reason) {
		object = json_object_new_object();
		json_add_text(object, "event", "closed");
		json_add_text(object, "reason", reason);
	}
	control_close(subscription->client, object);
	free(subscription);
}

static const struct consumer_ops consumer_ops = {
	.tell = send_event,
	.subscribed = send_subscribed,
	.close = send_close,
};

/* The connection of a consumer has ended. */
static void on_gone(void *arg)
{
	struct subscription *subscription = arg;

	consumer_gone(subscription->consumer);
	free(subscription);
}

/* A parameter that is a string. Return: NULL if it is missing or no string. */
static const char *get_text(const struct control_call *call, const char *name)
{
	json_object *value;

	if (!call->params ||
	    !json_object_object_get_ex(call->params, name, &value) ||
	    !json_object_is_type(value, json_type_string))
		return NULL;
	return json_object_get_string(value);
}

static int check_name(struct control_call *call, const char *name)
{
	if (name && claims_is_name(name))
		return 0;
	return error_set(&call->error, -EINVAL,
			 "\"name\" is 1 to %d letters without spaces",
			 CONSUMER_NAME_MAX - 1);
}

/* Parse the numbers of memslots. Return: 0; -EINVAL with a message. */
static int get_memslots(struct control_call *call,
			struct consumer_memslots *memslots)
{
	int ret = control_get_size(call, "memslots", &memslots->limit);

	if (ret == -EINVAL || (!ret && !memslots->limit))
		return error_set(&call->error, -EINVAL,
				 "\"memslots\" is a positive number");
	if (control_get_size(call, "used", &memslots->used) == -EINVAL ||
	    control_get_size(call, "reserved", &memslots->reserved) == -EINVAL)
		return error_set(
			&call->error, -EINVAL,
			"\"used\" and \"reserved\" are numbers of memslots");
	return 0;
}

static int get_mappings(struct control_call *call, uint64_t *mappings)
{
	if (control_get_size(call, "mappings", mappings) == -EINVAL)
		return error_set(&call->error, -EINVAL,
				 "\"mappings\" is how many it can have");
	return 0;
}

/* Get the client's process. Return: 0; an errno with a message. */
static int get_peer(struct control_call *call, struct peer *peer)
{
	int ret = control_peer(call->client, peer);

	if (ret)
		error_set(&call->error, ret, "the client is unknown: %s",
			  strerror(-ret));
	return ret;
}

/**
 * consumer_methods_subscribe() - method "subscribe"
 * @call: the call
 * @consumers: the device's consumers
 * @others: most memslots that the daemon's other devices may use
 * @requested_size: bytes that the guest is, or will be, asked to plug
 *
 * Return: see struct control_method.
 */
int consumer_methods_subscribe(struct control_call *call,
			       struct consumers *consumers, uint64_t others,
			       uint64_t requested_size)
{
	const char *name = get_text(call, "name");
	struct consumer_config config = {
		.name = name,
		.others = others,
		.requested_size = requested_size,
	};
	struct subscription *subscription;
	int ret;

	ret = check_name(call, name);
	if (!ret)
		ret = get_memslots(call, &config.memslots);
	if (!ret)
		ret = get_mappings(call, &config.mappings);
	if (ret)
		return ret;
	if (control_held(call->client, on_gone))
		return error_set(&call->error, -EBUSY,
				 "this connection is a consumer already");
	subscription = calloc(1, sizeof(*subscription));
	if (!subscription)
		return error_set(&call->error, -ENOMEM, "out of memory");
	subscription->client = call->client;
	ret = get_peer(call, &config.peer);
	if (!ret)
		ret = consumer_new(&subscription->consumer, consumers, &config,
				   &consumer_ops, subscription, &call->error);
	if (ret) {
		peer_close(&config.peer);
		free(subscription);
		return ret;
	}
	subscription->region_gpa = consumers->backing->gpa;
	control_hold(call->client, on_gone, subscription);
	call->result = json_object_new_object();
	json_add_size(call->result, "gpa", consumers->backing->gpa);
	json_add_size(call->result, "size", consumers->backing->size);
	json_add_size(call->result, "block_size",
		      consumers->backing->block_size);
	json_add_size(call->result, "slot_size", consumers->slot_size);
	json_add_size(call->result, "first_slot", consumers->first_slot);
	json_add_size(call->result, "answer_ms", consumers->answer_usec / 1000);
	return 0;
}

/* Copy a consumer's reason for logs; unprintable characters become '?'. */
static void copy_reason(char to[CONSUMER_REASON_MAX], const char *from)
{
	snprintf(to, CONSUMER_REASON_MAX, "%s", from ? from : "no reason");
	for (; *to; to++)
		if (*to < ' ' || *to > '~')
			*to = '?';
}

/* Method "done" of a consumer. */
int consumer_methods_done(struct control_call *call)
{
	struct subscription *subscription = control_held(call->client, on_gone);
	char reason[CONSUMER_REASON_MAX];
	uint64_t seq;
	bool ok;
	int ret;

	if (!subscription)
		return error_set(&call->error, -EINVAL,
				 "this connection is not a consumer");
	if (control_get_size(call, "seq", &seq) ||
	    json_get_bool(call->params, "ok", &ok))
		return error_set(
			&call->error, -EINVAL,
			"\"seq\" is the event's, \"ok\" is true or false");
	copy_reason(reason, get_text(call, "reason"));
	ret = consumer_answer(subscription->consumer, seq, ok, reason);
	if (ret)
		return error_set(&call->error, ret,
				 "event %" PRIu64 " is not outstanding", seq);
	call->result = json_object_new_object();
	return 0;
}

static bool is_named(const struct consumer *consumer,
		     const struct consumers *consumers, const char *name)
{
	return !name || (consumer->consumers == consumers &&
			 !strcmp(consumer->name, name));
}

/**
 * consumer_methods_unsubscribe() - method "unsubscribe"
 * @call: the call
 * @consumers: the device's consumers
 *
 * On a consumer's connection, it applies to this consumer if there is no "name",
 * or the consumer's own. Otherwise it applies to the consumer of that name, of
 * the same process.
 *
 * Return: see struct control_method.
 */
int consumer_methods_unsubscribe(struct control_call *call,
				 struct consumers *consumers)
{
	struct subscription *subscription = control_held(call->client, on_gone);
	const char *name = get_text(call, "name");
	struct peer peer;
	int ret;

	if (subscription && is_named(subscription->consumer, consumers, name)) {
		control_hold(call->client, NULL, NULL);
		consumer_unsubscribe(subscription->consumer);
		free(subscription);
		call->result = json_object_new_object();
		return 0;
	}
	if (!name)
		return error_set(&call->error, -EINVAL,
				 "this connection is not a consumer");
	ret = check_name(call, name);
	if (!ret)
		ret = get_peer(call, &peer);
	if (ret)
		return ret;
	ret = consumers_forget(consumers, name, &peer, &call->error);
	peer_close(&peer);
	if (!ret)
		call->result = json_object_new_object();
	return ret;
}

/* Method "forget-consumer", for operators. */
int consumer_methods_forget(struct control_call *call,
			    struct consumers *consumers)
{
	const char *name = get_text(call, "name");
	int ret = check_name(call, name);

	if (!ret)
		ret = consumers_forget(consumers, name, NULL, &call->error);
	if (!ret)
		call->result = json_object_new_object();
	return ret;
}

/* Array of all consumers, for method "consumers". */
json_object *consumer_methods_list(const struct consumers *consumers)
{
	json_object *list = json_object_new_array();
	const struct consumer *consumer;

	for (consumer = consumers->list; consumer; consumer = consumer->next) {
		json_object *object;

		if (consumer->ended)
			continue;
		object = json_object_new_object();
		json_add_text(object, "name", consumer->name);
		json_object_object_add(
			object, "memslots",
			consumer->memslots.limit
				? json_object_new_uint64(
					  consumer->memslots.limit)
				: NULL);
		json_object_object_add(
			object, "mappings",
			consumer->mappings
				? json_object_new_uint64(consumer->mappings)
				: NULL);
		json_add_size(object, "populated_size",
			      consumer->told.set *
				      consumers->backing->block_size);
		json_add_bool(object, "subscribed", consumer->subscribed);
		json_add_bool(object, "waiting", consumer->out);
		json_add_bool(object, "away", consumer->away);
		json_add_size(object, "answers", consumer->answers);
		json_add_size(object, "refusals", consumer->refusals);
		json_object_array_add(list, object);
	}
	return list;
}
