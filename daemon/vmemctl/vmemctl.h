/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the parts of vmemctl share. */
#ifndef VMEMCTL_H
#define VMEMCTL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <json-c/json.h>

#include "common/size.h"

#define MSEC_PER_SEC  1000
#define NSEC_PER_MSEC 1000000
#define USEC_PER_MSEC 1000

/**
 * struct ctl_options - the command line
 * @control: control sockets, @nr_control of them; they are its own
 * @device: which device of the VM, as vmemd calls it; NULL: not said
 * @json: print JSON
 * @help: print the help, and do nothing
 * @version: print the version, and do nothing
 * @table: print the table of commands, and do nothing
 * @has_timeout: @timeout_ms is of the command line
 * @timeout_ms: how long an answer, or the guest, may take
 * @amount: for "resize"
 * @quiet: no messages of what goes wrong with a vmemd
 * @force: "system-reset" though a driver is in use
 * @wait: "resize" waits for the guest
 * @pid: "metadata" of the VMs of this process, if not 0
 * @fd: "metadata" of the VM of this descriptor, if not -1
 * @top: "metadata" of all VMs of the host
 * @memslots: "metadata" of each memslot
 * @interval_ms: "top" looks again after so long
 * @count: "top" looks so often; 0: until stopped
 * @output: "metrics" go to this file, not to standard output
 * @openmetrics: "metrics" in that format
 * @argument: the command's, as it was given
 * @address: "place" the region there, if not 0
 * @qmp: "place" it where QEMU's monitor at this path says
 * @qmp_device: QEMU's id of the device, NULL for the only one
 */
struct ctl_options {
	char **control;
	size_t nr_control;
	const char *device;
	bool json;
	bool help;
	bool version;
	bool table;
	bool has_timeout;
	int64_t timeout_ms;
	struct size_amount amount;
	bool quiet;
	bool wait;
	bool force;
	pid_t pid;
	int fd;
	bool top;
	bool memslots;
	int64_t interval_ms;
	int count;
	const char *output;
	bool openmetrics;
	const char *argument;
	uint64_t address;
	const char *qmp;
	const char *qmp_device;
};

/**
 * struct ctl_option - an option
 * @name: without its dashes
 * @letter: its short form, or 0
 * @value: what the help calls its value; NULL: it has none
 * @complete: how bash completes the value: "file", "vm", "device", "process";
 *	NULL: not at all
 * @parse: take @text, which is NULL without a value; complains of what is wrong
 * @offset: of struct ctl_options, for @parse
 * @least: the least number, for ctl_parse_number()
 * @scope: of one that is common: commands of this scope and of a narrower one take
 *	it
 * @help: lines of the help
 */
struct ctl_option {
	const char *name;
	char letter;
	const char *value;
	const char *complete;
	int (*parse)(struct ctl_options *options,
		     const struct ctl_option *option, const char *text);
	size_t offset;
	int least;
	enum ctl_scope {
		CTL_NO_VMEMD,
		CTL_VMEMDS,
		CTL_ONE_VMEMD,
	} scope;
	const char *help;
};

/* Values for @parse. */
int ctl_parse_flag(struct ctl_options *options, const struct ctl_option *option,
		   const char *text);
int ctl_parse_text(struct ctl_options *options, const struct ctl_option *option,
		   const char *text);
int ctl_parse_seconds(struct ctl_options *options,
		      const struct ctl_option *option, const char *text);
int ctl_parse_number(struct ctl_options *options,
		     const struct ctl_option *option, const char *text);

/**
 * struct ctl_command - a command: a row of the table
 * @name: of the command
 * @argument: it has one argument of this kind
 * @optional: which may be left out
 * @no_json: it has a format of its own
 * @scope: which vmemds it asks: none, several, or one, which has to be given
 * @help: lines of the help
 * @options: its own, up to an empty one; NULL: none
 * @check: of all options together, instead of the number of VMs, or NULL
 * @run: Return: 0, or an errno with a message printed; -ETIMEDOUT the guest has
 *	not done it in time, -ETIME vmemd does not answer in time, -ENOTRECOVERABLE
 *	the checks of "check" cannot run here
 */
struct ctl_command {
	const char *name;
	enum ctl_argument {
		CTL_NO_ARGUMENT,
		CTL_SIZE,
		CTL_SWITCH,
		CTL_FILE,
		CTL_CONSUMER,
		CTL_COMMAND,
	} argument;
	bool optional;
	bool no_json;
	enum ctl_scope scope;
	const char *help;
	const struct ctl_option *options;
	int (*check)(const struct ctl_options *options);
	int (*run)(const struct ctl_options *options);
};

void ctl_complain(const char *format, ...)
	__attribute__((format(printf, 1, 2)));
int64_t ctl_now_ms(void);

/* Room for any ctl_format_saved(): a size with a sign. */
#define SAVED_TEXT_MAX (SIZE_TEXT_MAX + 1)

const char *ctl_format_saved(uint64_t whole, uint64_t held,
			     char text[SAVED_TEXT_MAX]);

void ctl_print_json(json_object *object);
void show_print_event(json_object *event);

/*
 * Members of what a vmemd answers; what is missing, or of another type, is 0,
 * false, "" or NULL. See answer.c.
 */
bool answer_has_size(json_object *object, const char *name);
uint64_t answer_size(json_object *object, const char *name);
bool answer_bool(json_object *object, const char *name);
const char *answer_text(json_object *object, const char *name);
json_object *answer_object(json_object *object, const char *name);
json_object *answer_array(json_object *object, const char *name);
size_t answer_array_length(json_object *array);
void answer_each_member(json_object *object,
			void (*visit)(const char *name, json_object *value,
				      void *arg),
			void *arg);

#endif /* VMEMCTL_H */
