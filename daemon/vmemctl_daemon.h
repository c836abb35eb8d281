/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to a vmemd's control socket. */
#ifndef VMEMCTL_DAEMON_H
#define VMEMCTL_DAEMON_H

#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "vmemctl.h"

/**
 * struct daemon - a connection
 * @path: control socket
 * @device: which of its devices requests are about; NULL: not said
 * @timeout_ms: how long an answer may take
 * @fd: connected, or -1
 * @in: bytes received, from the start of a line
 * @have: how many
 * @size: room in @in
 * @used: bytes of @in that the last line had, with its end
 * @id: of the last request
 */
struct daemon {
	const char *path;
	const char *device;
	int64_t timeout_ms;
	int fd;
	char *in;
	size_t have;
	size_t size;
	size_t used;
	int64_t id;
};

int daemon_open(struct daemon *daemon, const char *path,
		const struct ctl_options *options);
void daemon_close(struct daemon *daemon);

int daemon_call(struct daemon *daemon, const char *method, json_object *params,
		json_object **result);
int daemon_call_pages(struct daemon *daemon, const char *method,
		      const char *name, json_object **result);
int daemon_tell(struct daemon *daemon, const char *method, json_object *params,
		bool json);
int daemon_read(struct daemon *daemon, int64_t deadline, json_object **object);

#endif /* VMEMCTL_DAEMON_H */
