// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The control socket, used through real sockets by clients that send valid
 * requests, garbage, too much, too little or nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "control/socket.h"
#include "fd_message.h"
#include "front_end.h"
#include "unit.h"

/* The longest answer in this test. */
#define ANSWER_MAX 65536

/**
 * struct fixture - a control socket over a state that tests set
 * @requested: size set by "resize", for each of two subjects
 * @plugged: set by the test, for each of two subjects
 * @calls: number of method calls
 * @last_fds: descriptors received with the last "attach"
 * @all_fds: descriptors received with all "attach" requests
 * @later: "resize" is answered later
 * @token: of the last "resize" answered later
 * @gone: number of clients held by "keep" that have ended
 */
struct fixture {
	sd_event *event;
	struct control control;
	uint64_t requested[2];
	uint64_t plugged[2];
	unsigned int calls;
	size_t last_fds;
	size_t all_fds;
	bool later;
	uint64_t token;
	unsigned int gone;
	char answer[ANSWER_MAX];
};

static int handle_status(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	call->result = json_object_new_object();
	json_object_object_add(call->result, "plugged_size",
			       json_object_new_uint64(f->plugged[0]));
	return 0;
}

static unsigned int subject_of(const struct control_call *call)
{
	uint64_t subject = 0;

	control_get_size(call, "subject", &subject);
	return (unsigned int)subject;
}

static int handle_resize(struct control_call *call, void *arg)
{
	struct fixture *f = arg;
	int ret;

	f->calls++;
	call->subject = subject_of(call);
	ret = control_get_size(call, "size", &f->requested[call->subject]);
	if (ret)
		return error_set(&call->error, ret, "bad size");
	if (f->later)
		return control_wait(call, &f->token);
	call->result = json_object_new_object();
	return 0;
}

static int handle_attach(struct control_call *call, void *arg)
{
	struct fixture *f = arg;

	f->calls++;
	f->last_fds = 0;
	for (size_t i = 0; i < call->nr_fds; i++)
		f->last_fds += fcntl(call->fds[i], F_GETFD) >= 0;
	f->all_fds += f->last_fds;
	call->result = json_object_new_object();
	return 0;
}

/* An answer larger than a socket's buffer. */
static int handle_blocks(struct control_call *call, void *arg)
{
	struct fixture *f = arg;
	char *text = calloc(1, 2 << 20);

	f->calls++;
	memset(text, 'x', (2 << 20) - 1);
	call->result = json_object_new_object();
	json_object_object_add(call->result, "text",
			       json_object_new_string(text));
	free(text);
	return 0;
}

static unsigned int nr_subjects(void *arg __attribute__((unused)))
{
	return 2;
}

/* Subject 0 by default; 8 stands for all subjects, and 9 does not exist. */
static int handle_watch(struct control_call *call,
			void *arg __attribute__((unused)))
{
	call->subject = subject_of(call);
	if (call->subject == 8)
		call->subject = CONTROL_ALL_SUBJECTS;
	if (call->subject != 9)
		return 0;
	return error_set(&call->error, -ENOENT, "none");
}

static json_object *new_event(unsigned int subject, void *arg)
{
	struct fixture *f = arg;
	json_object *event = json_object_new_object();

	json_object_object_add(event, "event", json_object_new_string("state"));
	json_object_object_add(event, "plugged_size",
			       json_object_new_uint64(f->plugged[subject]));
	return event;
}

static int reached(unsigned int subject, uint64_t size, void *arg)
{
	const struct fixture *f = arg;

	if (f->requested[subject] != size)
		return -ECANCELED;
	return f->plugged[subject] == size;
}

/* The end of the held client answers a request of another client. */
static void kept_has_gone(void *arg)
{
	struct fixture *f = arg;

	f->gone++;
	if (!f->token)
		return;
	control_answer(&f->control, f->token, 0, json_object_new_object(), "");
}

static int handle_keep(struct control_call *call, void *arg)
{
	control_hold(call->client, kept_has_gone, arg);
	call->result = json_object_new_object();
	return 0;
}

static const struct control_method methods[] = {
	{.name = "status", .handle = handle_status},
	{.name = "keep", .handle = handle_keep},
	{.name = "resize", .handle = handle_resize},
	{.name = "attach", .handle = handle_attach, .takes_fds = true},
	{.name = "blocks", .handle = handle_blocks},
	{},
};

static const struct control_ops ops = {
	.methods = methods,
	.nr_subjects = nr_subjects,
	.watch = handle_watch,
	.event = new_event,
	.reached = reached,
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	assert_true(sd_event_new(&f->event) >= 0);
	control_init(&f->control, f->event, &ops, f);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	control_stop(&f->control);
	sd_event_unref(f->event);
	free(f);
	return 0;
}

static void run(struct fixture *f)
{
	int ret;

	do
		ret = sd_event_run(f->event, 0);
	while (ret > 0);
	assert_int_equal(ret, 0);
}

static int new_client(struct fixture *f)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX,
				    SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
				    0, fds),
			 0);
	control_add_client(&f->control, fds[1]);
	return fds[0];
}

