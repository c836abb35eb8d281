/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lines to and from a UNIX socket: a console, or what speaks JSON by lines. */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Longer ones lose their beginning. */
#define LINES_MAX 4096

/**
 * struct lines - a connection
 * @fd: the socket, or -1
 * @buffer: received, from the start of a line
 * @used: how much
 * @first_ns: when the first of it came, by lines_now_ns()
 * @last_ns: when the last of it came
 * @line_ns: when the line read last began to come
 */
struct lines {
	int fd;
	char buffer[LINES_MAX];
	size_t used;
	uint64_t first_ns;
	uint64_t last_ns;
	uint64_t line_ns;
};

/** lines_now_ns() - Return: the monotonic clock, in nanoseconds. */
uint64_t lines_now_ns(void);

/** lines_now() - Return: seconds, of the clock that deadlines are of. */
time_t lines_now(void);

/**
 * lines_connect() - connect to a socket
 * @lines: to be closed by lines_close(), also on failure
 * @path: of the socket
 *
 * Return: true, or false with errno set.
 */
bool lines_connect(struct lines *lines, const char *path);

/**
 * lines_read() - wait for a line
 * @lines: connection
 * @deadline: second to give up at
 * @line: its text, of LINES_MAX bytes, without the end of the line
 *
 * Return: false when there is none, at the end or at the deadline.
 */
bool lines_read(struct lines *lines, time_t deadline, char *line);

/**
 * lines_send() - send text as it is
 * @lines: connection
 * @text: with the end of its line
 *
 * Return: true, or false with errno set.
 */
bool lines_send(struct lines *lines, const char *text);

void lines_close(struct lines *lines);

#endif /* LINES_H */
