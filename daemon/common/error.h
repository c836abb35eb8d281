/* SPDX-License-Identifier: GPL-2.0-or-later */
/* An error of a function: its errno, and a text. */
#ifndef COMMON_ERROR_H
#define COMMON_ERROR_H

/* Size of a text with NUL: a sentence, a path and the text of an errno. */
#define ERROR_TEXT_MAX 256

/**
 * struct error - an error of a function
 * @code: the negative errno that the function returns
 * @text: the reason: a terminated string without a newline
 */
struct error {
	int code;
	char text[ERROR_TEXT_MAX];
};

int error_set(struct error *err, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
int error_wrap(struct error *err, int code, const char *what);

#endif /* COMMON_ERROR_H */
