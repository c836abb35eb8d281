// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command vmemctl, run as a program, with a daemon that says what the test
 * has it say, or nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

#define OUTPUT_MAX 8192

/**
 * struct fixture - where the daemon listens
 * @dir: a folder of our own; @path in it
 * @answer: a line for each request; NULL: none
 * @mute: it does not even accept
 * @output: what vmemctl has printed
 */
struct fixture {
	char dir[32];
	char path[64];
	int fd;
	const char *answer;
	bool mute;
	char output[OUTPUT_MAX];
};

static int set_up(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/vmemctl-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/control", f->dir);
	strcpy(addr.sun_path, f->path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(listen(f->fd, 0), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	unlink(f->path);
	rmdir(f->dir);
	free(f);
	return 0;
}

/* Answer requests until the client leaves. */
static void serve(struct fixture *f)
{
	char request[1024];
	int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);

	assert_true(fd >= 0);
	/* A request ends with its line, which may be a piece of its own. */
	for (;;) {
		ssize_t got = recv(fd, request, sizeof(request), 0);

		if (got <= 0)
			break;
		if (f->answer && request[got - 1] == '\n')
			send(fd, f->answer, strlen(f->answer), MSG_NOSIGNAL);
	}
	close(fd);
}

/* Run vmemctl. Return: its exit status. */
static int run(struct fixture *f, const char *const *args)
{
	const char *argv[16] = {VMEMCTL, "--control", f->path};
	size_t have = 0;
	ssize_t got;
	int out[2], status;
	pid_t child;

	for (size_t i = 0; args[i]; i++)
		argv[3 + i] = args[i];
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		dup2(out[1], STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		execv(VMEMCTL, (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	if (!f->mute)
		serve(f);
	while ((got = read(out[0], f->output + have,
			   sizeof(f->output) - 1 - have)) > 0)
		have += (size_t)got;
	f->output[have] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

#define RUN(f, ...) run(f, (const char *const[]){__VA_ARGS__, NULL})

static void what_is_not_known_is_not_zero(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"result\":{\"driver\":{},\"requests\":{},"
		    "\"metadata\":{\"total\":4096}}}\n";
	assert_int_equal(RUN(f, "status"), 0);
	assert_non_null(strstr(f->output, "4 KiB"));
	assert_null(strstr(f->output, "not known"));
	f->answer = "{\"id\":1,\"result\":{\"driver\":{},\"requests\":{},"
		    "\"metadata\":null}}\n";
	assert_int_equal(RUN(f, "status"), 0);
	assert_non_null(strstr(f->output, "not known"));
	assert_null(strstr(f->output, "gfn_track"));
	f->answer = "{\"id\":1,\"result\":{\"slots\":[{\"id\":3,"
		    "\"metadata\":null}]}}\n";
	assert_int_equal(RUN(f, "slots"), 0);
	assert_non_null(strstr(f->output, "not known"));
}

static void a_refusal_is_1(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"error\":{\"code\":\"EINVAL\","
		    "\"message\":\"no\"}}\n";
	assert_int_equal(RUN(f, "resize", "1G"), 1);
	assert_non_null(strstr(f->output, "no (EINVAL)"));
	f->mute = true;
	close(f->fd);
	f->fd = -1;
	assert_int_equal(RUN(f, "status"), 1);
	unlink(f->path);
	assert_int_equal(RUN(f, "status"), 1);
}

static void a_wrong_command_line_is_2(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN(f, "reboot"), 2);
	assert_int_equal(RUN(f, "status", "--wait"), 2);
	assert_int_equal(RUN(f, "resize"), 2);
	assert_int_equal(RUN(f, "status", "--top"), 2);
	assert_int_equal(RUN(f, "metadata"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "--pid", "1"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "--memslots"), 2);
	assert_int_equal(RUN(f, "metadata", "--pid", "0"), 2);
	assert_int_equal(RUN(f, "metadata", "--pid", "1x"), 2);
	assert_int_equal(RUN(f, "metadata", "--fd", "-1"), 2);
	assert_int_equal(RUN(f, "metadata", "--fd", "99999999999"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "now"), 2);
	f->mute = false;
	assert_int_equal(RUN(f, "resize", "1KiBB"), 2);
}

static void a_guest_that_does_not_follow_is_3(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"result\":{}}\n"
		    "{\"event\":\"state\",\"requested_size\":1073741824,"
		    "\"plugged_size\":0}\n";
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 3);
	assert_non_null(strstr(f->output, "stalled"));
}

static void a_daemon_that_does_not_answer_is_4(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fixture *f = *state;
	int fds[2];

	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 4);
	assert_non_null(strstr(f->output, "does not answer"));
	/* Nor accept, with others in its backlog. */
	f->mute = true;
	strcpy(addr.sun_path, f->path);
	for (size_t i = 0; i < 2; i++) {
		fds[i] = socket(AF_UNIX,
				SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		/* The one that finds no room need not be in it. */
		if (connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)))
			assert_int_equal(errno, EAGAIN);
	}
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 4);
	close(fds[0]);
	close(fds[1]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(what_is_not_known_is_not_zero),
		T(a_refusal_is_1),
		T(a_wrong_command_line_is_2),
		T(a_guest_that_does_not_follow_is_3),
		T(a_daemon_that_does_not_answer_is_4),
	};

	return unit_run(tests, NULL, NULL);
}
