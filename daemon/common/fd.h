/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Closing file descriptors, and sending them over sockets; see fd.c. */
#ifndef FD_H
#define FD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/uio.h>

void fd_close(int *fd);
int fd_set_nonblock(int fd);
ssize_t fd_send(int to, const struct iovec *iov, size_t nr_iov, int fd,
		int flags);
int fd_keep(struct msghdr *mh, int *fds, size_t *nr_fds, size_t max);
bool fd_is_shortage(int err);

#endif /* FD_H */
