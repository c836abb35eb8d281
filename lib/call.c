// SPDX-License-Identifier: MIT
/*
 * A request on a connection of its own: vmemd has few places for clients, and an
 * idle client may lose its place. The process that listens is not trusted: its
 * lines are checked and limited in length, and one deadline applies to all of
 * them.
 */
#include "call.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* Wait for events. Return: 0; -ETIMEDOUT: the deadline; another errno. */
static int wait_for(int fd, short events, int64_t deadline,
		    struct kvmvmem_error *error)
{
	struct pollfd ready = {.fd = fd, .events = events};
	char text[128];
	int64_t left;
	int ret;

	do {
		left = deadline - kvmvmem_now_ms();
		ret = left > 0 ? poll(&ready, 1, kvmvmem_poll_ms(left)) : 0;
	} while (ret < 0 && errno == EINTR);
	if (ret > 0)
		return 0;
	if (!ret)
		return kvmvmem_fail(error, -ETIMEDOUT, "vmemd does not answer");
	ret = errno;
	return kvmvmem_fail(error, -ret, "poll: %s",
			    kvmvmem_text_of(ret, text, sizeof(text)));
}

/* Send as much as fits; the first byte carries the descriptors. */
static ssize_t send_some(const struct kvmvmem_call *call, int fd, size_t sent)
{
	union {
		char buffer[CMSG_SPACE(KVMVMEM_CALL_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {.buffer = {0}};
	struct iovec iov = {
		.iov_base = (char *)call->request.text + sent,
		.iov_len = call->request.length - sent,
	};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	size_t size = call->nr_fds * sizeof(int);
	struct cmsghdr *cmsg;

	if (size && !sent) {
		header.msg_control = control.buffer;
		header.msg_controllen = CMSG_SPACE(size);
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(size);
		memcpy(CMSG_DATA(cmsg), call->fds, size);
	}
	return sendmsg(fd, &header, MSG_NOSIGNAL);
}

static int send_request(const struct kvmvmem_call *call, int fd,
			int64_t deadline, struct kvmvmem_error *error)
{
	size_t sent = 0;
	char text[128];
	ssize_t put;
	int ret;

	while (sent < call->request.length) {
		put = send_some(call, fd, sent);
		if (put >= 0) {
			sent += (size_t)put;
			continue;
		}
		ret = errno;
		/* An answer sent before the close can still be read. */
		if (ret == EPIPE || ret == ECONNRESET)
			return 0;
		if (ret == EINTR)
			continue;
		if (ret != EAGAIN)
			return kvmvmem_fail(
				error, -ret, "%s: %s", call->path,
				kvmvmem_text_of(ret, text, sizeof(text)));
		ret = wait_for(fd, POLLOUT, deadline, error);
		if (ret)
			return ret;
	}
	return 0;
}

static int not_vmemd(struct kvmvmem_error *error)
{
	return kvmvmem_fail(error, -EBADMSG, "not an answer of vmemd's");
}

/**
 * kvmvmem_answer() - look for the answer to a request in a line
 * @line: the line
 * @id: id of the request
 * @result: set to the result, an object or null
 * @error: set on error
 *
 * Return: 1: the line is not the answer; 0: success; the errno of a refusal;
 * -EBADMSG: the line is invalid.
 */
int kvmvmem_answer(struct kvmvmem_json line, uint64_t id,
		   struct kvmvmem_json *result, struct kvmvmem_error *error)
{
	struct kvmvmem_json value;
	uint64_t answered = 0;
	bool any;

	if (!kvmvmem_json_member(line, "id", &value))
		return 1;
	/* vmemd refuses a client with a null id before it reads a request. */
	any = kvmvmem_json_is_null(value);
	if (!any && (!kvmvmem_json_size(value, &answered) || answered != id))
		return 1;
	if (kvmvmem_json_member(line, "error", &value))
		return kvmvmem_refusal(value, error);
	if (any || !kvmvmem_json_member(line, "result", result))
		return not_vmemd(error);
	return 0;
}

static int receive_answer(struct kvmvmem_call *call, int fd, int64_t deadline,
			  struct kvmvmem_error *error)
{
	struct kvmvmem_json line;
	char text[128];
	int ret;

	for (;;) {
		ret = kvmvmem_line_next(&call->line, &line);
		if (!ret) {
			ret = kvmvmem_answer(line, KVMVMEM_CALL_ID,
					     &call->result, error);
			if (ret <= 0)
				return ret;
			continue;
		}
		if (ret == -EAGAIN)
			ret = wait_for(fd, POLLIN, deadline, error);
		else
			return not_vmemd(error);
		if (ret)
			return ret;
		ret = kvmvmem_line_receive(&call->line, fd);
		if (ret == -EBADMSG)
			return not_vmemd(error);
		if (ret == -EPIPE)
			return kvmvmem_fail(error, ret,
					    "%s: vmemd has closed the "
					    "connection",
					    call->path);
		if (ret && ret != -EAGAIN)
			return kvmvmem_fail(
				error, ret, "%s: %s", call->path,
				kvmvmem_text_of(-ret, text, sizeof(text)));
	}
}

/**
 * kvmvmem_call() - send a request and wait for the answer
 * @call: the request
 * @error: set on error
 *
 * Return: 0; the errno of a refusal; other errors as for struct kvmvmem_vmemd.
 */
int kvmvmem_call(struct kvmvmem_call *call, struct kvmvmem_error *error)
{
	int64_t deadline = kvmvmem_now_ms() + call->timeout_ms;
	int fd, ret;

	kvmvmem_request_end(&call->request);
	if (call->request.too_long)
		return kvmvmem_fail(error, -E2BIG, "the request is too long");
	fd = kvmvmem_connect(call->path, error);
	if (fd < 0)
		return fd;
	ret = send_request(call, fd, deadline, error);
	if (!ret)
		ret = receive_answer(call, fd, deadline, error);
	close(fd);
	return ret;
}
