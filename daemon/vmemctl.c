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
#include <time.h>

#include "vmemctl.h"

static const char help[] =
	"Usage: vmemctl [--control PATH] [--device NAME] [--json] COMMAND\n"
	"\n"
	"Show and change the memory of a virtual machine whose virtio-mem devices\n"
	"are served by vmemd.\n"
	"\n"
	"Commands:\n"
	"  status       sizes, memslots, and what KVM holds for them\n"
	"  resize SIZE  ask the guest to have SIZE of the region plugged\n"
	"    --wait         wait until it has, and show how far it is and why it\n"
	"                   stalls\n"
	"    --timeout S    with --wait: give up after S seconds; default: 60.\n"
	"                   The guest stays asked\n"
	"  system-reset\n"
	"               unplug all, for a system that was reset or has ended: what\n"
	"               is in the memory is lost. Refused while a driver is in use\n"
	"    --force        even then\n"
	"  place        tell a vmemd whose memory the VMM maps where that is in the\n"
	"               guest, before the guest's driver looks\n"
	"    --address GPA  the address of the device's shared memory region\n"
	"    --qmp PATH     ask QEMU's monitor for it, as soon as there is one; if\n"
	"                   the driver was faster, reset the machine\n"
	"    --id ID        with --qmp: QEMU's id of the device, if there are several\n"
	"  slots        memslots of the region that exist in KVM\n"
	"  blocks       plugged blocks, as runs\n"
	"  consumers    who else maps the memory, and is told before the guest\n"
	"  save FILE    write the state of the device to FILE, for vmemd --restore\n"
	"  hold on|off  for a migration: plug and unplug nothing, or go on\n"
	"  dirty-log on|off\n"
	"               log dirty pages of all memslots of the region, or do not\n"
	"  watch        print a line whenever something changes, until stopped\n"
	"  metrics      for Prometheus, of the VMs of all control sockets given;\n"
	"               else of all below /run/vmemd\n"
	"    --output FILE  replace FILE, as for node_exporter's textfile collector\n"
	"    --openmetrics  in the OpenMetrics format\n"
	"  top          the regions of all VMs of this host, and what they save,\n"
	"               again and again on a terminal; without vmemd\n"
	"    --interval S   look again after S seconds; default: 2\n"
	"    --count N      stop after N times\n"
	"  metadata     what KVM holds for the memslots of any VM; without vmemd\n"
	"    --pid PID      of the VMs of a process\n"
	"    --fd N         of the VM whose descriptor vmemctl was started with\n"
	"    --top          of all VMs of this host, the most costly first\n"
	"    --memslots     with --pid or --fd: also of each memslot\n"
	"\n"
	"Options:\n"
	"      --control PATH  control socket of vmemd; default: VMEMD_CONTROL of\n"
	"                      the environment\n"
	"      --device NAME   which device of the VM, where vmemd has several: by its\n"
	"                      name, or its number from 0; status and watch are of\n"
	"                      all of them without\n"
	"      --timeout S     give vmemd up that does not answer within S seconds;\n"
	"                      default: 30\n"
	"      --json          print JSON: the daemon's result object, and for\n"
	"                      watch and resize --wait one event per line\n"
	"      --version       print the version\n"
	"      --help          print this\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024; a\n"
	"multiple of the block size, at most the region's size.\n"
	"\n"
	"Exit status:\n"
	"  0  done\n"
	"  1  the daemon is not there, or refused; metadata and top: the module or\n"
	"     the VM is not there, or may not be looked into\n"
	"  2  the command line is wrong\n"
	"  3  resize --wait: the guest has not reached the size in time\n"
	"  4  the daemon is there and does not answer in time\n";

enum exit_status {
	EXIT_USAGE = 2,
	EXIT_TIMEOUT = 3,
	EXIT_NO_ANSWER = 4,
};

/** complain() - print a line of words on stderr */
void complain(const char *format, ...)
{
	va_list ap;

	fputs("vmemctl: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
}

int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * MSEC_PER_SEC + ts.tv_nsec / NSEC_PER_MSEC;
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

uint64_t get_size(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value)
		       ? json_object_get_uint64(value)
		       : 0;
}

bool get_bool(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value) &&
	       json_object_get_boolean(value);
}

const char *get_text(json_object *object, const char *name)
{
	json_object *value;

	return json_object_object_get_ex(object, name, &value)
		       ? json_object_get_string(value)
		       : "";
}

json_object *get_object(json_object *object, const char *name)
{
	json_object *value = NULL;

	json_object_object_get_ex(object, name, &value);
	return value;
}

