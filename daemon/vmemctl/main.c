// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl: show and change the memory of a VM, by its vmemd's control socket;
 * and show what KVM holds for any VM, by the module.
 *
 * Here are the command line and what the commands share; they are in files of
 * their own.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/clocks.h"
#include "common/printable.h"
#include "common/standard_fds.h"
#include "vmemctl.h"
#include "vms.h"

enum exit_status {
	EXIT_USAGE = 2,
	EXIT_TIMEOUT = 3,
	EXIT_NO_ANSWER = 4,
	EXIT_CANNOT_RUN = 5,
};

/**
 * complain() - print a line of words on stderr
 *
 * It may have words of a peer in it, which must not steer a terminal.
 */
void complain(const char *format, ...)
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

int64_t now_ms(void)
{
	return (int64_t)(clock_monotonic_ns() / NSEC_PER_MSEC);
}

/** saved_format() - what is held less than as one memslot; with a sign if more */
const char *saved_format(uint64_t whole, uint64_t held,
			 char text[SAVED_TEXT_MAX])
{
	if (whole >= held)
		return size_format(whole - held, text);
	*text = '-';
	size_format(held - whole, text + 1);
	return text;
}

/** print_json() - print an object as a line, as complain() does */
void print_json(json_object *object)
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
		complain("out of memory");
	free(line);
}

/* --- The command line --- */

/* Most seconds of an option: their milliseconds fit an int for poll(2). */
#define SECONDS_MAX 86400

/* How long the guest may take, if nothing is said. */
#define WAIT_TIMEOUT_MS (60 * MSEC_PER_SEC)

enum {
	OPT_CONTROL = 1,
	OPT_VM,
	OPT_DEVICE,
	OPT_JSON,
	OPT_WAIT,
	OPT_FORCE,
	OPT_TIMEOUT,
	OPT_PID,
	OPT_FD,
	OPT_TOP,
	OPT_MEMSLOTS,
	OPT_INTERVAL,
	OPT_COUNT,
	OPT_OUTPUT,
	OPT_OPENMETRICS,
	OPT_ADDRESS,
	OPT_QMP,
	OPT_ID,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"control", required_argument, NULL, OPT_CONTROL},
	{"vm", required_argument, NULL, OPT_VM},
	{"device", required_argument, NULL, OPT_DEVICE},
	{"json", no_argument, NULL, OPT_JSON},
	{"wait", no_argument, NULL, OPT_WAIT},
	{"force", no_argument, NULL, OPT_FORCE},
	{"timeout", required_argument, NULL, OPT_TIMEOUT},
	{"pid", required_argument, NULL, OPT_PID},
	{"fd", required_argument, NULL, OPT_FD},
	{"top", no_argument, NULL, OPT_TOP},
	{"memslots", no_argument, NULL, OPT_MEMSLOTS},
	{"interval", required_argument, NULL, OPT_INTERVAL},
	{"count", required_argument, NULL, OPT_COUNT},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"openmetrics", no_argument, NULL, OPT_OPENMETRICS},
	{"address", required_argument, NULL, OPT_ADDRESS},
	{"qmp", required_argument, NULL, OPT_QMP},
	{"id", required_argument, NULL, OPT_ID},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{},
};

#define TAKES(option) (1U << (option))

static int ctl_help(const struct ctl_options *options);

/**
 * struct command - a command
 * @help: its part of the help
 * @run: see vmemctl.h
 * @takes: options that are for it, besides --control and --json
 * @argument: it has an argument, and what that is; @optional: or may go without
 * @no_json: it has a format of its own
 * @daemon: it talks to one vmemd
 */
