// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "consumer_client.h"
#include "tap.h"

/* A limit against a vmemd that hangs, above the time it gives a consumer. */
#define LINE_MS 60000

/** control_connect() - connect to a control socket */
void control_connect(struct consumer_client *c, const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	c->have = 0;
	ASSERT_TRUE(strlen(path) < sizeof(addr.sun_path));
	strcpy(addr.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(c->fd, 0);
	ASSERT_EQ(connect(c->fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
}

void control_close(struct consumer_client *c)
{
	close(c->fd);
	c->fd = -1;
}

void control_write(const struct consumer_client *c, const char *line)
{
	ASSERT_EQ(send(c->fd, line, strlen(line), MSG_NOSIGNAL), strlen(line));
}

/* Read a line of vmemd as an object. */
static json_object *read_line(struct consumer_client *c)
{
	struct pollfd readable = {c->fd, POLLIN, 0};
	json_object *object;
	char *end;

	while (!(end = memchr(c->line, '\n', c->have))) {
		ssize_t got;

		ASSERT_TRUE(c->have < sizeof(c->line));
		ASSERT_EQ(poll(&readable, 1, LINE_MS), 1);
		got = recv(c->fd, c->line + c->have, sizeof(c->line) - c->have,
			   0);
		ASSERT_GT(got, 0);
		c->have += (size_t)got;
	}
	*end = '\0';
	object = json_tokener_parse(c->line);
	ASSERT_TRUE(object);
	c->have -= (size_t)(end + 1 - c->line);
	memmove(c->line, end + 1, c->have);
	return object;
}

static json_object *member(json_object *object, const char *name)
{
	json_object *value = NULL;

	json_object_object_get_ex(object, name, &value);
	return value;
}

static uint64_t number(json_object *object, const char *name)
{
	return json_object_get_uint64(member(object, name));
}

/**
 * control_ask() - send a request, and receive its answer
 * @c: the connection
 * @line: the request
 * @answer: receives the whole line; if NULL, the answer must not be an error
 * @size: size of @answer
 */
void control_ask(struct consumer_client *c, const char *line, char *answer,
		 size_t size)
{
	json_object *object;

	control_write(c, line);
	do
		object = read_line(c);
	while (member(object, "event") && json_object_put(object));
	if (answer)
		snprintf(answer, size, "%s",
			 json_object_to_json_string_ext(
				 object, JSON_C_TO_STRING_PLAIN));
	else if (member(object, "error"))
		tap_fail(__FILE__, __LINE__, "%s",
			 json_object_to_json_string(object));
	json_object_put(object);
}

/**
 * consumer_subscribe() - connect and subscribe as a consumer
 * @c: the connection
 * @path: the control socket
 * @name: the consumer's name
 * @memslots: maximum number of memslots that it can have, 0: any number
 * @answer: see control_ask()
 * @size: see control_ask()
 */
void consumer_subscribe(struct consumer_client *c, const char *path,
			const char *name, uint32_t memslots, char *answer,
			size_t size)
{
	char line[256], limit[32] = "";

	if (memslots)
		snprintf(limit, sizeof(limit), ",\"memslots\":%" PRIu32,
			 memslots);
	snprintf(line, sizeof(line),
		 "{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		 "\"name\":\"%s\"%s}}\n",
		 name, limit);
	control_connect(c, path);
	control_ask(c, line, answer, size);
}

/** consumer_unsubscribe() - end the subscription, with nothing mapped */
void consumer_unsubscribe(struct consumer_client *c)
{
	control_ask(c, "{\"id\":3,\"method\":\"unsubscribe\"}\n", NULL, 0);
	control_close(c);
}

/** consumer_next() - wait for the next event */
void consumer_next(struct consumer_client *c, struct consumer_event *event)
{
	json_object *object, *slots;

	/* Answers to "done" may come before it. */
	while (!member(object = read_line(c), "event")) {
		EXPECT_TRUE(!member(object, "error"));
		json_object_put(object);
	}
	memset(event, 0, sizeof(*event));
	snprintf(event->name, sizeof(event->name), "%s",
		 json_object_get_string(member(object, "event")));
	if (member(object, "reason"))
		snprintf(event->reason, sizeof(event->reason), "%s",
			 json_object_get_string(member(object, "reason")));
	event->seq = number(object, "seq");
	event->gpa = number(object, "gpa");
	event->size = number(object, "size");
	slots = member(object, "memslots");
	if (slots) {
		event->nr_slots = (uint32_t)number(slots, "count");
		event->slot = (uint32_t)number(slots, "first");
		event->slots_gpa = number(slots, "gpa");
		event->slots_size = number(slots, "size");
	}
	json_object_put(object);
}

/** consumer_waits() - is there anything to read? */
bool consumer_waits(const struct consumer_client *c)
{
	struct pollfd readable = {c->fd, POLLIN, 0};

	return c->have || poll(&readable, 1, 0) > 0;
}

/** consumer_done() - answer an event; @reason explains a refusal */
void consumer_done(struct consumer_client *c, uint64_t seq, bool ok,
		   const char *reason)
{
	char line[512];

	snprintf(line, sizeof(line),
		 "{\"id\":2,\"method\":\"done\",\"params\":{\"seq\":%" PRIu64
		 ",\"ok\":%s,\"reason\":\"%s\"}}\n",
		 seq, ok ? "true" : "false", reason);
	control_write(c, line);
}
