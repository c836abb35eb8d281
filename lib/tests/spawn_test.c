// SPDX-License-Identifier: MIT
/*
 * Starting a program as vmemd: it gets its descriptors and variables, and
 * nothing else. Then the real vmemd, with the backing that needs no module.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvmvmem.h"
#include "unit.h"

/* A bound on a program that hangs. */
#define WAIT_MS 60000

/* Number of starts by a process with threads, whose locks the fork may copy. */
#define SPAWNS 10

/**
 * struct fixture - a folder for sockets and the program's report
 */
struct fixture {
	char dir[32];
	char control[64];
	char out[64];
	struct kvmvmem_vmemd *vmemd;
	struct kvmvmem_error error;
	char report[8192];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	strcpy(f->dir, "/tmp/spawn-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->control, sizeof(f->control), "%s/control", f->dir);
	snprintf(f->out, sizeof(f->out), "%s/out", f->dir);
	assert_int_equal(kvmvmem_vmemd_new(&f->vmemd, f->control, &f->error),
			 0);
	*state = f;
	return 0;
}

/* The library has removed its socket, so the folder is empty. */
static int tear_down(void **state)
{
	struct fixture *f = *state;

	kvmvmem_vmemd_free(f->vmemd);
	unlink(f->out);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

static void add_option(struct fixture *f, const char *option)
{
	assert_int_equal(kvmvmem_vmemd_add_option(f->vmemd, option, &f->error),
			 0);
}

static void add_device(struct fixture *f, const char *name, int region,
		       int memory)
{
	assert_int_equal(kvmvmem_vmemd_add_device(f->vmemd, name, region,
						  memory, &f->error),
			 0);
}

/* Read the program's report once it is complete. */
static void read_report(struct fixture *f)
{
	struct pollfd ended = {kvmvmem_vmemd_pidfd(f->vmemd), POLLIN, 0};
	size_t have = 0;

	for (int i = 0; i < WAIT_MS; i++) {
		int fd = open(f->out, O_RDONLY | O_CLOEXEC);
		ssize_t got =
			fd < 0 ? 0 : read(fd, f->report, sizeof(f->report) - 1);

		if (fd >= 0)
			close(fd);
		have = got > 0 ? (size_t)got : 0;
		f->report[have] = '\0';
		if (strstr(f->report, "\nend\n"))
			return;
		/* A program that waits has no other sign: look again soon. */
		poll(&ended, 1, 1);
	}
	fail_msg("the program has not written all: %s", f->report);
}

static unsigned int count(const char *text, const char *part)
{
	unsigned int nr = 0;

	while ((text = strstr(text, part))) {
		nr++;
		text += strlen(part);
	}
	return nr;
}

static void wait_for_end(struct fixture *f)
{
	struct pollfd ended = {kvmvmem_vmemd_pidfd(f->vmemd), POLLIN, 0};

	assert_int_equal(poll(&ended, 1, WAIT_MS), 1);
}

static void on_signal(int number)
{
	(void)number;
	_exit(99);
}

static void a_program_inherits_only_what_it_is_given(void **state)
{
	struct fixture *f = *state;
	int region = open("/dev/null", O_RDWR | O_CLOEXEC);
	int memory = memfd_create("memory", MFD_CLOEXEC);
	/* Without close-on-exec, as in a careless VMM. */
	int other = open("/dev/null", O_RDWR);
	char line[64];
	int fd;

	assert_true(region >= 0 && memory >= 0 && other >= 0);
	setenv("LISTEN_FDS", "17", 1);
	setenv("LISTEN_PIDFDID", "1", 1);
	setenv("NOTIFY_SOCKET", "/none", 1);
	setenv("WATCHDOG_USEC", "1", 1);
	setenv("KEPT", "yes", 1);
	signal(SIGUSR1, on_signal);
	signal(SIGUSR2, SIG_IGN);
	add_option(f, f->out);
	add_option(f, "end");
	add_option(f, "--log-level");
	add_device(f, "node0", region, memory);
	add_option(f, "--node");
	add_device(f, "node1", region, memory);
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error), 0);
	read_report(f);
	assert_non_null(strstr(
		f->report,
		"LISTEN_FDNAMES=region-node0:memory-node0:consumers-node0:"
		"vhost-user-node0:region-node1:memory-node1:consumers-node1:"
		"vhost-user-node1:control\n"));
	assert_non_null(strstr(f->report, "LISTEN_FDS=9\n"));
	assert_int_equal(count(f->report, "LISTEN_"), 3);
	assert_null(strstr(f->report, "NOTIFY"));
	assert_null(strstr(f->report, "WATCHDOG"));
	assert_non_null(strstr(f->report, "KEPT=yes\n"));
	/* Character device, files and sockets, in the order of the names. */
	assert_non_null(strstr(f->report,
			       "fd 3 2\nfd 4 8\nfd 5 8\nfd 6 12\nfd 7 2\n"
			       "fd 8 8\nfd 9 8\nfd 10 12\nfd 11 12\n"));
	assert_int_equal(count(f->report, "fd "), 3 + 9);
	assert_non_null(strstr(f->report,
			       "argument --log-level\nargument --device\n"
			       "argument node0\nargument --node\n"
			       "argument --device\nargument node1\n"));
	assert_null(strstr(f->report, "blocked"));
	snprintf(line, sizeof(line), "ignored %d\n", SIGUSR2);
	assert_non_null(strstr(f->report, line));
	assert_int_equal(count(f->report, "ignored"), 1);
	/* LISTEN_PID is the program's pid. */
	assert_int_equal(
		strtol(strstr(f->report, "LISTEN_PID=") + 11, NULL, 10),
		strtol(strstr(f->report, "\npid ") + 5, NULL, 10));
	wait_for_end(f);
	/* One front-end socket per device, and only once. */
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "node1" : "node0";

