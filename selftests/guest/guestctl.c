// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-guestctl: ask the agent of a guest (agent.c), through the socket that
 * is the other end of the guest's serial console.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST 200
#define MAX_LINE    4096
#define READY	    "vmem-guest ready"
#define TIMEOUT_S   60

/* How often to look for a console whose VMM is still starting. */
#define LOOK_NS 20000000

static const char usage[] =
	"Usage: vmem-guestctl SOCKET [--timeout SECONDS] ready\n"
	"       vmem-guestctl SOCKET [--timeout SECONDS] listen\n"
	"       vmem-guestctl SOCKET [--timeout SECONDS] COMMAND [ARGUMENT]...\n"
	"Wait until the guest's console is there and its agent is up, or print lines\n"
	"until the other end closes, or have the agent carry out a command (meminfo,\n"
	"wait-memtotal, plugged, pattern, dmesg, poweroff) and print what it says.\n"
	"Exit status: 0 done, 1 the agent refused or failed, 2 wrong usage, 3 the guest\n"
	"did not answer in time (60 seconds).\n";

enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_SILENT = 3,
};

struct console {
	int fd;
	char buffer[MAX_LINE];
	size_t used;
};

static time_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd;

	if (strlen(path) >= sizeof(address.sun_path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		close(fd);
		return -1;
	}
	return fd;
}

/*
 * Wait for more from the console. Return: false at its end or at the deadline.
 */
static bool receive(struct console *console, time_t deadline)
{
	struct timeval timeout = {.tv_sec = deadline - now()};
	ssize_t len;

	if (timeout.tv_sec <= 0)
		return false;
	/* A line too long to be the agent's: forget its beginning. */
	if (console->used == sizeof(console->buffer))
		console->used = 0;
	setsockopt(console->fd, SOL_SOCKET, SO_RCVTIMEO, &timeout,
		   sizeof(timeout));
	len = recv(console->fd, console->buffer + console->used,
		   sizeof(console->buffer) - console->used, 0);
	if (len <= 0)
		return len < 0 && errno == EINTR;
	console->used += (size_t)len;
	return true;
}

/* Return: false when there is none, at the end or at the deadline. */
static bool read_line(struct console *console, time_t deadline, char *line)
{
	size_t length;
	char *end;

	while (!(end = memchr(console->buffer, '\n', console->used)))
		if (!receive(console, deadline))
			return false;
	length = (size_t)(end - console->buffer);
	memcpy(line, console->buffer, length);
	console->used -= length + 1;
	memmove(console->buffer, end + 1, console->used);
	while (length && line[length - 1] == '\r')
		length--;
	line[length] = '\0';
	return true;
}

/* As connect_to(), but the socket may still be to come. */
static int wait_connect(const char *path, time_t deadline)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};
	int fd;

	while ((fd = connect_to(path)) < 0) {
		if ((errno != ENOENT && errno != ECONNREFUSED) ||
		    now() >= deadline)
			return -1;
		nanosleep(&look, NULL);
	}
	return fd;
}

static enum status wait_ready(struct console *console, time_t deadline)
{
	char line[MAX_LINE];

	while (read_line(console, deadline, line))
		if (!strcmp(line, READY))
			return STATUS_OK;
	fprintf(stderr, "vmem-guestctl: the guest's agent does not come up\n");
	return STATUS_SILENT;
}

/* Return: STATUS_SILENT if the deadline comes before the end. */
static enum status listen_to(struct console *console, time_t deadline)
{
	char line[MAX_LINE];

	while (read_line(console, deadline, line))
		puts(line);
	return now() < deadline ? STATUS_OK : STATUS_SILENT;
}

static enum status ask(struct console *console, time_t deadline, int argc,
		       char **argv)
{
	char request[MAX_REQUEST], line[MAX_LINE], tag[16];
	size_t tag_length;
	int used, i;

	/* Another one than any earlier asker's that got no answer. */
	used = snprintf(tag, sizeof(tag), "q%d", getpid());
	tag_length = (size_t)used;
	memcpy(request, tag, tag_length);
	for (i = 0; i < argc; i++) {
		used += snprintf(request + used, sizeof(request) - (size_t)used,
				 " %s", argv[i]);
		if ((size_t)used >= sizeof(request) - 1) {
			fprintf(stderr, "vmem-guestctl: too long\n");
			return STATUS_USAGE;
		}
	}
	request[used++] = '\n';
	if (send(console->fd, request, (size_t)used, MSG_NOSIGNAL) != used) {
		perror("vmem-guestctl: send");
		return STATUS_SILENT;
	}
	while (read_line(console, deadline, line)) {
		if (strncmp(line, tag, tag_length))
			continue;
		if (line[tag_length] == ':') {
			puts(line + tag_length + 1);
		} else if (line[tag_length] == '=') {
			if (!strcmp(line + tag_length, "=ok"))
				return STATUS_OK;
			fprintf(stderr, "vmem-guestctl: %s: %s\n", argv[0],
				line + tag_length + 1);
			return STATUS_FAILED;
		}
	}
	fprintf(stderr, "vmem-guestctl: %s: no answer\n", argv[0]);
	return STATUS_SILENT;
}

int main(int argc, char **argv)
{
	struct console console = {.fd = -1};
	unsigned long timeout = TIMEOUT_S;
	enum status status;
	time_t deadline;
	int first = 2;
	char *end;

	if (argc > first + 1 && !strcmp(argv[first], "--timeout")) {
		timeout = strtoul(argv[first + 1], &end, 10);
		if (*end || !timeout || timeout > INT32_MAX) {
			fputs(usage, stderr);
			return STATUS_USAGE;
		}
		first += 2;
	}
	if (argc <= first) {
		fputs(usage, stderr);
		return STATUS_USAGE;
	}
	deadline = now() + (time_t)timeout;
	if (!strcmp(argv[first], "ready"))
		console.fd = wait_connect(argv[1], deadline);
	else
		console.fd = connect_to(argv[1]);
	if (console.fd < 0) {
		fprintf(stderr, "vmem-guestctl: %s: %s\n", argv[1],
			strerror(errno));
		return STATUS_SILENT;
	}
	if (!strcmp(argv[first], "ready"))
		status = wait_ready(&console, deadline);
	else if (!strcmp(argv[first], "listen"))
		status = listen_to(&console, deadline);
	else
		status = ask(&console, deadline, argc - first, argv + first);
	close(console.fd);
	return (int)status;
}
