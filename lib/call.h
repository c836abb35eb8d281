/* SPDX-License-Identifier: MIT */
/* One request to vmemd, and its answer. */
#ifndef KVMVMEM_CALL_H
#define KVMVMEM_CALL_H

#include "json.h"
#include "line.h"

/* Id of the one request that a connection has. */
#define KVMVMEM_CALL_ID 1

/* How long an answer may take: a change of memslots may have to be waited for. */
#define KVMVMEM_ANSWER_MS 30000

/* Most descriptors of a request. */
#define KVMVMEM_CALL_FDS 2

/**
 * struct kvmvmem_call - a request
 * @path: control socket
 * @timeout_ms: for the answer
 * @request: is ended by kvmvmem_call()
 * @fds: go with it, @nr_fds of them
 * @line: the answer is in it
 * @result: of the answer, an object
 */
struct kvmvmem_call {
	const char *path;
	uint32_t timeout_ms;
	struct kvmvmem_request request;
	int fds[KVMVMEM_CALL_FDS];
	unsigned int nr_fds;
	struct kvmvmem_line line;
	struct kvmvmem_json result;
};

int kvmvmem_call(struct kvmvmem_call *call, struct kvmvmem_error *error);
int kvmvmem_answer(struct kvmvmem_json line, uint64_t id,
		   struct kvmvmem_json *result, struct kvmvmem_error *error);

#endif /* KVMVMEM_CALL_H */