		fd = kvmvmem_vmemd_front_end(f->vmemd, name, &f->error);
		assert_true(fd >= 0);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		close(fd);
		assert_int_equal(
			kvmvmem_vmemd_front_end(f->vmemd, name, &f->error),
			-ENOENT);
	}
	signal(SIGUSR1, SIG_DFL);
	signal(SIGUSR2, SIG_DFL);
	close(region);
	close(memory);
	close(other);
}

static void a_failed_start_is_explained(void **state)
{
	struct fixture *f = *state;
	struct stat status;

	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error),
			 -EINVAL);
	add_device(f, NULL, -1, -1);
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, "/none", &f->error),
			 -ENOENT);
	assert_string_equal(f->error.text,
			    "cannot start /none: No such file or directory");
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, f->dir, &f->error),
			 -EACCES);
	assert_int_equal(kvmvmem_vmemd_pidfd(f->vmemd), -1);
	assert_int_equal(kvmvmem_vmemd_front_end(f->vmemd, NULL, &f->error),
			 -ENOENT);
	/* The library's socket is removed; another file is not touched. */
	assert_int_equal(stat(f->control, &status), -1);
	assert_int_equal(symlink("/none", f->control), 0);
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error),
			 -EADDRINUSE);
	assert_int_equal(unlink(f->control), 0);
}

static void invalid_names_are_refused(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, "a:b", -1, -1, &f->error),
		-EINVAL);
	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, "", -1, -1, &f->error),
		-EINVAL);
	assert_int_equal(kvmvmem_vmemd_add_device(
				 f->vmemd, "a23456789012345678901234567890ab",
				 -1, -1, &f->error),
			 -EINVAL);
	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, "a", 0, -1, &f->error),
		-EINVAL);
	add_device(f, "a", -1, -1);
	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, "a", -1, -1, &f->error),
		-EINVAL);
	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, NULL, -1, -1, &f->error),
		-EINVAL);
	for (char name[] = "b"; name[0] < 'b' + 15; name[0]++)
		add_device(f, name, -1, -1);
	assert_int_equal(
		kvmvmem_vmemd_add_device(f->vmemd, "z", -1, -1, &f->error),
		-E2BIG);
}

static void a_program_that_ignores_sigterm_is_stopped(void **state)
{
	struct fixture *f = *state;

	add_option(f, f->out);
	add_option(f, "wait");
	add_device(f, NULL, -1, -1);
	/* Repeatedly with the same object. */
	for (int i = 0; i < 3; i++) {
		unlink(f->out);
		assert_int_equal(
			kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error), 0);
		read_report(f);
		assert_int_equal(
			kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error),
			-EBUSY);
		kvmvmem_vmemd_stop(f->vmemd);
		assert_int_equal(kvmvmem_vmemd_pidfd(f->vmemd), -1);
		assert_int_equal(access(f->control, F_OK), -1);
	}
}

/* Return: a child that has this number and exits with 7, or a negative errno. */
static pid_t start_child(pid_t number)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&number,
		.set_tid_size = 1,
	};
	long pid = syscall(SYS_clone3, &args, sizeof(args));

	if (!pid)
		_exit(7);
	return pid < 0 ? -errno : (pid_t)pid;
}

/*
 * A VMM may wait for all its children, vmemd among them, and start another process
 * that gets the number of the one that has ended.
 */
static void another_child_with_the_same_pid_is_not_killed(void **state)
{
	struct fixture *f = *state;
	pid_t pid, other;
	int status;

	add_option(f, f->out);
	add_option(f, "end");
	add_device(f, NULL, -1, -1);
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error), 0);
	wait_for_end(f);
	pid = waitpid(-1, NULL, 0);
	assert_true(pid > 0);
	other = start_child(pid);
	/* Only root can choose a pid, and the pid may be in use. */
	if (other < 0)
		skip();
	assert_int_equal(other, pid);
	kvmvmem_vmemd_stop(f->vmemd);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
}

