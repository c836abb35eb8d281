// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket: requests and answers as JSON, one object per line.
 *
 *	{"id":1,"method":"resize","params":{"size":1073741824}}
 *	{"id":1,"result":{...}}
 *	{"id":1,"error":{"code":"EINVAL","message":"..."}}
 *
 * "id" is a number or a string that the client chooses; the answer repeats it.
 * After {"method":"watch"}, the client also gets lines {"event":...} when the
 * state changes; changes in quick succession cause one event. A "resize" with
 * "wait":true is answered when the guest has reached the size, or when another
 * size has been requested.
 *
 * A method may hold the client that called it (control_hold()). From then on it
 * can send its own lines to the client, and it is notified when the client
 * ends.
 *
 * Lifetime. A client may end while the list is being walked, and its end may
 * cause an answer to another client. So end_client() only marks a client. The
 * event loop then calls reap(), which frees it and notifies its holder. A
 * marked client is sent nothing and does not count.
 *
 * Access. Clients of root and of the daemon's own user are accepted.
 *
 * Limits. No client can block the daemon or make it grow:
 * - The length of requests and the number of clients are bounded. An idle
 *   client is closed to make room for a new one. Some places are reserved for
 *   root, and only a root client can displace a root client. Held clients do
 *   not count: their holder bounds their number.
 * - While an answer is unsent, no more requests of the client are read.
 * - CONTROL_TURN_REQUESTS requests of a client are handled per turn, and no
 *   more are read until those are answered. Then all other events get their
 *   turn, such as other clients and guests' requests. All event sources have
 *   the same priority and are served in the order in which they became ready,
 *   so neither clients nor guests can starve the others. There is no limit by
 *   time: a client that is always ready delays the others by one request per
 *   turn.
 * - A watching client that does not read misses events. When it reads again, it
 *   gets their number: {"event":"lost","count":N}.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/turn.h"
#include "common/fd.h"
#include "common/json_member.h"
#include "common/min_max.h"
#include "control/socket.h"

/**
 * struct control_client - a connection
 * @control: the control socket
 * @next: next in the list of clients
 * @source: event source of the connection
 * @turn: schedules handling of further lines
 * @fd: the connection
 * @line: received bytes that are not handled yet
 * @have: number of bytes in @line
 * @used: length of the line that is being handled
 * @fds: received descriptors
 * @nr_fds: number of @fds
 * @fds_at: index in @line of the first byte that was read with @fds
 * @fds_end: index behind the last such byte. The kernel reads earlier messages
 *	together with the one that has the descriptors. So they belong to the
 *	first line with one of these bytes whose method takes descriptors.
 * @lacking: more descriptors came with these bytes and could not be received,
 *	e.g. because this process has too many open files
 * @out: bytes to send
 * @out_size: number of bytes in @out
 * @out_sent: number of bytes of @out that have been sent
 * @watching: the client gets events
 * @watch_subject: subject of these events, or CONTROL_ALL_SUBJECTS
 * @lost: number of events that the client has missed
 * @waiting: a "resize" waits until @wait_subject reaches @wait_size
 * @wait_subject: subject of this "resize"
 * @wait_size: size of this "resize"
 * @wait_id: id of this "resize"
 * @wait_result: result of this "resize"
 * @token: token of the request that waits for control_answer(); 0: none
 * @late_id: id of this request
 * @late_wait: this request is a "resize" that then waits for @wait_size
 * @closing: close the connection when @out is sent
 * @ended: reap() will free the client
 * @root: the client's user is root
 * @gone: called when the client ends, for its holder; or NULL
 * @gone_arg: for @gone
 */