/** print_json() - print an object as a line */
void print_json(json_object *object)
{
	puts(json_object_to_json_string_ext(
		object,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	fflush(stdout);
}

/* --- The command line --- */

/* Most seconds of an option: their milliseconds fit an int for poll(2). */
#define SECONDS_MAX 86400

/* How long the guest may take, if nothing is said. */
#define WAIT_TIMEOUT_MS (60 * MSEC_PER_SEC)

enum {
	OPT_CONTROL = 1,
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

/**
 * struct command - a command
 * @run: see vmemctl.h
 * @takes: options that are for it, besides --control and --json
 * @argument: it has an argument, and what that is
 * @no_json: it has a format of its own
 * @daemon: it talks to one vmemd
 */
static const struct command {
	const char *name;
	int (*run)(const struct ctl_options *options);
	const char *argument;
	unsigned int takes;
	bool no_json;
	bool daemon;
} commands[] = {
	{.name = "status",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_status},
	{.name = "resize",
	 .argument = "the size",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_WAIT) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_resize},
	{.name = "system-reset",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_FORCE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_system_reset},
	{.name = "place",
	 .takes = TAKES(OPT_TIMEOUT) | TAKES(OPT_ADDRESS) | TAKES(OPT_QMP) |
		  TAKES(OPT_ID) | TAKES(OPT_DEVICE),
	 .daemon = true,
	 .run = ctl_place},
	{.name = "slots",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_slots},
	{.name = "blocks",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_blocks},
	{.name = "consumers",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_consumers},
	{.name = "save",
	 .argument = "a file",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .no_json = true,
	 .daemon = true,
	 .run = ctl_save},
	{.name = "hold",
	 .argument = "on or off",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_hold},
	{.name = "dirty-log",
	 .argument = "on or off",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_dirty_log},
	{.name = "watch",
	 .takes = TAKES(OPT_DEVICE) | TAKES(OPT_TIMEOUT),
	 .daemon = true,
	 .run = ctl_watch},
	{.name = "metrics",
	 .takes = TAKES(OPT_TIMEOUT) | TAKES(OPT_OUTPUT) |
		  TAKES(OPT_OPENMETRICS),
	 .no_json = true,
	 .run = ctl_metrics},
	{.name = "top",
	 .takes = TAKES(OPT_INTERVAL) | TAKES(OPT_COUNT),
	 .run = ctl_top},
	{.name = "metadata",
	 .takes = TAKES(OPT_PID) | TAKES(OPT_FD) | TAKES(OPT_TOP) |
		  TAKES(OPT_MEMSLOTS),
	 .run = ctl_metadata},
};

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

static int add_control(struct ctl_options *options, const char *path)
{
	const char **grown;

	grown = reallocarray(options->control, options->nr_control + 1,
			     sizeof(*grown));
	if (!grown) {
		complain("out of memory");
		return -ENOMEM;
	}
	options->control = grown;
	options->control[options->nr_control++] = path;
	return 0;
}

/* Return: 0; 1 done; an errno with a message printed. */
static int parse_one(struct ctl_options *options, int opt)
{
	switch (opt) {
	case OPT_CONTROL:
		return add_control(options, optarg);
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
		fputs(help, stdout);
		return 1;
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

	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		ret = parse_one(options, opt);
		if (ret)
			return ret;
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
	given &= ~(TAKES(OPT_CONTROL) | TAKES(OPT_JSON) | command->takes);
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
		complain("%s is for one control socket", command->name);
		return -EINVAL;
	}
	if (command->daemon && !options->nr_control) {
		complain("no control socket: give --control PATH, or set "
			 "VMEMD_CONTROL");
		return -EINVAL;
	}
	return 0;
}

static const struct command *find_command(const char *name)
{
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(name, commands[i].name))
			return &commands[i];
	return NULL;
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
	if (argc != 1 + !!command->argument) {
		complain("%s takes %s%s", command->name,
			 command->argument ? "one argument, " : "no argument",
			 command->argument ? command->argument : "");
		return NULL;
	}
	if (command->argument)
		options->argument = argv[1];
	if (command->run == ctl_resize && size_parse(argv[1], &options->size)) {
		complain("%s %s: not a size", command->name, argv[1]);
		return NULL;
	}
	if ((command->run == ctl_hold || command->run == ctl_dirty_log) &&
	    strcmp(argv[1], "on") && strcmp(argv[1], "off")) {
		complain("%s %s: not on or off", command->name, argv[1]);
		return NULL;
	}
	return command;
}

static int exit_status(int ret)
{
	if (!ret)
		return EXIT_SUCCESS;
	if (ret == -ETIMEDOUT)
		return EXIT_TIMEOUT;
	return ret == -ETIME ? EXIT_NO_ANSWER : EXIT_FAILURE;
}

int main(int argc, char **argv)
{
	struct ctl_options options = {.timeout_ms = WAIT_TIMEOUT_MS};
	const char *control = getenv("VMEMD_CONTROL");
	const struct command *command;
	unsigned int given = 0;
	int ret, status = EXIT_USAGE;

	ret = parse_options(&options, &given, argc, argv);
	if (ret > 0)
		status = EXIT_SUCCESS;
	if (ret)
		goto out;
	if (!options.nr_control && control && *control &&
	    add_control(&options, control))
		goto out;
	command = parse_command(&options, argc - optind, argv + optind);
	if (command && !check_options(command, &options, given))
		status = exit_status(command->run(&options));
out:
	free(options.control);
	return status;
}
