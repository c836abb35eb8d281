// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The process at the other end of a socket: that it is known, that its end is
 * noticed, and that another process is not taken for it.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/peer.h"
#include "unit.h"

/* A bound on a process that hangs. */
#define HANG_MS 60000

/* A process that has connected a socket, the other end of which is @fd. */
static pid_t start_peer(int *fd)
{
	int listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_storage address = {.ss_family = AF_UNIX};
	socklen_t size = sizeof(sa_family_t);
	pid_t pid;

	/* A name without a file, which the kernel chooses. */
	assert_int_equal(bind(listen_fd, (struct sockaddr *)&address, size), 0);
	assert_int_equal(listen(listen_fd, 1), 0);
	size = sizeof(address);
	assert_int_equal(
		getsockname(listen_fd, (struct sockaddr *)&address, &size), 0);
	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		int own;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		own = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (connect(own, (struct sockaddr *)&address, size))
			_exit(1);
		pause();
		_exit(0);
	}
	*fd = accept(listen_fd, NULL, NULL);
	assert_true(*fd >= 0);
	close(listen_fd);
	return pid;
}

static void kill_peer(pid_t pid)
{
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void the_process_of_a_socket_is_known(void **state)
{
	struct pollfd ended = {.events = POLLIN};
	struct peer peer, again;
	pid_t pid;
	int fd;

	(void)state;
	pid = start_peer(&fd);
	assert_int_equal(peer_of_socket(&peer, fd), 0);
	assert_int_equal(peer.pid, pid);
	assert_int_equal(peer.uid, getuid());
	assert_true(peer.pidfd >= 0);
	ended.fd = peer.pidfd;
	assert_int_equal(poll(&ended, 1, 0), 0);
	/* By its numbers it is the same. */
	again = peer;
	assert_int_equal(peer_find(&again), 0);
	assert_true(again.pidfd >= 0);
	assert_true(peer_may_be(&peer, &again));
	assert_int_equal(kill(pid, SIGKILL), 0);
	assert_int_equal(poll(&ended, 1, HANG_MS), 1);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	peer_close(&again);
	assert_int_equal(again.pidfd, -1);
	assert_int_equal(peer_find(&again), -ESRCH);
	peer_close(&peer);
	close(fd);
}

/* It has ended by the time that it is asked for. */
static void a_process_that_has_ended_is_not_found(void **state)
{
	struct peer peer;
	pid_t pid;
	int fd, ret;

	(void)state;
	pid = start_peer(&fd);
	kill_peer(pid);
	ret = peer_of_socket(&peer, fd);
	assert_int_equal(peer.pid, pid);
	if (!ret) {
		struct pollfd ended = {peer.pidfd, POLLIN, 0};

		/* Linux 6.16 keeps a pidfd for it. */
		assert_int_equal(poll(&ended, 1, 0), 1);
	} else {
		assert_int_equal(ret, -ESRCH);
	}
	peer_close(&peer);
	close(fd);
}

/* A number that another process has now is not the one that it was. */
static void a_number_that_is_used_again_is_another(void **state)
{
	struct peer peer;
	uint64_t id;
	pid_t pid;
	int fd;

	(void)state;
	pid = start_peer(&fd);
	assert_int_equal(peer_of_socket(&peer, fd), 0);
	peer_close(&peer);
	id = peer.id;
	peer.id = id + 1;
	/* Before Linux 6.9 there is no other number than the PID. */
	assert_int_equal(peer_find(&peer), id ? -ESRCH : 0);
	if (id)
		assert_int_equal(peer.pidfd, -1);
	peer_close(&peer);
	kill_peer(pid);
	close(fd);
}

static void a_process_that_is_not_known_may_be_any(void **state)
{
	const struct peer unknown = PEER_UNKNOWN;
	const struct peer a = {.pid = 7}, b = {.pid = 8};
	const struct peer a1 = {.pid = 7, .id = 1}, a2 = {.pid = 7, .id = 2};
	const struct peer outside1 = {.id = 1};

	(void)state;
	assert_true(peer_may_be(&unknown, &a));
	assert_true(peer_may_be(&a, &unknown));
	assert_true(peer_may_be(&a, &a));
	assert_false(peer_may_be(&a, &b));
	/* Whichever number is exact decides. */
	assert_true(peer_may_be(&a, &a1));
	assert_false(peer_may_be(&b, &a1));
	assert_false(peer_may_be(&a1, &a2));
	assert_true(peer_may_be(&a1, &outside1));
	assert_false(peer_may_be(&a2, &outside1));
}

/*
 * Where no descriptor is left, the process is there and cannot be watched. That is
 * an error, and not a process that is not known.
 */
static void a_shortage_is_no_unknown_process(void **state)
{
	struct rlimit limit, none;
	struct peer peer;
	int fd, next;
	pid_t pid;

	(void)state;
	pid = start_peer(&fd);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	next = dup(fd);
	assert_true(next >= 0);
	close(next);
	none = limit;
	none.rlim_cur = (rlim_t)next;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &none), 0);
	assert_int_equal(peer_of_socket(&peer, fd), -EMFILE);
	assert_int_equal(peer.pidfd, -1);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	assert_int_equal(peer_of_socket(&peer, fd), 0);
	assert_true(peer.pidfd >= 0);
	peer_close(&peer);
	kill_peer(pid);
	close(fd);
}

static void the_namespace_of_numbers_is_that_of_the_process(void **state)
{
	struct stat st;

	(void)state;
	assert_int_equal(stat("/proc/self/ns/pid", &st), 0);
	assert_int_equal(peer_namespace(), st.st_ino);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_process_of_a_socket_is_known),
		cmocka_unit_test(a_process_that_has_ended_is_not_found),
		cmocka_unit_test(a_number_that_is_used_again_is_another),
		cmocka_unit_test(a_process_that_is_not_known_may_be_any),
		cmocka_unit_test(a_shortage_is_no_unknown_process),
		cmocka_unit_test(
			the_namespace_of_numbers_is_that_of_the_process),
	};

	return unit_run(tests, NULL, NULL);
}
