// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * One connection for one command. Requests and answers are JSON, an object a
 * line; lists come in pages. See control.c for the other end.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "vmemctl_daemon.h"

/*
 * How long an answer may take. A resize is answered when the kernel has written
 * it down, which may have to wait for a change of memslots.
 */
#define ANSWER_TIMEOUT_MS (30 * MSEC_PER_SEC)

/* Longest line taken from the daemon; a page of a list has less than 1 MiB. */
#define LINE_MAX_BYTES (16U << 20)

/* What is read from the socket at once. */
#define READ_SIZE 65536

/* Return: -ETIME, with a message printed. */
static int no_answer(const struct daemon *daemon)
{
	complain("%s: vmemd does not answer", daemon->path);
	return -ETIME;
}

static int connect_to(struct daemon *daemon)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int64_t timeout = daemon->timeout_ms;
	struct timeval limit = {
		.tv_sec = timeout / MSEC_PER_SEC,
		/* All 0 would be no limit. */
		.tv_usec = timeout % MSEC_PER_SEC * USEC_PER_MSEC + 1,
	};

	if (strlen(daemon->path) >= sizeof(addr.sun_path)) {
		complain("%s: the path is too long for a socket", daemon->path);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, daemon->path);
	daemon->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* One that does not accept keeps us waiting here, or in sending. */
	if (daemon->fd >= 0 &&
	    !setsockopt(daemon->fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
			sizeof(limit)) &&
	    !connect(daemon->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	if (errno == EAGAIN)
		return no_answer(daemon);
	if (errno == ENOENT || errno == ECONNREFUSED)
		complain("%s: no vmemd listens there", daemon->path);
	else
		complain("%s: %s", daemon->path, strerror(errno));
	return -EIO;
}

static int more_room(struct daemon *daemon)
{
	size_t size = daemon->size + READ_SIZE;
	char *grown;

	if (daemon->have + READ_SIZE <= daemon->size)
		return 0;
	if (size > LINE_MAX_BYTES) {
		complain("an answer of more than %u bytes", LINE_MAX_BYTES);
		return -E2BIG;
	}
	grown = realloc(daemon->in, size);
	if (!grown) {
		complain("out of memory");
		return -ENOMEM;
	}
	daemon->in = grown;
	daemon->size = size;
	return 0;
}

/**
 * daemon_read() - the next line from the daemon, as an object
 * @deadline: by now_ms(); negative: none
 *
 * Return: 0; -ETIMEDOUT at the deadline; another errno, with a message printed.
 */
int daemon_read(struct daemon *daemon, int64_t deadline, json_object **object)
{
	struct pollfd pfd = {.fd = daemon->fd, .events = POLLIN};
	char *end;

	if (daemon->used) {
		daemon->have -= daemon->used;
		memmove(daemon->in, daemon->in + daemon->used, daemon->have);
		daemon->used = 0;
	}
	while (!(end = daemon->have ? memchr(daemon->in, '\n', daemon->have)
				    : NULL)) {
		int64_t left = deadline - now_ms();
		ssize_t got;
		int ret;

		if (deadline >= 0 && left <= 0)
			return -ETIMEDOUT;
		ret = poll(&pfd, 1, deadline < 0 ? -1 : (int)left);
		if (ret < 0 && errno != EINTR) {
			complain("poll: %s", strerror(errno));
			return -errno;
		}
		if (ret <= 0)
			continue;
		ret = more_room(daemon);
		if (ret)
			return ret;
		got = read(daemon->fd, daemon->in + daemon->have, READ_SIZE);
		if (got <= 0) {
			complain("%s: vmemd has closed the connection",
				 daemon->path);
			return -EPIPE;
		}
		daemon->have += got;
	}
	*end = '\0';
	daemon->used = end - daemon->in + 1;
	*object = json_tokener_parse(daemon->in);
	if (!json_object_is_type(*object, json_type_object)) {
		complain("%s: not a vmemd's answer", daemon->path);
		json_object_put(*object);
		return -EBADMSG;
	}
	return 0;
}

/* Send a request. @params is taken over; it may be NULL. */
static int send_request(struct daemon *daemon, const char *method,
			json_object *params)
{
	json_object *request = json_object_new_object();
	const char *text;
	size_t length;
	int ret = 0;

	json_object_object_add(request, "id",
			       json_object_new_int64(++daemon->id));
	json_object_object_add(request, "method",
			       json_object_new_string(method));
	if (daemon->device && !params)
		params = json_object_new_object();
	if (daemon->device)
		json_object_object_add(params, "device",
				       json_object_new_string(daemon->device));
	if (params)
		json_object_object_add(request, "params", params);
	text = json_object_to_json_string_length(
		request, JSON_C_TO_STRING_PLAIN, &length);
	if (send(daemon->fd, text, length, MSG_NOSIGNAL | MSG_MORE) < 0 ||
	    send(daemon->fd, "\n", 1, MSG_NOSIGNAL) < 0) {
		ret = errno == EAGAIN ? no_answer(daemon) : -EIO;
		if (ret == -EIO)
			complain("%s: %s", daemon->path, strerror(errno));
	}
	json_object_put(request);
	return ret;
}

static int complain_of_error(json_object *error)
{
	json_object *message, *code;
	const char *text = "no reason given", *name = "error";

	if (json_object_object_get_ex(error, "message", &message))
		text = json_object_get_string(message);
	if (json_object_object_get_ex(error, "code", &code))
		name = json_object_get_string(code);
	complain("%s (%s)", text, name);
	return -EREMOTEIO;
}

/*
 * Wait for the answer to the last request. Events that come before it are left
 * out: they describe the past.
 */
static int read_result(struct daemon *daemon, json_object **result)
{
	int64_t deadline = now_ms() + daemon->timeout_ms;
	json_object *answer, *value;
	int ret;

	for (;;) {
		ret = daemon_read(daemon, deadline, &answer);
		if (ret == -ETIMEDOUT)
			return no_answer(daemon);
		if (ret)
			return ret;
		if (json_object_object_get_ex(answer, "error", &value)) {
			ret = complain_of_error(value);
			json_object_put(answer);
			return ret;
		}
		if (json_object_object_get_ex(answer, "result", &value)) {
			*result = json_object_get(value);
			json_object_put(answer);
			return 0;
		}
		json_object_put(answer);
	}
}

/**
 * daemon_call() - ask for something
 * @params: taken over; may be NULL
 * @result: the caller's, on success
 *
 * Return: 0; an errno with a message printed.
 */
int daemon_call(struct daemon *daemon, const char *method, json_object *params,
		json_object **result)
{
	int ret;

	ret = send_request(daemon, method, params);
	return ret ? ret : read_result(daemon, result);
}

/**
 * daemon_tell() - ask for something to be done
 * @params: taken over
 * @json: print the answer, which otherwise says no more than that it is done
 *
 * Return: 0; an errno with a message printed.
 */
int daemon_tell(struct daemon *daemon, const char *method, json_object *params,
		bool json)
{
	json_object *result;
	int ret;

	ret = daemon_call(daemon, method, params, &result);
	if (ret)
		return ret;
	if (json)
		print_json(result);
	json_object_put(result);
	return 0;
}

/**
 * daemon_call_pages() - ask for a list, which comes in pages
 * @result: the first page's object, with the elements of those that follow
 *	added to its array @name
 *
 * Return: as of daemon_call().
 */
int daemon_call_pages(struct daemon *daemon, const char *method,
		      const char *name, json_object **result)
{
	json_object *page, *all, *next, *params;
	int ret;

	ret = daemon_call(daemon, method, NULL, result);
	if (ret)
		return ret;
	all = get_object(*result, name);
	while ((next = get_object(*result, "next"))) {
		params = json_object_new_object();
		json_object_object_add(params, "start", json_object_get(next));
		json_object_object_del(*result, "next");
		ret = daemon_call(daemon, method, params, &page);
		if (ret) {
			json_object_put(*result);
			return ret;
		}
		for (size_t i = 0;
		     i < json_object_array_length(get_object(page, name)); i++)
			json_object_array_add(
				all, json_object_get(json_object_array_get_idx(
					     get_object(page, name), i)));
		next = get_object(page, "next");
		if (next)
			json_object_object_add(*result, "next",
					       json_object_get(next));
		json_object_put(page);
	}
	return 0;
}

/**
 * daemon_open() - connect
 * @daemon: to be closed in any case
 *
 * Return: 0; an errno with a message printed.
 */
int daemon_open(struct daemon *daemon, const char *path,
		const struct ctl_options *options)
{
	*daemon = (struct daemon){
		.path = path,
		.device = options->device,
		.timeout_ms = ANSWER_TIMEOUT_MS,
		.fd = -1,
	};
	if (options->has_timeout && options->timeout_ms < ANSWER_TIMEOUT_MS)
		daemon->timeout_ms = options->timeout_ms;
	return connect_to(daemon);
}

void daemon_close(struct daemon *daemon)
{
	if (daemon->fd >= 0)
		close(daemon->fd);
	free(daemon->in);
}