static void put(struct fixture *f, int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL),
			 strlen(text));
	run(f);
}

/* Everything received, as text; "" if nothing. */
static const char *take(struct fixture *f, int fd)
{
	ssize_t got = recv(fd, f->answer, sizeof(f->answer) - 1, MSG_DONTWAIT);

	f->answer[got > 0 ? got : 0] = '\0';
	return f->answer;
}

static bool closed(struct fixture *f, int fd)
{
	ssize_t got;

	run(f);
	do
		got = recv(fd, f->answer, sizeof(f->answer), MSG_DONTWAIT);
	while (got > 0);
	return got == 0 || errno == ECONNRESET;
}

static void assert_answer(struct fixture *f, int fd, const char *request,
			  const char *answer)
{
	put(f, fd, request);
	assert_string_equal(take(f, fd), answer);
}

/* The line must be refused with this code, and the connection stay open. */
static void assert_refused(struct fixture *f, int fd, const char *request,
			   const char *code)
{
	char wanted[64];

	put(f, fd, request);
	snprintf(wanted, sizeof(wanted), "\"error\":{\"code\":\"%s\"", code);
	assert_non_null(strstr(take(f, fd), wanted));
	assert_answer(f, fd, "{\"id\":7,\"method\":\"status\"}\n",
		      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
}

static void methods_answer_with_their_id(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);

	f->plugged[0] = 5;
	assert_answer(f, fd, "{\"id\":1,\"method\":\"status\"}\n",
		      "{\"id\":1,\"result\":{\"plugged_size\":5}}\n");
	assert_answer(
		f, fd,
		"{\"method\":\"status\",\"params\":{},\"id\":\"a b\"}\r\n",
		"{\"id\":\"a b\",\"result\":{\"plugged_size\":5}}\n");
	assert_answer(f, fd, "{\"method\":\"status\"}\n",
		      "{\"id\":null,\"result\":{\"plugged_size\":5}}\n");
	close(fd);
}

static void garbage_is_refused(void **state)
{
	static const char *const garbage[] = {
		"\n",
		"x\n",
		"{\n",
		"{]\n",
		"{\"id\":1\n",
		"{\"id\":1,}\n",
		"{\"id\":1,\"method\":\"status\"} x\n",
		"{\"id\":1,\"method\":\"status\"}{}\n",
		"\"\xff\xfe\n",
		"[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]\n",
		"{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":1}}}"
		"}}}}}}\n",
	};
	struct fixture *f = *state;
	int fd = new_client(f);

	for (size_t i = 0; i < sizeof(garbage) / sizeof(garbage[0]); i++)
		assert_refused(f, fd, garbage[i], "EBADMSG");
	close(fd);
}

static void wrong_types_are_refused(void **state)
{
	static const char *const wrong[] = {
		"[]\n",
		"{}\n",
		"{\"id\":1}\n",
		"{\"id\":{},\"method\":\"status\"}\n",
		"{\"id\":[],\"method\":\"status\"}\n",
		"{\"id\":true,\"method\":\"status\"}\n",
		"{\"id\":1,\"method\":5}\n",
		"{\"id\":1,\"method\":null}\n",
		"{\"id\":1,\"method\":{\"a\":1}}\n",
		"{\"id\":1,\"method\":\"status\",\"params\":5}\n",
		"{\"id\":1,\"method\":\"status\",\"params\":[]}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":\"1\"}}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":1.5}}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":-1}}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":null}}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":{}}}\n",
		"{\"id\":1,\"method\":\"resize\",\"params\":"
		"{\"size\":1,\"wait\":1}}\n",
	};
	struct fixture *f = *state;
	int fd = new_client(f);

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		assert_refused(f, fd, wrong[i], "EINVAL");
	assert_refused(f, fd, "{\"id\":1,\"method\":\"resize\"}\n", "ENOENT");
	assert_refused(f, fd, "{\"id\":1,\"method\":\"reboot\"}\n",
		       "EOPNOTSUPP");
	assert_refused(f, fd, "{\"id\":1,\"method\":\"\"}\n", "EOPNOTSUPP");
	assert_int_equal(f->requested[0], 0);
	close(fd);
}

static void large_sizes_are_exact(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);

	put(f, fd,
	    "{\"method\":\"resize\",\"params\":{\"size\":1099511627776}}\n");
	assert_int_equal(f->requested[0], 1ULL << 40);
	put(f, fd,
	    "{\"method\":\"resize\",\"params\":"
	    "{\"size\":18446744073709551614}}\n");
	assert_int_equal(f->requested[0], UINT64_MAX - 1);
	close(fd);
}

static void lines_have_a_limit(void **state)
{
	struct fixture *f = *state;
	char line[CONTROL_LINE_MAX + 1];
	int fd = new_client(f);

	/* The longest valid line, including its newline. */
	memset(line, ' ', sizeof(line));
	memcpy(line, "{\"method\":\"status\"}", 19);
	line[CONTROL_LINE_MAX - 1] = '\n';
	line[CONTROL_LINE_MAX] = '\0';
	assert_answer(f, fd, line,
		      "{\"id\":null,\"result\":{\"plugged_size\":0}}\n");
	line[CONTROL_LINE_MAX - 1] = ' ';
	put(f, fd, line);
	assert_non_null(strstr(take(f, fd), "\"E2BIG\""));
	assert_true(closed(f, fd));
	assert_int_equal(f->control.nr_clients, 0);
	close(fd);
}

