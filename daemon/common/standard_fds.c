// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Opening missing standard descriptors, and checking standard output.
 *
 * If a program is started with a descriptor from 0 to 2 closed, the next file
 * that it opens gets this number. Messages would then be written to a guest's
 * memory or to a socket. So both programs first call standard_fds_open(). It
 * opens /dev/null instead, for the opposite direction, so that a write to a
 * closed standard output still fails.
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
 * Return: 0; a negative errno, for which no message can be printed reliably.
 */
int standard_fds_open(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		int mode = fd == STDIN_FILENO ? O_WRONLY : O_RDONLY;

		if (fcntl(fd, F_GETFD) >= 0)
			continue;
		/* The lower descriptors are open, so open() returns @fd. */
		if (open("/dev/null", mode) < 0)
			return -errno;
	}
	return 0;
}

/* The first error of standard output; global, like standard output itself. */
static int output_error;

/* Print a text that may exceed stdio's buffer. */
void standard_output_put(const char *text)
{
	if (fputs(text, stdout) < 0 && !output_error)
		output_error = errno;
}

/**
 * standard_output_flush() - flush standard output
 *
 * Return: 0, or a negative errno, which standard_output_close() will report.
 */
int standard_output_flush(void)
{
	if (fflush(stdout) < 0 && !output_error)
		output_error = errno;
	return -output_error;
}

/**
 * standard_output_close() - close standard output and report lost output
 * @program: name of the program, for the message
 *
 * Return: 0; a negative errno with a message printed: output was lost.
 */
int standard_output_close(const char *program)
{
	bool failed = ferror(stdout);

	if (fclose(stdout) < 0 && !output_error)
		output_error = errno;
	/* ferror() without an errno: stdio failed to write a full buffer. */
	if (failed || output_error)
		fprintf(stderr, "%s: standard output: %s\n", program,
			output_error ? strerror(output_error) : "write error");
	return failed && !output_error ? -EIO : -output_error;
}
