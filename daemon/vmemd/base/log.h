/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Messages to standard error, with a priority prefix for the journal. */
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
 * Rate limit for messages that a guest or a peer can cause, so that it cannot
 * fill the log: LOG_LIMIT_BURST messages in LOG_LIMIT_SECONDS, followed by the
 * number of suppressed ones.
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

/*
 * A label is a prefix that says which of several objects a message is about,
 * e.g. "node0: ". NULL and "" mean no label.
 */
void log_message(enum log_level level, const char *label, const char *format,
		 ...) __attribute__((format(printf, 3, 4)));
void log_limited(struct log_limit *limit, enum log_level level,
		 const char *label, const char *format, ...)
	__attribute__((format(printf, 4, 5)));

#define log_err_of(label, ...) log_message(LOG_LEVEL_ERR, label, __VA_ARGS__)
#define log_warning_of(label, ...) \
	log_message(LOG_LEVEL_WARNING, label, __VA_ARGS__)
#define log_info_of(label, ...) log_message(LOG_LEVEL_INFO, label, __VA_ARGS__)
#define log_debug_of(label, ...) \
	log_message(LOG_LEVEL_DEBUG, label, __VA_ARGS__)

#define log_err(...)	 log_err_of(NULL, __VA_ARGS__)
#define log_warning(...) log_warning_of(NULL, __VA_ARGS__)
#define log_info(...)	 log_info_of(NULL, __VA_ARGS__)
#define log_debug(...)	 log_debug_of(NULL, __VA_ARGS__)

#endif /* LOG_H */