static void lines_come_in_pieces(void **state)
{
	static const char request[] = "{\"id\":3,\"method\":\"status\"}\n";
	struct fixture *f = *state;
	int fd = new_client(f);

	for (size_t i = 0; i < sizeof(request) - 1; i++) {
		assert_string_equal(take(f, fd), "");
		assert_int_equal(send(fd, request + i, 1, MSG_NOSIGNAL), 1);
		run(f);
	}
	assert_string_equal(take(f, fd),
			    "{\"id\":3,\"result\":{\"plugged_size\":0}}\n");
	/* Two lines and a half at once. */
	put(f, fd,
	    "{\"id\":1,\"method\":\"status\"}\n{\"id\":2,\"method\":\"status\"}\n"
	    "{\"id\":3,\"meth");
	assert_string_equal(take(f, fd),
			    "{\"id\":1,\"result\":{\"plugged_size\":0}}\n"
			    "{\"id\":2,\"result\":{\"plugged_size\":0}}\n");
	put(f, fd, "od\":\"status\"}\n");
	assert_string_equal(take(f, fd),
			    "{\"id\":3,\"result\":{\"plugged_size\":0}}\n");
	/* The client leaves in the middle of a line. */
	put(f, fd, "{\"id\":");
	close(fd);
	run(f);
	assert_int_equal(f->control.nr_clients, 0);
}

#define MOST_CLIENTS (CONTROL_MAX_CLIENTS + CONTROL_ROOT_CLIENTS)

/* The maximum number of clients of the test's user. */
static size_t most_clients(void)
{
	return geteuid() ? CONTROL_MAX_CLIENTS : MOST_CLIENTS;
}

static void clients_have_a_limit(void **state)
{
	struct fixture *f = *state;
	size_t most = most_clients();
	int fds[MOST_CLIENTS], more;

	for (size_t i = 0; i < most; i++)
		fds[i] = new_client(f);
	for (size_t i = 0; i < most; i++)
		put(f, fds[i], "{\"id\":1,\"method\":\"watch\"}\n");
	more = new_client(f);
	assert_non_null(strstr(take(f, more), "\"EUSERS\""));
	assert_true(closed(f, more));
	for (size_t i = 0; i < most; i++) {
		take(f, fds[i]);
		assert_answer(f, fds[i], "{\"id\":1,\"method\":\"status\"}\n",
			      "{\"id\":1,\"result\":{\"plugged_size\":0}}\n");
	}
	close(more);
	close(fds[3]);
	run(f);
	fds[3] = new_client(f);
	assert_answer(f, fds[3], "{\"id\":1,\"method\":\"status\"}\n",
		      "{\"id\":1,\"result\":{\"plugged_size\":0}}\n");
	for (size_t i = 0; i < most; i++)
		close(fds[i]);
	run(f);
	assert_int_equal(f->control.nr_clients, 0);
}

/*
 * Consumers of many devices are connected all the time. Their number is limited
 * by device, see consumer.h, so they take no place of operators.
 */
static void held_clients_take_no_place(void **state)
{
	struct fixture *f = *state;
	int held[2 * MOST_CLIENTS], fds[MOST_CLIENTS], more;
	size_t most = most_clients();

	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
		held[i] = new_client(f);
		assert_answer(f, held[i], "{\"id\":1,\"method\":\"keep\"}\n",
			      "{\"id\":1,\"result\":{}}\n");
	}
	for (size_t i = 0; i < most; i++) {
		fds[i] = new_client(f);
		put(f, fds[i], "{\"id\":1,\"method\":\"watch\"}\n");
	}
	more = new_client(f);
	assert_non_null(strstr(take(f, more), "\"EUSERS\""));
	close(more);
	for (size_t i = 0; i < most; i++) {
		assert_false(closed(f, fds[i]));
		close(fds[i]);
	}
	for (size_t i = 0; i < sizeof(held) / sizeof(held[0]); i++) {
		assert_false(closed(f, held[i]));
		close(held[i]);
	}
	run(f);
	assert_int_equal(f->control.nr_clients, 0);
}

static void idle_clients_make_room(void **state)
{
	struct fixture *f = *state;
	size_t most = most_clients();
	int fds[MOST_CLIENTS], more;

	for (size_t i = 0; i < most; i++)
		fds[i] = new_client(f);
	put(f, fds[0], "{\"id\":1,\"method\":\"status\"}\n");
	take(f, fds[0]);
	put(f, fds[1], "{\"id\":1,\"method\":\"watch\"}\n");
	/* The client 2 has been idle for longest. */
	more = new_client(f);
	assert_answer(f, more, "{\"id\":1,\"method\":\"status\"}\n",
		      "{\"id\":1,\"result\":{\"plugged_size\":0}}\n");
	assert_true(closed(f, fds[2]));
	assert_answer(f, fds[0], "{\"id\":1,\"method\":\"status\"}\n",
		      "{\"id\":1,\"result\":{\"plugged_size\":0}}\n");
	assert_false(closed(f, fds[1]));
	assert_false(closed(f, fds[3]));
	for (size_t i = 0; i < most; i++)
		close(fds[i]);
	close(more);
	run(f);
	assert_int_equal(f->control.nr_clients, 0);
}

