// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages to standard error. Each is one write of one line: nothing is
 * buffered, so that nothing is lost when the process is killed.
 *
 * Nobody is waited for either. Who reads standard error may have stopped - the
 * VMM that started us, a terminal that is held - and is no reason not to serve
 * others: a message that finds no room is left out, and the next one that does
 * comes with their number. Who fills a pipe at that very moment can still make
 * us wait.
 *
 * The level belongs to the process, as standard error does; it is the one
 * thing in this program that is not in a context structure.
 */
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "log.h"

/* Longer messages are cut. */
#define LOG_LINE_MAX 512

#define NSEC_PER_SEC 1000000000ULL

static struct {
	enum log_level level;
	bool journal;
	/* Messages for which there was no room. */
	unsigned int lost;
} log_state = {.level = LOG_LEVEL_INFO};

static const char *const level_names[] = {
	[LOG_LEVEL_ERR] = "err",
	[LOG_LEVEL_WARNING] = "warning",
	[LOG_LEVEL_INFO] = "info",
	[LOG_LEVEL_DEBUG] = "debug",
};

static const char *const journal_prefixes[] = {
	[LOG_LEVEL_ERR] = SD_ERR,
	[LOG_LEVEL_WARNING] = SD_WARNING,
	[LOG_LEVEL_INFO] = SD_INFO,
	[LOG_LEVEL_DEBUG] = SD_DEBUG,
};

/* Return: the level, or -EINVAL. */
int log_level_from_name(const char *name)
{
	for (int i = 0; i <= LOG_LEVEL_DEBUG; i++)
		if (!strcmp(name, level_names[i]))
			return i;
	return -EINVAL;
}

void log_init(enum log_level level)
{
	log_state.level = level;
	log_state.journal = getenv("JOURNAL_STREAM");
}

/* A pipe that has room has it for a line: LOG_LINE_MAX is below PIPE_BUF. */
static bool has_room(void)
{
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&pfd, 1, 0) > 0 && pfd.revents & POLLOUT;
}

static void write_line(enum log_level level, const char *label,
		       const char *format, va_list ap)
{
	char line[LOG_LINE_MAX];
	int head, body;
	size_t len;

	head = snprintf(line, sizeof(line), "%svmemd: %s",
			log_state.journal ? journal_prefixes[level] : "",
			label ? label : "");
	body = vsnprintf(line + head, sizeof(line) - head - 1, format, ap);
	if (body < 0)
		return;
	len = strlen(line);
	/* A peer's text must not forge lines, nor steer terminals. */
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)line[i]))
			line[i] = ' ';
	line[len++] = '\n';
	if (write(STDERR_FILENO, line, len) < 0)
		return; /* nowhere to say it */
}

static void __attribute__((format(printf, 2, 3)))
write_text(enum log_level level, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	write_line(level, NULL, format, ap);
	va_end(ap);
}

static void log_line(enum log_level level, const char *label,
		     const char *format, va_list ap)
{
	if (log_state.lost && has_room()) {
		write_text(LOG_LEVEL_WARNING,
			   "%u messages were left out: nobody read them",
			   log_state.lost);
		log_state.lost = 0;
	}
	if (has_room())
		write_line(level, label, format, ap);
	else
		log_state.lost++;
}

void log_message(enum log_level level, const char *label, const char *format,
		 ...)
{
	va_list ap;

	if (level > log_state.level)
		return;
	va_start(ap, format);
	log_line(level, label, format, ap);
	va_end(ap);
}

void log_limited(struct log_limit *limit, enum log_level level,
		 const char *label, const char *format, ...)
{
	struct timespec ts;
	uint64_t now;
	va_list ap;

	if (level > log_state.level)
		return;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	now = ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
	if (!limit->window_ns ||
	    now - limit->window_ns > LOG_LIMIT_SECONDS * NSEC_PER_SEC) {
		if (limit->suppressed)
			log_message(level, label,
				    "%u messages like this left out",
				    limit->suppressed);
		*limit = (struct log_limit){.window_ns = now};
	}
	if (limit->nr >= LOG_LIMIT_BURST) {
		limit->suppressed++;
		return;
	}
	limit->nr++;
	va_start(ap, format);
	log_line(level, label, format, ap);
	va_end(ap);
}
