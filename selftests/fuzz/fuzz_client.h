/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Our end of a connection to the control socket; see fuzz_client.c. */
#ifndef FUZZ_CLIENT_H
#define FUZZ_CLIENT_H

#include <json-c/json.h>
#include <stddef.h>
#include <stdint.h>

/**
 * struct fuzz_client - an operator or consumer
 * @fd: connected, or -1
 * @newlines: sent, each of which ends at most one request
 * @answers: that came, events not counted
 * @seq: of the last event that is to be answered, 0: there is none
 * @check: a target's own look at an answer, or NULL
 * @line: of an answer or event that is not complete
 * @have: bytes of it
 * @room: bytes that @line has
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