/* Answers all deferred calls. */
static void answer_later(struct fixture *f, int ret, json_object *result,
			 const char *message)
{
	uint64_t token = f->token;

	f->token = 0;
	control_answer(&f->control, token, ret, result, message);
}

static void calls_that_wait_for_the_same_get_the_same_answer(void **state)
{
	struct fixture *f = *state;
	int fds[3];

	f->later = true;
	for (int i = 0; i < 3; i++) {
		char line[96];

		fds[i] = new_client(f);
		snprintf(line, sizeof(line),
			 "{\"id\":%d,\"method\":\"resize\",\"params\":"
			 "{\"size\":5}}\n",
			 i);
		put(f, fds[i], line);
	}
	/* One of the clients leaves. */
	close(fds[1]);
	run(f);
	answer_later(f, 0, json_object_new_object(), NULL);
	assert_string_equal(take(f, fds[0]), "{\"id\":0,\"result\":{}}\n");
	assert_string_equal(take(f, fds[2]), "{\"id\":2,\"result\":{}}\n");
	/* The next call is deferred again. */
	put(f, fds[0],
	    "{\"id\":3,\"method\":\"resize\",\"params\":{\"size\":5}}\n");
	assert_string_equal(take(f, fds[0]), "");
	answer_later(f, -ESTALE, NULL, "why");
	assert_string_equal(take(f, fds[0]),
			    "{\"id\":3,\"error\":{\"code\":\"ESTALE\","
			    "\"message\":\"why\"}}\n");
	assert_string_equal(take(f, fds[2]), "");
	close(fds[0]);
	close(fds[2]);
}

/* A method that is answered after it returns. */
static void later_answers(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f), other = new_client(f);

	f->later = true;
	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":5}}\n"
	    "{\"id\":2,\"method\":\"status\"}\n");
	assert_string_equal(take(f, fd), "");
	/* Other clients are not blocked. */
	assert_answer(f, other, "{\"id\":7,\"method\":\"status\"}\n",
		      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
	answer_later(f, 0, json_object_new_object(), NULL);
	run(f);
	assert_string_equal(take(f, fd),
			    "{\"id\":1,\"result\":{}}\n"
			    "{\"id\":2,\"result\":{\"plugged_size\":0}}\n");
	/* With "wait", the answer also waits for the guest. */
	put(f, fd,
	    "{\"id\":3,\"method\":\"resize\",\"params\":"
	    "{\"size\":5,\"wait\":true}}\n");
	answer_later(f, 0, json_object_new_object(), NULL);
	assert_string_equal(take(f, fd), "");
	f->plugged[0] = 5;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd), "{\"id\":3,\"result\":{}}\n");
	put(f, fd,
	    "{\"id\":4,\"method\":\"resize\",\"params\":{\"size\":5}}\n");
	answer_later(f, -ESTALE, NULL, "why");
	assert_string_equal(take(f, fd),
			    "{\"id\":4,\"error\":{\"code\":\"ESTALE\","
			    "\"message\":\"why\"}}\n");
	/* A client leaves before its answer. */
	put(f, fd,
	    "{\"id\":5,\"method\":\"resize\",\"params\":{\"size\":5}}\n");
	close(fd);
	run(f);
	assert_int_equal(f->control.nr_clients, 1);
	answer_later(f, 0, json_object_new_object(), NULL);
	close(other);
}

/* A failing accept() must not make the loop spin. */
static void no_descriptor_for_a_client(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fixture *f = *state;
	struct rlimit limit, none;
	int turns = 0, fd, client;

	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1,
		 "vmemd-control-%d", (int)getpid());
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	assert_int_equal(listen(fd, 4), 0);
	assert_int_equal(control_listen(&f->control, fd), 0);
	client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		connect(client, (struct sockaddr *)&addr, sizeof(addr)), 0);

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = (rlim_t)client + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	while (sd_event_run(f->event, 0) > 0 && turns < 1000)
		turns++;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_true(turns < 1000);
	assert_int_equal(f->control.nr_clients, 0);
	/* The client is served later, once a descriptor is available. */
	while (!f->control.nr_clients)
		assert_true(sd_event_run(f->event, UINT64_MAX) >= 0);
	assert_answer(f, client, "{\"id\":7,\"method\":\"status\"}\n",
		      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
	close(client);
	run(f);
}

static void watchers_get_events(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f), other = new_client(f);

	assert_answer(f, fd, "{\"id\":1,\"method\":\"watch\"}\n",
		      "{\"id\":1,\"result\":{}}\n"
		      "{\"event\":\"state\",\"plugged_size\":0}\n");
	f->plugged[0] = 9;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd),
			    "{\"event\":\"state\",\"plugged_size\":9}\n");
	assert_string_equal(take(f, other), "");
	close(fd);
	/* A watcher has closed its connection. */
	control_publish(&f->control, 0);
	run(f);
	assert_int_equal(f->control.nr_clients, 1);
	close(other);
}

