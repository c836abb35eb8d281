// SPDX-License-Identifier: MIT
#include "line.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

int64_t kvmvmem_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Convert a timeout for poll(), which takes an int. */
int kvmvmem_poll_ms(int64_t left)
{
	return left > INT_MAX ? INT_MAX : (int)left;
}

/*
 * Connect to a control socket. It does not block if vmemd does not accept.
 *
 * Return: a non-blocking socket, or a negative errno.
 */
int kvmvmem_connect(const char *path, struct kvmvmem_error *error)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char text[128];
	int fd, number;

	if (strlen(path) >= sizeof(address.sun_path))
		return kvmvmem_fail(error, -ENAMETOOLONG,
				    "%.64s...: too long for a socket's path",
				    path);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		number = errno;
		if (fd >= 0)
			close(fd);
		return kvmvmem_fail(
			error, -number, "%s: %s", path,
			number == ECONNREFUSED || number == ENOENT
				? "no vmemd listens there"
				: kvmvmem_text_of(number, text, sizeof(text)));
	}
	return fd;
}

/*
 * Receive more bytes of an incomplete line.
 *
 * Return: 0; -EAGAIN: nothing to receive; -EPIPE: the other end has closed the
 * connection; -EBADMSG: the line is too long; another errno.
 */
int kvmvmem_line_receive(struct kvmvmem_line *line, int fd)
{
	ssize_t got;

	if (line->used) {
		line->have -= line->used;
		memmove(line->text, line->text + line->used, line->have);
		line->used = 0;
	}
	if (line->have == sizeof(line->text))
		return -EBADMSG;
	got = recv(fd, line->text + line->have, sizeof(line->text) - line->have,
		   MSG_DONTWAIT);
	if (got < 0 && (errno == EINTR || errno == EAGAIN))
		return -EAGAIN;
	if (got < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (!got)
		return -EPIPE;
	line->have += (size_t)got;
	return 0;
}

/*
 * Get the next complete line. It is valid until the next call.
 *
 * Return: 0; -EAGAIN: there is no complete line; -EBADMSG: the line is not a JSON
 * object.
 */
int kvmvmem_line_next(struct kvmvmem_line *line, struct kvmvmem_json *object)
{
	const char *from = line->text + line->used;
	const char *end = memchr(from, '\n', line->have - line->used);

	if (!end)
		return -EAGAIN;
	line->used = (size_t)(end - line->text) + 1;
	return kvmvmem_json_parse(from, (size_t)(end - from), object)
		       ? 0
		       : -EBADMSG;
}

/* Set the error from a member "error". Return: its errno. */
int kvmvmem_refusal(struct kvmvmem_json error_member,
		    struct kvmvmem_error *error)
{
	char code[32] = "no code", text[256] = "vmemd gives no reason";

	kvmvmem_json_get_text(error_member, "code", code, sizeof(code));
	kvmvmem_json_get_text(error_member, "message", text, sizeof(text));
	return kvmvmem_fail(error, kvmvmem_errno_of(code), "%s (%s)", text,
			    code);
}
