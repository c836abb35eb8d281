// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl: show and change the memory of a VM through the control socket of its
 * vmemd, and show the memslot metadata of any VM through the module.
 *
 * This file has main() and the helpers of all commands. Each command is in a
 * file cmd_*.c, together with its row of the table of commands (struct
 * ctl_command). command_line.c parses the command line by these tables.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "command_line.h"
#include "common/clocks.h"
#include "common/printable.h"
#include "common/standard_fds.h"
#include "vmemctl.h"

enum exit_status {
	EXIT_USAGE = 2,
	EXIT_TIMEOUT = 3,
	EXIT_NO_ANSWER = 4,
	EXIT_CANNOT_RUN = 5,
};

/**
 * ctl_complain() - print an error on stderr
 *
 * The text may contain text from a peer. Characters that could control a
 * terminal are escaped.
 */
void ctl_complain(const char *format, ...)
{
	char *text, *line = NULL;
	va_list ap;
	int length;

	va_start(ap, format);
	length = vasprintf(&text, format, ap);
	va_end(ap);
	if (length >= 0) {
		line = printable_escape(text, (size_t)length);
		free(text);
	}
	fprintf(stderr, "vmemctl: %s\n", line ? line : "out of memory");
	free(line);
}

int64_t ctl_now_ms(void)
{
	return (int64_t)(clock_monotonic_ns() / NSEC_PER_MSEC);
}

/**
 * ctl_format_saved() - format the metadata that a region saves
 * @whole: bytes of metadata if the region were one memslot
 * @held: bytes of metadata now
 * @text: buffer for the text, with a minus sign if @held is larger
 *
 * Return: @text.
 */
const char *ctl_format_saved(uint64_t whole, uint64_t held,
			     char text[SAVED_TEXT_MAX])
{
	if (whole >= held)
		return size_format(whole - held, text);
	*text = '-';
	size_format(held - whole, text + 1);
	return text;
}

/** ctl_print_json() - print an object as one line, with unprintables escaped */
void ctl_print_json(json_object *object)
{
	const char *text;
	size_t length;
	char *line;

	text = json_object_to_json_string_length(
		object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE,
		&length);
	line = text ? printable_escape_json(text, length) : NULL;
	if (line)
		puts(line);
	else
		ctl_complain("out of memory");
	free(line);
}

static int exit_status(int ret)
{
	if (!ret)
		return EXIT_SUCCESS;
	if (ret == -ETIMEDOUT)
		return EXIT_TIMEOUT;
	if (ret == -ENOTRECOVERABLE)
		return EXIT_CANNOT_RUN;
	return ret == -ETIME ? EXIT_NO_ANSWER : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct ctl_options options = {0};
	const struct ctl_command *command;
	int ret, status;

	if (standard_fds_open())
		return EXIT_FAILURE;
	ret = command_line_parse(&options, argc, argv, &command);
	if (ret == -EINVAL)
		status = EXIT_USAGE;
	else if (ret)
		status = EXIT_FAILURE;
	else
		status = command ? exit_status(command->run(&options))
				 : EXIT_SUCCESS;
	command_line_free(&options);
	/* Output that could not be written is a failure. */
	if (standard_output_close("vmemctl") && status == EXIT_SUCCESS)
		status = EXIT_FAILURE;
	return status;
}
