// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-guestresize: resize a guest's memory, and measure how long it takes.
 *
 * The program knows no VMM. The resizing program, such as QEMU's monitor or
 * vmemd, listens on a UNIX socket and speaks JSON, one object per line; the
 * command line gives the messages for it. The guest's agent (agent.c) is asked
 * first, and already watches its MemTotal when the request is sent. All VMMs
 * are measured in the same way, and no program is started in between.
 */
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lines.h"

#define TIMEOUT_S 60

/* Interval between checks whether the VMM has completed the resize, too. */
#define LOOK_NS 10000000

static const char usage[] =
	"Usage: vmem-guestresize --console SOCKET --memtotal BYTES --control SOCKET\n"
	"                        --request JSON [--hello JSON] [--check JSON --until TEXT]\n"
	"                        [--timeout SECONDS]\n"
	"Send a request to the program that resizes a guest, and wait until the guest's\n"
	"MemTotal has followed. Print guest_ns, the time until the guest's answer; with\n"
	"--check, also settled_ns, the time until the answer to that contains TEXT.\n"
	"  --console  the guest's console, with its agent\n"
	"  --control  socket of the program that resizes the guest\n"
	"  --hello    message that this program expects first\n"
	"  --timeout  time limit in seconds (60)\n"
	"Exit status: 0 done, 1 not done, 2 wrong usage.\n";

enum option_id {
	OPT_CHECK,
	OPT_CONSOLE,
	OPT_CONTROL,
	OPT_HELLO,
	OPT_MEMTOTAL,
	OPT_REQUEST,
	OPT_TIMEOUT,
	OPT_UNTIL,
	NR_OPTIONS,
};

static const struct option long_options[] = {
	{"check", required_argument, NULL, OPT_CHECK},
	{"console", required_argument, NULL, OPT_CONSOLE},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"hello", required_argument, NULL, OPT_HELLO},
	{"memtotal", required_argument, NULL, OPT_MEMTOTAL},
	{"request", required_argument, NULL, OPT_REQUEST},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"until", required_argument, NULL, OPT_UNTIL},
	{NULL, 0, NULL, 0},
};

/**
 * struct resize - a resize
 * @values: values of the options, NULL if absent
 * @deadline: second of the deadline
 * @tag: tag of the request to the agent
 * @console: connection to the guest's console
 * @control: connection to the resizing program
 */
struct resize {
	const char *values[NR_OPTIONS];
	time_t deadline;
	char tag[16];
	struct lines console;
	struct lines control;
};

static bool complain(const char *what, const char *why)
{
	fprintf(stderr, "vmem-guestresize: %s: %s\n", what, why);
	return false;
}

static bool send_line(struct lines *lines, const char *what, const char *line)
{
	if (lines_send(lines, line) && lines_send(lines, "\n"))
		return true;
	return complain(what, strerror(errno));
}

/*
 * Read the next answer from the control socket, skipping events and greetings.
 */
static bool read_answer(struct resize *resize, char *answer)
{
	while (lines_read(&resize->control, resize->deadline, answer)) {
		if (strstr(answer, "\"error\": {") ||
		    strstr(answer, "\"error\":{"))
			return complain("the control socket says", answer);
		if (strstr(answer, "\"return\":") ||
		    strstr(answer, "\"result\":"))
			return true;
	}
	return complain("the control socket", "no answer");
}

static bool call(struct resize *resize, enum option_id request, char *answer)
{
	return send_line(&resize->control, "the control socket",
			 resize->values[request]) &&
	       read_answer(resize, answer);
}

/* Ask the agent to wait. Return: whether it has begun. */
static bool agent_begin(struct resize *resize)
{
	char line[LINES_MAX];
	size_t length;

	length = (size_t)snprintf(resize->tag, sizeof(resize->tag), "r%d",
				  getpid());
	snprintf(line, sizeof(line), "%s wait-memtotal %s %lld", resize->tag,
		 resize->values[OPT_MEMTOTAL],
		 (long long)(resize->deadline - lines_now()));
	if (!send_line(&resize->console, "the guest's console", line))
		return false;
	while (lines_read(&resize->console, resize->deadline, line)) {
		if (strncmp(line, resize->tag, length))
			continue;
		if (!strncmp(line + length, ":from ", strlen(":from ")))
			return true;
		return complain("the guest's agent says", line);
	}
	return complain("the guest's agent", "no answer");
}

