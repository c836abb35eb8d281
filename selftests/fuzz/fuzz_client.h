/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client of the control socket; see fuzz_client.c. */
#ifndef FUZZ_CLIENT_H
#define FUZZ_CLIENT_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct fuzz_client - an operator or consumer
 * @fd: its socket, or -1
 * @newlines: newlines sent, each of which ends at most one request
 * @answers: answers received, without events
 * @seq: the last event that needs an answer, 0: none
 * @check: the target's check of an answer, or NULL
 * @line: an incomplete answer or event
 * @have: bytes in @line
 * @room: size of @line
 */
struct fuzz_client {
	int fd;
	uint64_t newlines;
	uint64_t answers;
	uint64_t seq;
	void (*check)(json_object *answer);
	char *line;
	size_t have;
	size_t room;
};

void fuzz_client_send(struct fuzz_client *client, const void *bytes,
		      size_t size, const int *fds, size_t nr_fds);
void fuzz_client_read(struct fuzz_client *client);
void fuzz_client_leave(struct fuzz_client *client);

#endif /* FUZZ_CLIENT_H */