static const struct command {
	const char *name;
	const char *help;
	int (*run)(const struct ctl_options *options);
	const char *argument;
	unsigned int takes;
	bool optional;
	bool no_json;
	bool daemon;
} commands[] = {
	{.name = "list",
	 .help = "  list         the VMs of this host by name, with what they have plugged\n",
	 .takes = TAKES(OPT_TIMEOUT),
	 .run = ctl_list},
	{.name = "status",
	 .help = "  status       sizes, memslots, and what KVM holds for them\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_status},
	{.name = "resize",
	 .help = "  resize SIZE  ask the guest to have SIZE of the region plugged\n"
		 "    --wait         wait until it has, and show how far it is and why it\n"
		 "                   stalls\n"
		 "    --timeout S    with --wait: give up after S seconds; default: 60.\n"
		 "                   The guest stays asked\n",
	 .argument = "the size",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_WAIT) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_resize},
	{.name = "system-reset",
	 .help = "  system-reset\n"
		 "               unplug all, for a system that was reset or has ended: what\n"
		 "               is in the memory is lost. Refused while a driver is in use\n"
		 "    --force        even then\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_FORCE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_system_reset},
	{.name = "place",
	 .help = "  place        tell a vmemd whose memory the VMM maps where that is in the\n"
		 "               guest, before the guest's driver looks\n"
		 "    --address GPA  the address of the device's shared memory region\n"
		 "    --qmp PATH     ask QEMU's monitor for it, as soon as there is one; if\n"
		 "                   the driver was faster, reset the machine\n"
		 "    --id ID        with --qmp: QEMU's id of the device, if there are several\n",
	 .takes = TAKES(OPT_TIMEOUT) | TAKES(OPT_ADDRESS) | TAKES(OPT_QMP) |
		  TAKES(OPT_ID) | TAKES(OPT_DEVICE),
	 .daemon = true,
	 .run = ctl_place},
	{.name = "slots",
	 .help = "  slots        memslots of the region that exist in KVM\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_slots},
	{.name = "blocks",
	 .help = "  blocks       plugged blocks, as runs\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_blocks},
	{.name = "consumers",
	 .help = "  consumers    who else maps the memory, and is told before the guest\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_consumers},
	{.name = "save",
	 .help = "  save FILE    write the state of the device to FILE, for vmemd --restore\n",
	 .argument = "a file",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .no_json = true,
	 .daemon = true,
	 .run = ctl_save},
	{.name = "hold",
	 .help = "  hold on|off  for a migration: plug and unplug nothing, or go on\n",
	 .argument = "on or off",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_hold},
	{.name = "dirty-log",
	 .help = "  dirty-log on|off\n"
		 "               log dirty pages of all memslots of the region, or do not\n",
	 .argument = "on or off",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_dirty_log},
	{.name = "watch",
	 .help = "  watch        print a line whenever something changes, until stopped\n",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_watch},
	{.name = "metrics",
	 .help = "  metrics      for Prometheus, of the VMs that are given; else of all that\n"
		 "               \"list\" finds by name\n"
		 "    --output FILE  replace FILE, as for node_exporter's textfile collector\n"
		 "    --openmetrics  in the OpenMetrics format\n",
	 .takes = TAKES(OPT_TIMEOUT) | TAKES(OPT_OUTPUT) |
		  TAKES(OPT_OPENMETRICS),
	 .no_json = true,
	 .run = ctl_metrics},
	{.name = "top",
	 .help = "  top          the regions of all VMs of this host, and what they save,\n"
		 "               again and again on a terminal; without vmemd\n"
		 "    --interval S   look again after S seconds; default: 2\n"
		 "    --count N      stop after N times\n",
	 .takes = TAKES(OPT_INTERVAL) | TAKES(OPT_COUNT),
	 .run = ctl_top},
	{.name = "metadata",
	 .help = "  metadata     what KVM holds for the memslots of any VM; without vmemd\n"
		 "    --pid PID      of the VMs of a process\n"
		 "    --fd N         of the VM whose descriptor vmemctl was started with\n"
		 "    --top          of all VMs of this host, the most costly first\n"
		 "    --memslots     with --pid or --fd: also of each memslot\n",
	 .takes = TAKES(OPT_PID) | TAKES(OPT_FD) | TAKES(OPT_TOP) |
		  TAKES(OPT_MEMSLOTS),
	 .run = ctl_metadata},
	{.name = "check",
	 .help = "  check        prove the module on this host, in VMs made for that; other\n"
		 "               VMs are not touched. In TAP; without vmemd\n",
	 .run = ctl_check},
	{.name = "help",
	 .help = "  help COMMAND\n"
		 "               print this, or only what is of COMMAND\n",
	 .argument = "a command",
	 .optional = true,
	 .no_json = true,
	 .run = ctl_help},
};

static const char help_head[] =
	"Usage: vmemctl [-V NAME | --control PATH] [--device NAME] [--json] "
	"COMMAND\n"
	"\n"
	"Show and change the memory of a virtual machine whose virtio-mem devices\n"
	"are served by vmemd.\n"
	"\n"
	"Commands:\n";

static const char help_tail[] =
	"\n"
	"Options:\n"
	"  -V, --vm NAME       the VM of that name, as \"list\" has it\n"
	"      --control PATH  control socket of vmemd; default: VMEMD_CONTROL of\n"
	"                      the environment\n"
	"      --device NAME   which device of the VM, where vmemd has several: by its\n"
	"                      name, or its number from 0; status and watch are of\n"
	"                      all of them without\n"
	"      --timeout S     give vmemd up that does not answer within S seconds;\n"
	"                      default: 30, and 2 of \"list\"\n"
	"      --json          print JSON: the daemon's result object, and for\n"
	"                      watch and resize --wait one event per line\n"
	"      --version       print the version\n"
	"  -h, --help          print this, or only what is of the command\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024, as 512M,\n"
	"1.5G or \"10.88 GiB\"; a multiple of the block size, at most the region's\n"
	"size. +SIZE and -SIZE are more and less than what is requested now, N% is a\n"
	"part of the region. With decimals or as a part it is rounded to a block.\n"
	"\n"
	"Exit status:\n"
	"  0  done\n"
	"  1  the daemon is not there, or refused; output was lost; a list is longer\n"
	"     than is shown; metadata and top: the module or the VM is not there,\n"
	"     or may not be looked into; check: one has failed\n"
	"  2  the command line is wrong\n"
	"  3  resize --wait: the guest has not reached the size in time\n"
	"  4  the daemon is there and does not answer in time\n"
	"  5  check: it cannot run here\n";

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
}

/* Of one command, or NULL for all. */
static void print_help(const struct command *command)
{
	if (command) {
		standard_output_put("Usage: vmemctl [OPTION]... COMMAND\n\n");
		standard_output_put(command->help);
		standard_output_put(help_tail);
		return;
	}
	standard_output_put(help_head);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		standard_output_put(commands[i].help);
	standard_output_put(help_tail);
}

static int ctl_help(const struct ctl_options *options)
{
	/* It was found before; see parse_command(). */
	print_help(options->argument ? find_command(options->argument) : NULL);
	return 0;
}

static int parse_seconds(const char *option, const char *text, int64_t least_ms,
			 int64_t *ms)
{
	double seconds;
	char *end;

	seconds = strtod(text, &end);
	if (end == text || *end || !(seconds >= 0) || seconds > SECONDS_MAX ||
	    (int64_t)(seconds * MSEC_PER_SEC) < least_ms) {
		complain("%s %s: not a number of seconds from %g to %d", option,
			 text, (double)least_ms / MSEC_PER_SEC, SECONDS_MAX);
		return -EINVAL;
	}
	*ms = (int64_t)(seconds * MSEC_PER_SEC);
	return 0;
}

static int parse_number(const char *option, const char *text, int least,
			int *number)
{
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end || errno || value < least || value > INT_MAX) {
		complain("%s %s: not a number from %d to %d", option, text,
			 least, INT_MAX);
		return -EINVAL;
	}
	*number = (int)value;
	return 0;
}

static int parse_address(const char *text, uint64_t *address)
{
	char *end;

	errno = 0;
	*address = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || *end || errno || !*address) {
		complain("--address %s: not a guest address", text);
		return -EINVAL;
	}
	return 0;
}

/* @path: given away. One that is given twice counts once. */
static int add_control(struct ctl_options *options, char *path)
{
	char **grown;

	for (size_t i = 0; path && i < options->nr_control; i++) {
		if (!strcmp(options->control[i], path)) {
			free(path);
			return 0;
		}
	}
	grown = path ? reallocarray(options->control, options->nr_control + 1,
				    sizeof(*grown))
		     : NULL;
	if (!grown) {
		complain("out of memory");
		free(path);
		return -ENOMEM;
	}
	options->control = grown;
	options->control[options->nr_control++] = path;
	return 0;
}

static int add_vm(struct ctl_options *options, const char *name)
{
	char *path;
	int ret;

	ret = vms_path(name, &path);
	return ret ? ret : add_control(options, path);
}

/* Return: 0; 1 done; an errno with a message printed. */
static int parse_one(struct ctl_options *options, int opt)
{
	switch (opt) {
	case OPT_CONTROL:
		return add_control(options, strdup(optarg));
	case OPT_VM:
	case 'V':
		return add_vm(options, optarg);
	case OPT_DEVICE:
		options->device = optarg;
		return 0;
	case OPT_JSON:
		options->json = true;
		return 0;
	case OPT_WAIT:
		options->wait = true;
		return 0;
	case OPT_FORCE:
		options->force = true;
		return 0;
	case OPT_TIMEOUT:
		options->has_timeout = true;
		return parse_seconds("--timeout", optarg, 0,
				     &options->timeout_ms);
	case OPT_PID:
		return parse_number("--pid", optarg, 1, &options->pid);
	case OPT_FD:
		options->has_fd = true;
		return parse_number("--fd", optarg, 0, &options->fd);
	case OPT_TOP:
		options->top = true;
		return 0;
	case OPT_MEMSLOTS:
		options->memslots = true;
		return 0;
	case OPT_INTERVAL:
		return parse_seconds("--interval", optarg, 1,
				     &options->interval_ms);
	case OPT_COUNT:
		return parse_number("--count", optarg, 1, &options->count);
	case OPT_ADDRESS:
		return parse_address(optarg, &options->address);
	case OPT_QMP:
		options->qmp = optarg;
		return 0;
	case OPT_ID:
		options->qmp_device = optarg;
		return 0;
	case OPT_OUTPUT:
		options->output = optarg;
		return 0;
	case OPT_OPENMETRICS:
		options->openmetrics = true;
		return 0;
	case OPT_VERSION:
		puts("vmemctl " VMEM_VERSION);
		return 1;
	case OPT_HELP:
	case 'h':
		options->help = true;
		return 0;
	default:
		fputs("Try 'vmemctl --help'.\n", stderr);
		return -EINVAL;
	}
}

/* @given: a bit for each option that was. Return: as of parse_one(). */
static int parse_options(struct ctl_options *options, unsigned int *given,
			 int argc, char **argv)
{
	int opt, ret;

	while ((opt = getopt_long(argc, argv, "hV:", long_options, NULL)) !=
	       -1) {
		ret = parse_one(options, opt);
		if (ret)
			return ret;
		/* Those that have a letter are for all commands. */
		if (opt < 'A')
			*given |= TAKES(opt);
	}
	return 0;
}

static int check_metadata(const struct ctl_options *options)
{
	if (!!options->pid + options->has_fd + options->top != 1) {
		complain("metadata takes one of --pid, --fd and --top");
		return -EINVAL;
	}
	if (options->top && options->memslots) {
		complain("--memslots is for metadata of one VM");
		return -EINVAL;
	}
	return 0;
}

/* What a command takes, and what it was given. */
static int check_options(const struct command *command,
			 const struct ctl_options *options, unsigned int given)
{
	given &= ~(TAKES(OPT_CONTROL) | TAKES(OPT_VM) | TAKES(OPT_JSON) |
		   command->takes);
	for (size_t i = 0; long_options[i].name; i++) {
		if (!(given & TAKES(long_options[i].val)))
			continue;
		complain("--%s is not for %s", long_options[i].name,
			 command->name);
		return -EINVAL;
	}
	if (options->json && command->no_json) {
		complain("--json is not for %s", command->name);
		return -EINVAL;
	}
	if (command->run == ctl_metadata)
		return check_metadata(options);
	if (command->daemon && options->nr_control > 1) {
		complain("%s is for one VM", command->name);
		return -EINVAL;
	}
	if (command->daemon && !options->nr_control) {
		complain("no VM: give -V NAME or --control PATH, or set "
			 "VMEMD_CONTROL; see 'vmemctl list'");
		return -EINVAL;
	}
	return 0;
}

/* Is a command's argument what it takes? */
static int check_argument(const struct command *command,
			  struct ctl_options *options)
{
	const char *text = options->argument;

	if (!text)
		return 0;
	if (command->run == ctl_help && !find_command(text)) {
		complain("no command \"%s\"; try 'vmemctl help'", text);
		return -EINVAL;
	}
	/* A blank may be there, see number_arguments(). */
	if (command->run == ctl_resize &&
	    size_parse_amount(text + strspn(text, " "), &options->amount)) {
		complain("%s %s: not a size", command->name,
			 text + strspn(text, " "));
		return -EINVAL;
	}
	if ((command->run == ctl_hold || command->run == ctl_dirty_log) &&
	    strcmp(text, "on") != 0 && strcmp(text, "off") != 0) {
		complain("%s %s: not on or off", command->name, text);
		return -EINVAL;
	}
	return 0;
}

/* What is left when options are taken. Return: NULL with a message printed. */
static const struct command *parse_command(struct ctl_options *options,
					   int argc, char **argv)
{
	const struct command *command;

	if (!argc) {
		complain("no command; try 'vmemctl --help'");
		return NULL;
	}
	command = find_command(argv[0]);
	if (!command) {
		complain("no command \"%s\"; try 'vmemctl --help'", argv[0]);
		return NULL;
	}
	if (argc > 1 + !!command->argument ||
	    (argc < 2 && command->argument && !command->optional)) {
		complain("%s takes %s%s", command->name,
			 command->argument ? "one argument, " : "no argument",
			 command->argument ? command->argument : "");
		return NULL;
	}
	options->argument = argc > 1 ? argv[1] : NULL;
	return check_argument(command, options) ? NULL : command;
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

/* Does an option take the word that follows it? */
static bool takes_next(const char *word)
{
	if (!strcmp(word, "-V"))
		return true;
	if (strncmp(word, "--", 2) != 0)
		return false;
	for (size_t i = 0; long_options[i].name; i++)
		if (!strcmp(word + 2, long_options[i].name))
			return long_options[i].has_arg == required_argument;
	return false;
}

/*
 * A negative number is no option, behind "resize". getopt(3) takes no word for
 * one that begins with a blank, so it gets one.
 */
static int number_arguments(int argc, char **argv)
{
	bool resize = false;

	for (int i = 1; i < argc; i++) {
		char *word;

		resize = resize || !strcmp(argv[i], "resize");
		if (!resize || *argv[i] != '-' || takes_next(argv[i - 1]) ||
		    !strchr("0123456789.", argv[i][1]) || !argv[i][1])
			continue;
		if (asprintf(&word, " %s", argv[i]) < 0)
			return -ENOMEM;
		argv[i] = word;
	}
	return 0;
}

/* The options are read. Return: the exit status. */
static int run(struct ctl_options *options, unsigned int given, int argc,
	       char **argv)
{
	const char *control = getenv("VMEMD_CONTROL");
	const struct command *command;

	if (options->help) {
		print_help(argc ? find_command(argv[0]) : NULL);
		return EXIT_SUCCESS;
	}
	if (!options->nr_control && control && *control &&
	    add_control(options, strdup(control)))
		return EXIT_FAILURE;
	command = parse_command(options, argc, argv);
	if (!command || check_options(command, options, given))
		return EXIT_USAGE;
	return exit_status(command->run(options));
}

int main(int argc, char **argv)
{
	struct ctl_options options = {.timeout_ms = WAIT_TIMEOUT_MS};
	unsigned int given = 0;
	int ret, status = EXIT_USAGE;

	if (standard_fds_open() || number_arguments(argc, argv))
		return EXIT_FAILURE;
	ret = parse_options(&options, &given, argc, argv);
	if (!ret)
		status = run(&options, given, argc - optind, argv + optind);
	else if (ret > 0)
		status = EXIT_SUCCESS;
	else if (ret != -EINVAL)
		status = EXIT_FAILURE;
	for (size_t i = 0; i < options.nr_control; i++)
		free(options.control[i]);
	free(options.control);
	/* What was lost on the way is not done. */
	if (standard_output_close("vmemctl") && status == EXIT_SUCCESS)
		status = EXIT_FAILURE;
	return status;
}
