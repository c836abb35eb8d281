/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection to a vmemd's control socket. */
#ifndef VMEMCTL_DAEMON_CALL_H
#define VMEMCTL_DAEMON_CALL_H

#include <stddef.h>
#include <stdint.h>

#include <json-c/json.h>

#include "vmemctl.h"

/* Longest code of an error, the name of an errno. */
#define DAEMON_REFUSAL_MAX 32

/*
 * Elements of a list after which no more pages are asked for. KVM has 64 Ki
 * memslots at most; a region of 4 TiB has so many runs where every other block of
 * 2 MiB is plugged. With smaller blocks there may be more: those that were taken are
 * shown, with a word that there are others.
 */
#define DAEMON_LIST_MAX (1U << 20)

/*
 * Most devices of a vmemd that are looked at: vmemd has 16 at most, and may come
 * to have some more.
 */
#define DAEMON_DEVICES_MAX 64

/**
 * struct daemon - a connection
 * @path: control socket
 * @device: which of its devices requests are about; NULL: not said
 * @timeout_ms: how long an answer may take
 * @deadline: of the answers up to daemon_begin(), by ctl_now_ms()
 * @quiet: print no messages of what goes wrong
 * @refusal: code of the last answer that was an error
 * @fd: connected, or -1
 * @wake_fd: ends daemon_read() when it can be read, -1 if there is none
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
