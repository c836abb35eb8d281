/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Types and helpers that all parts of vmemctl use. */
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
 * struct ctl_options - the parsed command line
 * @control: paths of control sockets, owned by this structure
 * @nr_control: number of paths in @control
 * @device: name or number of the device, NULL: not given
 * @json: print JSON
 * @help: print the help and exit
 * @version: print the version and exit
 * @table: print the table of commands and exit
 * @has_timeout: @timeout_ms was given on the command line
 * @timeout_ms: time limit for an answer of vmemd or for the guest
 * @amount: "resize": the size or difference
 * @quiet: do not print errors of a vmemd
 * @force: "system-reset": unplug even if the driver is in use
 * @wait: "resize": wait for the guest
 * @pid: "metadata": VMs of this process, 0: not given
 * @fd: "metadata": VM of this descriptor, -1: not given
 * @top: "metadata": all VMs of the host
 * @memslots: "metadata": list each memslot
 * @interval_ms: "top": time between two updates
 * @count: "top": number of updates, 0: until stopped
 * @output: "metrics": output file, NULL: standard output
 * @openmetrics: "metrics": use the OpenMetrics format
 * @argument: argument of the command, as given
 * @address: "place": guest address of the region, 0: not given
 * @qmp: "place": path of QEMU's monitor, which reports the address
 * @qmp_device: "place": QEMU's id of the device, NULL: the only one
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
 * struct ctl_option - an option of the command line
 * @name: long name, without dashes
 * @letter: short name, or 0
 * @value: name of the value in the help; NULL: the option has no value
 * @complete: kind of completion in bash: "file", "vm", "device", "process";
 *	NULL: none
 * @parse: parse @text, which is NULL for an option without a value. Returns 0,
 *	or a negative errno after printing an error.
 * @offset: offset of the field in struct ctl_options, for @parse
 * @least: minimum value, for ctl_parse_number()
 * @scope: scope of a common option: commands with this scope or a narrower one
 *	accept it
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

/* Functions for @parse of struct ctl_option. */
int ctl_parse_flag(struct ctl_options *options, const struct ctl_option *option,
		   const char *text);
int ctl_parse_text(struct ctl_options *options, const struct ctl_option *option,
		   const char *text);
int ctl_parse_seconds(struct ctl_options *options,
		      const struct ctl_option *option, const char *text);
int ctl_parse_number(struct ctl_options *options,
		     const struct ctl_option *option, const char *text);

/**
 * struct ctl_command - a command: a row of the table of commands
 * @name: name of the command
 * @argument: kind of its argument
 * @optional: the argument may be omitted
 * @no_json: the command does not accept --json
 * @scope: vmemds that the command calls: none, several, or exactly one, which
 *	the user must name
 * @help: lines of the help
 * @options: options of this command only, terminated by an empty entry; NULL:
 *	none
 * @check: check the combination of options, in place of the check of the number
 *	of VMs; NULL: none
 * @run: run the command. Returns 0, or a negative errno after printing an
 *	error. -ETIMEDOUT: the guest has not reached the goal in time; -ETIME:
 *	vmemd has not answered in time; -ENOTRECOVERABLE: the checks of "check"
 *	cannot run on this host.
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

/* Buffer size for ctl_format_saved(): a size with a sign. */
#define SAVED_TEXT_MAX (SIZE_TEXT_MAX + 1)

const char *ctl_format_saved(uint64_t whole, uint64_t held,
			     char text[SAVED_TEXT_MAX]);

void ctl_print_json(json_object *object);
void show_print_event(json_object *event);

/*
 * Access to members of an answer of vmemd, see answer.c. A member that is
 * missing or has another type yields 0, false, "" or NULL.
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
