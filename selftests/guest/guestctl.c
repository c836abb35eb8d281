// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-guestctl: send a command to the agent of a guest (agent.c), through the
 * socket at the other end of the guest's serial console.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lines.h"

#define MAX_REQUEST 200
#define READY	    "vmem-guest ready"
#define TIMEOUT_S   60

/* Interval between attempts to connect while the VMM starts. */
#define LOOK_NS 20000000

static const char usage[] =
	"Usage: vmem-guestctl SOCKET [--timeout SECONDS] ready\n"
	"       vmem-guestctl SOCKET [--timeout SECONDS] listen\n"
	"       vmem-guestctl SOCKET [--timeout SECONDS] COMMAND [ARGUMENT]...\n"
	"Wait until the guest's console is there and its agent is up, or print lines\n"
	"until the other end closes, or have the agent carry out a command (meminfo,\n"
	"wait-memtotal, plugged, pattern, hold, release, dmesg, sh, crash-load, crash,\n"
	"kexec, vmcore, reboot, poweroff) and print its answer.\n"
	"Exit status: 0 done, 1 the agent refused or failed, 2 wrong usage, 3 the guest\n"
	"did not answer in time (60 seconds).\n";

enum status {
	STATUS_OK = 0,
	STATUS_FAILED = 1,
	STATUS_USAGE = 2,
	STATUS_SILENT = 3,
};

/* Like lines_connect(), but waits for the socket to appear. */
static bool wait_connect(struct lines *console, const char *path,
			 time_t deadline)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};

	while (!lines_connect(console, path)) {
		if ((errno != ENOENT && errno != ECONNREFUSED) ||
		    lines_now() >= deadline)
			return false;
		nanosleep(&look, NULL);
	}
	return true;
}

static enum status wait_ready(struct lines *console, time_t deadline)
{
	char line[LINES_MAX];

	while (lines_read(console, deadline, line))
		if (!strcmp(line, READY))
			return STATUS_OK;
	fprintf(stderr, "vmem-guestctl: the guest's agent does not come up\n");
	return STATUS_SILENT;
}

/* Return: STATUS_SILENT if the deadline passes before the end. */
static enum status listen_to(struct lines *console, time_t deadline)
{
	char line[LINES_MAX];

	while (lines_read(console, deadline, line))
		puts(line);
	return lines_now() < deadline ? STATUS_OK : STATUS_SILENT;
}

static enum status ask(struct lines *console, time_t deadline, int argc,
		       char **argv)
{
	char request[MAX_REQUEST], line[LINES_MAX], tag[16];
	size_t tag_length;
	int used, i;

	/* Different from the tag of any earlier client without an answer. */
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
	strcpy(request + used, "\n");
	if (!lines_send(console, request)) {
		perror("vmem-guestctl: send");
		return STATUS_SILENT;
	}
	while (lines_read(console, deadline, line)) {
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
	struct lines console;
	unsigned long timeout = TIMEOUT_S;
	enum status status;
	time_t deadline;
	bool connected;
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
	deadline = lines_now() + (time_t)timeout;
	if (!strcmp(argv[first], "ready"))
		connected = wait_connect(&console, argv[1], deadline);
	else
		connected = lines_connect(&console, argv[1]);
	if (!connected) {
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
	lines_close(&console);
	return (int)status;
}
