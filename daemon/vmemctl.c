// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl: show and change the memory of a VM, by its vmemd's control socket;
 * and, by vmemctl_metadata.c, show what KVM holds for any VM.
 *
 * One connection for one command. Answers are printed as tables for people, or
 * with --json as the daemon gave them; lists come in pages, which are put
 * together before anything is printed.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "size.h"
#include "vmemctl.h"

#define MSEC_PER_SEC  1000
#define NSEC_PER_MSEC 1000000
#define USEC_PER_MSEC 1000

/*
 * How long an answer may take. A resize is answered when the kernel has written
 * it down, which may have to wait for a change of memslots.
 */
#define ANSWER_TIMEOUT_MS (30 * MSEC_PER_SEC)

/* Longest line taken from the daemon; a page of a list has less than 1 MiB. */
#define LINE_MAX_BYTES (16U << 20)

/* What is read from the socket at once. */
#define READ_SIZE 65536

static const char help[] =
	"Usage: vmemctl [--control PATH] [--json] COMMAND\n"
	"\n"
	"Show and change the memory of a virtual machine whose virtio-mem device\n"
	"is served by vmemd.\n"
	"\n"
	"Commands:\n"
	"  status       sizes, memslots, and what KVM holds for them\n"
	"  resize SIZE  ask the guest to have SIZE of the region plugged\n"
	"    --wait         wait until it has, and show how far it is\n"
	"    --timeout S    with --wait: give up after S seconds; default: 60.\n"
	"                   The guest stays asked\n"
	"  slots        memslots of the region that exist in KVM\n"
	"  blocks       plugged blocks, as runs\n"
	"  watch        print a line whenever something changes, until stopped\n"
	"  metadata     what KVM holds for the memslots of any VM; without vmemd\n"
	"    --pid PID      of the VMs of a process\n"
	"    --fd N         of the VM whose descriptor vmemctl was started with\n"
	"    --top          of all VMs of this host, the most costly first\n"
	"    --memslots     with --pid or --fd: also of each memslot\n"
	"\n"
	"Options:\n"
	"      --control PATH  control socket of vmemd; default: VMEMD_CONTROL of\n"
	"                      the environment\n"
	"      --json          print JSON: the daemon's result object, and for\n"
	"                      watch and resize --wait one event per line\n"
	"      --version       print the version\n"
	"      --help          print this\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024; a\n"
	"multiple of the block size, at most the region's size.\n"
	"\n"
	"Exit status:\n"
	"  0  done\n"
	"  1  the daemon is not there, or refused; metadata: the module or the VM is\n"
	"     not there, or may not be looked into\n"
	"  2  the command line is wrong\n"
	"  3  resize --wait: the guest has not reached the size in time\n"
	"  4  the daemon is there and does not answer: within 30 seconds, or within\n"
	"     --timeout if that is less\n";

enum exit_status {
	EXIT_USAGE = 2,
	EXIT_TIMEOUT = 3,
	EXIT_NO_ANSWER = 4,
};

/**
 * struct ctl - this run
 * @path: control socket
 * @json: print JSON
 * @wait: wait for the guest
 * @timeout_ms: at most this long
 * @fd: connection
 * @in: bytes received, from the start of a line
 * @have: how many
 * @size: room in @in
 * @used: bytes of @in that the last line had, with its end
 * @id: of the last request
 * @metadata: what that command is about
 */
struct ctl {
	const char *path;
	bool json;
	bool wait;
	bool has_timeout;
	int64_t timeout_ms;
	int fd;
	char *in;
	size_t have;
	size_t size;
	size_t used;
	int64_t id;
	struct metadata_options metadata;
};