struct control_client {
	struct control *control;
	struct control_client *next;
	sd_event_source *source;
	struct turn turn;
	int fd;
	char line[CONTROL_LINE_MAX];
	size_t have;
	size_t used;
	int fds[CONTROL_MAX_FDS];
	size_t nr_fds;
	size_t fds_at;
	size_t fds_end;
	bool lacking;
	char *out;
	size_t out_size;
	size_t out_sent;
	bool watching;
	unsigned int watch_subject;
	uint64_t lost;
	bool waiting;
	unsigned int wait_subject;
	uint64_t wait_size;
	json_object *wait_id;
	json_object *wait_result;
	uint64_t token;
	json_object *late_id;
	bool late_wait;
	bool closing;
	bool ended;
	bool root;
	void (*gone)(void *arg);
	void *gone_arg;
};

static void drop_fds(struct control_client *client)
{
	for (size_t i = 0; i < client->nr_fds; i++)
		if (client->fds[i] >= 0)
			close(client->fds[i]);
	client->nr_fds = 0;
	client->fds_at = 0;
	client->fds_end = 0;
	client->lacking = false;
}

static void free_client(struct control_client *client)
{
	struct control *control = client->control;
	struct control_client **at = &control->clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	if (!client->ended)
		control->nr_clients--;
	sd_event_source_disable_unref(client->source);
	turn_end(&client->turn);
	drop_fds(client);
	json_object_put(client->wait_id);
	json_object_put(client->wait_result);
	json_object_put(client->late_id);
	free(client->out);
	close(client->fd);
	if (client->gone)
		client->gone(client->gone_arg);
	free(client);
}

/* Stop receiving from the client and sending to it; reap() frees it. */
static void end_client(struct control_client *client)
{
	struct control *control = client->control;

	if (client->ended)
		return;
	client->ended = true;
	client->token = 0;
	client->waiting = false;
	client->watching = false;
	control->nr_clients--;
	sd_event_source_set_enabled(client->source, SD_EVENT_OFF);
	turn_drop(&client->turn);
	sd_event_source_set_enabled(control->reap_source, SD_EVENT_ONESHOT);
}

/* Free one ended client per turn: @gone may cause further ones. */
static int reap(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct control *control = arg;
	struct control_client *client = control->clients;

	while (client && !client->ended)
		client = client->next;
	if (!client)
		return 0;
	sd_event_source_set_enabled(control->reap_source, SD_EVENT_ONESHOT);
	free_client(client);
	return 0;
}

/* Move an active client to the front, see make_room(). */
static void note_use(struct control_client *client)
{
	struct control *control = client->control;
	struct control_client **at = &control->clients;

	while (*at != client)
		at = &(*at)->next;
	*at = client->next;
	client->next = control->clients;
	control->clients = client;
}

static size_t backlog(const struct control_client *client)
{
	return client->out_size - client->out_sent;
}

/* Send as much as the socket takes. Return: 0; an errno: end the client. */
static int flush(struct control_client *client)
{
	while (backlog(client)) {
		ssize_t sent =
			send(client->fd, client->out + client->out_sent,
			     backlog(client), MSG_DONTWAIT | MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno == EAGAIN)
			return 0;
		if (sent < 0)
			return -errno;
		client->out_sent += sent;
	}
	free(client->out);
	client->out = NULL;
	client->out_size = 0;
	client->out_sent = 0;
	return 0;
}

/* Queue one line. If memory is short, the client will be closed. */
static void put_line(struct control_client *client, json_object *object)
{
	size_t length;
	const char *text;
	char *grown;

	/* The client has got its last line. */
	if (client->closing || client->ended)
		return;
	text = json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
		&length);
	if (client->out_sent) {
		client->out_size -= client->out_sent;
		memmove(client->out, client->out + client->out_sent,
			client->out_size);
		client->out_sent = 0;
	}
	grown = text ? realloc(client->out, client->out_size + length + 1)
		     : NULL;
	if (!grown) {
		client->closing = true;
		return;
	}
	client->out = grown;
	memcpy(grown + client->out_size, text, length);
	grown[client->out_size + length] = '\n';
	client->out_size += length + 1;
}

/* put_result() and put_error() take over @id and @result. */
static void put_result(struct control_client *client, json_object *id,
		       json_object *result)
{
	json_object *answer = json_object_new_object();

	json_object_object_add(answer, "id", id);
	json_object_object_add(answer, "result", result);
	put_line(client, answer);
	json_object_put(answer);
}