#define WATCH(subject) \
	"{\"id\":1,\"method\":\"watch\",\"params\":{\"subject\":" subject "}}\n"
#define EVENT(plugged) "{\"event\":\"state\",\"plugged_size\":" plugged "}\n"

static void watchers_get_what_they_watch(void **state)
{
	struct fixture *f = *state;
	int all = new_client(f), second = new_client(f);

	f->plugged[1] = 7;
	assert_answer(f, all, WATCH("8"),
		      "{\"id\":1,\"result\":{}}\n" EVENT("0") EVENT("7"));
	assert_answer(f, second, WATCH("1"),
		      "{\"id\":1,\"result\":{}}\n" EVENT("7"));
	f->plugged[0] = 5;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, all), EVENT("5"));
	assert_string_equal(take(f, second), "");
	f->plugged[1] = 6;
	control_publish(&f->control, 1);
	assert_string_equal(take(f, all), EVENT("6"));
	assert_string_equal(take(f, second), EVENT("6"));
	/* A refused "watch" leaves the subscription unchanged. */
	put(f, second, WATCH("9"));
	assert_non_null(strstr(take(f, second), "\"ENOENT\""));
	control_publish(&f->control, 0);
	assert_string_equal(take(f, second), "");
	close(all);
	close(second);
}

static void resize_waits_for_its_subject(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);

	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":"
	    "{\"size\":100,\"wait\":true,\"subject\":1}}\n");
	f->plugged[0] = 100;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd), "");
	f->plugged[1] = 100;
	control_publish(&f->control, 1);
	assert_string_equal(take(f, fd), "{\"id\":1,\"result\":{}}\n");
	/* The same with a deferred answer. */
	f->later = true;
	put(f, fd,
	    "{\"id\":2,\"method\":\"resize\",\"params\":"
	    "{\"size\":200,\"wait\":true,\"subject\":1}}\n");
	answer_later(f, 0, json_object_new_object(), NULL);
	assert_string_equal(take(f, fd), "");
	f->plugged[1] = 200;
	control_publish(&f->control, 1);
	assert_string_equal(take(f, fd), "{\"id\":2,\"result\":{}}\n");
	close(fd);
}

static void slow_watchers_lose_events(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);
	struct control_client *client;
	size_t total = 0, lines = 0;
	bool lost = false;

	put(f, fd, "{\"id\":1,\"method\":\"watch\"}\n");
	client = f->control.clients;
	/*
	 * Far more events than the socket and the backlog hold: the backlog is
	 * bounded.
	 */
	for (unsigned int i = 0; i < 50000; i++)
		control_publish(&f->control, 0);
	for (;;) {
		size_t got = strlen(take(f, fd));

		lost |= strstr(f->answer, "\"lost\"") != NULL;
		total += got;
		for (size_t i = 0; i < got; i++)
			lines += f->answer[i] == '\n';
		run(f);
		if (!got)
			break;
	}
	assert_ptr_equal(f->control.clients, client);
	assert_true(total < 50000 * 20);
	assert_false(lost);
	/* A "lost" event precedes the next event. */
	control_publish(&f->control, 0);
	assert_non_null(strstr(take(f, fd), "{\"event\":\"lost\",\"count\":"));
	assert_non_null(strstr(f->answer, "{\"event\":\"state\""));
	/* The lines were the answer, the state at first, and events. */
	assert_int_equal(strtoul(strstr(f->answer, "count\":") + 7, NULL, 10),
			 50000 - (lines - 2));
	/* It says once what was lost. */
	control_publish(&f->control, 0);
	assert_null(strstr(take(f, fd), "lost"));
	assert_non_null(strstr(f->answer, "{\"event\":\"state\""));
	close(fd);
}

static void a_client_that_does_not_read_waits(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f), other = new_client(f);
	size_t total = 0, got;

	/* Three answers of 2 MiB: the second waits until the first is taken. */
	put(f, fd,
	    "{\"method\":\"blocks\"}\n{\"method\":\"blocks\"}\n"
	    "{\"method\":\"blocks\"}\n");
	assert_int_equal(f->calls, 1);
	assert_answer(f, other, "{\"id\":1,\"method\":\"status\"}\n",
		      "{\"id\":1,\"result\":{\"plugged_size\":0}}\n");
	do {
		got = strlen(take(f, fd));
		total += got;
		run(f);
	} while (got);
	assert_int_equal(f->calls, 4);
	assert_true(total > 3 * ((2 << 20) - 1));
	/* A client leaves while an answer is pending. */
	put(f, fd, "{\"method\":\"blocks\"}\n");
	close(fd);
	run(f);
	assert_int_equal(f->control.nr_clients, 1);
	close(other);
}