/** complain() - print a line of words on stderr */
void complain(const char *format, ...)
{
	va_list ap;

	fputs("vmemctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * MSEC_PER_SEC + ts.tv_nsec / NSEC_PER_MSEC;
}

/* --- Talking to the daemon --- */

static int64_t answer_timeout_ms(const struct ctl *ctl)
{
	return ctl->has_timeout && ctl->timeout_ms < ANSWER_TIMEOUT_MS
		       ? ctl->timeout_ms
		       : ANSWER_TIMEOUT_MS;
}

/* Return: -ETIME, with a message printed. */
static int no_answer(const struct ctl *ctl)
{
	complain("%s: vmemd does not answer", ctl->path);
	return -ETIME;
}

static int connect_daemon(struct ctl *ctl)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int64_t timeout = answer_timeout_ms(ctl);
	struct timeval limit = {
		.tv_sec = timeout / MSEC_PER_SEC,
		/* All 0 would be no limit. */
		.tv_usec = timeout % MSEC_PER_SEC * USEC_PER_MSEC + 1,
	};

	if (strlen(ctl->path) >= sizeof(addr.sun_path)) {
		complain("%s: the path is too long for a socket", ctl->path);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, ctl->path);
	ctl->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* One that does not accept keeps us waiting here, or in sending. */
	if (ctl->fd >= 0 &&
	    !setsockopt(ctl->fd, SOL_SOCKET, SO_SNDTIMEO, &limit,
			sizeof(limit)) &&
	    !connect(ctl->fd, (struct sockaddr *)&addr, sizeof(addr)))
		return 0;
	if (errno == EAGAIN)
		return no_answer(ctl);
	if (errno == ENOENT || errno == ECONNREFUSED)
		complain("%s: no vmemd listens there", ctl->path);
	else
		complain("%s: %s", ctl->path, strerror(errno));
	return -EIO;
}

static int more_room(struct ctl *ctl)
{
	size_t size = ctl->size + READ_SIZE;
	char *grown;

	if (ctl->have + READ_SIZE <= ctl->size)
		return 0;
	if (size > LINE_MAX_BYTES) {
		complain("an answer of more than %u bytes", LINE_MAX_BYTES);
		return -E2BIG;
	}
	grown = realloc(ctl->in, size);
	if (!grown) {
		complain("out of memory");
		return -ENOMEM;
	}
	ctl->in = grown;
	ctl->size = size;
	return 0;
}

/*
 * The next line from the daemon, as an object. Return: 0; -ETIMEDOUT at the
 * deadline; another errno, with a message printed.
 */
static int read_object(struct ctl *ctl, int64_t deadline, json_object **object)
{
	struct pollfd pfd = {.fd = ctl->fd, .events = POLLIN};
	char *end;

	if (ctl->used) {
		ctl->have -= ctl->used;
		memmove(ctl->in, ctl->in + ctl->used, ctl->have);
		ctl->used = 0;
	}
	while (!(end = ctl->have ? memchr(ctl->in, '\n', ctl->have) : NULL)) {
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
		ret = more_room(ctl);
		if (ret)
			return ret;
		got = read(ctl->fd, ctl->in + ctl->have, READ_SIZE);
		if (got <= 0) {
			complain("%s: vmemd has closed the connection",
				 ctl->path);
			return -EPIPE;
		}
		ctl->have += got;
	}
	*end = '\0';
	ctl->used = end - ctl->in + 1;
	*object = json_tokener_parse(ctl->in);
	if (!json_object_is_type(*object, json_type_object)) {
		complain("%s: not a vmemd's answer", ctl->path);
		json_object_put(*object);
		return -EBADMSG;
	}
	return 0;
}

