// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "fd_message.h"

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
