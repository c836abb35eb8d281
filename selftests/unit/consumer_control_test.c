// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Consumers on a control socket: well-behaved clients, and clients that leave,
 * do not read, or send garbage.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "bitmap_backing.h"
#include "control/consumer_methods.h"
#include "unit.h"

#define GPA	    (4 * GIB)
#define BLOCK	    (2 * MIB)
#define SLOT	    (4 * BLOCK)
#define REGION_SIZE (64 * MIB)
#define FIRST_SLOT  100

#define ANSWER_MAX 65536

#define SUBSCRIBE                                                  \
	"{\"id\":1,\"method\":\"subscribe\",\"params\":{\"name\":" \
	"\"vhost-net0\",\"memslots\":64}}\n"
#define SUBSCRIBED                                                    \
	"{\"id\":1,\"result\":{\"gpa\":4294967296,\"size\":67108864," \
	"\"block_size\":2097152,\"slot_size\":8388608,"               \
	"\"first_slot\":100,\"answer_ms\":10000}}\n"

#define UNSUBSCRIBE "{\"id\":4,\"method\":\"unsubscribe\"}\n"

/**
 * struct fixture - a control socket for a device's consumers
 * @others: memslots of other devices
 * @requested_size: of the guest
 * @nr_done: number of answers to the device's requests
 * @result: the last answer
 */
struct fixture {
	struct bitmap_backing bitmap;
	struct backing *backing;
	sd_event *event;
	struct consumers consumers;
	struct control control;
	uint64_t others;
	uint64_t requested_size;
	unsigned int nr_done;
	int result;
	char answer[ANSWER_MAX];
};

static int handle_subscribe(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	return consumer_methods_subscribe(call, &f->consumers, f->others,
					  f->requested_size);
}

static int handle_done(struct control_call *call,
		       void *arg __attribute__((unused)))
{
	return consumer_methods_done(call);
}

static int handle_consumers(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	call->result = consumer_methods_list(&f->consumers);
	return 0;
}

static int handle_unsubscribe(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	return consumer_methods_unsubscribe(call, &f->consumers);
}

static int handle_forget(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	return consumer_methods_forget(call, &f->consumers);
}

static const struct control_method methods[] = {
	{.name = "subscribe", .handle = handle_subscribe},
	{.name = "done", .handle = handle_done},
	{.name = "consumers", .handle = handle_consumers},
	{.name = "unsubscribe", .handle = handle_unsubscribe},
	{.name = "forget-consumer", .handle = handle_forget},
	{},
};

static const struct control_ops ops = {.methods = methods};

static void on_done(void *arg, int result)
{
	struct fixture *f = arg;

	f->nr_done++;
	f->result = result;
}

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	bitmap_backing_init(&f->bitmap, GPA, REGION_SIZE, BLOCK);
	f->backing = &f->bitmap.backing;
	f->backing->done = on_done;
	f->backing->arg = f;
	assert_true(sd_event_new(&f->event) >= 0);
	assert_int_equal(consumers_start(&f->consumers, f->event, f->backing,
					 SLOT, FIRST_SLOT),
			 0);
	control_init(&f->control, f->event, &ops, f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	consumers_stop(&f->consumers);
	control_stop(&f->control);
	sd_event_unref(f->event);
	bitmap_backing_free(&f->bitmap);
	free(f);
	return 0;
}

static void run(struct fixture *f)
{
	while (sd_event_run(f->event, 0) > 0)
		;
}

/* A client with a small socket buffer. */
static int new_client(struct fixture *f)
{
	int fds[2], size = 1;

	assert_int_equal(socketpair(AF_UNIX,
				    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				    0, fds),
			 0);
	setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	assert_int_equal(control_add_client(&f->control, fds[1]), 0);
	return fds[0];
}

/* Everything received, as text. */
static const char *take(struct fixture *f, int fd)
{
	ssize_t got;

	run(f);
	got = recv(fd, f->answer, sizeof(f->answer) - 1, MSG_DONTWAIT);
	f->answer[got > 0 ? got : 0] = '\0';
	return f->answer;
}

static const char *ask(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 strlen(text));
	return take(f, fd);
}

