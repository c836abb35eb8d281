// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an isolated daemon can and cannot do. Each test runs in a child, whose
 * exit status is the number of the failed expectation.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>

#include "base/log.h"
#include "isolation.h"
#include "unit.h"

/* A user without privileges. */
#define NOBODY 65534

/* Wait for a child, which reports success. */
static void expect_end(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Run @fn in a child with the filter, as user @uid. Return: its wait status. */
static int in_child_of(uid_t uid, void (*fn)(void))
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		if (uid != getuid() && setresuid(uid, uid, uid))
			_exit(101);
		/* The first steps of isolation_enter(). */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
		    isolation_filter_calls())
			_exit(100);
		fn();
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

static int in_child(void (*fn)(void))
{
	return in_child_of(getuid(), fn);
}

/* The entries of syscalls.list. */
static const struct listed {
	int syscall;
	uint32_t action;
	bool not_executable;
} listed[] = {
#include "syscalls.h"
};

static bool is_listed(long number)
{
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++)
		if (listed[i].syscall == number)
			return true;
	return false;
}

/* The system call that the child makes. */
static long deadly;

/* In the child: the exit status is the number of the failed expectation. */
static void expect(bool ok, int number)
{
	if (!ok)
		_exit(number);
}

static void use_what_is_needed(void)
{
	char byte = 'x';
	struct epoll_event event;
	int pair[2];
	void *memory;

	memory = malloc(4 << 20);
	expect(memory != NULL, 1);
	memset(memory, 1, 4 << 20);
	free(memory);
	/* Descriptors opened before the isolation: 3 to 5, see below. */
	expect(!fallocate(3, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
			  4096),
	       2);
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, 3, 0);
	expect(memory != MAP_FAILED, 3);
	expect(!munmap(memory, 4096), 4);
	expect(send(4, &byte, 1, MSG_NOSIGNAL) == 1, 5);
	expect(recv(5, &byte, 1, MSG_DONTWAIT) == 1, 6);
	expect(epoll_wait(-1, &event, 1, 0) < 0 && errno == EBADF, 7);
	expect(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) < 0 && errno == ENOSYS,
	       8);
}

