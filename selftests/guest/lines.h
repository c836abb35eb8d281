/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines over a UNIX socket: a console, or a program that speaks JSON line by
 * line.
 */
#ifndef LINES_H
#define LINES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Longer lines lose their start. */
#define LINES_MAX 4096

/**
 * struct lines - a connection
 * @fd: the socket, or -1
 * @buffer: received data, from the start of a line
 * @used: number of bytes in @buffer
 * @first_ns: time at which the first of them was received, see lines_now_ns()
 * @last_ns: time at which the last of them was received
 * @line_ns: time at which the first byte of the last line read was received
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

/** lines_now() - Return: seconds of the clock used for deadlines. */
time_t lines_now(void);

/**
 * lines_connect() - connect to a socket
 * @lines: the connection; call lines_close() for it even after a failure
 * @path: path of the socket
 *
 * Return: true, or false with errno set.
 */
bool lines_connect(struct lines *lines, const char *path);

/**
 * lines_read() - wait for a line
 * @lines: the connection
 * @deadline: second of the deadline
 * @line: set to its text without the line end; LINES_MAX bytes
 *
 * Return: false at the end of the connection or at the deadline.
 */
bool lines_read(struct lines *lines, time_t deadline, char *line);

/**
 * lines_read_to() - wait for text that ends with another character
 * @lines: the connection
 * @deadline: second of the deadline
 * @last: the character that ends the text
 * @line: set to the text without it; LINES_MAX bytes
 *
 * Return: false at the end of the connection or at the deadline.
 */
bool lines_read_to(struct lines *lines, time_t deadline, char last, char *line);

/**
 * lines_send() - send text unchanged
 * @lines: the connection
 * @text: the text, including the line end
 *
 * Return: true, or false with errno set.
 */
bool lines_send(struct lines *lines, const char *text);

void lines_close(struct lines *lines);

#endif /* LINES_H */
