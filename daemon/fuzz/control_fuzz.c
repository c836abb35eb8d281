// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Operators that are fuzzers: several clients at the control socket, whose
 * lines come whole, in bits or several at once, with descriptors anywhere in
 * them, who watch, wait for a resize, do not read, and leave.
 *
 * The methods are this target's: what the daemon's own ones do with the kernel
 * is not reached from here. These take descriptors, answer late, refuse, and
 * give answers that fill the socket.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control.h"
#include "fuzz.h"

#define NR_CLIENTS 3
#define NR_LATE	   8

/* Of one that a client sends at once, from the input. */
#define SEND_MAX 255

/* An answer that does not fit into the socket's buffer. */
#define LARGE_ANSWER (6 << 10)

/* Least that the kernel gives a socket. */
#define SOCKET_BUFFER 4608

enum step {
	STEP_SEND,
	STEP_SEND_FDS,
	STEP_TURN,
	STEP_READ,
	STEP_LEAVE,
	STEP_SHUT,
	STEP_PUBLISH,
	STEP_ANSWER,
	STEP_LONG,
	STEP_LINE,
	STEP_NR,
};

/**
 * struct client - our end of a connection
 * @newlines: sent, each of which ends at most one request
 * @answers: that came, events not counted
 * @line: of an answer that is not complete
 */
struct client {
	int fd;
	uint64_t newlines;
	uint64_t answers;
	char *line;
	size_t have;
	size_t room;
};

static sd_event *event;
static struct control control;
static struct client clients[NR_CLIENTS];
static struct json_tokener *tokener;
static uint64_t late[NR_LATE];
static size_t nr_late;
static uint64_t requested;
static uint64_t plugged;
static int fd_kinds[3];

static int handle_status(struct control_call *call,
			 void *arg __attribute__((unused)))
{
	call->result = json_object_new_object();
	json_object_object_add(call->result, "plugged_size",
			       json_object_new_uint64(plugged));
	return 0;
}

static int handle_resize(struct control_call *call,
			 void *arg __attribute__((unused)))
{
	uint64_t size;
	int ret = control_get_size(call, "size", &size);

	if (ret) {
		strcpy(call->message, "\"size\" is a number of bytes");
		return ret;
	}
	requested = size;
	if (size & 1 && nr_late < NR_LATE) {
		late[nr_late++] = call->token;
		return -EINPROGRESS;
	}
	call->result = json_object_new_object();
	return 0;
}

/* Takes the first, looks at the others. */
static int handle_attach(struct control_call *call,
			 void *arg __attribute__((unused)))
{
	for (size_t i = 0; i < call->nr_fds; i++)
		fuzz_require(fcntl(call->fds[i], F_GETFD) >= 0);
	if (!call->nr_fds) {
		strcpy(call->message, "no descriptors");
		return -EINVAL;
	}
	close(call->fds[0]);
	call->fds[0] = -1;
	call->result = json_object_new_object();
	return 0;
}

static int handle_blocks(struct control_call *call,
			 void *arg __attribute__((unused)))
{
	static char text[LARGE_ANSWER];

	memset(text, 'x', sizeof(text));
	call->result = json_object_new_object();
	json_object_object_add(call->result, "text",
			       json_object_new_string_len(text, sizeof(text)));
	return 0;
}

static json_object *new_event(unsigned int device,
			      void *arg __attribute__((unused)))
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "event",
			       json_object_new_string("state"));
	json_object_object_add(object, "device",
			       json_object_new_uint64(device));
	json_object_object_add(object, "plugged_size",
			       json_object_new_uint64(plugged));
	return object;
}

static int reached(unsigned int device __attribute__((unused)), uint64_t size,
		   void *arg __attribute__((unused)))
{
	if (requested != size)
		return -ECANCELED;
	return plugged == size;
}

static const struct control_method methods[] = {
	{"status", handle_status},
	{"resize", handle_resize},
	{"attach", handle_attach},
	{"blocks", handle_blocks},
	{},
};

