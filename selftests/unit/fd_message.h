/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages with file descriptors over UNIX sockets, for tests. */
#ifndef FD_MESSAGE_H
#define FD_MESSAGE_H

#include <stddef.h>
#include <sys/resource.h>
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

/**
 * struct fd_crowd - more descriptors in flight than a process may have open
 * @sockets: hold the descriptors
 * @limit: limit on open files before
 */
struct fd_crowd {
	int sockets[2];
	struct rlimit limit;
};

void fd_crowd_begin(struct fd_crowd *crowd);
void fd_crowd_end(struct fd_crowd *crowd);

#endif /* FD_MESSAGE_H */
