// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-sink: a vhost-user back end that accepts everything and serves nothing.
 *
 * It negotiates no protocol feature, so a VMM may share no more than eight
 * memory regions with it. It prints the number of regions of each memory table.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_config.h>

#include "vhost/protocol.h"

#define PAYLOAD_MAX 4096U

static const char usage[] =
	"Usage: vmem-sink SOCKET\n"
	"Be a vhost-user back end with the limit of eight memory regions, for one\n"
	"connection, and print the number of regions of each memory table.\n"
	"Exit status: 0 the VMM has closed the connection, 1 an error, 2 wrong usage.\n";

static int accept_one(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int connection;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	if (fd < 0 ||
	    bind(fd, (const struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, 1))
		return -1;
	connection = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(fd);
	return connection;
}

/* Receive @size bytes, and close the descriptors that came with them. */
static bool receive(int fd, void *buffer, size_t size)
{
	_Alignas(struct cmsghdr) char
		control[CMSG_SPACE(VHOST_USER_MAX_FDS * sizeof(int))];
	struct iovec iov = {.iov_base = buffer, .iov_len = size};
	struct msghdr msg = {.msg_iov = &iov,
			     .msg_iovlen = 1,
			     .msg_control = control,
			     .msg_controllen = sizeof(control)};
	struct cmsghdr *cmsg;
	size_t i, nr;
	int received;

	if (!size)
		return true;
	if (recvmsg(fd, &msg, MSG_WAITALL) != (ssize_t)size)
		return false;
	for (cmsg = CMSG_FIRSTHDR(&msg); cmsg; cmsg = CMSG_NXTHDR(&msg, cmsg)) {
		nr = (cmsg->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (i = 0; i < nr; i++) {
			memcpy(&received, CMSG_DATA(cmsg) + i * sizeof(int),
			       sizeof(received));
			close(received);
		}
	}
	return true;
}

static bool reply(int fd, uint32_t request, uint64_t value)
{
	struct __attribute__((packed)) {
		struct vhost_user_header header;
		uint64_t value;
	} message = {.header = {.request = request,
				.flags = VHOST_USER_FLAGS_VERSION |
					 VHOST_USER_FLAGS_REPLY,
				.size = sizeof(value)},
		     .value = value};

	return send(fd, &message, sizeof(message), MSG_NOSIGNAL) ==
	       (ssize_t)sizeof(message);
}

static bool answer(int fd, uint32_t request, const uint8_t *payload)
{
	uint32_t nr;

	switch (request) {
	case VHOST_USER_GET_FEATURES:
		return reply(fd, request,
			     1ULL << VIRTIO_F_VERSION_1 |
				     1ULL << VHOST_USER_F_PROTOCOL_FEATURES);
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_VRING_BASE:
		return reply(fd, request, 0);
	case VHOST_USER_SET_MEM_TABLE:
		memcpy(&nr, payload, sizeof(nr));
		printf("regions %u\n", nr);
		return !fflush(stdout);
	default:
		return true;
	}
}

int main(int argc, char **argv)
{
	static uint8_t payload[PAYLOAD_MAX];
	struct vhost_user_header header;
	int fd;

	if (argc != 2) {
		fputs(usage, stderr);
		return 2;
	}
	fd = accept_one(argv[1]);
	if (fd < 0) {
		perror("vmem-sink");
		return EXIT_FAILURE;
	}
	while (receive(fd, &header, sizeof(header))) {
		if (header.size > sizeof(payload) ||
		    !receive(fd, payload, header.size) ||
		    !answer(fd, header.request, payload)) {
			fputs("vmem-sink: bad message\n", stderr);
			return EXIT_FAILURE;
		}
	}
	return EXIT_SUCCESS;
}
