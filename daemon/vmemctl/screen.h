/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The terminal that standard output may be. */
#ifndef VMEMCTL_SCREEN_H
#define VMEMCTL_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct screen - the terminal
 * @columns, @rows: its size
 * @resize_fd: can be read when it has another, -1 if there is none
 * @drawn: characters of the line that screen_line() has drawn
 */
struct screen {
	unsigned int columns;
	unsigned int rows;
	int resize_fd;
	size_t drawn;
};

void screen_open(struct screen *screen);
void screen_close(struct screen *screen);
void screen_resized(struct screen *screen);
void screen_line(struct screen *screen, const char *text);

#endif /* VMEMCTL_SCREEN_H */
