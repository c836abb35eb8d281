// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The terminal that standard output may be: its size, and one line that is drawn
 * again and again.
 *
 * The line is cut to the width, as one that wraps would leave a row behind each
 * time. It stays one short of the last column: some terminals wrap as soon as
 * that is written. SIGWINCH is blocked and read from a descriptor, so that a new
 * size is an event like others in poll(2).
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "common/printable.h"
#include "screen.h"

/* What a terminal has that does not say, as a serial line. */
#define COLUMNS_UNKNOWN 80
#define ROWS_UNKNOWN	24

/* What stands for the rest of a line that is cut. */
#define CUT_TEXT "..."

static void read_size(struct screen *screen)
{
	struct winsize window = {0};

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &window) < 0)
		window = (struct winsize){0};
	screen->columns = window.ws_col ? window.ws_col : COLUMNS_UNKNOWN;
	screen->rows = window.ws_row ? window.ws_row : ROWS_UNKNOWN;
}

/** screen_open() - from here on its size is known; standard output is one */
void screen_open(struct screen *screen)
{
	sigset_t signals;

	*screen = (struct screen){.resize_fd = -1};
	sigemptyset(&signals);
	sigaddset(&signals, SIGWINCH);
	/* Without it a new size is seen at the next look. */
	if (!sigprocmask(SIG_BLOCK, &signals, NULL))
		screen->resize_fd =
			signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	read_size(screen);
}

void screen_close(struct screen *screen)
{
	if (screen->resize_fd >= 0)
		close(screen->resize_fd);
	screen->resize_fd = -1;
}

/*
 * Terminals that are made narrower wrap what is on them. The line that was drawn
 * has more rows then, which are taken away from the first one on.
 */
static void clear_wrapped(const struct screen *screen)
{
	size_t rows = (screen->drawn + screen->columns - 1) / screen->columns;

	if (rows > 1)
		printf("\033[%zuA", rows - 1);
	printf("\r\033[J");
}

/**
 * screen_resized() - take a new size over
 *
 * To be called when @resize_fd can be read, and before anything is drawn.
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
 * screen_line() - draw a line over the one that was drawn before
 * @text: printable
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
