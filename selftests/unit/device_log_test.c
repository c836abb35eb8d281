// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Log messages name their device, and the service manager gets the status of
 * all devices. The test runs vmemd with devices whose memory the front end
 * maps, which need no kernel module.
 */
#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

/* A bound on any wait for vmemd, which takes milliseconds. */
#define PATIENCE_MS 60000

#define TEXT_MAX     65536
#define MAX_OPTIONS  32
#define COMMON	     "--backing", "vmm", "--region-size", "64M"
#define NEAR_OPTIONS COMMON, "--vhost-user", "near"
#define FAR_OPTIONS  COMMON, "--vhost-user", "far"

/**
 * struct fixture - a vmemd
 * @folder: folder of its sockets, "near" and "far"
 * @pid: its process, 0 if not running
 * @log: its standard error
 * @text: output read so far, @length bytes
 */
struct fixture {
	char folder[32];
	pid_t pid;
	int log;
	char text[TEXT_MAX];
	size_t length;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->log = -1;
	snprintf(f->folder, sizeof(f->folder), "/tmp/device_log.XXXXXX");
	assert_non_null(mkdtemp(f->folder));
	assert_int_equal(chdir(f->folder), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	if (f->log >= 0)
		close(f->log);
	unlink("near");
	unlink("far");
	unlink("manager");
	assert_int_equal(chdir("/"), 0);
	assert_int_equal(rmdir(f->folder), 0);
	free(f);
	return 0;
}

static void start(struct fixture *f, const char *const *options)
{
	const char *argv[MAX_OPTIONS] = {VMEMD};
	int log[2];

	for (int i = 0; options[i]; i++)
		argv[1 + i] = options[i];
	assert_int_equal(pipe(log), 0);
	f->pid = fork();
	assert_true(f->pid >= 0);
	if (!f->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		unsetenv("JOURNAL_STREAM");
		if (dup2(log[1], STDERR_FILENO) < 0)
			_exit(126);
		close(log[0]);
		close(log[1]);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(log[1]);
	f->log = log[0];
}

/* Return: false at the end of the output. */
static bool read_more(struct fixture *f)
{
	struct pollfd pfd = {.fd = f->log, .events = POLLIN};
	ssize_t got;

	assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	got = read(f->log, f->text + f->length,
		   sizeof(f->text) - 1 - f->length);
	assert_true(got >= 0);
	f->length += got;
	f->text[f->length] = '\0';
	return got;
}

static void await_text(struct fixture *f, const char *text)
{
	while (!strstr(f->text, text))
		if (!read_more(f))
			fail_msg("no \"%s\" in: %s", text, f->text);
}

/*
 * Each line about a device begins with @one or @other. Other lines report what
 * the host does not permit.
 */
static void assert_beginnings(struct fixture *f, const char *one,
			      const char *other)
{
	char *rest = f->text;
	unsigned int nr = 0;
	const char *line;

	while ((line = strsep(&rest, "\n"))) {
		if (!strstr(line, "vhost-user: ") && !strstr(line, "memory of"))
			continue;
		if (strncmp(line, one, strlen(one)) &&
		    strncmp(line, other, strlen(other)))
			fail_msg("a line of no device: %s", line);
		nr++;
	}
	assert_true(nr);
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

/* A front end that sends an invalid message. */
static void misbehave(const char *path)
{
	static const char junk[64];
	int fd = connect_to(path);

	assert_int_equal(send(fd, junk, sizeof(junk), MSG_NOSIGNAL),
			 sizeof(junk));
	close(fd);
}

static void stop_by(struct fixture *f, int signal)
{
	int status;

	assert_int_equal(kill(f->pid, signal), 0);
	while (read_more(f))
		;
	assert_int_equal(waitpid(f->pid, &status, 0), f->pid);
	f->pid = 0;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void stop(struct fixture *f)
{
	stop_by(f, SIGTERM);
}

static void a_message_names_its_device(void **state)
{
	struct fixture *f = *state;
	static const char *const options[] = {
		"--log-level", "debug", "--device",  "node0", NEAR_OPTIONS,
		"--device",    "far",	FAR_OPTIONS, NULL,
	};

	start(f, options);
	await_text(f, "vmemd: node0: memory of 64 MiB in ");
	await_text(f, "vmemd: far: memory of 64 MiB in ");
	misbehave("far");
	await_text(f, "vmemd: far: vhost-user: a front end has connected\n");
	await_text(f, "; connection closed\n");
	misbehave("near");
	await_text(f, "vmemd: node0: vhost-user: a front end has connected\n");
	stop(f);
	assert_beginnings(f, "vmemd: node0: ", "vmemd: far: ");
}

/* Without a name, a device is identified by its number if there are several. */
static void a_device_without_a_name_is_a_number(void **state)
{
	struct fixture *f = *state;
	static const char *const options[] = {
		NEAR_OPTIONS, "--device", "far", FAR_OPTIONS, NULL,
	};

	start(f, options);
	await_text(f, "vmemd: 0: memory of 64 MiB in ");
	await_text(f, "vmemd: far: memory of 64 MiB in ");
	stop(f);
	assert_beginnings(f, "vmemd: 0: ", "vmemd: far: ");
}

/* The socket of a service manager, for the next vmemd. */
static int new_manager(void)
{
	struct sockaddr_un address = {
		.sun_family = AF_UNIX,
		.sun_path = "manager",
	};
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char path[PATH_MAX];

	assert_true(fd >= 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_non_null(realpath(address.sun_path, path));
	assert_int_equal(setenv("NOTIFY_SOCKET", path, 1), 0);
	return fd;
}

/* The next status that the manager receives. */
static void assert_status(int manager, const char *text)
{
	struct pollfd pfd = {.fd = manager, .events = POLLIN};
	char got[512];
	ssize_t size;

	do {
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
		size = recv(manager, got, sizeof(got) - 1, 0);
		assert_true(size >= 0);
		got[size] = '\0';
	} while (strncmp(got, "STATUS=", 7) != 0);
	assert_string_equal(got, text);
}

static void the_manager_hears_of_all_devices(void **state)
{
	struct fixture *f = *state;
	static const char *const options[] = {
		"--device", "node0", NEAR_OPTIONS, "--requested-size", "0",
		"--device", "far",   FAR_OPTIONS,  "--requested-size", "0",
		NULL,
	};
	static const char *const sizes[] = {
		"--device", "node0", NEAR_OPTIONS, "--requested-size", "16M",
		"--device", "far",   FAR_OPTIONS,  "--requested-size", "32M",
		NULL,
	};
	int manager = new_manager(), fd;

	start(f, options);
	assert_status(manager, "STATUS=0 B plugged, 0 B requested, 0 of 2 "
			       "front ends connected");
	fd = connect_to("far");
	assert_status(manager, "STATUS=0 B plugged, 0 B requested, 1 of 2 "
			       "front ends connected");
	close(fd);
	assert_status(manager, "STATUS=0 B plugged, 0 B requested, 0 of 2 "
			       "front ends connected");
	stop(f);
	close(f->log);
	unlink("near");
	unlink("far");
	start(f, sizes);
	assert_status(manager, "STATUS=0 B plugged, 48 MiB requested, 0 of 2 "
			       "front ends connected");
	stop(f);
	unsetenv("NOTIFY_SOCKET");
	close(manager);
}

static void the_only_device_is_not_named(void **state)
{
	struct fixture *f = *state;
	static const char *const options[] = {NEAR_OPTIONS, NULL};

	start(f, options);
	await_text(f, "vmemd: memory of 64 MiB in ");
	misbehave("near");
	await_text(f, "vmemd: vhost-user: a front end has connected\n");
	stop(f);
	assert_beginnings(f, "vmemd: memory of ", "vmemd: vhost-user: ");
}

/* As by Ctrl-C; stop() sends SIGTERM. */
static void an_interrupt_ends_it_in_order(void **state)
{
	struct fixture *f = *state;
	static const char *const options[] = {NEAR_OPTIONS, NULL};

	start(f, options);
	await_text(f, "vmemd: memory of 64 MiB in ");
	stop_by(f, SIGINT);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_names_its_device),
		T(a_device_without_a_name_is_a_number),
		T(the_only_device_is_not_named),
		T(an_interrupt_ends_it_in_order),
		T(the_manager_hears_of_all_devices),
	};

	return unit_run(tests, NULL, NULL);
}
