// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Messages to standard error. Each is one write of one line: nothing is
 * buffered, so that nothing is lost when the process is killed.
 *
 * Logging does not block. The reader of standard error may have stopped: the
 * VMM that started vmemd, or a suspended terminal. A message for which there is
 * no room is dropped, and the next message that is written has the number of
 * dropped ones. Another writer that fills the pipe at that moment can still
 * cause a wait.
 *
 * The level belongs to the process, as standard error does. It is the only
 * state of this program outside of a context structure.
 */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "common/clocks.h"
#include "common/printable.h"

/* Longer messages are cut. */
#define LOG_LINE_MAX 512

#define NSEC_PER_SEC 1000000000ULL

static struct {
	enum log_level level;
	bool journal;
	/* Number of dropped messages that has not been reported yet. */
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

/*
 * Is standard error connected to the journal? JOURNAL_STREAM has the device and
 * inode number of the stream, see systemd.exec(5). They are compared because a
 * process inherits the variable even if its standard error is redirected.
 */
static bool is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	uintmax_t device, inode;
	struct stat st;
	int end = 0;

	if (!stream ||
	    sscanf(stream, "%ju:%ju%n", &device, &inode, &end) != 2 ||
	    stream[end])
		return false;
	return !fstat(STDERR_FILENO, &st) && st.st_dev == device &&
	       st.st_ino == inode;
}

void log_init(enum log_level level)
{
	log_state.level = level;
	log_state.journal = is_journal();
}

/* A writable pipe has room for a line, since LOG_LINE_MAX is below PIPE_BUF. */
static bool has_room(void)
{
	struct pollfd pfd = {.fd = STDERR_FILENO, .events = POLLOUT};

	return poll(&pfd, 1, 0) > 0 && pfd.revents & POLLOUT;
}

/* Text of a peer must not forge lines or control terminals. */
static void blank_controls(char *line, size_t len)
{
	for (size_t i = 0; i < len;) {
		size_t bytes = printable_length(line + i, len - i);

		if (!bytes)
			line[i++] = ' ';
		i += bytes;
	}
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
	blank_controls(line, len);
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
			   "%u messages were left out: the log was not read",
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
	uint64_t now;
	va_list ap;

	if (level > log_state.level)
		return;
	now = clock_monotonic_ns();
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
