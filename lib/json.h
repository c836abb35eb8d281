/* SPDX-License-Identifier: MIT */
/*
 * The part of JSON that the control socket needs. Reading does not allocate: a
 * value points into its line, which must outlive it.
 */
#ifndef KVMVMEM_JSON_H
#define KVMVMEM_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum depth of objects and arrays; lines of vmemd have at most six. */
#define KVMVMEM_JSON_DEPTH 16

/* Maximum size of a request with its newline, as vmemd has it. */
#define KVMVMEM_JSON_REQUEST_MAX 4096

/**
 * struct kvmvmem_json - a checked value
 * @at: its first byte
 * @end: the byte after its last one
 */
struct kvmvmem_json {
	const char *at;
	const char *end;
};

bool kvmvmem_json_parse(const char *line, size_t length,
			struct kvmvmem_json *object);
bool kvmvmem_json_member(struct kvmvmem_json object, const char *name,
			 struct kvmvmem_json *value);
bool kvmvmem_json_is_object(struct kvmvmem_json value);
bool kvmvmem_json_is_null(struct kvmvmem_json value);
bool kvmvmem_json_size(struct kvmvmem_json value, uint64_t *size);
bool kvmvmem_json_text(struct kvmvmem_json value, char *text, size_t size);

bool kvmvmem_json_get_size(struct kvmvmem_json object, const char *name,
			   uint64_t *size);
bool kvmvmem_json_get_text(struct kvmvmem_json object, const char *name,
			   char *text, size_t size);

/**
 * struct kvmvmem_request - a request that is being written
 * @text: the line, not terminated
 * @length: bytes in @text
 * @too_long: @text was too small; the request is incomplete
 * @first: no parameter has been written yet
 */
struct kvmvmem_request {
	char text[KVMVMEM_JSON_REQUEST_MAX];
	size_t length;
	bool too_long;
	bool first;
};

void kvmvmem_request_begin(struct kvmvmem_request *request, uint64_t id,
			   const char *method);
void kvmvmem_request_size(struct kvmvmem_request *request, const char *name,
			  uint64_t value);
void kvmvmem_request_bool(struct kvmvmem_request *request, const char *name,
			  bool value);
void kvmvmem_request_text(struct kvmvmem_request *request, const char *name,
			  const char *value);
void kvmvmem_request_end(struct kvmvmem_request *request);

#endif /* KVMVMEM_JSON_H */
