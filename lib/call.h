/* SPDX-License-Identifier: MIT */
/* A request to vmemd and its answer. */
#ifndef KVMVMEM_CALL_H
#define KVMVMEM_CALL_H

#include "json.h"
#include "line.h"

/* Id of the request; each connection has only one. */
#define KVMVMEM_CALL_ID 1

/* Default timeout of an answer, which may wait for a change of memslots. */
#define KVMVMEM_ANSWER_MS 30000

/* Maximum number of descriptors of a request. */
#define KVMVMEM_CALL_FDS 2

/**
 * struct kvmvmem_call - a request
 * @path: path of the control socket
 * @timeout_ms: timeout of the answer
 * @request: the line without its end, which kvmvmem_call() adds
 * @fds: descriptors that are sent with it
 * @nr_fds: number of @fds
 * @line: the answer
 * @result: result in the answer, an object or null
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
