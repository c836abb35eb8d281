// SPDX-License-Identifier: GPL-2.0-or-later
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tap.h"

/** process_pair() - Create connected sockets for this process and its child. */
void process_pair(int fds[2])
{
	ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds),
		  0);
}

/**
 * process_start() - Run a function in a child, connected by a pair of sockets.
 * @run: the function, which does not return
 * @socket: set to this end
 *
 * Return: the child's pid.
 */
pid_t process_start(void (*run)(int socket), int *socket)
{
	int pair[2];
	pid_t pid;

	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		close(pair[0]);
		run(pair[1]);
	}
	close(pair[1]);
	*socket = pair[0];
	return pid;
}

/** send_byte() - Wake the other side. */
void send_byte(int socket)
{
	ASSERT_EQ(send(socket, "", 1, MSG_NOSIGNAL), 1);
}

/** receive_byte() - Wait for the other side. */
void receive_byte(int socket)
{
	char byte;

	ASSERT_EQ(recv(socket, &byte, 1, 0), 1);
}

union control {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

/** send_fd() - Send a descriptor. */
void send_fd(int socket, int fd)
{
	union control control = {0};
	struct iovec iov = {.iov_base = (char[1]){0}, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	ASSERT_EQ(sendmsg(socket, &msg, MSG_NOSIGNAL), 1);
}

/** receive_fd() - Return: the descriptor that send_fd() sent. */
int receive_fd(int socket)
{
	union control control = {0};
	char byte;
	struct iovec iov = {.iov_base = &byte, .iov_len = 1};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd;

	ASSERT_EQ(recvmsg(socket, &msg, MSG_CMSG_CLOEXEC), 1);
	cmsg = CMSG_FIRSTHDR(&msg);
	ASSERT_TRUE(cmsg && cmsg->cmsg_type == SCM_RIGHTS);
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

/** become_nobody() - Drop all privileges but those of group @gid. */
void become_nobody(gid_t gid)
{
	if (geteuid())
		tap_skip("needs root, to give it up");
	ASSERT_EQ(setgroups(0, NULL), 0);
	ASSERT_EQ(setresgid(gid, gid, gid), 0);
	ASSERT_EQ(setresuid(NOBODY, NOBODY, NOBODY), 0);
}

/**
 * become_nobody_with() - Drop all privileges but the capabilities in mask
 * @caps.
 */
void become_nobody_with(uint64_t caps)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {
		{.effective = (uint32_t)caps, .permitted = (uint32_t)caps},
		{.effective = (uint32_t)(caps >> 32),
		 .permitted = (uint32_t)(caps >> 32)},
	};

	ASSERT_EQ(prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0), 0);
	become_nobody(NOBODY);
	ASSERT_EQ(syscall(SYS_capset, &header, data), 0);
}

/** expect_exit() - Wait for a process, which must exit with status 0. */
void expect_exit(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		ASSERT_EQ(errno, EINTR);
	EXPECT_EQ(status, 0);
}

/**
 * kvm_vm_count() - Number of VMs on this host: KVM has a debugfs folder for
 * each VM, named after process and descriptor.
 */
unsigned int kvm_vm_count(void)
{
	DIR *dir = opendir("/sys/kernel/debug/kvm");
	const struct dirent *entry;
	unsigned int nr = 0;

	if (!dir)
		tap_skip("KVM's debugfs: %s", strerror(errno));
	while ((entry = readdir(dir))) {
		int pid, fd;

		nr += sscanf(entry->d_name, "%d-%d", &pid, &fd) == 2;
	}
	closedir(dir);
	return nr;
}

/**
 * process_thread_state() - The state of a thread in /proc: 'D' for an
 * uninterruptible wait, which may be killable; 0 if the thread does not exist.
 */
char process_thread_state(const char *process, const char *thread)
{
	char path[300], text[256], *end, state = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%s/task/%s/stat", process, thread);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fgets(text, sizeof(text), f)) {
		end = strrchr(text, ')');
		if (end && end[1])
			state = end[2];
	}
	fclose(f);
	return state;
}
