/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Making text of a peer safe for a terminal or a log; see printable.c. */
#ifndef PRINTABLE_H
#define PRINTABLE_H

#include <stddef.h>

size_t printable_length(const char *text, size_t left);
size_t printable_width(const char *text);
size_t printable_fit(const char *text, size_t *columns);
char *printable_escape(const char *text, size_t length);
char *printable_escape_json(const char *text, size_t length);

#endif /* PRINTABLE_H */