static void resize_waits_for_the_guest(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);

	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":"
	    "{\"size\":100,\"wait\":true}}\n");
	assert_string_equal(take(f, fd), "");
	f->plugged[0] = 50;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd), "");
	/*
	 * Other requests are answered meanwhile, but a second wait is refused.
	 */
	assert_answer(f, fd, "{\"id\":2,\"method\":\"status\"}\n",
		      "{\"id\":2,\"result\":{\"plugged_size\":50}}\n");
	put(f, fd,
	    "{\"id\":3,\"method\":\"resize\",\"params\":"
	    "{\"size\":200,\"wait\":true}}\n");
	assert_non_null(strstr(take(f, fd), "\"EBUSY\""));
	assert_int_equal(f->requested[0], 100);
	f->plugged[0] = 100;
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd), "{\"id\":1,\"result\":{}}\n");
	control_publish(&f->control, 0);
	assert_string_equal(take(f, fd), "");
	/* The size is reached already. */
	put(f, fd,
	    "{\"id\":4,\"method\":\"resize\",\"params\":"
	    "{\"size\":100,\"wait\":true}}\n");
	assert_string_equal(take(f, fd), "{\"id\":4,\"result\":{}}\n");
	close(fd);
}

static void resize_that_waits_may_be_overtaken(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f), other = new_client(f);

	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":"
	    "{\"size\":100,\"wait\":true}}\n");
	put(f, other, "{\"method\":\"resize\",\"params\":{\"size\":200}}\n");
	control_publish(&f->control, 0);
	assert_non_null(strstr(take(f, fd), "\"ECANCELED\""));
	/* A client leaves while it waits. */
	put(f, fd,
	    "{\"id\":2,\"method\":\"resize\",\"params\":"
	    "{\"size\":300,\"wait\":true}}\n");
	close(fd);
	run(f);
	control_publish(&f->control, 0);
	assert_int_equal(f->control.nr_clients, 1);
	close(other);
}

static void send_with_fds(struct fixture *f, int to, const char *text, int fd,
			  size_t nr)
{
	int fds[FD_MESSAGE_MAX];

	for (size_t i = 0; i < nr; i++)
		fds[i] = fd;
	assert_int_equal(fd_message_send(to, text, strlen(text), fds, nr, 0),
			 strlen(text));
	run(f);
}

static void descriptors_arrive_and_none_leaks(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f), passed = open("/dev/null", O_RDONLY);
	unsigned int before = front_end_open_fds();

	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 2);
	assert_int_equal(f->last_fds, 2);
	assert_int_equal(front_end_open_fds(), before);
	/*
	 * Descriptors with a request that takes none, with an invalid line, and
	 * with half a line.
	 */
	send_with_fds(f, fd, "{\"method\":\"status\"}\n", passed, 2);
	assert_int_equal(front_end_open_fds(), before);
	send_with_fds(f, fd, "{]\n", passed, 2);
	assert_int_equal(front_end_open_fds(), before);
	put(f, fd, "{\"method\":\"attach\"}\n");
	assert_int_equal(f->last_fds, 0);
	send_with_fds(f, fd, "{\"method\":", passed, 2);
	assert_int_equal(front_end_open_fds(), before + 2);
	put(f, fd, "\"attach\"}\n");
	assert_int_equal(f->last_fds, 2);
	assert_int_equal(front_end_open_fds(), before);
	/* Lines that are read together each have their own descriptors. */
	f->later = true;
	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":5}}\n");
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 2);
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 1);
	f->last_fds = 0;
	f->all_fds = 0;
	answer_later(f, 0, NULL, NULL);
	run(f);
	assert_int_equal(f->last_fds, 1);
	assert_int_equal(f->all_fds, 3);
	/* An earlier line that is read with them does not take them. */
	f->later = true;
	put(f, fd,
	    "{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":5}}\n");
	put(f, fd, "{\"method\":\"keep\"}\n{\"method\":\"status\"}\n");
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 2);
	f->last_fds = 0;
	answer_later(f, 0, NULL, NULL);
	run(f);
	assert_int_equal(f->last_fds, 2);
	assert_int_equal(front_end_open_fds(), before);
	/* Descriptors are not passed to the next line too. */
	f->all_fds = 0;
	send_with_fds(f, fd,
		      "{\"method\":\"attach\"}\n{\"method\":\"attach\"}\n",
		      passed, 2);
	assert_int_equal(f->all_fds, 2);
	put(f, fd, "{\"method\":\"status\"}\n{\"method\":");
	send_with_fds(f, fd, "\"attach\"}\n", passed, 2);
	assert_int_equal(f->last_fds, 2);
	assert_int_equal(front_end_open_fds(), before);
	send_with_fds(f, fd, "{\"method\":", passed, 2);
	close(fd);
	run(f);
	/* Both ends of the connection are closed too. */
	assert_int_equal(front_end_open_fds(), before - 2);
	/* Too many descriptors: some are lost, so the request is refused. */
	fd = new_client(f);
	f->calls = 0;
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 10);
	assert_non_null(strstr(take(f, fd), "too many descriptors"));
	assert_true(closed(f, fd));
	assert_int_equal(f->calls, 0);
	close(fd);
	assert_int_equal(front_end_open_fds(), before - 2);
	/* Also if each part of the line has few. */
	fd = new_client(f);
	send_with_fds(f, fd, "{\"method\":", passed, CONTROL_MAX_FDS - 1);
	send_with_fds(f, fd, "\"attach\"}\n", passed, 2);
	assert_non_null(strstr(take(f, fd), "too many descriptors"));
	assert_true(closed(f, fd));
	assert_int_equal(f->calls, 0);
	close(fd);
	assert_int_equal(front_end_open_fds(), before - 2);
	close(passed);
}

