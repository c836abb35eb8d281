// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Fuzzed operators: several clients of the control socket. They send lines
 * whole, in parts or several at once, with descriptors at any byte. They watch,
 * wait for a resize, do not read, and leave.
 *
 * The methods belong to this target: they take descriptors, answer late,
 * refuse, and give answers that fill the socket. The daemon's own methods are
 * not reached.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/socket.h"
#include "fuzz.h"
#include "fuzz_client.h"

#define NR_CLIENTS 3
#define NR_LATE	   8

/* Maximum number of bytes sent at once from the input. */
#define SEND_MAX 255

/* An answer that does not fit into the socket's buffer. */
#define LARGE_ANSWER (6 << 10)

/* The minimum size of a socket's buffer. */
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

static sd_event *event;
static struct control control;
static struct fuzz_client clients[NR_CLIENTS];
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
		strcpy(call->error.text, "\"size\" is a number of bytes");
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

/* Take the first descriptor; check the others. */
static int handle_attach(struct control_call *call,
			 void *arg __attribute__((unused)))
{
	for (size_t i = 0; i < call->nr_fds; i++)
		fuzz_require(fcntl(call->fds[i], F_GETFD) >= 0);
	if (!call->nr_fds) {
		strcpy(call->error.text, "no descriptors");
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
	{.name = "status", .handle = handle_status},
	{.name = "resize", .handle = handle_resize},
	{.name = "attach", .handle = handle_attach, .takes_fds = true},
	{.name = "blocks", .handle = handle_blocks},
	{},
};

static unsigned int nr_subjects(void *arg __attribute__((unused)))
{
	return 2;
}

/* Watch one device or both. */
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

static struct fuzz_client *choose_client(struct fuzz_input *in)
{
	return &clients[fuzz_u8(in) % NR_CLIENTS];
}

/* Choose a client, and connect it if necessary. */
static struct fuzz_client *choose_connected(struct fuzz_input *in)
{
	struct fuzz_client *client = choose_client(in);
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

static void send_input(struct fuzz_input *in, struct fuzz_client *client,
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
	fuzz_client_send(client, bytes, size, fds, nr_fds);
}

/* A valid request with values from the input. */
static void send_line(struct fuzz_input *in, struct fuzz_client *client)
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
	fuzz_client_send(client, line, (size_t)length, NULL, 0);
}

/* A line that exceeds the maximum. */
static void send_long(struct fuzz_client *client, uint8_t byte)
{
	static char bytes[CONTROL_LINE_MAX - 8];

	memset(bytes, byte, sizeof(bytes));
	fuzz_client_send(client, bytes, sizeof(bytes), NULL, 0);
}

static void answer_late(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in);
	uint64_t token;

	if (!nr_late) {
		/* An unknown token. */
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
		fuzz_client_read(choose_client(in));
		break;
	case STEP_LEAVE:
		fuzz_client_leave(choose_client(in));
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
		fuzz_client_read(&clients[i]);
		fuzz_client_leave(&clients[i]);
	}
	turn();
	fuzz_require(!control.nr_clients && !control.clients);
}
