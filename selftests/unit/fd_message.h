/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages with file descriptors over UNIX sockets, for tests. */
#ifndef FD_MESSAGE_H
#define FD_MESSAGE_H

#include <stddef.h>
#include <sys/types.h>

/*
 * Maximum number of descriptors of a message, more than any tested protocol
 * permits.
 */
#define FD_MESSAGE_MAX 64

ssize_t fd_message_send(int to, const void *bytes, size_t size, const int *fds,
			size_t nr_fds, int flags);
ssize_t fd_message_receive(int from, void *bytes, size_t size, int *fds,
			   size_t *nr_fds, int flags);

#endif /* FD_MESSAGE_H */
