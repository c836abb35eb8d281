// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The terminal on standard output: its size, and one line that is redrawn in
 * place.
 *
 * The line is cut to the width of the terminal, because a line that wraps
 * leaves a row behind at each redraw. It does not use the last column, because
 * some terminals wrap as soon as that column is written. SIGWINCH is blocked
 * and read from a signalfd, so poll(2) reports a change of the size.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>

#include "common/fd.h"
#include "common/printable.h"
#include "screen.h"

/* Size of a terminal that does not report one, such as a serial line. */
#define COLUMNS_UNKNOWN 80
#define ROWS_UNKNOWN	24

/* Mark at the end of a line that is cut. */
#define CUT_TEXT "..."

static void read_size(struct screen *screen)
{
	struct winsize window = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0)
		window = (struct winsize){0};
	screen->columns = window.ws_col ? window.ws_col : COLUMNS_UNKNOWN;
	screen->rows = window.ws_row ? window.ws_row : ROWS_UNKNOWN;
}

/** screen_open() - read the size of the terminal on standard output */
void screen_open(struct screen *screen)
{
	sigset_t signals;

	*screen = (struct screen){.resize_fd = -1};
	sigemptyset(&signals);
	sigaddset(&signals, SIGWINCH);
	/* Without the descriptor a new size is noticed at the next update. */
	if (!sigprocmask(SIG_BLOCK, &signals, NULL))
		screen->resize_fd =
			signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	read_size(screen);
}

void screen_close(struct screen *screen)
{
	fd_close(&screen->resize_fd);
}

/*
 * A terminal wraps its lines when it becomes narrower. Clear all rows of the
 * line that was drawn.
 */
static void clear_wrapped(const struct screen *screen)
{
	size_t rows = (screen->drawn + screen->columns - 1) / screen->columns;

	if (rows > 1)
		printf("\033[%zuA", rows - 1);
	printf("\r\033[J");
}

/**
 * screen_resized() - read the new size
 * @screen: the terminal
 *
 * Call this when @screen->resize_fd is readable, before drawing.
 */
void screen_resized(struct screen *screen)
{
	unsigned int before = screen->columns;
	struct signalfd_siginfo info;

	while (screen->resize_fd >= 0 &&
	       read(screen->resize_fd, &info, sizeof(info)) > 0)
		;
	read_size(screen);
	if (screen->drawn && screen->columns < before)
		clear_wrapped(screen);
}

/**
 * screen_line() - draw a line in place of the one that was drawn before
 * @screen: the terminal
 * @text: printable text
 */
void screen_line(struct screen *screen, const char *text)
{
	size_t room = screen->columns - 1, columns = room;
	const char *cut = "";
	size_t fit;

	fit = printable_fit(text, &columns);
	if (text[fit] && room > strlen(CUT_TEXT)) {
		cut = CUT_TEXT;
		columns = room - strlen(cut);
		fit = printable_fit(text, &columns);
	}
	printf("\r%.*s%s\033[K", (int)fit, text, cut);
	screen->drawn = columns + strlen(cut);
}
