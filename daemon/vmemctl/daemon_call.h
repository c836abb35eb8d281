/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to a vmemd's control socket. */
#ifndef VMEMCTL_DAEMON_CALL_H
#define VMEMCTL_DAEMON_CALL_H

#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "vmemctl.h"

/* Buffer size for an error code, which is the name of an errno. */
#define DAEMON_REFUSAL_MAX 32

/*
 * Maximum number of elements of a list; no more pages are requested after it.
 * KVM has at most 64 Ki memslots. A region of 4 TiB has this number of runs if
 * every other block of 2 MiB is plugged. With smaller blocks a list may be
 * longer; it is then cut and a message says so.
 */
#define DAEMON_LIST_MAX (1U << 20)

/*
 * Maximum number of devices that are accepted in an answer. vmemd has at most
 * 16; a later version may have more.
 */
#define DAEMON_DEVICES_MAX 64

/**
 * struct daemon - a connection to vmemd
 * @path: path of the control socket
 * @device: device that requests name, NULL: none
 * @timeout_ms: time limit for answers
 * @deadline: time limit of the answers until the next daemon_begin(), in the
 *	time of ctl_now_ms()
 * @quiet: do not print errors
 * @refusal: code of the last answer that was an error
 * @fd: the connected socket, or -1
 * @wake_fd: daemon_read() returns when this descriptor is readable; -1: none
 * @in: received bytes, from the start of a line
 * @have: number of bytes in @in
 * @size: allocated size of @in
 * @used: bytes of @in that belong to the last line, including its newline
 * @id: id of the last request
 */
struct daemon {
	const char *path;
	const char *device;
	int64_t timeout_ms;
	int64_t deadline;
	bool quiet;
	char refusal[DAEMON_REFUSAL_MAX];
	int fd;
	int wake_fd;
	char *in;
	size_t have;
	size_t size;
	size_t used;
	int64_t id;
};

int daemon_open(struct daemon *daemon, const char *path,
		const struct ctl_options *options);
void daemon_close(struct daemon *daemon);

void daemon_begin(struct daemon *daemon);
bool daemon_is_of(const struct daemon *daemon, pid_t pid);
int daemon_not_vmemd(const struct daemon *daemon);
int daemon_call(struct daemon *daemon, const char *method, json_object *params,
		json_object **result);
int daemon_call_pages(struct daemon *daemon, const char *method,
		      const char *name, json_object **result);
int daemon_tell(struct daemon *daemon, const char *method, json_object *params,
		bool json);
int daemon_read(struct daemon *daemon, int64_t deadline, json_object **object);

#endif /* VMEMCTL_DAEMON_CALL_H */
