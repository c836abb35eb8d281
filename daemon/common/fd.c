// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/fd.h"

/* Close a descriptor unless it is negative, and set it to -1. */
void fd_close(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* Return: 0, or an errno of fcntl(2). */
int fd_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -errno;
	return 0;
}

/**
 * fd_send() - send a message with a descriptor
 * @to: UNIX socket
 * @iov: the message
 * @nr_iov: number of elements in @iov
 * @fd: the descriptor; stays the caller's; -1: none
 * @flags: flags of sendmsg(2); MSG_NOSIGNAL is added
 *
 * Return: see sendmsg(2).
 */
ssize_t fd_send(int to, const struct iovec *iov, size_t nr_iov, int fd,
		int flags)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct msghdr mh = {
		.msg_iov = (struct iovec *)iov,
		.msg_iovlen = nr_iov,
	};
	struct cmsghdr *cmsg;

	if (fd >= 0) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		cmsg = CMSG_FIRSTHDR(&mh);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	}
	return sendmsg(to, &mh, flags | MSG_NOSIGNAL);
}

/**
 * fd_keep() - collect the descriptors of a received message
 * @mh: the message
 * @fds: array to append the descriptors to
 * @nr_fds: number of descriptors in @fds; updated
 * @max: size of @fds, and of the buffer of @mh
 *
 * The kernel truncates descriptors that do not fit the buffer. It also does so if
 * it cannot install one, because this process has too many open files or a
 * security module refuses it. Then the received ones do not fill the buffer.
 *
 * Return: 0; -E2BIG: there were more than fit, and they were closed; -EMFILE: some
 * could not be received, and it is unknown which.
 */
int fd_keep(struct msghdr *mh, int *fds, size_t *nr_fds, size_t max)
{
	size_t before = *nr_fds;
	struct cmsghdr *cmsg;
	bool all = true;

	for (cmsg = CMSG_FIRSTHDR(mh); cmsg; cmsg = CMSG_NXTHDR(mh, cmsg)) {
		size_t nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (cmsg->cmsg_level != SOL_SOCKET ||
		    cmsg->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < nr; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(cmsg) + i * sizeof(fd),
			       sizeof(fd));
			if (*nr_fds < max) {
				fds[(*nr_fds)++] = fd;
			} else {
				close(fd);
				all = false;
			}
		}
	}
	if (!(mh->msg_flags & MSG_CTRUNC))
		return all ? 0 : -E2BIG;
	return all && *nr_fds - before < max ? -EMFILE : -E2BIG;
}

/*
 * Does an errno mean that descriptors or memory lack now, but may not later? A
 * user may only have so many descriptors in flight.
 */
bool fd_is_shortage(int err)
{
	return err == -EMFILE || err == -ENFILE || err == -ENOMEM ||
	       err == -ENOBUFS || err == -ETOOMANYREFS;
}
