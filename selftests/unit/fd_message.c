// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/capability.h>

#include "fd_message.h"
#include "unit.h"

/**
 * fd_message_send() - send bytes, with descriptors attached to the first byte
 * @fds: @nr_fds descriptors, which stay open; at most FD_MESSAGE_MAX, may be 0
 * @flags: for sendmsg(2); MSG_NOSIGNAL is added
 *
 * Return: number of bytes; -1 with an errno of sendmsg(2), or E2BIG for too
 * many descriptors.
 */
ssize_t fd_message_send(int to, const void *bytes, size_t size, const int *fds,
			size_t nr_fds, int flags)
{
	union {
		char space[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = {.iov_base = (void *)bytes, .iov_len = size};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;

	if (nr_fds > FD_MESSAGE_MAX) {
		errno = E2BIG;
		return -1;
	}
	if (nr_fds) {
		mh.msg_control = &control;
		mh.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&mh);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	return sendmsg(to, &mh, flags | MSG_NOSIGNAL);
}

/**
 * fd_message_receive() - receive bytes with their descriptors
 * @fds: room for @nr_fds descriptors, which the caller closes
 * @nr_fds: in: room in @fds; out: number received
 * @flags: for recvmsg(2); MSG_CMSG_CLOEXEC is added
 *
 * The kernel closes descriptors for which there is no room.
 *
 * Return: number of bytes; -1 with an errno of recvmsg(2), or E2BIG if @nr_fds
 * exceeds FD_MESSAGE_MAX.
 */
ssize_t fd_message_receive(int from, void *bytes, size_t size, int *fds,
			   size_t *nr_fds, int flags)
{
	union {
		char space[CMSG_SPACE(FD_MESSAGE_MAX * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = {.iov_base = bytes, .iov_len = size};
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(*nr_fds * sizeof(int)),
	};
	struct cmsghdr *cmsg;
	ssize_t got;

	if (*nr_fds > FD_MESSAGE_MAX) {
		errno = E2BIG;
		return -1;
	}
	got = recvmsg(from, &mh, flags | MSG_CMSG_CLOEXEC);
	*nr_fds = 0;
	if (got < 0)
		return got;
	cmsg = CMSG_FIRSTHDR(&mh);
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS) {
		*nr_fds = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(cmsg), *nr_fds * sizeof(int));
	}
	return got;
}

/* The kernel does not limit privileged processes. */
static void set_privileged(bool privileged)
{
	const uint32_t needed = 1U << CAP_SYS_ADMIN | 1U << CAP_SYS_RESOURCE;
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	assert_int_equal(syscall(SYS_capget, &header, data), 0);
	data[0].effective =
		privileged ? data[0].permitted : data[0].effective & ~needed;
	assert_int_equal(syscall(SYS_capset, &header, data), 0);
}

/*
 * Until fd_crowd_end(), no descriptor can be sent: more are in flight than the
 * process may have open. The kernel counts them per user, so in real life any
 * process of the user can cause this.
 */
void fd_crowd_begin(struct fd_crowd *crowd)
{
	struct rlimit limit;
	int fds[FD_MESSAGE_MAX];
	uint8_t byte = 0;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0,
				    crowd->sockets),
			 0);
	for (size_t i = 0; i < FD_MESSAGE_MAX; i++)
		fds[i] = STDERR_FILENO;
	assert_int_equal(fd_message_send(crowd->sockets[0], &byte, 1, fds,
					 FD_MESSAGE_MAX, 0),
			 1);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &crowd->limit), 0);
	limit = crowd->limit;
	limit.rlim_cur = FD_MESSAGE_MAX - 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	set_privileged(false);
}

void fd_crowd_end(struct fd_crowd *crowd)
{
	set_privileged(true);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &crowd->limit), 0);
	close(crowd->sockets[0]);
	close(crowd->sockets[1]);
}
