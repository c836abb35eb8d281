/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages to standard error, with the journal's priority prefix there. */
#ifndef LOG_H
#define LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level {
	LOG_LEVEL_ERR,
	LOG_LEVEL_WARNING,
	LOG_LEVEL_INFO,
	LOG_LEVEL_DEBUG,
};

/*
 * What a guest or a peer can cause at will is logged through one of these, so
 * that it cannot fill the log: LOG_LIMIT_BURST messages in any
 * LOG_LIMIT_SECONDS, and then how many were left out.
 */
#define LOG_LIMIT_BURST	  10
#define LOG_LIMIT_SECONDS 10

struct log_limit {
	uint64_t window_ns;
	unsigned int nr;
	unsigned int suppressed;
};

int log_level_from_name(const char *name);
void log_init(enum log_level level);

void log_message(enum log_level level, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
void log_limited(struct log_limit *limit, enum log_level level,
		 const char *format, ...) __attribute__((format(printf, 3, 4)));

#define log_err(...)	 log_message(LOG_LEVEL_ERR, __VA_ARGS__)
#define log_warning(...) log_message(LOG_LEVEL_WARNING, __VA_ARGS__)
#define log_info(...)	 log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...)	 log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif /* LOG_H */
