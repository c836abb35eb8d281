/* SPDX-License-Identifier: MIT */
/* A vmemd that says what a test wants: a process behind a control socket. */
#ifndef SCRIPT_H
#define SCRIPT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * struct script_part - one connection
 * @says: after the first line that comes; it may have zero bytes
 * @size: of @says; 0: it ends with its zero byte
 * @again: say it for ever
 * @hears: lines that are to come then
 * @ends: close then; else wait until the other end does
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
 * @heard_fd: what has come, of all connections
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