static bool ended(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

/* The sequence number of the event in @text. */
static uint64_t seq_of(const char *text)
{
	const char *at = strstr(text, "\"seq\":");

	assert_non_null(at);
	return strtoull(at + strlen("\"seq\":"), NULL, 10);
}

static const char *answer(struct fixture *f, int fd, uint64_t seq,
			  const char *ok)
{
	char text[256];

	snprintf(text, sizeof(text),
		 "{\"id\":2,\"method\":\"done\",\"params\":{\"seq\":%" PRIu64
		 ",\"ok\":%s}}\n",
		 seq, ok);
	return ask(f, fd, text);
}

static int subscribe(struct fixture *f)
{
	int fd = new_client(f);

	assert_string_equal(ask(f, fd, SUBSCRIBE),
			    SUBSCRIBED "{\"event\":\"subscribed\"}\n");
	return fd;
}

static int plug(struct fixture *f, uint64_t first, uint64_t nr)
{
	return backing_plug(f->backing, GPA + first * BLOCK, nr * BLOCK);
}

static void a_client_that_subscribes_is_told(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);
	const char *text;

	assert_int_equal(plug(f, 3, 2), 0);
	text = ask(f, fd, SUBSCRIBE);
	assert_string_equal(
		text, SUBSCRIBED
		"{\"event\":\"populate\",\"seq\":1,\"gpa\":4301258752,"
		"\"size\":4194304,\"offset\":6291456,\"memslots\":{"
		"\"first\":100,\"count\":2,\"gpa\":4294967296,"
		"\"size\":16777216,\"offset\":0}}\n");
	assert_string_equal(answer(f, fd, seq_of(text), "true"),
			    "{\"event\":\"subscribed\"}\n"
			    "{\"id\":2,\"result\":{}}\n");
	assert_int_equal(plug(f, 5, 1), -EINPROGRESS);
	text = take(f, fd);
	assert_non_null(strstr(text, "\"memslots\":null"));
	assert_int_equal(f->nr_done, 0);
	answer(f, fd, seq_of(text), "true");
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(backing_unplug_all(f->backing), -EINPROGRESS);
	text = take(f, fd);
	assert_non_null(strstr(text, "{\"event\":\"discard\",\"seq\":3,"));
	answer(f, fd, seq_of(text), "true");
	assert_int_equal(f->nr_done, 2);
	assert_int_equal(f->result, 0);
	close(fd);
}

static void a_refusal_is_told_with_its_reason(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f);
	uint64_t seq;

	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	seq = seq_of(take(f, fd));
	answer(f, fd, seq, "false,\"reason\":\"no\\u001b[31m room\"");
	assert_int_equal(f->result, -EBUSY);
	assert_string_equal(f->backing->error.text,
			    "consumer vhost-net0 refuses to populate: "
			    "no?[31m room");
	assert_string_equal(
		ask(f, fd, "{\"id\":3,\"method\":\"consumers\"}\n"),
		"{\"id\":3,\"result\":[{\"name\":\"vhost-net0\","
		"\"memslots\":64,\"mappings\":null,\"populated_size\":0,\"subscribed\":true,"
		"\"waiting\":false,\"away\":false,\"answers\":1,"
		"\"refusals\":1}]}\n");
	close(fd);
}

/*
 * The daemon reads the client's last request even if the connection has ended.
 */
static void a_client_that_unsubscribes_is_no_consumer(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f);

	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	take(f, fd);
	assert_int_equal(send(fd, UNSUBSCRIBE, strlen(UNSUBSCRIBE), 0),
			 strlen(UNSUBSCRIBE));
	close(fd);
	run(f);
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_int_equal(f->consumers.nr_consumers, 0);
	assert_int_equal(f->control.nr_clients, 0);
	/* A client may subscribe again on the same connection. */
	fd = new_client(f);
	assert_non_null(strstr(ask(f, fd, SUBSCRIBE), "\"populate\""));
	assert_string_equal(ask(f, fd, UNSUBSCRIBE),
			    "{\"id\":4,\"result\":{}}\n");
	assert_non_null(strstr(ask(f, fd, UNSUBSCRIBE), "is not a consumer"));
	assert_non_null(strstr(ask(f, fd, SUBSCRIBE), "\"populate\""));
	assert_int_equal(f->consumers.nr_consumers, 1);
	close(fd);
}

/* The client's mappings may outlive its connection. */
static void a_client_that_just_leaves_is_away(void **state)
{
	static const char by_name[] =
		"{\"id\":5,\"method\":\"unsubscribe\",\"params\":{"
		"\"name\":\"vhost-net0\"}}\n";
	static const char forget[] =
		"{\"id\":6,\"method\":\"forget-consumer\",\"params\":{"
		"\"name\":\"vhost-net0\"}}\n";
	static const char list[] = "{\"id\":3,\"method\":\"consumers\"}\n";
	struct fixture *f = *state;
	int fd = subscribe(f), other = new_client(f);

	assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
	assert_non_null(strstr(ask(f, other, forget), "EBUSY"));
	close(fd);
	run(f);
	assert_int_equal(f->nr_done, 0);
	assert_non_null(strstr(ask(f, other, list), "\"away\":true"));
	assert_string_equal(ask(f, other, forget),
			    "{\"id\":6,\"result\":{}}\n");
	assert_int_equal(f->nr_done, 1);
	assert_int_equal(f->result, 0);
	assert_non_null(strstr(ask(f, other, forget), "ENOENT"));
	/*
	 * The consumer returns and leaves again, and unsubscribes by another
	 * connection.
	 */
	fd = new_client(f);
	answer(f, fd, seq_of(ask(f, fd, SUBSCRIBE)), "true");
	close(fd);
	run(f);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_string_equal(ask(f, other, by_name),
			    "{\"id\":5,\"result\":{}}\n");
	assert_int_equal(f->consumers.nr_consumers, 0);
	assert_non_null(strstr(ask(f, other, by_name), "ENOENT"));
	close(other);
}