static unsigned int nr_subjects(void *arg __attribute__((unused)))
{
	return 2;
}

/* Of one, or of both. */
static int watch(struct control_call *call, void *arg __attribute__((unused)))
{
	uint64_t device;

	call->subject = CONTROL_ALL_SUBJECTS;
	if (control_get_size(call, "device", &device))
		return 0;
	call->subject = (unsigned int)(device & 1);
	return device < 2 ? 0 : -ENOENT;
}

static const struct control_ops ops = {
	.methods = methods,
	.nr_subjects = nr_subjects,
	.watch = watch,
	.event = new_event,
	.reached = reached,
};

void fuzz_set_up(void)
{
	fuzz_require(sd_event_new(&event) >= 0);
	control_init(&control, event, &ops, NULL);
	tokener = json_tokener_new();
	fuzz_require(tokener);
	fd_kinds[0] = open("/dev/null", O_RDWR);
	fd_kinds[1] = memfd_create("memory", 0);
	fd_kinds[2] = socket(AF_UNIX, SOCK_STREAM, 0);
	for (int i = 0; i < NR_CLIENTS; i++)
		clients[i].fd = -1;
}

static void turn(void)
{
	int ret;

	do
		ret = sd_event_run(event, 0);
	while (ret > 0);
	fuzz_require(!ret);
	fuzz_require(control.nr_clients <= NR_CLIENTS);
}

/* An answer or an event: one object in a line. */
static void check_line(struct client *client)
{
	json_object *object, *id, *part;

	json_tokener_reset(tokener);
	object =
		json_tokener_parse_ex(tokener, client->line, (int)client->have);
	fuzz_require(json_object_is_type(object, json_type_object));
	if (json_object_object_get_ex(object, "event", &part)) {
		json_object_put(object);
		return;
	}
	fuzz_require(json_object_object_get_ex(object, "id", &id));
	fuzz_require(json_object_object_get_ex(object, "result", &part) !=
		     json_object_object_get_ex(object, "error", &part));
	json_object_put(object);
	/* A line that is too long, and descriptors that are too many. */
	client->answers++;
	fuzz_require(client->answers <= client->newlines + 1);
}

static void take(struct client *client, const char *bytes, size_t size)
{
	while (size) {
		const char *end = memchr(bytes, '\n', size);
		size_t part = end ? (size_t)(end - bytes) : size;

		while (client->room - client->have < part) {
			client->room = client->room ? client->room * 2 : 4096;
			client->line = realloc(client->line, client->room);
			fuzz_require(client->line);
		}
		memcpy(client->line + client->have, bytes, part);
		client->have += part;
		if (!end)
			return;
		check_line(client);
		client->have = 0;
		bytes += part + 1;
		size -= part + 1;
	}
}

static void read_some(struct client *client)
{
	static char bytes[256 << 10];
	ssize_t got;

	if (client->fd < 0)
		return;
	got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (got > 0)
		take(client, bytes, (size_t)got);
}

static void leave(struct client *client)
{
	if (client->fd < 0)
		return;
	close(client->fd);
	client->fd = -1;
	client->newlines = 0;
	client->answers = 0;
	client->have = 0;
}

static struct client *choose_client(struct fuzz_input *in)
{
	return &clients[fuzz_u8(in) % NR_CLIENTS];
}

/* One that is connected from now on. */
static struct client *choose_connected(struct fuzz_input *in)
{
	struct client *client = choose_client(in);
	int pair[2], size = SOCKET_BUFFER;

	if (client->fd >= 0)
		return client;
	fuzz_require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	fuzz_require(!setsockopt(pair[1], SOL_SOCKET, SO_SNDBUF, &size,
				 sizeof(size)));
	fuzz_require(!control_add_client(&control, pair[1]));
	client->fd = pair[0];
	return client;
}

