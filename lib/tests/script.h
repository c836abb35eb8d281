/* SPDX-License-Identifier: MIT */
/* A scripted vmemd: a process that listens on a control socket. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * struct script_part - one connection
 * @says: sent after the first line received; may contain NUL bytes
 * @size: bytes of @says; 0: up to its NUL
 * @again: repeat @says for ever
 * @hears: number of lines to wait for then
 * @ends: close the connection then; otherwise wait for the other end to close
 */
struct script_part {
	const char *says;
	size_t size;
	bool again;
	unsigned int hears;
	bool ends;
};

/**
 * struct script - the process
 * @path: control socket, in @dir
 * @heard_fd: everything received, on all connections
 */
struct script {
	char dir[32];
	char path[64];
	pid_t pid;
	int heard_fd;
};

void script_start(struct script *script, const struct script_part *parts,
		  size_t nr);
const char *script_heard(const struct script *script, char *text, size_t size);
void script_stop(struct script *script);

#endif /* SCRIPT_H */
