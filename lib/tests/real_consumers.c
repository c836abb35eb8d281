// SPDX-License-Identifier: MIT
#include "real_consumers.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "bitmap_backing.h"
#include "control/consumer_methods.h"
#include "record.h"
#include "unit.h"

/* A bound on a process that hangs. */
#define HANG_MS 60000

/* --- In the process --- */

/**
 * struct served - the daemon's state
 * @token: of the guest's pending request
 */
struct served {
	struct bitmap_backing bitmap;
	struct consumers consumers;
	struct control control;
	sd_event *event;
	uint64_t token;
};

static json_object *new_result(int result)
{
	json_object *object = json_object_new_object();

	json_object_object_add(object, "result", json_object_new_int(result));
	return object;
}

/* Discard the memory of unplugged blocks, as the device does. */
static void discard_unplugged(struct served *s)
{
	struct backing *b = &s->bitmap.backing;

	for (uint64_t i = 0; i < RECORD_BLOCKS; i++)
		if (!blocks_count(&b->plugged, i, 1))
			backing_discard(b, RECORD_GPA + i * RECORD_BLOCK,
					RECORD_BLOCK);
}

static void on_done(void *arg, int result)
{
	struct served *s = arg;
	uint64_t token = s->token;

	s->token = 0;
	discard_unplugged(s);
	control_answer(&s->control, token, 0, new_result(result), "");
}

/* A consumer has unmapped memory that was kept for it. */
static void on_released(void *arg)
{
	discard_unplugged(arg);
}

static int handle_guest(struct control_call *call, struct served *s, int ret)
{
	if (ret == -EINPROGRESS)
		return control_wait(call, &s->token);
	discard_unplugged(s);
	call->result = new_result(ret);
	return 0;
}

static uint64_t blocks_at(const struct control_call *call, const char *name)
{
	uint64_t value = 0;

	control_get_size(call, name, &value);
	return value * RECORD_BLOCK;
}

static int handle_plug(struct control_call *call, void *arg)
{
	struct served *s = arg;
	struct backing *b = &s->bitmap.backing;

	return handle_guest(call, s,
			    backing_plug(b,
					 RECORD_GPA + blocks_at(call, "first"),
					 blocks_at(call, "nr")));
}

static int handle_unplug(struct control_call *call, void *arg)
{
	struct served *s = arg;
	struct backing *b = &s->bitmap.backing;

	return handle_guest(
		call, s,
		backing_unplug(b, RECORD_GPA + blocks_at(call, "first"),
			       blocks_at(call, "nr")));
}

static int handle_unplug_all(struct control_call *call, void *arg)
{
	struct served *s = arg;
	struct backing *b = &s->bitmap.backing;

	return handle_guest(call, s, backing_unplug_all(b));
}

static int handle_plugged(struct control_call *call, void *arg)
{
	struct served *s = arg;
	const struct blocks *plugged = &s->bitmap.backing.plugged;
	int64_t mask = 0;

	for (uint64_t i = 0; i < RECORD_BLOCKS; i++)
		mask |= (int64_t)blocks_count(plugged, i, 1) << i;
	call->result = json_object_new_object();
	json_object_object_add(call->result, "result",
			       json_object_new_int64(mask));
	return 0;
}

static int handle_subscribe(struct control_call *call, void *arg)
{
	struct served *s = arg;

	return consumer_methods_subscribe(call, &s->consumers, 0, 0);
}

static int handle_subscribe_without(struct control_call *call,
				    void *arg __attribute__((unused)))
{
	return error_set(&call->error, -ENODEV, "no region yet");
}

static int handle_done(struct control_call *call,
		       void *arg __attribute__((unused)))
{
	return consumer_methods_done(call);
}

static int handle_unsubscribe(struct control_call *call, void *arg)
{
	struct served *s = arg;

	return consumer_methods_unsubscribe(call, &s->consumers);
}

static const struct control_method methods[] = {
	{.name = "plug", .handle = handle_plug},
	{.name = "unplug", .handle = handle_unplug},
	{.name = "unplug-all", .handle = handle_unplug_all},
	{.name = "plugged", .handle = handle_plugged},
	{.name = "subscribe", .handle = handle_subscribe},
	{.name = "done", .handle = handle_done},
	{.name = "unsubscribe", .handle = handle_unsubscribe},
	{},
};

static const struct control_method methods_without[] = {
	{.name = "subscribe", .handle = handle_subscribe_without},
	{},
};