/* That vmemd has no more descriptors is not the client's mistake. */
static void descriptors_for_which_there_is_no_room(void **state)
{
	struct fixture *f = *state;
	int passed = open("/dev/null", O_RDONLY | O_CLOEXEC);
	int fd = new_client(f);
	struct rlimit limit, none;

	assert_true(passed >= 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	none = limit;
	none.rlim_cur = 3;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	/* The next line has no descriptors, and is served. */
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n{\"method\":\"keep\"}\n",
		      passed, 2);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_non_null(strstr(take(f, fd), "EMFILE"));
	assert_non_null(strstr(f->answer, "perhaps"));
	assert_non_null(strstr(f->answer, "result"));
	assert_int_equal(f->calls, 0);
	send_with_fds(f, fd, "{\"method\":\"attach\"}\n", passed, 2);
	assert_int_equal(f->calls, 1);
	assert_int_equal(f->last_fds, 2);
	close(fd);
	close(passed);
}

static unsigned int count_lines(struct fixture *f, int fd)
{
	unsigned int nr = 0;

	for (const char *c = take(f, fd); *c; c++)
		nr += *c == '\n';
	return nr;
}

#define STATUS_LINE "{\"method\":\"status\"}\n"

/*
 * Number of requests sent at once: more than the daemon's buffer for a client
 * holds.
 */
#define FLOOD 250

/* One send() for all, so that they take little of the socket's buffer. */
static void flood(int fd)
{
	char text[FLOOD * strlen(STATUS_LINE) + 1], *end = text;

	for (size_t i = 0; i < FLOOD; i++)
		end = stpcpy(end, STATUS_LINE);
	assert_int_equal(send(fd, text, end - text, MSG_NOSIGNAL), end - text);
}

static int on_guest(sd_event_source *source, int fd, uint32_t revents,
		    void *arg)
{
	(void)fd;
	(void)revents;
	*(bool *)arg = true;
	sd_event_source_set_enabled(source, SD_EVENT_OFF);
	return 0;
}

/*
 * Counts requests instead of time: at most 4 turns of them are served before
 * other clients.
 */
static void a_flood_does_not_starve_others(void **state)
{
	struct fixture *f = *state;
	sd_event_source *source = NULL;
	unsigned int flooded = 0, answered = 0;
	bool guest_served = false;
	int many, one, guest[2];
	char byte = 'k';

	many = new_client(f);
	one = new_client(f);
	assert_int_equal(
		socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, guest), 0);
	assert_true(sd_event_add_io(f->event, &source, guest[0], EPOLLIN,
				    on_guest, &guest_served) >= 0);
	flood(many);
	/* The flood has its first turn before other clients send anything. */
	assert_true(sd_event_run(f->event, 0) > 0);
	assert_int_equal(send(one, STATUS_LINE, strlen(STATUS_LINE), 0),
			 strlen(STATUS_LINE));
	assert_int_equal(write(guest[1], &byte, 1), 1);
	/* Either of the two may be served first. */
	while (!answered || !guest_served) {
		assert_true(sd_event_run(f->event, 0) > 0);
		answered += count_lines(f, one);
		flooded += count_lines(f, many);
		assert_true(flooded <= 4 * CONTROL_TURN_REQUESTS);
	}
	/* All requests of the flood are answered. */
	while (sd_event_run(f->event, 0) > 0)
		flooded += count_lines(f, many);
	flooded += count_lines(f, many);
	assert_int_equal(flooded, FLOOD);
	assert_int_equal(f->calls, FLOOD + 1);
	sd_event_source_disable_unref(source);
	close(guest[0]);
	close(guest[1]);
	close(many);
	close(one);
}

static void requests_before_the_end_are_answered(void **state)
{
	struct fixture *f = *state;
	int fd = new_client(f);

	flood(fd);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	run(f);
	assert_int_equal(f->calls, FLOOD);
	assert_int_equal(count_lines(f, fd), FLOOD);
	assert_true(closed(f, fd));
	close(fd);
}

