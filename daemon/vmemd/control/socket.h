/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket: one JSON object per line; see socket.c. */
#ifndef CONTROL_H
#define CONTROL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "base/listener.h"
#include "base/log.h"
#include "base/peer.h"
#include "common/error.h"

/* Clients at the same time: operators' commands, not a service to many. */
#define CONTROL_MAX_CLIENTS 16

/*
 * More clients of the superuser at the same time: the VMM's user cannot keep an
 * operator out. An operator's command and a monitor or two need no more.
 */
#define CONTROL_ROOT_CLIENTS 4

/* Longest request. The longest sensible one has less than 200 bytes. */
#define CONTROL_LINE_MAX 4096

/*
 * Requests of one client that are answered before others have their turn. A
 * command makes one and waits for its answer, so there is nothing to be gained
 * by more.
 */
#define CONTROL_TURN_REQUESTS 1

/* Levels of objects and arrays in a request; there are two. */
#define CONTROL_JSON_DEPTH 8

/* Unsent bytes at which a client that watches is not sent more events. */
#define CONTROL_WATCH_BACKLOG 65536

/* Descriptors of one request. */
#define CONTROL_MAX_FDS 4

/* All that have a state of their own. */
#define CONTROL_ALL_SUBJECTS UINT_MAX

struct control_client;

/**
 * struct control_call - a request as a method sees it
 * @client: who asks
 * @params: its parameters, an object or NULL
 * @fds: descriptors that came with it; -1 where the method has taken one
 * @nr_fds: how many
 * @token: names the request to control_answer(); see control_wait()
 * @subject: to be set by the method: which of the things that have a state of
 *	their own it is about
 * @result: to be set by the method: an object, given away
 * @error: to be set by the method on error
 */
struct control_call {
	struct control_client *client;
	json_object *params;
	int *fds;
	size_t nr_fds;
	uint64_t token;
	unsigned int subject;
	json_object *result;
	struct error error;
};

/**
 * struct control_method - a method by its name
 * @handle: Return: 0, or a negative errno; -EINPROGRESS: control_answer() will
 *	be called, see control_wait()
 */
struct control_method {
	const char *name;
	int (*handle)(struct control_call *call, void *arg);
};

/**
 * struct control_ops - what the control socket serves
 * @methods: ended by one without name; "watch" is the socket's own
 * @nr_subjects: how many things have a state of their own
 * @watch: somebody is to be told of the subject that it sets, or of
 *	CONTROL_ALL_SUBJECTS. Return: as of a method, but at once
 * @event: an object that describes a subject's present state, for those who
 *	watch
 * @reached: has this subject reached this size, which was asked for by a
 *	"resize" that waits? Return: 1 yes, 0 not yet, -ECANCELED it is asked
 *	for another size now
 */
struct control_ops {
	const struct control_method *methods;
	unsigned int (*nr_subjects)(void *arg);
	int (*watch)(struct control_call *call, void *arg);
	json_object *(*event)(unsigned int subject, void *arg);
	int (*reached)(unsigned int subject, uint64_t size, void *arg);
};

/**
 * struct control - the socket and its clients
 * @clients: also those that have ended, until they are reaped
 * @nr_clients: those that have not ended
 * @reap_source: on while clients have ended
 */
struct control {
	sd_event *event;
	struct listener listener;
	const struct control_ops *ops;
	void *arg;
	struct control_client *clients;
	unsigned int nr_clients;
	sd_event_source *reap_source;
	uint64_t last_token;
	struct log_limit limit;
};

void control_init(struct control *control, sd_event *event,
		  const struct control_ops *ops, void *arg);
int control_listen(struct control *control, int fd);
int control_add_client(struct control *control, int fd);
void control_answer(struct control *control, uint64_t token, int ret,
		    json_object *result, const char *message);
int control_wait(struct control_call *call, uint64_t *token);
void control_publish(struct control *control, unsigned int subject);
void control_stop(struct control *control);

void control_hold(struct control_client *client, void (*gone)(void *arg),
		  void *arg);
void *control_held(const struct control_client *client,
		   void (*gone)(void *arg));
int control_peer(const struct control_client *client, struct peer *peer);
void control_send(struct control_client *client, json_object *object);
void control_close(struct control_client *client, json_object *object);

int control_get_size(const struct control_call *call, const char *name,
		     uint64_t *value);

#endif /* CONTROL_H */