static void serve(int listen_fd, uint32_t plugged, bool attached)
{
	const struct control_ops ops = {
		.methods = attached ? methods : methods_without,
	};
	struct served s = {.token = 0};
	struct backing *b = &s.bitmap.backing;

	log_init(LOG_LEVEL_ERR);
	bitmap_backing_init(&s.bitmap, RECORD_GPA, RECORD_BLOCKS * RECORD_BLOCK,
			    RECORD_BLOCK);
	for (unsigned int i = 0; i < RECORD_BLOCKS; i++)
		if (plugged >> i & 1)
			backing_plug(b, RECORD_GPA + i * RECORD_BLOCK,
				     RECORD_BLOCK);
	b->done = on_done;
	b->released = on_released;
	b->arg = &s;
	assert_true(sd_event_new(&s.event) >= 0);
	assert_int_equal(consumers_start(&s.consumers, s.event, b,
					 RECORD_PER_SLOT * RECORD_BLOCK,
					 RECORD_FIRST_SLOT),
			 0);
	control_init(&s.control, s.event, &ops, &s);
	assert_int_equal(control_listen(&s.control, listen_fd), 0);
	sd_event_loop(s.event);
}

/* --- In the test --- */

static void fill_address(const struct real_consumers *real,
			 struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, real->path);
}

void real_consumers_init(struct real_consumers *real)
{
	memset(real, 0, sizeof(*real));
	strcpy(real->dir, "/tmp/consumers-XXXXXX");
	assert_non_null(mkdtemp(real->dir));
	snprintf(real->path, sizeof(real->path), "%s/control", real->dir);
	real->fd = -1;
}

/*
 * @plugged: plugged blocks at the start, a bit for each block
 * @attached: the daemon has a region; otherwise subscriptions are refused
 */
void real_consumers_start(struct real_consumers *real, uint32_t plugged,
			  bool attached)
{
	struct sockaddr_un address;
	int listen_fd =
		socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	fill_address(real, &address);
	assert_int_equal(
		bind(listen_fd, (struct sockaddr *)&address, sizeof(address)),
		0);
	assert_int_equal(listen(listen_fd, SOMAXCONN), 0);
	real->pid = fork();
	assert_true(real->pid >= 0);
	if (!real->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		serve(listen_fd, plugged, attached);
		_exit(1);
	}
	close(listen_fd);
	real->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		connect(real->fd, (struct sockaddr *)&address, sizeof(address)),
		0);
	real->waits = false;
}

void real_consumers_kill(struct real_consumers *real)
{
	if (!real->pid)
		return;
	kill(real->pid, SIGKILL);
	assert_int_equal(waitpid(real->pid, NULL, 0), real->pid);
	real->pid = 0;
	close(real->fd);
	real->fd = -1;
	unlink(real->path);
}

void real_consumers_free(struct real_consumers *real)
{
	real_consumers_kill(real);
	assert_int_equal(rmdir(real->dir), 0);
}

/* Make a request of the guest, to be answered later. */
void real_consumers_ask(struct real_consumers *real, const char *method,
			unsigned int first, unsigned int nr)
{
	char line[128];
	int length = snprintf(line, sizeof(line),
			      "{\"id\":1,\"method\":\"%s\",\"params\":{"
			      "\"first\":%u,\"nr\":%u}}\n",
			      method, first, nr);

	assert_false(real->waits);
	assert_int_equal(send(real->fd, line, (size_t)length, MSG_NOSIGNAL),
			 length);
	real->waits = true;
}

static int64_t take_answer(struct real_consumers *real)
{
	char line[256] = "";
	size_t have = 0;
	const char *at;

	while (!strchr(line, '\n')) {
		ssize_t got =
			recv(real->fd, line + have, sizeof(line) - 1 - have, 0);

		assert_true(got > 0);
		have += (size_t)got;
		line[have] = '\0';
	}
	real->waits = false;
	at = strstr(line, "{\"result\":");
	if (!at)
		fail_msg("not a result: %s", line);
	return strtoll(at + strlen("{\"result\":"), NULL, 10);
}

/* Return: the answer to the guest's request; REAL_WAITS: none yet. */
int real_consumers_answer(struct real_consumers *real, int timeout_ms)
{
	struct pollfd ready = {real->fd, POLLIN, 0};

	assert_true(real->waits);
	if (poll(&ready, 1, timeout_ms) <= 0)
		return REAL_WAITS;
	return (int)take_answer(real);
}

uint32_t real_consumers_plugged(struct real_consumers *real)
{
	struct pollfd ready = {real->fd, POLLIN, 0};

	real_consumers_ask(real, "plugged", 0, 0);
	assert_int_equal(poll(&ready, 1, HANG_MS), 1);
	return (uint32_t)take_answer(real);
}
