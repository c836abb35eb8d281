// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The connection of a command to a vmemd. Requests and answers are JSON, one
 * object per line. Lists arrive in pages. The other end is
 * vmemd/control/socket.c.
 *
 * The listening process is not trusted. All answers of a command share one
 * deadline, so many small answers, or an answer that arrives byte by byte, take
 * no longer than a missing answer. The lengths of lines and lists are bounded.
 * An answer is accepted only if it has the id of the last request.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "common/json_member.h"
#include "daemon_call.h"

/*
 * Default time limit for an answer. A resize is answered after the kernel has
 * stored the requested size, which may have to wait for a change of memslots.
 */
#define ANSWER_TIMEOUT_MS (30 * MSEC_PER_SEC)

/* Maximum length of a received line; a page of a list has less than 1 MiB. */
#define LINE_MAX_BYTES (2U << 20)

/* Buffer size for an error; a longer one is cut. */
#define REPORT_MAX 4096

/* Maximum number of bytes of one read. */
#define READ_SIZE 65536

/* Print an error, unless the command reports errors in its own way. */
static void __attribute__((format(printf, 2, 3)))
report(const struct daemon *daemon, const char *format, ...)
{
	char text[REPORT_MAX];
	va_list ap;

	if (daemon->quiet)
		return;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	ctl_complain("%s", text);
}

/**
 * daemon_not_vmemd() - print that the answer does not follow the protocol
 *
 * Return: -EBADMSG.
 */
int daemon_not_vmemd(const struct daemon *daemon)
{
	report(daemon, "%s: not a vmemd's answer", daemon->path);
	return -EBADMSG;
}

/* Print that vmemd does not answer. Return: -ETIME. */
static int no_answer(const struct daemon *daemon)
{
	report(daemon, "%s: vmemd does not answer", daemon->path);
	return -ETIME;
}

/**
 * daemon_begin() - start the time limit of answers again
 *
 * daemon_open() starts the time limit. A command that has waited for something
 * else, or that repeats its requests, starts it again.
 */
void daemon_begin(struct daemon *daemon)
{
	daemon->deadline = ctl_now_ms() + daemon->timeout_ms;
}

/** daemon_is_of() - check whether process @pid is the one that listens */
bool daemon_is_of(const struct daemon *daemon, pid_t pid)
{
	socklen_t size = sizeof(struct ucred);
	struct ucred peer;

	return !getsockopt(daemon->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) &&
	       peer.pid == pid;
}

