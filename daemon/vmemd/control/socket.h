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

/*
 * Maximum number of clients that are not held. The socket is for operators'
 * commands. Held clients are consumers, whose number has a limit per device: all
 * devices together may have more than this.
 */
#define CONTROL_MAX_CLIENTS 16

/*
 * Additional clients of root, so that the VMM's user cannot lock an operator
 * out. They are enough for a command and some monitors.
 */
#define CONTROL_ROOT_CLIENTS 4

/* Maximum length of a request. Real ones have less than 200 bytes. */
#define CONTROL_LINE_MAX 4096

/*
 * Requests of one client that are handled before others get their turn. A
 * command sends one request and waits for the answer, so a larger number would
 * not make it faster.
 */
#define CONTROL_TURN_REQUESTS 1

/* Maximum depth of objects and arrays in a request. Real ones have two. */
#define CONTROL_JSON_DEPTH 8

/* A watching client with more unsent bytes than this misses events. */
#define CONTROL_WATCH_BACKLOG 65536

/* Maximum number of descriptors in a request. */
#define CONTROL_MAX_FDS 4

/* Stands for all subjects, see struct control_ops. */
#define CONTROL_ALL_SUBJECTS UINT_MAX

struct control_client;

/**
 * struct control_call - a request, as passed to a method
 * @client: client that sent the request
 * @params: parameters, an object or NULL
 * @fds: descriptors that came with the request. A method takes one over by
 *	setting it to -1
 * @nr_fds: number of @fds
 * @token: identifies the request for control_answer(); see control_wait()
 * @subject: set by the method: subject of the request, see struct control_ops
 * @result: set by the method: an object, whose reference is passed on
 * @error: set by the method on error
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
 * struct control_method - a method
 * @name: name in requests
 * @handle: execute the method. Return: 0; -EINPROGRESS: control_answer() will
 *	be called, see control_wait(); another negative errno
 * @takes_fds: the request has descriptors
 */
struct control_method {
	const char *name;
	int (*handle)(struct control_call *call, void *arg);
	bool takes_fds;
};

/**
 * struct control_ops - methods and subjects of the control socket
 * @methods: the methods except "watch", up to an entry without a name
 * @nr_subjects: number of subjects: objects with a state of their own, i.e.
 *	devices
 * @watch: parse the parameters of "watch" and set the call's subject, or
 *	CONTROL_ALL_SUBJECTS. Return: see @methods, but never -EINPROGRESS
 * @event: describe the current state of a subject, for watching clients
 * @reached: has the subject reached the size of a "resize" that waits? Return:
 *	1: yes; 0: not yet; -ECANCELED: another size was requested since
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
 * @event: the event loop; not owned
 * @listener: the listening socket
 * @ops: methods and subjects
 * @arg: for @ops
 * @clients: all clients, including ended ones that are not freed yet; most
 *	recently active first
 * @nr_clients: number of clients that have not ended
 * @reap_source: deferred call of reap(), enabled while there are ended clients
 * @last_token: last token that was assigned to a call
 * @limit: rate limit for messages that clients can cause
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