/* The held client is first or last in the list of clients. */
static void end_together(struct fixture *f, bool kept_first)
{
	int kept, waits;

	f->later = true;
	f->gone = 0;
	kept = kept_first ? new_client(f) : -1;
	waits = new_client(f);
	if (!kept_first)
		kept = new_client(f);
	put(f, kept, "{\"id\":1,\"method\":\"keep\"}\n");
	put(f, kept, "{\"id\":2,\"method\":\"watch\"}\n");
	put(f, waits, "{\"id\":3,\"method\":\"watch\"}\n");
	put(f, waits,
	    "{\"id\":4,\"method\":\"resize\",\"params\":{\"size\":1}}\n");
	if (kept_first)
		put(f, kept, "{\"id\":5,\"method\":\"status\"}\n");
	/* The daemon detects the end only when it sends something. */
	assert_int_equal(shutdown(kept, SHUT_RD), 0);
	assert_int_equal(shutdown(waits, SHUT_RD), 0);
	control_publish(&f->control, 0);
	/* The callback does not run inside control_publish(). */
	assert_int_equal(f->gone, 0);
	run(f);
	assert_int_equal(f->gone, 1);
	assert_int_equal(f->control.nr_clients, 0);
	assert_null(f->control.clients);
	close(kept);
	close(waits);
}

/*
 * A method that answers other clients is not interrupted by their next
 * requests, and a turn has one request of each.
 */
static void an_answer_calls_no_other_method(void **state)
{
	struct fixture *f = *state;
	int fds[3];

	f->later = true;
	for (int i = 0; i < 3; i++) {
		fds[i] = new_client(f);
		put(f, fds[i],
		    "{\"id\":1,\"method\":\"resize\",\"params\":{\"size\":5}}\n"
		    "{\"id\":2,\"method\":\"status\"}\n");
	}
	assert_int_equal(f->calls, 3);
	control_answer(&f->control, f->token, 0, json_object_new_object(), "");
	assert_int_equal(f->calls, 3);
	for (int i = 0; i < 3; i++)
		assert_string_equal(take(f, fds[i]),
				    "{\"id\":1,\"result\":{}}\n");
	run(f);
	assert_int_equal(f->calls, 6);
	for (int i = 0; i < 3; i++) {
		assert_string_equal(
			take(f, fds[i]),
			"{\"id\":2,\"result\":{\"plugged_size\":0}}\n");
		close(fds[i]);
	}
	run(f);
}

static void the_end_of_a_client_may_answer_another(void **state)
{
	end_together(*state, true);
	end_together(*state, false);
}

/* A client that connects as user @uid. */
static int new_client_of(struct fixture *f, uid_t uid)
{
	uid_t before = geteuid();
	int fd;

	/* The effective user returns to that of the daemon. */
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(seteuid(uid), 0);
	fd = new_client(f);
	assert_int_equal(seteuid(0), 0);
	assert_int_equal(seteuid(before), 0);
	run(f);
	return fd;
}

static void a_place_is_kept_for_root(void **state)
{
	enum { OTHER = 65534, MANY = CONTROL_MAX_CLIENTS + 4 };
	struct fixture *f = *state;
	int others[MANY], roots[CONTROL_ROOT_CLIENTS], fd;

	if (geteuid())
		skip();
	assert_int_equal(seteuid(OTHER), 0);
	for (int i = 0; i < MANY; i++) {
		others[i] = new_client_of(f, OTHER);
		if (i < CONTROL_MAX_CLIENTS)
			put(f, others[i], "{\"id\":2,\"method\":\"watch\"}\n");
		else
			assert_true(closed(f, others[i]));
	}
	for (int i = 0; i < CONTROL_ROOT_CLIENTS; i++) {
		roots[i] = new_client_of(f, 0);
		assert_answer(f, roots[i], "{\"id\":7,\"method\":\"status\"}\n",
			      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
	}
	/*
	 * A new connection is idle; only root may replace root's connections.
	 */
	fd = new_client_of(f, OTHER);
	assert_true(closed(f, fd));
	close(fd);
	assert_answer(f, roots[0], "{\"id\":7,\"method\":\"status\"}\n",
		      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
	fd = new_client_of(f, 0);
	assert_answer(f, fd, "{\"id\":7,\"method\":\"status\"}\n",
		      "{\"id\":7,\"result\":{\"plugged_size\":0}}\n");
	assert_true(closed(f, roots[1]));
	close(fd);
	for (int i = 0; i < MANY; i++)
		close(others[i]);
	for (int i = 0; i < CONTROL_ROOT_CLIENTS; i++)
		close(roots[i]);
	assert_int_equal(seteuid(0), 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(methods_answer_with_their_id),
		T(garbage_is_refused),
		T(wrong_types_are_refused),
		T(large_sizes_are_exact),
		T(lines_have_a_limit),
		T(lines_come_in_pieces),
		T(clients_have_a_limit),
		T(held_clients_take_no_place),
		T(idle_clients_make_room),
		T(calls_that_wait_for_the_same_get_the_same_answer),
		T(later_answers),
		T(an_answer_calls_no_other_method),
		T(the_end_of_a_client_may_answer_another),
		T(a_place_is_kept_for_root),
		T(no_descriptor_for_a_client),
		T(watchers_get_events),
		T(watchers_get_what_they_watch),
		T(slow_watchers_lose_events),
		T(a_client_that_does_not_read_waits),
		T(resize_waits_for_the_guest),
		T(resize_waits_for_its_subject),
		T(resize_that_waits_may_be_overtaken),
		T(a_flood_does_not_starve_others),
		T(requests_before_the_end_are_answered),
		T(descriptors_arrive_and_none_leaks),
		T(descriptors_for_which_there_is_no_room),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