static int connect_to(struct daemon *daemon)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int64_t timeout = daemon->timeout_ms;
	struct timeval limit = {
		.tv_sec = timeout / MSEC_PER_SEC,
		/* A value of 0 would mean no limit. */
		.tv_usec = timeout % MSEC_PER_SEC * USEC_PER_MSEC + 1,
	};
	int error;

	if (strlen(daemon->path) >= sizeof(addr.sun_path)) {
		report(daemon, "%s: the path is too long for a socket",
		       daemon->path);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, daemon->path);
	daemon->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* SO_SNDTIMEO limits connect() too, if the listener does not accept. */
	if (daemon->fd >= 0 &&
	    !setsockopt(daemon->fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
			sizeof(limit)) &&
	    !connect(daemon->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	error = errno;
	if (error == EAGAIN)
		return no_answer(daemon);
	if (error == ENOENT || error == ECONNREFUSED)
		report(daemon, "%s: no vmemd listens there", daemon->path);
	else
		report(daemon, "%s: %s", daemon->path, strerror(error));
	return error == EACCES ? -EACCES : -EIO;
}

static int more_room(struct daemon *daemon)
{
	size_t size = daemon->size + READ_SIZE;
	char *grown;

	if (daemon->have + READ_SIZE <= daemon->size)
		return 0;
	if (size > LINE_MAX_BYTES) {
		report(daemon, "an answer of more than %u bytes",
		       LINE_MAX_BYTES);
		return -E2BIG;
	}
	grown = realloc(daemon->in, size);
	if (!grown) {
		ctl_complain("out of memory");
		return -ENOMEM;
	}
	daemon->in = grown;
	daemon->size = size;
	return 0;
}

/*
 * Wait for input.
 *
 * Return: 0; -EAGAIN: call again; other errnos as daemon_read().
 */
static int await_input(const struct daemon *daemon, int64_t deadline)
{
	struct pollfd pfds[] = {
		{.fd = daemon->fd, .events = POLLIN},
		/* poll() ignores negative descriptors. */
		{.fd = daemon->wake_fd, .events = POLLIN},
	};
	int64_t left = deadline - ctl_now_ms();
	int ret;

	if (deadline >= 0 && left <= 0)
		return -ETIMEDOUT;
	ret = poll(pfds, 2, deadline < 0 ? -1 : (int)left);
	if (ret < 0 && errno != EINTR) {
		ret = -errno;
		report(daemon, "poll: %s", strerror(-ret));
		return ret;
	}
	if (ret > 0 && pfds[1].revents)
		return -EINTR;
	return ret > 0 ? 0 : -EAGAIN;
}

/* Parse a line without its newline. Return: an object; NULL: invalid. */
static json_object *parse_line(const char *line, size_t length)
{
	struct json_tokener *tokener = json_tokener_new();
	json_object *object = NULL;

	if (!tokener)
		return NULL;
	object = json_tokener_parse_ex(tokener, line, (int)length);
	/* The parser stops early at a zero byte. */
	if (json_tokener_get_error(tokener) != json_tokener_success ||
	    json_tokener_get_parse_end(tokener) < length ||
	    !json_object_is_type(object, json_type_object)) {
		json_object_put(object);
		object = NULL;
	}
	json_tokener_free(tokener);
	return object;
}

/**
 * daemon_read() - read the next line
 * @daemon: the connection
 * @deadline: in the time of ctl_now_ms(); negative: none
 * @object: out: the object of the line, owned by the caller
 *
 * Return: 0; -ETIMEDOUT: the deadline has passed; -EINTR: @daemon->wake_fd is
 * readable; another errno after printing an error.
 */
int daemon_read(struct daemon *daemon, int64_t deadline, json_object **object)
{
	char *end;

	if (daemon->used) {
		daemon->have -= daemon->used;
		memmove(daemon->in, daemon->in + daemon->used, daemon->have);
		daemon->used = 0;
	}
	while (!(end = daemon->have ? memchr(daemon->in, '\n', daemon->have)
				    : NULL)) {
		ssize_t got;
		int ret;

		ret = await_input(daemon, deadline);
		if (ret == -EAGAIN)
			continue;
		if (!ret)
			ret = more_room(daemon);
		if (ret)
			return ret;
		got = read(daemon->fd, daemon->in + daemon->have, READ_SIZE);
		if (got <= 0) {
			report(daemon, "%s: vmemd has closed the connection",
			       daemon->path);
			return -EPIPE;
		}
		daemon->have += got;
	}
	*end = '\0';
	daemon->used = end - daemon->in + 1;
	*object = parse_line(daemon->in, daemon->used - 1);
	return *object ? 0 : daemon_not_vmemd(daemon);
}

/* Send a request. Takes over the reference to @params, which may be NULL. */
static int send_request(struct daemon *daemon, const char *method,
			json_object *params)
{
	json_object *request = json_object_new_object();
	const char *text;
	size_t length;
	int ret = 0;

	json_add_size(request, "id", ++daemon->id);
	json_add_text(request, "method", method);
	if (daemon->device && !params)
		params = json_object_new_object();
	if (daemon->device)
		json_add_text(params, "device", daemon->device);
	if (params)
		json_object_object_add(request, "params", params);
	text = json_object_to_json_string_length(
		request, JSON_C_TO_STRING_PLAIN, &length);
	if (send(daemon->fd, text, length, MSG_NOSIGNAL | MSG_MORE) < 0 ||
	    send(daemon->fd, "\n", 1, MSG_NOSIGNAL) < 0) {
		if (errno == EAGAIN)
			ret = no_answer(daemon);
		else if (errno != EPIPE && errno != ECONNRESET)
			ret = -EIO;
		/* If vmemd has closed, read_result() may find the reason. */
		if (ret == -EIO)
			report(daemon, "%s: %s", daemon->path, strerror(errno));
	}
	json_object_put(request);
	return ret;
}

static int complain_of_error(struct daemon *daemon, json_object *error)
{
	const char *text = answer_text(error, "message");
	const char *name = answer_text(error, "code");

	report(daemon, "%s (%s)", *text ? text : "no reason given",
	       *name ? name : "error");
	snprintf(daemon->refusal, sizeof(daemon->refusal), "%s", name);
	return -EREMOTEIO;
}

/*
 * Is this the answer to the last request? The id is null if vmemd has refused
 * the request without parsing it.
 */
static bool is_answer(const struct daemon *daemon, json_object *answer,
		      bool refused)
{
	json_object *id;

	if (!json_object_object_get_ex(answer, "id", &id))
		return false;
	if (!id)
		return refused;
	return json_object_is_type(id, json_type_int) &&
	       json_object_get_int64(id) == daemon->id;
}

/*
 * Process a line.
 *
 * Return: 1: not an answer to the last request; 0: @result is set; a negative
 * errno after printing an error.
 */
static int take_answer(struct daemon *daemon, json_object *answer,
		       json_object **result)
{
	json_object *value;

	if (json_object_object_get_ex(answer, "error", &value))
		return is_answer(daemon, answer, true)
			       ? complain_of_error(daemon, value)
			       : 1;
	if (!json_object_object_get_ex(answer, "result", &value) ||
	    !is_answer(daemon, answer, false))
		return 1;
	if (!json_object_is_type(value, json_type_object))
		return daemon_not_vmemd(daemon);
	*result = json_object_get(value);
	return 0;
}

/*
 * Wait for the answer to the last request. Events that arrive before it are
 * ignored, because they describe an older state. Answers to earlier requests
 * are ignored too.
 */
static int read_result(struct daemon *daemon, json_object **result)
{
	json_object *answer;
	int ret;

	do {
		ret = daemon_read(daemon, daemon->deadline, &answer);
		if (ret == -ETIMEDOUT)
			return no_answer(daemon);
		if (ret)
			return ret;
		ret = take_answer(daemon, answer, result);
		json_object_put(answer);
	} while (ret == 1);
	return ret;
}

/**
 * daemon_call() - call a method
 * @daemon: the connection
 * @method: name of the method
 * @params: parameters, or NULL; the function takes over the reference
 * @result: out: the result, owned by the caller
 *
 * Return: 0, or a negative errno after printing an error: -ETIME without an
 * answer in time, -EREMOTEIO if vmemd has refused.
 */
int daemon_call(struct daemon *daemon, const char *method, json_object *params,
		json_object **result)
{
	int ret;

	ret = send_request(daemon, method, params);
	return ret ? ret : read_result(daemon, result);
}

/**
 * daemon_tell() - call a method that has no result to show
 * @daemon: the connection
 * @method: name of the method
 * @params: parameters; the function takes over the reference
 * @json: print the result as JSON
 *
 * Return: as daemon_call().
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
		ctl_print_json(result);
	json_object_put(result);
	return 0;
}

/* Append the elements of a page, and note where the next page begins. */
static void add_page(json_object *result, json_object *page, const char *name)
{
	json_object *all = answer_array(result, name);
	json_object *more = answer_array(page, name);

	for (size_t i = 0; i < answer_array_length(more); i++)
		json_object_array_add(
			all,
			json_object_get(json_object_array_get_idx(more, i)));
	if (answer_has_size(page, "next"))
		json_add_size(result, "next", answer_size(page, "next"));
}

/**
 * daemon_call_pages() - get a list that vmemd returns in pages
 * @daemon: the connection
 * @method: name of the method
 * @name: name of the array in the result
 * @result: out: the object of the first page, with the elements of all pages in
 *	its array. If the list is longer than DAEMON_LIST_MAX, the object still
 *	has the member "next".
 *
 * Return: as daemon_call().
 */
int daemon_call_pages(struct daemon *daemon, const char *method,
		      const char *name, json_object **result)
{
	json_object *page, *params;
	uint64_t start = 0;
	int ret;

	ret = daemon_call(daemon, method, NULL, result);
	if (ret)
		return ret;
	while (answer_has_size(*result, "next") &&
	       answer_array_length(answer_array(*result, name)) <=
		       DAEMON_LIST_MAX) {
		/* Require progress, so that the loop ends. */
		if (answer_size(*result, "next") <= start ||
		    !answer_array(*result, name)) {
			json_object_put(*result);
			return daemon_not_vmemd(daemon);
		}
		start = answer_size(*result, "next");
		params = json_object_new_object();
		json_add_size(params, "start", start);
		json_object_object_del(*result, "next");
		ret = daemon_call(daemon, method, params, &page);
		if (ret) {
			json_object_put(*result);
			return ret;
		}
		add_page(*result, page, name);
		json_object_put(page);
	}
	return 0;
}

/**
 * daemon_open() - connect to a vmemd
 * @daemon: out: the connection; the caller calls daemon_close() also on failure
 * @path: path of the control socket
 * @options: the command line
 *
 * Return: 0; a negative errno after printing an error.
 */
int daemon_open(struct daemon *daemon, const char *path,
		const struct ctl_options *options)
{
	*daemon = (struct daemon){
		.path = path,
		.device = options->device,
		.quiet = options->quiet,
		.timeout_ms = ANSWER_TIMEOUT_MS,
		.fd = -1,
		.wake_fd = -1,
	};
	if (options->has_timeout && options->timeout_ms < ANSWER_TIMEOUT_MS)
		daemon->timeout_ms = options->timeout_ms;
	daemon_begin(daemon);
	return connect_to(daemon);
}

void daemon_close(struct daemon *daemon)
{
	if (daemon->fd >= 0)
		close(daemon->fd);
	free(daemon->in);
}
