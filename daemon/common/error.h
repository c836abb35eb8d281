/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Why a function failed: the errno that it returned, and a text for people. */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

/* Longest text with its end: a sentence, a path and the reason of a system call. */
#define ERROR_TEXT_MAX 256

/**
 * struct error - why a function failed
 * @code: the negative errno that the function returns
 * @text: the reason, for people: a terminated string without a newline
 */
struct error {
	int code;
	char text[ERROR_TEXT_MAX];
};

int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif /* COMMON_ERROR_H */
