/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signalling eventfds of an untrusted process; see doorbell.c. */
#ifndef DOORBELL_H
#define DOORBELL_H

#include <stdbool.h>

#include <linux/aio_abi.h>

/**
 * struct doorbell - signals eventfds
 * @label: prefix of messages, see base/log.h; kept by doorbell_close(), not
 *	owned
 * @tried: doorbell_open() was called
 * @context: context of asynchronous I/O; 0: none
 * @file_fd: an empty file; -1: none
 */
struct doorbell {
	const char *label;
	bool tried;
	aio_context_t context;
	int file_fd;
};

void doorbell_init(struct doorbell *bell);
int doorbell_open(struct doorbell *bell);
void doorbell_close(struct doorbell *bell);
void doorbell_ring(struct doorbell *bell, int fd);

#endif /* DOORBELL_H */
