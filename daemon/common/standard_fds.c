// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors 0 to 2, which a program may be started without, and what was
 * written to standard output, which may never have arrived.
 *
 * A closed descriptor 0 to 2 is the number of the next file that is opened: a
 * guest's memory or a socket, into which messages would then be written. So
 * both programs call standard_fds_open() before anything else. It puts
 * /dev/null there, opened for the opposite direction: a write to a standard
 * output that was closed still fails, as it did before.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/standard_fds.h"

/**
 * standard_fds_open() - make sure that descriptors 0 to 2 are open
 *
 * Return: 0, or a negative errno, which nobody can be sure to see.
 */
int standard_fds_open(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		int mode = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;

		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* Those below are open, so this is the number it gets. */
		if (open("/dev/null", mode) < 0)
			return -errno;
	}
	return 0;
}

/* Why output was lost first. It is the process's, as standard output is. */
static int output_error;

/** standard_output_put() - print a text that may be longer than the buffer */
void standard_output_put(const char *text)
{
	if (fputs(text, stdout) < 0 && !output_error)
		output_error = errno;
}

/**
 * standard_output_flush() - hand over what was printed so far
 *
 * Return: 0, or a negative errno, for standard_output_close() to report.
 */
int standard_output_flush(void)
{
	if (fflush(stdout) < 0 && !output_error)
		output_error = errno;
	return -output_error;
}

/**
 * standard_output_close() - the end of output, checked
 * @program: whose name the message begins with
 *
 * Return: 0, or a negative errno with a message printed: output was lost.
 */
int standard_output_close(const char *program)
{
	bool failed = ferror(stdout);

	if (fclose(stdout) < 0 && !output_error)
		output_error = errno;
	/* The write of a full buffer leaves no errno behind. */
	if (failed || output_error)
		fprintf(stderr, "%s: standard output: %s\n", program,
			output_error ? strerror(output_error) : "write error");
	return failed && !output_error ? -EIO : -output_error;
}