static void put_error(struct control_client *client, json_object *id, int error,
		      const char *message)
{
	json_object *answer = json_object_new_object();
	json_object *body = json_object_new_object();
	const char *code = strerrorname_np(-error);

	log_limited(&client->control->limit, LOG_LEVEL_INFO, NULL,
		    "control: refused: %s (%s)", message, code ? code : "EIO");
	json_add_text(body, "code", code ? code : "EIO");
	json_add_text(body, "message", message);
	json_object_object_add(answer, "id", id);
	json_object_object_add(answer, "error", body);
	put_line(client, answer);
	json_object_put(answer);
}

/* Does the client watch the subject? */
static bool watches(const struct control_client *client, unsigned int subject)
{
	return client->watching &&
	       (client->watch_subject == CONTROL_ALL_SUBJECTS ||
		client->watch_subject == subject);
}

static void put_event(struct control_client *client, unsigned int subject)
{
	struct control *control = client->control;
	json_object *event;

	if (backlog(client) > CONTROL_WATCH_BACKLOG) {
		client->lost++;
		return;
	}
	if (client->lost) {
		event = json_object_new_object();
		json_add_text(event, "event", "lost");
		json_add_size(event, "count", client->lost);
		put_line(client, event);
		json_object_put(event);
		client->lost = 0;
	}
	event = control->ops->event(subject, control->arg);
	put_line(client, event);
	json_object_put(event);
}

/* Answer a "resize" that waits, if its size is reached or replaced. */
static void check_wait(struct control_client *client)
{
	struct control *control = client->control;
	int ret;

	if (!client->waiting)
		return;
	ret = control->ops->reached(client->wait_subject, client->wait_size,
				    control->arg);
	if (!ret)
		return;
	client->waiting = false;
	if (ret > 0) {
		put_result(client, client->wait_id, client->wait_result);
	} else {
		put_error(client, client->wait_id, ret,
			  "another size was requested meanwhile");
		json_object_put(client->wait_result);
	}
	client->wait_id = NULL;
	client->wait_result = NULL;
}

/**
 * control_get_size() - get a parameter that is a non-negative number
 * @call: the call
 * @name: name of the parameter
 * @value: set on success
 *
 * Return: 0; -ENOENT: the parameter is missing; -EINVAL: it is not such a
 * number.
 */
int control_get_size(const struct control_call *call, const char *name,
		     uint64_t *value)
{
	json_object *object;

	if (!call->params ||
	    !json_object_object_get_ex(call->params, name, &object))
		return -ENOENT;
	if (!json_object_is_type(object, json_type_int))
		return -EINVAL;
	/* json_object_get_uint64() returns 0 for negative numbers. */
	if (json_object_get_int64(object) < 0)
		return -EINVAL;
	*value = json_object_get_uint64(object);
	return 0;
}

static bool wants_wait(const struct control_call *call, int *error)
{
	json_object *object;

	*error = 0;
	if (!call->params ||
	    !json_object_object_get_ex(call->params, "wait", &object))
		return false;
	if (!json_object_is_type(object, json_type_boolean))
		*error = -EINVAL;
	return json_object_get_boolean(object);
}

/* A method has ended. Takes over @id and @result. */
static void finish_call(struct control_client *client, json_object *id,
			bool wait, int ret, json_object *result,
			const char *message)
{
	if (ret) {
		json_object_put(result);
		put_error(client, id, ret, message);
	} else if (wait) {
		client->waiting = true;
		client->wait_id = id;
		client->wait_result = result;
		check_wait(client);
	} else {
		put_result(client, id, result);
	}
}

