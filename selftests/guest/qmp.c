// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-qmp: send a request to QEMU's monitor, once or until it has the expected
 * answer.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lines.h"

#define HELLO "{\"execute\":\"qmp_capabilities\"}\n"

/* Interval between repetitions. */
#define LOOK_NS 50000000

static const char usage[] =
	"Usage: vmem-qmp SOCKET SECONDS REQUEST [--until TEXT [--unless TEXT] |\n"
	"       --event NAME]\n"
	"Send a request to a monitor of QEMU, and print its result. With --until, repeat\n"
	"it until the result contains TEXT, or fail if it contains that of --unless; with\n"
	"--event, wait for the event after it.\n"
	"Exit status: 0 done, 1 refused or timed out, 2 wrong usage.\n";

/* Sets *@event to NULL if it is read meanwhile. */
static bool read_until(struct lines *monitor, time_t deadline, const char *text,
		       const char **event, char *line)
{
	while (lines_read(monitor, deadline, line)) {
		if (*event && strstr(line, *event))
			*event = NULL;
		if (strstr(line, text))
			return true;
		if (strstr(line, "\"error\":"))
			return false;
	}
	return false;
}

/* The event that a request causes may precede its answer. */
static bool ask(struct lines *monitor, time_t deadline, const char *request,
		const char **event, char *line)
{
	return lines_send(monitor, request) && lines_send(monitor, "\n") &&
	       read_until(monitor, deadline, "\"return\":", event, line);
}

int main(int argc, char **argv)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};
	const char *until = NULL, *unless = NULL, *event = NULL, *none = NULL;
	struct lines monitor;
	char line[LINES_MAX];
	time_t deadline;
	bool done;

	if ((argc == 6 || (argc == 8 && !strcmp(argv[6], "--unless"))) &&
	    !strcmp(argv[4], "--until")) {
		until = argv[5];
		unless = argc == 8 ? argv[7] : NULL;
	} else if (argc == 6 && !strcmp(argv[4], "--event")) {
		event = argv[5];
	} else if (argc != 4) {
		fputs(usage, stderr);
		return 2;
	}
	deadline = lines_now() + (time_t)strtoul(argv[2], NULL, 10);
	if (!lines_connect(&monitor, argv[1])) {
		fprintf(stderr, "vmem-qmp: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	*line = '\0';
	done = lines_send(&monitor, HELLO) &&
	       read_until(&monitor, deadline, "\"return\":", &none, line) &&
	       ask(&monitor, deadline, argv[3], &event, line);
	while (done && until && !strstr(line, until)) {
		if (unless && strstr(line, unless)) {
			done = false;
			break;
		}
		nanosleep(&look, NULL);
		done = ask(&monitor, deadline, argv[3], &none, line);
	}
	if (done && event)
		done = read_until(&monitor, deadline, event, &none, line);
	puts(line);
	lines_close(&monitor);
	return done ? 0 : 1;
}
