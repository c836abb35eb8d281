// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/error.h"

/**
 * error_set() - set an error
 * @err: set; may be NULL
 * @code: negative errno
 * @format: format of printf(3) for the text
 *
 * Return: @code, so that the caller can return it.
 */
int error_set(struct error *err, int code, const char *format, ...)
{
	va_list ap;

	if (!err)
		return code;
	err->code = code;
	va_start(ap, format);
	vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
	return code;
}

/**
 * error_wrap() - prefix the text of an error
 * @err: set by the function that failed; NULL: the caller is not interested
 * @code: negative errno
 * @what: the operation that failed because of it
 *
 * Return: @code, as error_set().
 */
int error_wrap(struct error *err, int code, const char *what)
{
	char text[ERROR_TEXT_MAX];

	if (!err)
		return code;
	memcpy(text, err->text, sizeof(text));
	return error_set(err, code, "%s: %s", what, text);
}