/*
 * Return: whether the guest has reached the size. @ns: time of the first byte
 * of the answer; serial ports of VMMs differ in the time for the rest.
 */
static bool agent_end(struct resize *resize, uint64_t *ns)
{
	size_t length = strlen(resize->tag);
	char line[LINES_MAX], total[LINES_MAX] = "no MemTotal";

	while (lines_read(&resize->console, resize->deadline, line)) {
		if (strncmp(line, resize->tag, length))
			continue;
		if (!strcmp(line + length, "=ok"))
			return true;
		if (line[length] == ':') {
			*ns = resize->console.line_ns;
			strcpy(total, line + length + 1);
			continue;
		}
		complain("the guest's agent says", line + length + 1);
		return complain("the guest has", total);
	}
	return complain("the guest's agent", "no answer");
}

static bool settle(struct resize *resize)
{
	const struct timespec look = {.tv_nsec = LOOK_NS};
	char answer[LINES_MAX];

	for (;;) {
		if (!call(resize, OPT_CHECK, answer))
			return false;
		if (strstr(answer, resize->values[OPT_UNTIL]))
			return true;
		if (lines_now() >= resize->deadline)
			return complain("not settled", answer);
		nanosleep(&look, NULL);
	}
}

static bool run(struct resize *resize)
{
	char answer[LINES_MAX];
	uint64_t start, end = 0;

	if (!lines_connect(&resize->console, resize->values[OPT_CONSOLE]))
		return complain(resize->values[OPT_CONSOLE], strerror(errno));
	if (!lines_connect(&resize->control, resize->values[OPT_CONTROL]))
		return complain(resize->values[OPT_CONTROL], strerror(errno));
	if (resize->values[OPT_HELLO] && !call(resize, OPT_HELLO, answer))
		return false;
	if (!agent_begin(resize))
		return false;
	start = lines_now_ns();
	if (!send_line(&resize->control, "the control socket",
		       resize->values[OPT_REQUEST]) ||
	    !agent_end(resize, &end))
		return false;
	/*
	 * MemTotal had the value already, so the agent did not wait for the
	 * request.
	 */
	if (end < start)
		end = start;
	printf("guest_ns %llu\n", (unsigned long long)(end - start));
	if (!read_answer(resize, answer))
		return false;
	if (!resize->values[OPT_CHECK])
		return true;
	if (!settle(resize))
		return false;
	printf("settled_ns %llu\n",
	       (unsigned long long)(lines_now_ns() - start));
	return true;
}

static bool parse(struct resize *resize, int argc, char **argv)
{
	unsigned long timeout = TIMEOUT_S;
	const char **values = resize->values;
	int option;
	char *end;

	while ((option = getopt_long(argc, argv, "", long_options, NULL)) >=
	       0) {
		if (option >= NR_OPTIONS)
			return false;
		values[option] = optarg;
	}
	if (optind < argc || !values[OPT_CONSOLE] || !values[OPT_MEMTOTAL] ||
	    !values[OPT_CONTROL] || !values[OPT_REQUEST] ||
	    !values[OPT_CHECK] != !values[OPT_UNTIL])
		return false;
	if (values[OPT_TIMEOUT]) {
		timeout = strtoul(values[OPT_TIMEOUT], &end, 10);
		if (*end || !timeout || timeout > INT32_MAX)
			return false;
	}
	resize->deadline = lines_now() + (time_t)timeout;
	return true;
}

int main(int argc, char **argv)
{
	struct resize resize = {.console.fd = -1, .control.fd = -1};
	bool done;

	if (!parse(&resize, argc, argv)) {
		fputs(usage, stderr);
		return 2;
	}
	done = run(&resize);
	lines_close(&resize.console);
	lines_close(&resize.control);
	return done ? 0 : 1;
}
