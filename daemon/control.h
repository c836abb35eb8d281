/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The control socket: one JSON object per line; see control.c. */
#ifndef CONTROL_H
#define CONTROL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>
#include <systemd/sd-event.h>

#include "listener.h"
#include "log.h"

/* Clients at the same time: operators' commands, not a service to many. */
#define CONTROL_MAX_CLIENTS 16

/* Longest request. The longest sensible one has less than 200 bytes. */
#define CONTROL_LINE_MAX 4096

/* Levels of objects and arrays in a request; there are two. */
#define CONTROL_JSON_DEPTH 8

/* Unsent bytes at which a client that watches is not sent more events. */
#define CONTROL_WATCH_BACKLOG 65536

/* Descriptors of one request. */
#define CONTROL_MAX_FDS 4

/* Longest error message. */
#define CONTROL_TEXT_MAX 256

struct control_client;

/**
 * struct control_call - a request as a method sees it
 * @client: who asks
 * @params: its parameters, an object or NULL
 * @fds: descriptors that came with it; -1 where the method has taken one
 * @nr_fds: how many
 * @token: names the request to control_answer()
 * @result: to be set by the method: an object, given away
 * @message: to be set by the method on error
 */
struct control_call {
	struct control_client *client;
	json_object *params;
	int *fds;
	size_t nr_fds;
	uint64_t token;
	json_object *result;
	char message[CONTROL_TEXT_MAX];
};

/**
 * struct control_method - a method by its name
 * @handle: Return: 0, or a negative errno; -EINPROGRESS: control_answer() will
 *	be called
 */
struct control_method {
	const char *name;
	int (*handle)(struct control_call *call, void *arg);
};

/**
 * struct control_ops - what the control socket serves
 * @methods: ended by one without name; "watch" is the socket's own
 * @event: an object that describes the present state, for those who watch
 * @reached: has the guest reached this size, which was asked for by a
 *	"resize" that waits? Return: 1 yes, 0 not yet, -ECANCELED it is asked
 *	for another size now
 */
struct control_ops {
	const struct control_method *methods;
	json_object *(*event)(void *arg);
	int (*reached)(uint64_t size, void *arg);
};

struct control {
	sd_event *event;
	struct listener listener;
	const struct control_ops *ops;
	void *arg;
	struct control_client *clients;
	unsigned int nr_clients;
	uint64_t last_token;
	struct log_limit limit;
};

void control_init(struct control *control, sd_event *event,
		  const struct control_ops *ops, void *arg);
int control_listen(struct control *control, int fd);
int control_add_client(struct control *control, int fd);
void control_answer(struct control *control, uint64_t token, int ret,
		    json_object *result, const char *message);
void control_publish(struct control *control);
void control_stop(struct control *control);

void control_hold(struct control_client *client, void (*gone)(void *arg),
		  void *arg);
void *control_held(const struct control_client *client,
		   void (*gone)(void *arg));
void control_send(struct control_client *client, json_object *object);
void control_close(struct control_client *client, json_object *object);

int control_get_size(const struct control_call *call, const char *name,
		     uint64_t *value);

#endif /* CONTROL_H */