static void call_method(struct control_client *client,
			const struct control_method *method, json_object *id,
			json_object *params)
{
	struct control *control = client->control;
	/* The descriptors may belong to a later line. */
	bool mine = method->takes_fds && client->fds_at < client->used;
	struct control_call call = {
		.client = client,
		.params = params,
		.fds = client->fds,
		.nr_fds = mine ? client->nr_fds : 0,
		.token = ++control->last_token,
	};
	bool wait = false;
	int ret = 0;

	/* What the method leaves is closed after the line. */
	if (mine)
		client->fds_end = client->used;
	if (mine && client->lacking) {
		put_error(client, id, -EMFILE,
			  "descriptors could not be received; perhaps this "
			  "vmemd has too many open files (LimitNOFILE, ulimit "
			  "-n)");
		return;
	}
	if (!strcmp(method->name, "resize"))
		wait = wants_wait(&call, &ret);
	if (ret) {
		put_error(client, id, ret, "\"wait\" is true or false");
		return;
	}
	if (wait && client->waiting) {
		put_error(client, id, -EBUSY,
			  "this connection waits for a resize already");
		return;
	}
	if (wait)
		control_get_size(&call, "size", &client->wait_size);
	ret = method->handle(&call, control->arg);
	if (wait)
		client->wait_subject = call.subject;
	if (ret == -EINPROGRESS) {
		client->token = call.token;
		client->late_id = id;
		client->late_wait = wait;
		return;
	}
	finish_call(client, id, wait, ret, call.result, call.error.text);
}

/* Method "watch": send the current state first, then each change. */
static void watch(struct control_client *client, json_object *id,
		  json_object *params)
{
	struct control *control = client->control;
	struct control_call call = {.params = params};
	int ret;

	ret = control->ops->watch(&call, control->arg);
	if (ret) {
		put_error(client, id, ret, call.error.text);
		return;
	}
	client->watching = true;
	client->watch_subject = call.subject;
	put_result(client, id, json_object_new_object());
	for (unsigned int i = 0; i < control->ops->nr_subjects(control->arg);
	     i++)
		if (watches(client, i))
			put_event(client, i);
}

static void call_by_name(struct control_client *client, const char *name,
			 json_object *id, json_object *params)
{
	const struct control_method *method = client->control->ops->methods;
	char message[ERROR_TEXT_MAX];

	if (!strcmp(name, "watch")) {
		watch(client, id, params);
		return;
	}
	for (; method->name; method++) {
		if (!strcmp(name, method->name)) {
			call_method(client, method, id, params);
			return;
		}
	}
	snprintf(message, sizeof(message), "no method \"%.64s\"", name);
	put_error(client, id, -EOPNOTSUPP, message);
}

static void handle_request(struct control_client *client, json_object *request)
{
	json_object *id = NULL, *method, *params = NULL;

	if (!json_object_is_type(request, json_type_object)) {
		put_error(client, NULL, -EINVAL, "a request is a JSON object");
		return;
	}
	json_object_object_get_ex(request, "id", &id);
	if (id && !json_object_is_type(id, json_type_int) &&
	    !json_object_is_type(id, json_type_string)) {
		put_error(client, NULL, -EINVAL,
			  "\"id\" is a number or a string");
		return;
	}
	json_object_get(id);
	if (!json_object_object_get_ex(request, "method", &method) ||
	    !json_object_is_type(method, json_type_string)) {
		put_error(client, id, -EINVAL, "\"method\" is a string");
		return;
	}
	json_object_object_get_ex(request, "params", &params);
	if (params && !json_object_is_type(params, json_type_object)) {
		put_error(client, id, -EINVAL, "\"params\" is an object");
		return;
	}
	call_by_name(client, json_object_get_string(method), id, params);
}