/* Send a request. @params is taken over; it may be NULL. */
static int send_request(struct ctl *ctl, const char *method,
			json_object *params)
{
	json_object *request = json_object_new_object();
	const char *text;
	size_t length;
	int ret = 0;

	json_object_object_add(request, "id", json_object_new_int64(++ctl->id));
	json_object_object_add(request, "method",
			       json_object_new_string(method));
	if (params)
		json_object_object_add(request, "params", params);
	text = json_object_to_json_string_length(
		request, JSON_C_TO_STRING_PLAIN, &length);
	if (send(ctl->fd, text, length, MSG_NOSIGNAL | MSG_MORE) < 0 ||
	    send(ctl->fd, "\n", 1, MSG_NOSIGNAL) < 0) {
		ret = errno == EAGAIN ? no_answer(ctl) : -EIO;
		if (ret == -EIO)
			complain("%s: %s", ctl->path, strerror(errno));
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
static int read_result(struct ctl *ctl, json_object **result)
{
	int64_t deadline = now_ms() + answer_timeout_ms(ctl);
	json_object *answer, *value;
	int ret;

	for (;;) {
		ret = read_object(ctl, deadline, &answer);
		if (ret == -ETIMEDOUT)
			return no_answer(ctl);
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

static int call(struct ctl *ctl, const char *method, json_object *params,
		json_object **result)
{
	int ret;

	ret = send_request(ctl, method, params);
	return ret ? ret : read_result(ctl, result);
}

/* --- Printing --- */

static uint64_t get_size(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value)
		       ? json_object_get_uint64(value)
		       : 0;
}

static bool get_bool(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value) &&
	       json_object_get_boolean(value);
}

static const char *get_text(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value)
		       ? json_object_get_string(value)
		       : "";
}

static json_object *get_object(json_object *object, const char *name)
{
	json_object *value = NULL;

	json_object_object_get_ex(object, name, &value);
	return value;
}

/** print_json() - print an object as a line */
void print_json(json_object *object)
{
	puts(json_object_to_json_string_ext(
		object,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
}

static void print_size(const char *label, uint64_t size)
{
	char text[SIZE_TEXT_MAX];

	printf("%-18s %12s\n", label, size_format(size, text));
}

/* Requests that were not acknowledged, and how many were. */
static void print_requests(json_object *requests)
{
	json_object_object_foreach(requests, name, answers)
	{
		printf("%-18s %8" PRIu64 " ack %6" PRIu64 " nack %6" PRIu64
		       " busy %6" PRIu64 " error\n",
		       name, get_size(answers, "ack"),
		       get_size(answers, "nack"), get_size(answers, "busy"),
		       get_size(answers, "error"));
	}
}

static const char *driver_text(json_object *driver)
{
	if (!get_bool(driver, "connected"))
		return "no VMM connected";
	if (get_bool(driver, "broken"))
		return "broke its queue";
	return get_bool(driver, "ready") ? "ready" : "not ready";
}

static void print_metadata(json_object *metadata)
{
	if (!metadata) {
		printf("%-18s %12s\n", "metadata", "not known");
		return;
	}
	print_size("metadata", get_size(metadata, "total"));
	print_size("  memslot", get_size(metadata, "memslot"));
	print_size("  rmap", get_size(metadata, "rmap"));
	print_size("  lpage_info", get_size(metadata, "lpage_info"));
	print_size("  gfn_track", get_size(metadata, "gfn_track"));
	print_size("  dirty_bitmap", get_size(metadata, "dirty_bitmap"));
}

static void print_status(json_object *status)
{
	const char *failure = get_text(status, "last_failure");

	printf("%-18s   0x%" PRIx64 "\n", "guest address",
	       get_size(status, "gpa"));
	print_size("region", get_size(status, "region_size"));
	print_size("block", get_size(status, "block_size"));
	print_size("slot", get_size(status, "slot_size"));
	print_size("usable", get_size(status, "usable_region_size"));
	print_size("requested", get_size(status, "requested_size"));
	print_size("plugged", get_size(status, "plugged_size"));
	printf("%-18s %8" PRIu64 " of %" PRIu64 "%s\n", "populated slots",
	       get_size(status, "populated_slots"),
	       get_size(status, "nr_slots"),
	       get_size(status, "address_spaces") & 2
		       ? ", in two address spaces"
		       : "");
	print_metadata(get_object(status, "metadata"));
	printf("%-18s %8s %s\n", "driver", "",
	       driver_text(get_object(status, "driver")));
	printf("%-18s %8" PRIu64 "\n", "VMM process",
	       get_size(status, "vmm_pid"));
	print_requests(get_object(status, "requests"));
	if (*failure)
		printf("%-18s %s\n", "last failure", failure);
}

static void print_slots(json_object *result)
{
	json_object *slots = get_object(result, "slots");
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	char text[SIZE_TEXT_MAX];

	printf("%5s  %-18s %12s %12s %12s\n", "id", "guest address", "size",
	       "plugged", "metadata");
	for (size_t i = 0; i < json_object_array_length(slots); i++) {
		json_object *slot = json_object_array_get_idx(slots, i);
		json_object *metadata = get_object(slot, "metadata");

		strcpy(text, "not known");
		if (metadata)
			size_format(get_size(metadata, "total"), text);
		printf("%5" PRIu64 "  0x%-16" PRIx64 " %12s %12s %12s%s\n",
		       get_size(slot, "id"), get_size(slot, "gpa"),
		       size_format(get_size(slot, "size"), size),
		       size_format(get_size(slot, "plugged_size"), plugged),
		       text, get_bool(slot, "stale") ? "  stale" : "");
	}
}

static void print_blocks(json_object *result)
{
	json_object *runs = get_object(result, "runs");
	uint64_t block_size = get_size(result, "block_size");
	char size[SIZE_TEXT_MAX];

	printf("%-18s %12s %8s\n", "guest address", "size", "blocks");
	for (size_t i = 0; i < json_object_array_length(runs); i++) {
		json_object *run = json_object_array_get_idx(runs, i);

		printf("0x%-16" PRIx64 " %12s %8" PRIu64 "\n",
		       get_size(run, "gpa"),
		       size_format(get_size(run, "size"), size),
		       block_size ? get_size(run, "size") / block_size : 0);
	}
}

static void print_event(const struct ctl *ctl, json_object *event)
{
	char plugged[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];
	const char *failure = get_text(event, "last_failure");
	const char *name = get_text(event, "event");

	if (ctl->json) {
		print_json(event);
		return;
	}
	if (!strcmp(name, "lost")) {
		printf("%" PRIu64 " events lost\n", get_size(event, "count"));
	} else if (!strcmp(name, "state")) {
		printf("plugged %s of %s requested, %" PRIu64
		       " slots, %s%s%s\n",
		       size_format(get_size(event, "plugged_size"), plugged),
		       size_format(get_size(event, "requested_size"),
				   requested),
		       get_size(event, "populated_slots"), driver_text(event),
		       *failure ? ", last failure: " : "", failure);
	} else {
		puts(name);
	}
	fflush(stdout);
}

/* --- Commands --- */

static int do_status(struct ctl *ctl)
{
	json_object *result;
	int ret;

	ret = call(ctl, "status", NULL, &result);
	if (ret)
		return ret;
	if (ctl->json)
		print_json(result);
	else
		print_status(result);
	json_object_put(result);
	return 0;
}

/*
 * A list that comes in pages: the first page's object, with the elements of
 * those that follow added to its array @name.
 */
static int call_pages(struct ctl *ctl, const char *method, const char *name,
		      json_object **result)
{
	json_object *page, *all, *next, *params;
	int ret;

	ret = call(ctl, method, NULL, result);
	if (ret)
		return ret;
	all = get_object(*result, name);
	while ((next = get_object(*result, "next"))) {
		params = json_object_new_object();
		json_object_object_add(params, "start", json_object_get(next));
		json_object_object_del(*result, "next");
		ret = call(ctl, method, params, &page);
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

static int do_list(struct ctl *ctl, const char *method, const char *name,
		   void (*print)(json_object *result))
{
	json_object *result;
	int ret;

	ret = call_pages(ctl, method, name, &result);
	if (ret)
		return ret;
	if (ctl->json)
		print_json(result);
	else
		print(result);
	json_object_put(result);
	return 0;
}

static int do_watch(struct ctl *ctl)
{
	json_object *object;
	int ret;

	ret = call(ctl, "watch", NULL, &object);
	if (ret)
		return ret;
	json_object_put(object);
	for (;;) {
		ret = read_object(ctl, -1, &object);
		if (ret)
			return ret;
		print_event(ctl, object);
		json_object_put(object);
	}
}

/* Why has the guest not done what it was asked for? */
static void explain_stall(json_object *event, uint64_t size)
{
	char plugged[SIZE_TEXT_MAX], wanted[SIZE_TEXT_MAX];
	const char *failure = get_text(event, "last_failure");
	const char *why;

	if (!get_bool(event, "connected"))
		why = "no VMM is connected to vmemd";
	else if (!get_bool(event, "ready"))
		why = "the guest has no virtio_mem driver that is ready";
	else if (*failure)
		why = failure;
	else if (get_size(event, "plugged_size") > size)
		why = "the guest cannot give back memory that is in use";
	else
		why = "the guest does not plug more";
	complain("stalled at %s of %s: %s",
		 size_format(get_size(event, "plugged_size"), plugged),
		 size_format(size, wanted), why);
}

/* Return: 1 reached, 0 not yet, or an errno with a message printed. */
static int progress(struct ctl *ctl, json_object *event, uint64_t size)
{
	char wanted[SIZE_TEXT_MAX];

	print_event(ctl, event);
	if (get_size(event, "requested_size") != size) {
		complain(
			"the guest was asked for %s meanwhile",
			size_format(get_size(event, "requested_size"), wanted));
		return -ECANCELED;
	}
	return get_size(event, "plugged_size") == size;
}

static int wait_for(struct ctl *ctl, uint64_t size)
{
	int64_t deadline = now_ms() + ctl->timeout_ms;
	json_object *event, *last = NULL;
	int ret;

	/* The first event after "watch" is the state as it is. */
	ret = call(ctl, "watch", NULL, &event);
	if (ret)
		return ret;
	json_object_put(event);
	do {
		ret = read_object(ctl, deadline, &event);
		if (ret)
			break;
		if (strcmp(get_text(event, "event"), "state")) {
			json_object_put(event);
			continue;
		}
		json_object_put(last);
		last = event;
		ret = progress(ctl, event, size);
	} while (!ret);
	if (ret == -ETIMEDOUT)
		explain_stall(last, size);
	json_object_put(last);
	return ret < 0 ? ret : 0;
}

static int do_resize(struct ctl *ctl, const char *text)
{
	json_object *params, *result;
	uint64_t size;
	int ret;

	if (size_parse(text, &size)) {
		complain("resize %s: not a size", text);
		return -EINVAL;
	}
	params = json_object_new_object();
	json_object_object_add(params, "size", json_object_new_uint64(size));
	ret = call(ctl, "resize", params, &result);
	if (ret)
		return ret;
	if (ctl->json && !ctl->wait)
		print_json(result);
	json_object_put(result);
	return ctl->wait ? wait_for(ctl, size) : 0;
}

/* --- The command line --- */

/* Most seconds of --timeout: its milliseconds fit an int for poll(2). */
#define TIMEOUT_MAX_S 86400

enum {
	OPT_CONTROL = 1,
	OPT_JSON,
	OPT_WAIT,
	OPT_TIMEOUT,
	OPT_PID,
	OPT_FD,
	OPT_TOP,
	OPT_MEMSLOTS,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"control", required_argument, NULL, OPT_CONTROL},
	{"json", no_argument, NULL, OPT_JSON},
	{"wait", no_argument, NULL, OPT_WAIT},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"pid", required_argument, NULL, OPT_PID},
	{"fd", required_argument, NULL, OPT_FD},
	{"top", no_argument, NULL, OPT_TOP},
	{"memslots", no_argument, NULL, OPT_MEMSLOTS},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{},
};

static int parse_timeout(struct ctl *ctl, const char *text)
{
	char *end;
	double seconds;

	seconds = strtod(text, &end);
	if (end == text || *end || !(seconds >= 0) || seconds > TIMEOUT_MAX_S) {
		complain("--timeout %s: not a number of seconds from 0 to %d",
			 text, TIMEOUT_MAX_S);
		return -EINVAL;
	}
	ctl->has_timeout = true;
	ctl->timeout_ms = (int64_t)(seconds * MSEC_PER_SEC);
	return 0;
}

/* A number of a process or descriptor. */
static int parse_number(const char *option, const char *text, int least,
			int *number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end || errno || value < least || value > INT_MAX) {
		complain("%s %s: not a number from %d to %d", option, text,
			 least, INT_MAX);
		return -EINVAL;
	}
	*number = (int)value;
	return 0;
}

/* Return: 0; 1 done; -EINVAL with a message printed. */
static int parse_options(struct ctl *ctl, int argc, char **argv)
{
	int opt;

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		switch (opt) {
		case OPT_CONTROL:
			ctl->path = optarg;
			break;
		case OPT_JSON:
			ctl->json = true;
			break;
		case OPT_WAIT:
			ctl->wait = true;
			break;
		case OPT_TIMEOUT:
			if (parse_timeout(ctl, optarg))
				return -EINVAL;
			break;
		case OPT_PID:
			if (parse_number("--pid", optarg, 1,
					 &ctl->metadata.pid))
				return -EINVAL;
			break;
		case OPT_FD:
			if (parse_number("--fd", optarg, 0, &ctl->metadata.fd))
				return -EINVAL;
			ctl->metadata.has_fd = true;
			break;
		case OPT_TOP:
			ctl->metadata.top = true;
			break;
		case OPT_MEMSLOTS:
			ctl->metadata.memslots = true;
			break;
		case OPT_VERSION:
			puts("vmemctl " VMEM_VERSION);
			return 1;
		case OPT_HELP:
			fputs(help, stdout);
			return 1;
		default:
			fputs("Try 'vmemctl --help'.\n", stderr);
			return -EINVAL;
		}
	}
	return 0;
}

/* Options that are for "metadata" are given with it, and as it takes them. */
static int check_metadata(const struct ctl *ctl, bool metadata)
{
	const struct metadata_options *m = &ctl->metadata;
	int which = !!m->pid + m->has_fd + m->top;

	if (!metadata && (which || m->memslots)) {
		complain("--pid, --fd, --top and --memslots are for metadata");
		return -EINVAL;
	}
	if (metadata && which != 1) {
		complain("metadata takes one of --pid, --fd and --top");
		return -EINVAL;
	}
	if (m->top && m->memslots) {
		complain("--memslots is for metadata of one VM");
		return -EINVAL;
	}
	return 0;
}

/* Is it a command, with as many arguments as it takes? */
static int check_command(const struct ctl *ctl, int argc, char **argv)
{
	static const char *const commands[] = {"status", "resize", "slots",
					       "blocks", "watch",  "metadata"};
	bool known = false, resize, metadata;

	if (!argc) {
		complain("no command; try 'vmemctl --help'");
		return -EINVAL;
	}
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		known |= !strcmp(argv[0], commands[i]);
	if (!known) {
		complain("no command \"%s\"; try 'vmemctl --help'", argv[0]);
		return -EINVAL;
	}
	resize = !strcmp(argv[0], "resize");
	metadata = !strcmp(argv[0], "metadata");
	if (argc != 1 + resize) {
		complain("%s takes %s", argv[0],
			 resize ? "one argument, the size" : "no argument");
		return -EINVAL;
	}
	if ((ctl->wait || ctl->has_timeout) && !resize) {
		complain("--wait and --timeout are for resize");
		return -EINVAL;
	}
	if (ctl->has_timeout && !ctl->wait) {
		complain("--timeout is for resize --wait");
		return -EINVAL;
	}
	if (check_metadata(ctl, metadata))
		return -EINVAL;
	if (!ctl->path && !metadata) {
		complain("no control socket: give --control PATH, or set "
			 "VMEMD_CONTROL");
		return -EINVAL;
	}
	return 0;
}

static int run(struct ctl *ctl, char **argv)
{
	if (!strcmp(argv[0], "status"))
		return do_status(ctl);
	if (!strcmp(argv[0], "resize"))
		return do_resize(ctl, argv[1]);
	if (!strcmp(argv[0], "slots"))
		return do_list(ctl, "slots", "slots", print_slots);
	if (!strcmp(argv[0], "blocks"))
		return do_list(ctl, "blocks", "runs", print_blocks);
	return do_watch(ctl);
}

int main(int argc, char **argv)
{
	struct ctl ctl = {
		.path = getenv("VMEMD_CONTROL"),
		.timeout_ms = 60 * MSEC_PER_SEC,
		.fd = -1,
	};
	int ret;

	ret = parse_options(&ctl, argc, argv);
	if (ret)
		return ret < 0 ? EXIT_USAGE : EXIT_SUCCESS;
	argc -= optind;
	argv += optind;
	if (check_command(&ctl, argc, argv))
		return EXIT_USAGE;

	if (!strcmp(argv[0], "metadata")) {
		ctl.metadata.json = ctl.json;
		return vmemctl_metadata(&ctl.metadata) ? EXIT_FAILURE
						       : EXIT_SUCCESS;
	}

	ret = connect_daemon(&ctl);
	if (!ret)
		ret = run(&ctl, argv);
	if (ctl.fd >= 0)
		close(ctl.fd);
	free(ctl.in);
	if (ret == -ETIMEDOUT)
		return EXIT_TIMEOUT;
	if (ret == -ETIME)
		return EXIT_NO_ANSWER;
	if (ret == -EINVAL)
		return EXIT_USAGE;
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
