// SPDX-License-Identifier: MIT
/*
 * Starting a program from a process that has threads. Everything that allocates
 * memory happens before fork(2), and the child makes only async-signal-safe calls.
 * posix_spawn(3) will not do: LISTEN_PID is the child's own PID.
 *
 * Signals are blocked in the child until the VMM's handlers are removed.
 *
 * The child waits for a byte on a socket before it does anything, so that it
 * exists when the parent opens its pidfd: the VMM may wait for any child, and the
 * PID of a child that was waited for can be reused. From then on the parent uses
 * the pidfd only. The child reports an error on the same socket, which execve(2)
 * closes.
 */
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not in the headers of older systems; Linux has it since 5.4. */
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

/* First descriptor of sd_listen_fds(3). */
#define FIRST_FD 3

/* Size of a PID as text, including the NUL. */
#define PID_DIGITS 12

/**
 * struct child - memory of the child, allocated before fork()
 * @envp: its environment: variables of the VMM, and the next three
 * @pid_at: where the child writes its PID into @listen_pid
 * @listen_pid: variable LISTEN_PID
 * @listen_fds: variable LISTEN_FDS
 * @listen_names: variable LISTEN_FDNAMES
 * @moved: copies of the descriptors, above the range that they will have
 */
struct child {
	char **envp;
	char *pid_at;
	char listen_pid[sizeof("LISTEN_PID=") + PID_DIGITS];
	char listen_fds[sizeof("LISTEN_FDS=") + PID_DIGITS];
	char *listen_names;
	int *moved;
};

/*
 * Does the VMM's service manager address the VMM by this variable? vmemd must not
 * get it: it would answer in place of the VMM.
 */
static bool is_for_vmm(const char *variable)
{
	static const char *const names[] = {
		"LISTEN_PID=",	   "LISTEN_FDS=",    "LISTEN_FDNAMES=",
		"LISTEN_PIDFDID=", "NOTIFY_SOCKET=", "WATCHDOG_PID=",
		"WATCHDOG_USEC=",
	};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strncmp(variable, names[i], strlen(names[i])))
			return true;
	return false;
}

static void free_child(struct child *child)
{
	free(child->moved);
	free(child->listen_names);
	free(child->envp);
}

static int make_child(struct child *child, const struct kvmvmem_spawn *spawn)
{
	size_t nr = 0,
	       length = sizeof("LISTEN_FDNAMES=") + strlen(spawn->names);

	memset(child, 0, sizeof(*child));
	while (environ && environ[nr])
		nr++;
	child->envp = calloc(nr + 4, sizeof(*child->envp));
	child->moved = calloc(spawn->nr_fds, sizeof(*child->moved));
	child->listen_names = malloc(length);
	if (!child->envp || !child->moved || !child->listen_names) {
		free_child(child);
		return -ENOMEM;
	}
	snprintf(child->listen_names, length, "LISTEN_FDNAMES=%s",
		 spawn->names);
	snprintf(child->listen_fds, sizeof(child->listen_fds), "LISTEN_FDS=%u",
		 spawn->nr_fds);
	strcpy(child->listen_pid, "LISTEN_PID=");
	child->pid_at = child->listen_pid + strlen(child->listen_pid);
	nr = 0;
	for (char **at = environ; at && *at; at++)
		if (!is_for_vmm(*at))
			child->envp[nr++] = *at;
	child->envp[nr++] = child->listen_pid;
	child->envp[nr++] = child->listen_fds;
	child->envp[nr] = child->listen_names;
	return 0;
}

/* --- In the child: async-signal-safe functions only --- */

static void write_number(char *at, pid_t number)
{
	char digits[PID_DIGITS];
	int nr = 0;

	do
		digits[nr++] = (char)('0' + number % 10);
	while (number /= 10);
	while (nr)
		*at++ = digits[--nr];
	*at = '\0';
}

static void drop_handlers(void)
{
	struct sigaction action;

	for (int i = 1; i < NSIG; i++) {
		/* Ignored signals stay ignored, as with execve(2). */
		if (sigaction(i, NULL, &action) ||
		    action.sa_handler == SIG_IGN ||
		    action.sa_handler == SIG_DFL)
			continue;
		memset(&action, 0, sizeof(action));
		action.sa_handler = SIG_DFL;
		sigaction(i, &action, NULL);
	}
}