static void handle_line(struct control_client *client, const char *line,
			size_t length)
{
	struct json_tokener *tokener;
	json_object *request;

	while (length && (line[length - 1] == ' ' || line[length - 1] == '\r'))
		length--;

	tokener = json_tokener_new_ex(CONTROL_JSON_DEPTH);
	if (!tokener) {
		client->closing = true;
		return;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	request = json_tokener_parse_ex(tokener, line, length);
	if (json_tokener_get_error(tokener) != json_tokener_success ||
	    json_tokener_get_parse_end(tokener) < length) {
		put_error(client, NULL, -EBADMSG, "not a line of JSON");
	} else {
		handle_request(client, request);
	}
	json_object_put(request);
	json_tokener_free(tokener);
}

/* Is there a complete line, and may it be handled now? */
static bool has_line(const struct control_client *client)
{
	return !backlog(client) && !client->closing && !client->token &&
	       memchr(client->line, '\n', client->have);
}

/* Is there no room for the rest of the next line? */
static bool is_too_long(const struct control_client *client)
{
	return client->have == sizeof(client->line) && !client->closing &&
	       !client->token && !memchr(client->line, '\n', client->have);
}

static void handle_next_line(struct control_client *client)
{
	char *end = memchr(client->line, '\n', client->have);
	size_t used = end - client->line + 1;

	client->used = used;
	handle_line(client, client->line, used - 1);
	if (client->fds_end <= used) {
		drop_fds(client);
	} else {
		client->fds_at -= min(client->fds_at, used);
		client->fds_end -= used;
	}
	memmove(client->line, client->line + used, client->have - used);
	client->have -= used;
}

/*
 * Handle the lines of one turn, or fewer if an answer cannot be sent.
 *
 * Return: 0; an errno: end the client.
 */
static int handle_lines(struct control_client *client)
{
	int ret;

	for (int i = 0; i < CONTROL_TURN_REQUESTS && has_line(client); i++) {
		handle_next_line(client);
		ret = flush(client);
		if (ret)
			return ret;
	}
	if (is_too_long(client)) {
		put_error(client, NULL, -E2BIG, "the line is too long");
		client->closing = true;
	}
	return flush(client);
}

/* Set the events to wait for, or end the client. */
static void settle(struct control_client *client)
{
	uint32_t events = 0;

	if (client->ended)
		return;
	if (flush(client) || (client->closing && !backlog(client))) {
		end_client(client);
		return;
	}
	if (backlog(client))
		events |= EPOLLOUT;
	else if (has_line(client) || is_too_long(client))
		turn_take(&client->turn);
	else if (!client->token)
		events |= EPOLLIN;
	sd_event_source_set_io_events(client->source, events);
}

/* Return: 1: received bytes; 0: none yet; -ENODATA: end of file; an errno. */
static int receive(struct control_client *client)
{
	union {
		char space[CMSG_SPACE(CONTROL_MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {
		.iov_base = client->line + client->have,
		.iov_len = sizeof(client->line) - client->have,
	};
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	size_t nr_before = client->nr_fds;
	ssize_t got;
	int ret;

	got = recvmsg(client->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	if (!client->nr_fds && !client->lacking)
		client->fds_at = client->have;
	ret = fd_keep(&mh, client->fds, &client->nr_fds, CONTROL_MAX_FDS);
	if (!got)
		return -ENODATA;
	/* There were too many, perhaps in several parts of the line. */
	if (ret == -E2BIG)
		return -EPROTO;
	if (ret)
		client->lacking = true;
	client->have += got;
	if (ret || client->nr_fds > nr_before)
		client->fds_end = client->have;
	note_use(client);
	return 1;
}

/* Continue with the client. @ret: result so far; an errno ends the client. */
static void serve_on(struct control_client *client, int ret)
{
	if (ret >= 0)
		ret = handle_lines(client);
	if (ret == -EPROTO) {
		put_error(client, NULL, ret, "too many descriptors");
		client->closing = true;
		ret = 0;
	}
	if (ret < 0)
		end_client(client);
	else
		settle(client);
}

static int on_client(sd_event_source *source __attribute__((unused)),
		     int fd __attribute__((unused)), uint32_t revents,
		     void *arg)
{
	struct control_client *client = arg;
	int ret = 0;

	/* No reading while a request waits, so EPOLLHUP is the only signal. */
	if (revents & EPOLLERR || (revents & EPOLLHUP && client->token))
		ret = -ECONNRESET;
	if (!ret && revents & EPOLLOUT)
		ret = flush(client);
	if (!ret && revents & (EPOLLIN | EPOLLHUP) && !backlog(client) &&
	    !has_line(client))
		ret = receive(client);
	serve_on(client, ret);
	return 0;
}

static int on_turn(sd_event_source *source __attribute__((unused)), void *arg)
{
	serve_on(arg, 0);
	return 0;
}

/* May this peer be a client? @root: set to whether its user is root. */
static bool may_control(int fd, bool *root)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return false;
	*root = cred.uid == 0;
	return *root || cred.uid == geteuid();
}

static void refuse_client(int fd, const char *code, const char *message)
{
	char line[ERROR_TEXT_MAX];
	int length;

	length = snprintf(line, sizeof(line),
			  "{\"id\":null,\"error\":{\"code\":\"%s\","
			  "\"message\":\"%s\"}}\n",
			  code, message);
	/* The buffer of a new socket has room for a line. */
	if (send(fd, line, length, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
		log_debug("control: %s", strerror(errno));
	close(fd);
}

/* May the client be closed? It waits for nothing, and nothing is unsent. */
static bool is_idle(const struct control_client *client)
{
	return !client->ended && !client->watching && !client->waiting &&
	       !client->token && !client->gone && !backlog(client);
}

/* Close the idle client that was inactive longest; root's only for root. */
static bool make_room(struct control *control, bool root)
{
	struct control_client *client, *longest = NULL;

	/* The list is in order of activity, see note_use(). */
	for (client = control->clients; client; client = client->next)
		if (is_idle(client) && (root || !client->root))
			longest = client;
	if (!longest)
		return false;
	end_client(longest);
	return true;
}

/* Is there a place for one more client? Held clients take none. */
static bool has_place(const struct control *control, bool root)
{
	unsigned int most =
		CONTROL_MAX_CLIENTS + (root ? CONTROL_ROOT_CLIENTS : 0);
	const struct control_client *client;
	unsigned int nr = 0;

	for (client = control->clients; client; client = client->next)
		nr += !client->ended && !client->gone;
	return nr < most;
}

/* Add @reap_source with the first client. */
static int add_reaper(struct control *control)
{
	int ret;

	if (control->reap_source)
		return 0;
	ret = sd_event_add_defer(control->event, &control->reap_source, reap,
				 control);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(control->reap_source,
						  SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/**
 * control_add_client() - serve a connected client
 * @control: the control socket
 * @fd: UNIX stream socket; taken over, also on error
 *
 * Return: 0; -EPERM, -EUSERS: refused; -ENOMEM; an errno of sd-event's.
 */
int control_add_client(struct control *control, int fd)
{
	struct control_client *client;
	bool root = false;
	int ret;

	if (!may_control(fd, &root)) {
		refuse_client(fd, "EPERM",
			      "not root and not the user of vmemd");
		return -EPERM;
	}
	if (!has_place(control, root) && !make_room(control, root)) {
		refuse_client(fd, "EUSERS", "too many clients of vmemd");
		return -EUSERS;
	}
	ret = add_reaper(control);
	client = ret ? NULL : calloc(1, sizeof(*client));
	if (!client) {
		close(fd);
		return ret ? ret : -ENOMEM;
	}
	client->control = control;
	client->root = root;
	client->fd = fd;
	client->next = control->clients;
	control->clients = client;
	control->nr_clients++;
	ret = sd_event_add_io(control->event, &client->source, fd, EPOLLIN,
			      on_client, client);
	if (ret >= 0)
		ret = turn_init(&client->turn, control->event, on_turn, client);
	if (ret < 0) {
		free_client(client);
		return ret;
	}
	return 0;
}

static void on_operator(void *arg, int fd)
{
	control_add_client(arg, fd);
}

/* Initialise the control socket. @event and @ops are not owned. */
void control_init(struct control *control, sd_event *event,
		  const struct control_ops *ops, void *arg)
{
	memset(control, 0, sizeof(*control));
	control->event = event;
	listener_init(&control->listener, "control", on_operator, control);
	control->ops = ops;
	control->arg = arg;
}

/* Accept clients on a listening socket, which is taken over. */
int control_listen(struct control *control, int fd)
{
	return listener_start(&control->listener, control->event, fd);
}

static struct control_client *find_waiting(const struct control *control,
					   uint64_t token)
{
	struct control_client *client = control->clients;

	while (client && client->token != token)
		client = client->next;
	return client;
}

/**
 * control_answer() - answer requests whose methods returned -EINPROGRESS
 * @control: the control socket
 * @token: token of the calls
 * @ret: 0, or an errno
 * @result: result object; its reference is passed on
 * @message: text of an error
 *
 * The clients may have ended.
 */
void control_answer(struct control *control, uint64_t token, int ret,
		    json_object *result, const char *message)
{
	struct control_client *client;
	json_object *id;

	/* The call may end clients, so each search starts at the head. */
	while ((client = find_waiting(control, token))) {
		id = client->late_id;
		client->late_id = NULL;
		client->token = 0;
		finish_call(client, id, client->late_wait, ret,
			    json_object_get(result), message);
		/*
		 * Lines that arrived meanwhile get a turn of their own, as the
		 * caller may be in the middle of a change.
		 */
		settle(client);
	}
	json_object_put(result);
}

/**
 * control_wait() - let a call wait for control_answer()
 * @call: the call
 * @token: token of the calls that wait for the same answer; 0: none yet. It is
 *	set to the token to pass to control_answer().
 *
 * Return: -EINPROGRESS, for the method to return.
 */
int control_wait(struct control_call *call, uint64_t *token)
{
	if (*token)
		call->token = *token;
	else
		*token = call->token;
	return -EINPROGRESS;
}

/* A subject's state has changed: notify clients that watch it or wait. */
void control_publish(struct control *control, unsigned int subject)
{
	struct control_client *client;

	for (client = control->clients; client; client = client->next) {
		if (!watches(client, subject) && !client->waiting)
			continue;
		check_wait(client);
		if (watches(client, subject))
			put_event(client, subject);
		settle(client);
	}
}

/**
 * control_hold() - hold a client
 * @client: the client
 * @gone: called from the event loop when the client has ended; NULL: release
 *	the client
 * @arg: for @gone; the client has no reference to it after the call of @gone
 */
void control_hold(struct control_client *client, void (*gone)(void *arg),
		  void *arg)
{
	client->gone = gone;
	client->gone_arg = arg;
}

/* The argument with which the client is held by this @gone, or NULL. */
void *control_held(const struct control_client *client, void (*gone)(void *arg))
{
	return client->gone == gone ? client->gone_arg : NULL;
}

/**
 * control_peer() - get the process of a client
 * @client: the client
 * @peer: to be closed by peer_close(), also on error
 *
 * Return: 0, or an errno of peer_of_socket().
 */
int control_peer(const struct control_client *client, struct peer *peer)
{
	return peer_of_socket(peer, client->fd);
}

/* Send a line now. On an error, the event loop ends the client. */
static void push(struct control_client *client, json_object *object)
{
	put_line(client, object);
	json_object_put(object);
	if (flush(client)) {
		client->out_sent = client->out_size;
		client->closing = true;
	}
}

/* Leave the rest to the event loop, since the caller may walk the list. */
static void settle_later(struct control_client *client)
{
	if (!client->ended && (backlog(client) || client->closing))
		sd_event_source_set_io_events(client->source, EPOLLOUT);
}

/**
 * control_send() - send a line to a client that is held
 * @client: the client; still exists on return
 * @object: the line; its reference is passed on
 */
void control_send(struct control_client *client, json_object *object)
{
	push(client, object);
	settle_later(client);
}

/* Send a last line, if any, to a client that is held, and release and close it. */
void control_close(struct control_client *client, json_object *object)
{
	client->gone = NULL;
	if (object)
		push(client, object);
	client->closing = true;
	settle_later(client);
}

void control_stop(struct control *control)
{
	while (control->clients)
		free_client(control->clients);
	control->reap_source =
		sd_event_source_disable_unref(control->reap_source);
	listener_stop(&control->listener);
}
