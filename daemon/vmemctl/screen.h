/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The terminal, if standard output is one. */
#ifndef VMEMCTL_SCREEN_H
#define VMEMCTL_SCREEN_H

#include <stdbool.h>
#include <stddef.h>

/**
 * struct screen - the terminal
 * @columns: width in characters
 * @rows: height in lines
 * @resize_fd: readable when the size has changed, -1: none
 * @drawn: number of characters of the line that screen_line() has drawn
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
