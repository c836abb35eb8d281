/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signalling eventfds of somebody who is not trusted; see doorbell.c. */
#ifndef DOORBELL_H
#define DOORBELL_H

#include <stdbool.h>

#include <linux/aio_abi.h>

/**
 * struct doorbell - what eventfds are signalled by
 * @label: for messages, see base/log.h; stays over doorbell_close(), not owned
 * @tried: doorbell_open() was called
 * @context: of asynchronous I/O, 0 if there is none
 * @file_fd: an empty file, -1 if there is no context
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