static void send_some(struct client *client, const void *bytes, size_t size,
		      const int *fds, size_t nr_fds)
{
	const char *text = bytes;
	ssize_t sent;

	if (!size)
		return;
	sent = fuzz_send(client->fd, bytes, size, fds, nr_fds);
	for (ssize_t i = 0; i < sent; i++)
		client->newlines += text[i] == '\n';
}

static void send_input(struct fuzz_input *in, struct client *client,
		       bool with_fds)
{
	uint8_t bytes[SEND_MAX];
	size_t size = fuzz_u8(in), nr_fds = 0;
	int fds[FUZZ_FDS_MAX];

	if (with_fds) {
		uint8_t how = fuzz_u8(in);

		nr_fds = how & 0xf;
		for (size_t i = 0; i < nr_fds; i++)
			fds[i] = fd_kinds[(how >> 4) % 3];
	}
	if (size > in->left)
		size = in->left;
	fuzz_bytes(in, bytes, size);
	send_some(client, bytes, size, fds, nr_fds);
}

/* A request that is right but for what the input puts into it. */
static void send_line(struct fuzz_input *in, struct client *client)
{
	static const char *const names[] = {"status", "resize", "attach",
					    "blocks", "watch",	"nothing"};
	char line[256];
	uint8_t how = fuzz_u8(in);
	int length;

	length = snprintf(line, sizeof(line),
			  "{\"id\":%u,\"method\":\"%s\",\"params\":{"
			  "\"size\":%d,\"wait\":%s}}\n",
			  how, names[how % 6], (int)(int8_t)fuzz_u8(in),
			  how & 0x80 ? "true" : "false");
	send_some(client, line, (size_t)length, NULL, 0);
}

/* More than a line may have. */
static void send_long(struct client *client, uint8_t byte)
{
	static char bytes[CONTROL_LINE_MAX - 8];

	memset(bytes, byte, sizeof(bytes));
	send_some(client, bytes, sizeof(bytes), NULL, 0);
}

static void answer_late(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in);
	uint64_t token;

	if (!nr_late) {
		/* One that nobody has. */
		control_answer(&control, ~0ULL, 0, json_object_new_object(),
			       "");
		return;
	}
	token = late[--nr_late];
	control_answer(&control, token, how & 1 ? -EIO : 0,
		       how & 1 ? NULL : json_object_new_object(),
		       "the module does not want to");
}

static void take_step(struct fuzz_input *in)
{
	uint8_t step = fuzz_u8(in) % STEP_NR;

	switch (step) {
	case STEP_SEND:
	case STEP_SEND_FDS:
		send_input(in, choose_connected(in), step == STEP_SEND_FDS);
		break;
	case STEP_TURN:
		turn();
		break;
	case STEP_READ:
		read_some(choose_client(in));
		break;
	case STEP_LEAVE:
		leave(choose_client(in));
		break;
	case STEP_SHUT:
		shutdown(choose_connected(in)->fd,
			 fuzz_u8(in) & 1 ? SHUT_WR : SHUT_RD);
		break;
	case STEP_PUBLISH:
		plugged = (uint64_t)(int8_t)fuzz_u8(in);
		control_publish(&control, (unsigned int)(plugged & 1));
		break;
	case STEP_ANSWER:
		answer_late(in);
		break;
	case STEP_LONG:
		send_long(choose_connected(in), fuzz_u8(in));
		break;
	case STEP_LINE:
		send_line(in, choose_connected(in));
		break;
	}
}

void fuzz_one(struct fuzz_input *in)
{
	requested = 0;
	plugged = 0;
	nr_late = 0;
	while (in->left)
		take_step(in);
	turn();
	while (nr_late)
		control_answer(&control, late[--nr_late], 0,
			       json_object_new_object(), "");
	for (int i = 0; i < NR_CLIENTS; i++) {
		read_some(&clients[i]);
		leave(&clients[i]);
	}
	turn();
	fuzz_require(!control.nr_clients && !control.clients);
}