static void needed_calls_work(void **state)
{
	int memory_fd, pair[2], status;

	(void)state;
	memory_fd = memfd_create("memory", 0);
	assert_int_equal(ftruncate(memory_fd, 1 << 20), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	/* Duplicate to high numbers first, so that none is overwritten. */
	memory_fd = fcntl(memory_fd, F_DUPFD, 20);
	pair[0] = fcntl(pair[0], F_DUPFD, 20);
	pair[1] = fcntl(pair[1], F_DUPFD, 20);
	dup2(memory_fd, 3);
	dup2(pair[0], 4);
	dup2(pair[1], 5);
	status = in_child(use_what_is_needed);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	close(memory_fd);
	close(pair[0]);
	close(pair[1]);
	for (int fd = 3; fd < 6; fd++)
		close(fd);
}

static void use_what_is_not(void)
{
	expect(open("/", O_RDONLY) < 0 && errno == ENOSYS, 1);
	expect(socket(AF_INET, SOCK_STREAM, 0) < 0 && errno == ENOSYS, 2);
	expect(socket(AF_NETLINK, SOCK_RAW, 0) < 0 && errno == ENOSYS, 3);
	expect(mmap(NULL, 4096, PROT_READ | PROT_EXEC,
		    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED &&
		       errno == ENOSYS,
	       4);
	expect(syscall(SYS_mprotect, NULL, 4096, PROT_EXEC) < 0 &&
		       errno == ENOSYS,
	       5);
	expect(unlink("/nothing") < 0 && errno == ENOSYS, 6);
	expect(syscall(SYS_clone, 0, 0, 0, 0, 0) < 0 && errno == ENOSYS, 7);
	expect(kill(getppid(), 0) < 0 && errno == ENOSYS, 8);
	expect(syscall(SYS_ioctl, 0, 0, 0) < 0 && errno == ENOSYS, 9);
	expect(syscall(SYS_io_uring_setup, 1, NULL) < 0 && errno == ENOSYS, 10);
	expect(socket(AF_UNIX, SOCK_DGRAM, 0) < 0 && errno == ENOSYS, 11);
	expect(connect(-1, NULL, 0) < 0 && errno == ENOSYS, 12);
}

static void other_calls_fail(void **state)
{
	int status = in_child(use_what_is_not);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* Above all system call numbers so far. */
#define SYSCALL_END 600

/*
 * uretprobe and uprobe: the kernel exempts its own trampolines from filters. It
 * answers SIGILL to these calls from elsewhere.
 */
static bool is_of_probes(long number)
{
	return number == 335 || number == 336;
}

/*
 * With these arguments no call has an effect, should the filter permit it. The
 * caller has dropped root's privileges.
 */
static long call_nothing(long number)
{
	return syscall(number, -1, -1, -1, -1, -1, -1);
}

static void make_all_others(void)
{
	for (long i = 0; i < SYSCALL_END; i++)
		if (!is_listed(i) && !is_of_probes(i) &&
		    (call_nothing(i) != -1 || errno != ENOSYS))
			_exit(1 + i % 255);
}

static void a_call_outside_the_list_fails(void **state)
{
	int status = in_child_of(getuid() ? getuid() : NOBODY, make_all_others);

	(void)state;
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void make_a_deadly_one(void)
{
	call_nothing(deadly);
}

/* A call of the x32 ABI, which has numbers of its own. */
static void make_one_of_x32(void)
{
	call_nothing(0x40000000 | SYS_read);
}

static void expect_killed(void (*fn)(void))
{
	int status = in_child(fn);

	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGSYS);
}

static void deadly_calls_kill(void **state)
{
	unsigned int nr = 0;

	(void)state;
	for (size_t i = 0; i < sizeof(listed) / sizeof(listed[0]); i++) {
		if (listed[i].action != SCMP_ACT_KILL_PROCESS)
			continue;
		deadly = listed[i].syscall;
		expect_killed(make_a_deadly_one);
		nr++;
	}
	assert_int_not_equal(nr, 0);
	expect_killed(make_one_of_x32);
}

static void run_a_program(void)
{
	execl("/bin/true", "true", NULL);
}

static void look_into_a_process(void)
{
	ptrace(PTRACE_ATTACH, 1, NULL, NULL);
}

static void running_a_program_kills(void **state)
{
	(void)state;
	expect_killed(run_a_program);
	expect_killed(look_into_a_process);
}

/*
 * Does /proc/self/status have this line? @fd was opened before the isolation.
 */
static bool status_has(int fd, const char *line)
{
	static char text[8192];
	ssize_t got;

	/* The filter permits read(), and the file's position is still 0. */
	got = read(fd, text, sizeof(text) - 1);
	text[got > 0 ? got : 0] = '\0';
	return strstr(text, line);
}

static void isolation_leaves_no_privileges(void **state)
{
	static const char *const lines[] = {
		"NoNewPrivs:\t1\n",
		"CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n",
		"CapAmb:\t0000000000000000\n",
		"Seccomp:\t2\n",
	};
	pid_t child;

	(void)state;
	for (int i = 0; i < 4; i++) {
		child = fork();
		assert_true(child >= 0);
		if (!child) {
			int fd = open("/proc/self/status", O_RDONLY);

			expect(!isolation_enter(true), 1);
			expect(status_has(fd, lines[i]), 2);
			_exit(0);
		}
		expect_end(child);
	}
}

static void isolated_is_not_dumpable(void **state)
{
	int to_child[2];
	pid_t child;
	char path[64], byte;
	struct stat st;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, to_child), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		/* A dumpable process belongs to its user. */
		if (!getuid())
			expect(!setresuid(NOBODY, NOBODY, NOBODY), 1);
		expect(!prctl(PR_SET_DUMPABLE, 1), 2);
		expect(!isolation_enter(true), 3);
		expect(write(to_child[1], "r", 1) == 1, 4);
		expect(read(to_child[1], &byte, 1) == 1, 5);
		_exit(0);
	}
	assert_int_equal(read(to_child[0], &byte, 1), 1);
	snprintf(path, sizeof(path), "/proc/%d/mem", (int)child);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(write(to_child[0], "e", 1), 1);
	expect_end(child);
	close(to_child[0]);
	close(to_child[1]);
}

/*
 * Start an isolated child that waits. @uid: user that it changes to first.
 * Return: its pid; @release wakes it.
 */
static pid_t isolated_child(uid_t uid, bool tell_users_apart, int *release)
{
	int pair[2];
	char byte;
	pid_t child;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		close(pair[0]);
		if (uid != getuid())
			expect(!setresgid(uid, uid, uid) &&
				       !setresuid(uid, uid, uid),
			       1);
		expect(!isolation_enter(tell_users_apart), 2);
		expect(write(pair[1], "r", 1) == 1, 3);
		expect(read(pair[1], &byte, 1) == 1, 4);
		_exit(0);
	}
	close(pair[1]);
	assert_int_equal(read(pair[0], &byte, 1), 1);
	*release = pair[0];
	return child;
}

