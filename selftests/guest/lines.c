// SPDX-License-Identifier: GPL-2.0-or-later
#include "lines.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define NSEC_PER_SEC 1000000000

uint64_t lines_now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * NSEC_PER_SEC + (uint64_t)time.tv_nsec;
}

time_t lines_now(void)
{
	return (time_t)(lines_now_ns() / NSEC_PER_SEC);
}

bool lines_connect(struct lines *lines, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	*lines = (struct lines){.fd = -1};
	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	strcpy(address.sun_path, path);
	lines->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (lines->fd < 0)
		return false;
	if (connect(lines->fd, (struct sockaddr *)&address, sizeof(address))) {
		int error = errno;

		lines_close(lines);
		errno = error;
		return false;
	}
	return true;
}

/* Wait for more data. Return: false at the end or at the deadline. */
static bool receive(struct lines *lines, time_t deadline)
{
	struct timeval timeout = {.tv_sec = deadline - lines_now()};
	ssize_t len;

	if (timeout.tv_sec <= 0)
		return false;
	if (lines->used == sizeof(lines->buffer))
		lines->used = 0;
	setsockopt(lines->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
		   sizeof(timeout));
	len = recv(lines->fd, lines->buffer + lines->used,
		   sizeof(lines->buffer) - lines->used, 0);
	if (len <= 0)
		return len < 0 && errno == EINTR;
	lines->last_ns = lines_now_ns();
	if (!lines->used)
		lines->first_ns = lines->last_ns;
	lines->used += (size_t)len;
	return true;
}

bool lines_read_to(struct lines *lines, time_t deadline, char last, char *line)
{
	size_t length;
	char *end;

	while (!(end = memchr(lines->buffer, last, lines->used)))
		if (!receive(lines, deadline))
			return false;
	length = (size_t)(end - lines->buffer);
	memcpy(line, lines->buffer, length);
	lines->line_ns = lines->first_ns;
	/* The data after the line was received together with its end. */
	lines->first_ns = lines->last_ns;
	lines->used -= length + 1;
	memmove(lines->buffer, end + 1, lines->used);
	line[length] = '\0';
	return true;
}

bool lines_read(struct lines *lines, time_t deadline, char *line)
{
	size_t length;

	if (!lines_read_to(lines, deadline, '\n', line))
		return false;
	length = strlen(line);
	while (length && line[length - 1] == '\r')
		line[--length] = '\0';
	return true;
}

bool lines_send(struct lines *lines, const char *text)
{
	ssize_t length = (ssize_t)strlen(text);

	return send(lines->fd, text, (size_t)length, MSG_NOSIGNAL) == length;
}

void lines_close(struct lines *lines)
{
	if (lines->fd >= 0)
		close(lines->fd);
	lines->fd = -1;
}