static void a_stale_control_socket_is_replaced(void **state)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct fixture *f = *state;
	int fd;

	add_option(f, f->out);
	add_option(f, "wait");
	add_device(f, NULL, -1, -1);
	strcpy(address.sun_path, f->control);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(fd, 1), 0);
	/* Another process serves it. */
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error),
			 -EADDRINUSE);
	assert_int_equal(access(f->control, F_OK), 0);
	/* The process was killed: the file stays, and nothing listens. */
	close(fd);
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error), 0);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(
		connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	kvmvmem_vmemd_stop(f->vmemd);
	assert_int_equal(access(f->control, F_OK), -1);
}

static void *do_nothing(void *arg)
{
	for (;;) {
		char *text = malloc(64);

		snprintf(text, 64, "%p", arg);
		free(text);
		sched_yield();
		pthread_testcancel();
	}
	return arg;
}

/* Other threads may hold malloc()'s locks during the fork. */
static void a_process_with_threads_may_start_vmemd(void **state)
{
	struct fixture *f = *state;
	pthread_t threads[2];

	for (int i = 0; i < 2; i++)
		assert_int_equal(
			pthread_create(&threads[i], NULL, do_nothing, NULL), 0);
	add_option(f, f->out);
	add_option(f, "end");
	add_device(f, NULL, -1, -1);
	for (int i = 0; i < SPAWNS; i++) {
		assert_int_equal(
			kvmvmem_vmemd_spawn(f->vmemd, PROGRAM, &f->error), 0);
		wait_for_end(f);
	}
	for (int i = 0; i < 2; i++) {
		pthread_cancel(threads[i]);
		pthread_join(threads[i], NULL);
	}
}

/* --- vmemd itself --- */

static void the_real_vmemd_answers(void **state)
{
	struct fixture *f = *state;
	struct kvmvmem_plan plan = {
		.size = sizeof(plan),
		.region_size = GIB,
		.block_size = 2 * MIB,
		.kvm_limit = 509,
	};
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	int front_end;

	add_option(f, "--log-level");
	add_option(f, "err");
	add_device(f, "near", -1, -1);
	add_option(f, "--backing");
	add_option(f, "vmm");
	add_option(f, "--region-size");
	add_option(f, "1G");
	assert_int_equal(kvmvmem_vmemd_spawn(f->vmemd, VMEMD, &f->error), 0);
	front_end = kvmvmem_vmemd_front_end(f->vmemd, "near", &f->error);
	assert_true(front_end >= 0);
	for (int i = 0; i < 2; i++) {
		const char *name = i ? "near" : NULL;

		assert_int_equal(kvmvmem_vmemd_resize(f->vmemd, name, 4 * MIB,
						      &f->error),
				 0);
		assert_int_equal(
			kvmvmem_vmemd_resize(f->vmemd, name, 1, &f->error),
			-EINVAL);
		assert_int_equal(
			kvmvmem_vmemd_hold(f->vmemd, name, true, &f->error), 0);
		assert_int_equal(
			kvmvmem_vmemd_hold(f->vmemd, name, false, &f->error),
			0);
		assert_int_equal(kvmvmem_vmemd_system_reset(f->vmemd, name,
							    false, &f->error),
				 0);
		/* Methods that this backing does not support. */
		assert_int_equal(kvmvmem_vmemd_dirty_log(f->vmemd, name, true,
							 &f->error),
				 -EOPNOTSUPP);
		assert_int_equal(
			kvmvmem_vmemd_attach(f->vmemd, name, fd, fd, &f->error),
			-EOPNOTSUPP);
		assert_int_equal(
			kvmvmem_vmemd_plan(f->vmemd, name, &plan, &f->error),
			-EBUSY);
	}
	assert_int_equal(kvmvmem_vmemd_hold(f->vmemd, "far", true, &f->error),
			 -ENOENT);
	assert_non_null(strstr(f->error.text, "no device \"far\""));
	kvmvmem_vmemd_stop(f->vmemd);
	close(front_end);
	close(fd);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		T(a_program_inherits_only_what_it_is_given),
		T(a_failed_start_is_explained),
		T(invalid_names_are_refused),
		T(a_program_that_ignores_sigterm_is_stopped),
		T(another_child_with_the_same_pid_is_not_killed),
		T(a_stale_control_socket_is_replaced),
		T(a_process_with_threads_may_start_vmemd),
		T(the_real_vmemd_answers),
	};

	return unit_run(tests, NULL, NULL);
}