static void release_child(pid_t child, int release)
{
	assert_int_equal(write(release, "e", 1), 1);
	expect_end(child);
	close(release);
}

/* Is the process in this process's namespace? */
static bool same_namespace(pid_t pid, const char *kind)
{
	char path[64], ours[64] = "", its[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
	assert_true(readlink(path, its, sizeof(its) - 1) > 0);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	assert_true(readlink(path, ours, sizeof(ours) - 1) > 0);
	return !strcmp(ours, its);
}

/* Number of entries in the process's root folder, including "." and "..". */
static unsigned int count_root(pid_t pid)
{
	unsigned int nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/root/", (int)pid);
	dir = opendir(path);
	assert_non_null(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

/* Is the process's root folder read-only? */
static bool root_is_read_only(pid_t pid)
{
	struct statvfs st;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/root/", (int)pid);
	assert_int_equal(statvfs(path, &st), 0);
	return st.f_flag & ST_RDONLY;
}

/* Can this user create namespaces? Some users and containers cannot. */
static bool may_unshare(uid_t uid, int flags)
{
	pid_t child = fork();
	int status;

	assert_true(child >= 0);
	if (!child) {
		if (uid != getuid())
			expect(!setresuid(uid, uid, uid), 2);
		_exit(unshare(flags) < 0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

static void root_has_empty_namespaces(void **state)
{
	static const char *const kinds[] = {"mnt", "net", "ipc", "uts",
					    "cgroup"};
	int release;
	pid_t child;

	(void)state;
	if (getuid() || !may_unshare(0, CLONE_NEWNS))
		skip();
	child = isolated_child(0, true, &release);
	for (int i = 0; i < 5; i++)
		assert_false(same_namespace(child, kinds[i]));
	/*
	 * These namespaces stay the same: they identify root's connections and
	 * the VMM's process.
	 */
	assert_true(same_namespace(child, "user"));
	assert_true(same_namespace(child, "pid"));
	assert_int_equal(count_root(child), 2);
	assert_true(root_is_read_only(child));
	release_child(child, release);
}

static void users_have_namespaces_without_a_control_socket(void **state)
{
	int release;
	pid_t child;

	(void)state;
	/* The checks need root. */
	if (getuid() || !may_unshare(NOBODY, CLONE_NEWUSER | CLONE_NEWNS))
		skip();
	child = isolated_child(NOBODY, false, &release);
	assert_false(same_namespace(child, "user"));
	assert_false(same_namespace(child, "net"));
	assert_int_equal(count_root(child), 2);
	assert_true(root_is_read_only(child));
	release_child(child, release);
}

static void a_control_socket_keeps_the_user_namespace(void **state)
{
	int release;
	pid_t child;

	(void)state;
	if (getuid())
		skip();
	child = isolated_child(NOBODY, true, &release);
	assert_true(same_namespace(child, "user"));
	assert_true(same_namespace(child, "mnt"));
	release_child(child, release);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(needed_calls_work),
		cmocka_unit_test(other_calls_fail),
		cmocka_unit_test(a_call_outside_the_list_fails),
		cmocka_unit_test(deadly_calls_kill),
		cmocka_unit_test(running_a_program_kills),
		cmocka_unit_test(isolation_leaves_no_privileges),
		cmocka_unit_test(isolated_is_not_dumpable),
		cmocka_unit_test(root_has_empty_namespaces),
		cmocka_unit_test(
			users_have_namespaces_without_a_control_socket),
		cmocka_unit_test(a_control_socket_keeps_the_user_namespace),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