/* The last line has the reason. Later lines are not sent. */
static void a_closed_consumer_gets_the_reason(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);
	const char *text;

	assert_int_equal(plug(f, 0, 1), 0);
	text = ask(f, fd, SUBSCRIBE);
	assert_string_equal(answer(f, fd, seq_of(text), "false"),
			    "{\"event\":\"closed\",\"reason\":\"it refuses "
			    "what cannot be refused: no reason\"}\n");
	assert_true(ended(fd));
	assert_int_equal(f->consumers.nr_consumers, 0);
	close(fd);
	fd = new_client(f);
	ask(f, fd, SUBSCRIBE);
	assert_int_equal(f->consumers.nr_consumers, 1);
	consumers_stop(&f->consumers);
	/* It is away, as if vmemd was killed, and not closed. */
	assert_string_equal(take(f, fd), "");
	assert_true(ended(fd));
	close(fd);
}

static void a_consumer_does_not_make_room_for_others(void **state)
{
	struct fixture *f = *state;
	int fd = subscribe(f), others[2 * CONTROL_MAX_CLIENTS];

	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		others[i] = new_client(f);
	run(f);
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_false(ended(fd));
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++)
		close(others[i]);
	run(f);
	assert_int_equal(f->control.nr_clients, 1);
	close(fd);
}

/*
 * Lines that a client does not read are kept, and none is lost. Each round
 * leaves one more answer unread, so that in some round the event does not fit
 * into the socket.
 */
static void a_client_that_reads_late_gets_all(void **state)
{
	const char *list = "{\"id\":3,\"method\":\"consumers\"}\n";
	struct fixture *f = *state;

	for (int unread = 0; unread < 24; unread++) {
		int fd = new_client(f);
		const char *text;

		ask(f, fd, SUBSCRIBE);
		for (int i = 0; i < unread; i++)
			assert_int_equal(send(fd, list, strlen(list), 0),
					 strlen(list));
		run(f);
		assert_int_equal(backing_discard(f->backing, GPA, BLOCK), 0);
		f->nr_done = 0;
		assert_int_equal(plug(f, 0, 1), -EINPROGRESS);
		do
			text = take(f, fd);
		while (*text && !strstr(text, "\"seq\":"));
		answer(f, fd, seq_of(text), "true");
		run(f);
		assert_int_equal(f->nr_done, 1);
		ask(f, fd, UNSUBSCRIBE);
		close(fd);
		run(f);
		assert_int_equal(backing_unplug_all(f->backing), 0);
	}
}

/* The client's own memslots and those of other devices all count. */
static void a_client_with_too_few_memslots_is_refused(void **state)
{
	static const char subscribe[] =
		"{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		"\"name\":\"vhost-net0\",\"memslots\":20,\"used\":6,"
		"\"reserved\":2}}\n";
	struct fixture *f = *state;
	int fd = new_client(f);

	f->others = 5;
	assert_string_equal(ask(f, fd, subscribe),
			    "{\"id\":1,\"error\":{\"code\":\"ENOSPC\","
			    "\"message\":\"vhost-net0 can have 20 memslots, 6 "
			    "are used and 15 reserved\"}}\n");
	f->others = 4;
	assert_string_equal(ask(f, fd, subscribe),
			    SUBSCRIBED "{\"event\":\"subscribed\"}\n");
	close(fd);
}

static void who_has_too_few_mappings_is_refused(void **state)
{
	static const char subscribe[] =
		"{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		"\"name\":\"vfio0\",\"mappings\":3}}\n";
	static const char unlimited[] =
		"{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		"\"name\":\"vfio1\",\"mappings\":0}}\n";
	static const char list[] = "{\"id\":3,\"method\":\"consumers\"}\n";
	struct fixture *f = *state;
	int fd = new_client(f), other = new_client(f);
	const char *text;

	f->requested_size = 4 * BLOCK;
	assert_string_equal(ask(f, fd, subscribe),
			    "{\"id\":1,\"error\":{\"code\":\"ENOSPC\","
			    "\"message\":\"vfio0 can have 3 mappings, 8 MiB "
			    "in blocks of 2 MiB may need 4; blocks of 4 MiB "
			    "would fit\"}}\n");
	f->requested_size = 3 * BLOCK;
	assert_string_equal(ask(f, fd, subscribe),
			    SUBSCRIBED "{\"event\":\"subscribed\"}\n");
	f->requested_size = REGION_SIZE;
	assert_string_equal(ask(f, other, unlimited),
			    SUBSCRIBED "{\"event\":\"subscribed\"}\n");
	text = ask(f, fd, list);
	assert_non_null(strstr(text, "\"name\":\"vfio0\",\"memslots\":null,"
				     "\"mappings\":3,"));
	assert_non_null(strstr(text, "\"name\":\"vfio1\",\"memslots\":null,"
				     "\"mappings\":null,"));
	close(fd);
	close(other);
}