/* Execute the program. Return: the errno of the failure. */
static int run(struct child *child, const struct kvmvmem_spawn *spawn,
	       int *socket_fd)
{
	int behind = FIRST_FD + (int)spawn->nr_fds, moved;
	sigset_t none;

	/* Move all first: one may have the number that another will get. */
	moved = fcntl(*socket_fd, F_DUPFD_CLOEXEC, behind);
	if (moved < 0)
		return errno;
	*socket_fd = moved;
	for (unsigned int i = 0; i < spawn->nr_fds; i++) {
		child->moved[i] = fcntl(spawn->fds[i], F_DUPFD_CLOEXEC, behind);
		if (child->moved[i] < 0)
			return errno;
	}
	/* dup2() clears close-on-exec. */
	for (unsigned int i = 0; i < spawn->nr_fds; i++)
		if (dup2(child->moved[i], FIRST_FD + (int)i) < 0)
			return errno;
#ifdef SYS_close_range
	/* Descriptors that the VMM has not marked; the socket is marked. */
	syscall(SYS_close_range, behind, ~0U, 1U << 2 /* CLOEXEC */);
#endif
	write_number(child->pid_at, getpid());
	drop_handlers();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execve(spawn->program, spawn->argv, child->envp);
	return errno;
}

/* Signals are blocked: no read is interrupted. */
static void __attribute__((noreturn))
become(struct child *child, const struct kvmvmem_spawn *spawn,
       const int sockets[2])
{
	int socket_fd = sockets[1], number;
	char go;

	/* The parent's end, so that its death ends the wait. */
	close(sockets[0]);
	if (read(socket_fd, &go, 1) != 1)
		_exit(126);
	number = run(child, spawn, &socket_fd);
	if (write(socket_fd, &number, sizeof(number)) < 0)
		_exit(126);
	_exit(127);
}

/* --- In the VMM again --- */

/**
 * kvmvmem_reap() - wait for the end of a child
 * @pidfd: of the child
 *
 * The VMM may have waited for it already (ECHILD).
 */
void kvmvmem_reap(int pidfd)
{
	siginfo_t info;

	while (waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED) && errno == EINTR)
		;
}

/* Let the child continue. Return: 0: the program runs; its errno. */
static int await_start(int socket_fd)
{
	int number = 0;
	ssize_t got;

	/*
	 * execve(2) ends the connection, and so does the death of the child. The
	 * caller sees the latter by the pidfd, as that of a program which ran.
	 */
	send(socket_fd, "", 1, MSG_NOSIGNAL);
	do
		got = read(socket_fd, &number, sizeof(number));
	while (got < 0 && errno == EINTR);
	return got == sizeof(number) ? number : 0;
}

static pid_t fork_child(struct child *child, const struct kvmvmem_spawn *spawn,
			const int sockets[2])
{
	sigset_t all, before;
	pid_t pid;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid = fork();
	if (!pid)
		become(child, spawn, sockets);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return pid;
}

/* Return: a pidfd, or a negative errno. */
static int start(struct child *child, const struct kvmvmem_spawn *spawn)
{
	int sockets[2], pidfd = -1, ret;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		return -errno;
	pid = fork_child(child, spawn, sockets);
	ret = pid < 0 ? errno : 0;
	close(sockets[1]);
	if (!ret) {
		/* The child waits, so its PID is still its own. */
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		if (pidfd < 0) {
			ret = errno;
			kill(pid, SIGKILL);
			waitpid(pid, NULL, 0);
		}
	}
	if (!ret) {
		ret = await_start(sockets[0]);
		if (ret) {
			kvmvmem_reap(pidfd);
			close(pidfd);
		}
	}
	close(sockets[0]);
	return ret ? -ret : pidfd;
}

/**
 * kvmvmem_spawn() - start a program
 * @spawn: parameters
 * @error: set on error
 *
 * Return: a pidfd of the process, or a negative errno.
 */
int kvmvmem_spawn(const struct kvmvmem_spawn *spawn,
		  struct kvmvmem_error *error)
{
	struct child child;
	char text[128];
	int ret;

	ret = make_child(&child, spawn);
	if (ret)
		return kvmvmem_fail(error, ret, "out of memory");
	ret = start(&child, spawn);
	free_child(&child);
	if (ret < 0)
		kvmvmem_fail(error, ret, "cannot start %s: %s", spawn->program,
			     kvmvmem_text_of(-ret, text, sizeof(text)));
	return ret;
}