/* By the connection of one consumer, of itself or of another of its process. */
static void a_name_says_who_unsubscribes(void **state)
{
	static const char unsubscribe[] =
		"{\"id\":5,\"method\":\"unsubscribe\",\"params\":{"
		"\"name\":\"vfio0\"}}\n";
	static const char vfio[] =
		"{\"id\":1,\"method\":\"subscribe\",\"params\":{"
		"\"name\":\"vfio0\"}}\n";
	static const char own[] =
		"{\"id\":5,\"method\":\"unsubscribe\",\"params\":{"
		"\"name\":\"vhost-net0\"}}\n";
	struct fixture *f = *state;
	int fd, other = new_client(f);

	assert_int_equal(plug(f, 0, 1), 0);
	fd = new_client(f);
	answer(f, fd, seq_of(ask(f, fd, SUBSCRIBE)), "true");
	assert_non_null(strstr(ask(f, fd, unsubscribe), "ENOENT"));
	assert_int_equal(f->consumers.nr_consumers, 1);
	answer(f, other, seq_of(ask(f, other, vfio)), "true");
	assert_int_equal(f->consumers.nr_consumers, 2);
	assert_string_equal(ask(f, fd, unsubscribe),
			    "{\"id\":5,\"result\":{}}\n");
	assert_int_equal(f->consumers.nr_consumers, 1);
	assert_string_equal(f->consumers.list->name, "vhost-net0");
	assert_non_null(strstr(take(f, other), "\"closed\""));
	assert_string_equal(ask(f, fd, own), "{\"id\":5,\"result\":{}}\n");
	assert_int_equal(f->consumers.nr_consumers, 0);
	close(fd);
	close(other);
}

static void nonsense_is_refused(void **state)
{
	static const struct {
		const char *line;
		const char *code;
	} lines[] = {
		{"{\"method\":\"subscribe\"}\n", "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":1}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"\"}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a b\"}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"memslots\":0}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"memslots\":-1}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"memslots\":7}}\n",
		 "ENOSPC"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"used\":-1}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"reserved\":\"1\"}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"mappings\":-1}}\n",
		 "EINVAL"},
		{"{\"method\":\"subscribe\",\"params\":{\"name\":\"a\","
		 "\"mappings\":\"1\"}}\n",
		 "EINVAL"},
		{"{\"method\":\"unsubscribe\"}\n", "EINVAL"},
		{"{\"method\":\"unsubscribe\",\"params\":{\"name\":\"a b\"}}"
		 "\n",
		 "EINVAL"},
		{"{\"method\":\"forget-consumer\"}\n", "EINVAL"},
		{"{\"method\":\"done\",\"params\":{\"seq\":1,\"ok\":true}}\n",
		 "EINVAL"},
	};
	struct fixture *f = *state;
	int fd = new_client(f);
	char wanted[64];

	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		snprintf(wanted, sizeof(wanted), "\"error\":{\"code\":\"%s\"",
			 lines[i].code);
		assert_non_null(strstr(ask(f, fd, lines[i].line), wanted));
	}
	ask(f, fd, SUBSCRIBE);
	assert_non_null(strstr(ask(f, fd, SUBSCRIBE), "EBUSY"));
	assert_non_null(strstr(answer(f, fd, 1, "true"), "ENOENT"));
	assert_non_null(strstr(answer(f, fd, 1, "1"), "EINVAL"));
	assert_int_equal(f->consumers.nr_consumers, 1);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(a_client_that_subscribes_is_told),
		T(a_refusal_is_told_with_its_reason),
		T(a_client_that_unsubscribes_is_no_consumer),
		T(a_client_that_just_leaves_is_away),
		T(a_closed_consumer_gets_the_reason),
		T(a_consumer_does_not_make_room_for_others),
		T(a_client_that_reads_late_gets_all),
		T(a_client_with_too_few_memslots_is_refused),
		T(who_has_too_few_mappings_is_refused),
		T(a_name_says_who_unsubscribes),
		T(nonsense_is_refused),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
