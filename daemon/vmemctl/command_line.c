// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command line of vmemctl.
 *
 * Each command is a row of a table, beside the function of the command. The
 * parser, the help and "vmemctl --table" use these rows. Bash completion reads
 * the output of --table, and scripts/test-docs compares the manual page with
 * it.
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command_line.h"
#include "common/standard_fds.h"
#include "vms.h"

/* Maximum value of an option in seconds; in milliseconds it fits an int. */
#define SECONDS_MAX 86400

/* Default time limit for the guest. */
#define WAIT_TIMEOUT_MS (60 * MSEC_PER_SEC)

/* Maximum number of options of all commands. */
#define OPTIONS_MAX 48

/* getopt_long() returns letters, or this value plus the index of an option. */
#define OPTION_BASE 256

static const struct ctl_command help_commands[];

/* All tables, in the order of the help. */
static const struct ctl_command *const tables[] = {
	list_commands,	status_commands,   resize_commands, set_commands,
	place_commands, show_commands,	   save_commands,   metrics_commands,
	top_commands,	metadata_commands, check_commands,  help_commands,
};

#define NR_TABLES (sizeof(tables) / sizeof(tables[0]))

/* Iterate over all commands, in the order of the help. */
#define for_each_command(table, command)                  \
	for ((table) = 0; (table) < NR_TABLES; (table)++) \
		for ((command) = tables[table]; (command)->name; (command)++)

/**
 * struct argument - a kind of argument of a command
 * @usage: name in the help
 * @what: name in an error
 * @complete: kind of completion in bash, or the possible words
 */
static const struct argument {
	const char *usage;
	const char *what;
	const char *complete;
} arguments[] = {
	[CTL_NO_ARGUMENT] = {"", "", "none"},
	[CTL_SIZE] = {"SIZE", "the size", "size"},
	[CTL_SWITCH] = {"on|off", "on or off", "on off"},
	[CTL_FILE] = {"FILE", "a file", "file"},
	[CTL_CONSUMER] = {"NAME", "a name", "none"},
	[CTL_COMMAND] = {"COMMAND", "a command", "command"},
};

static const struct ctl_command *find_command(const char *name)
{
	const struct ctl_command *command;
	size_t table;

	for_each_command(
		table,
		command) if (!strcmp(name, command->name)) return command;
	return NULL;
}

/* --- Options --- */

static void *member(struct ctl_options *options,
		    const struct ctl_option *option)
{
	return (char *)options + option->offset;
}

int ctl_parse_flag(struct ctl_options *options, const struct ctl_option *option,
		   const char *text)
{
	(void)text;
	*(bool *)member(options, option) = true;
	return 0;
}

int ctl_parse_text(struct ctl_options *options, const struct ctl_option *option,
		   const char *text)
{
	*(const char **)member(options, option) = text;
	return 0;
}

static int parse_seconds(const struct ctl_option *option, const char *text,
			 int64_t least_ms, int64_t *ms)
{
	double seconds;
	char *end;

	seconds = strtod(text, &end);
	if (end == text || *end || !(seconds >= 0) || seconds > SECONDS_MAX ||
	    (int64_t)(seconds * MSEC_PER_SEC) < least_ms) {
		ctl_complain("--%s %s: not a number of seconds from %g to %d",
			     option->name, text,
			     (double)least_ms / MSEC_PER_SEC, SECONDS_MAX);
		return -EINVAL;
	}
	*ms = (int64_t)(seconds * MSEC_PER_SEC);
	return 0;
}

int ctl_parse_seconds(struct ctl_options *options,
		      const struct ctl_option *option, const char *text)
{
	return parse_seconds(option, text, 1, member(options, option));
}

static int parse_timeout(struct ctl_options *options,
			 const struct ctl_option *option, const char *text)
{
	options->has_timeout = true;
	return parse_seconds(option, text, 0, &options->timeout_ms);
}

int ctl_parse_number(struct ctl_options *options,
		     const struct ctl_option *option, const char *text)
{
	int *number = member(options, option);
	char *end;
	long value;

	errno = 0;
	value = strtol(text, &end, 10);
	if (end == text || *end || errno || value < option->least ||
	    value > INT_MAX) {
		ctl_complain("--%s %s: not a number from %d to %d",
			     option->name, text, option->least, INT_MAX);
		return -EINVAL;
	}
	*number = (int)value;
	return 0;
}

/* Add a control socket. Takes over @path. A duplicate is ignored. */
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
		ctl_complain("out of memory");
		free(path);
		return -ENOMEM;
	}
	options->control = grown;
	options->control[options->nr_control++] = path;
	return 0;
}

static int parse_control(struct ctl_options *options,
			 const struct ctl_option *option, const char *text)
{
	(void)option;
	return add_control(options, strdup(text));
}

static int parse_vm(struct ctl_options *options,
		    const struct ctl_option *option, const char *text)
{
	char *path;
	int ret;

	(void)option;
	ret = vms_path(text, &path);
	return ret ? ret : add_control(options, path);
}

/*
 * Options that are not of one command. Those with a scope are for commands that
 * ask a vmemd.
 */
static const struct ctl_option common_options[] = {
	{.name = "vm",
	 .letter = 'V',
	 .value = "NAME",
	 .complete = "vm",
	 .parse = parse_vm,
	 .help = "name of the VM, see \"list\""},
	{.name = "control",
	 .value = "PATH",
	 .complete = "file",
	 .parse = parse_control,
	 .help = "control socket of vmemd; default: VMEMD_CONTROL of\n"
		 "the environment"},
	{.name = "device",
	 .value = "NAME",
	 .complete = "device",
	 .parse = ctl_parse_text,
	 .offset = offsetof(struct ctl_options, device),
	 .scope = CTL_ONE_VMEMD,
	 .help = "device of the VM, by name or by number from 0, if vmemd\n"
		 "has several; without it, status and watch show all"},
	{.name = "timeout",
	 .value = "S",
	 .parse = parse_timeout,
	 .scope = CTL_VMEMDS,
	 .help = "give up if vmemd does not answer within S seconds;\n"
		 "default: 30; list: 2; metrics: 5"},
	{.name = "json",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, json),
	 .help = "print JSON: the result object of vmemd; for watch and\n"
		 "resize --wait one event per line"},
	{.name = "version",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, version),
	 .help = "print the version"},
	{.name = "help",
	 .letter = 'h',
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, help),
	 .help = "print this help, or the help of the command"},
	/* For scripts that follow the table; not a part of the interface. */
	{.name = "table",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, table)},
	{},
};

/* Does a command accept this common option? */
static bool takes_common(const struct ctl_command *command,
			 const struct ctl_option *option)
{
	return option->scope <= command->scope;
}

static bool is_common(const struct ctl_option *option)
{
	return option >= common_options &&
	       option < common_options + sizeof(common_options) /
						 sizeof(common_options[0]);
}

static bool takes_own(const struct ctl_command *command,
		      const struct ctl_option *option)
{
	for (const struct ctl_option *own = command->options; own && own->name;
	     own++)
		if (own == option)
			return true;
	return false;
}

/* --- Help --- */

/* Columns of the text of a command, of its options and of common options. */
#define COMMAND_COLUMN 15
#define OWN_COLUMN     19
#define COMMON_COLUMN  22

/* Print a head with the text beside it, or below if the head is too long. */
static void put_entry(const char *head, int column, const char *text)
{
	bool below = (int)strlen(head) + 2 > column;
	const char *end;

	for (standard_output_put(head); *text; text = end + !!*end) {
		char line[128];

		end = text + strcspn(text, "\n");
		snprintf(line, sizeof(line), "%s%*s%.*s\n", below ? "\n" : "",
			 column - (below ? 0 : (int)strlen(head)), "",
			 (int)(end - text), text);
		standard_output_put(line);
		below = false;
		head = "";
	}
}

static void put_option(const struct ctl_option *option, int column)
{
	char head[64], letter[] = "-x, ";

	letter[1] = option->letter;
	snprintf(head, sizeof(head), "  %s--%s%s%s",
		 option->letter		   ? letter
		 : column == COMMON_COLUMN ? "    "
					   : "  ",
		 option->name, option->value ? " " : "",
		 option->value ? option->value : "");
	put_entry(head, column, option->help);
}

static void put_command(const struct ctl_command *command)
{
	char head[64];

	snprintf(head, sizeof(head), "  %s%s%s", command->name,
		 command->argument ? " " : "",
		 arguments[command->argument].usage);
	put_entry(head, COMMAND_COLUMN, command->help);
	for (const struct ctl_option *own = command->options; own && own->name;
	     own++)
		put_option(own, OWN_COLUMN);
}

static const char usage[] =
	"Usage: vmemctl [-V NAME | --control PATH] [--device NAME] [--json] "
	"COMMAND\n"
	"\n"
	"Show and change the memory of a virtual machine whose virtio-mem devices\n"
	"are served by vmemd.\n"
	"\n"
	"Commands:\n";

static const char more[] =
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024: 512M, 1.5G\n"
	"or \"10.88 GiB\". It is a multiple of the block size, at most the size of the\n"
	"region. +SIZE and -SIZE are relative to the requested size, N% to the size of\n"
	"the region. Decimals and percentages are rounded to a block.\n"
	"\n"
	"Exit status:\n"
	"  0  done\n"
	"  1  vmemd is not running, or has refused; output was lost; a list was cut;\n"
	"     metadata and top: no module, no VM, or no permission; check: a check\n"
	"     has failed\n"
	"  2  the command line is invalid\n"
	"  3  resize --wait: the guest has not reached the size in time\n"
	"  4  vmemd has not answered in time\n"
	"  5  check: the checks cannot run on this host\n";

/* Print the help of one command, or of all if @one is NULL. */
static void print_help(const struct ctl_command *one)
{
	const struct ctl_command *command;
	size_t table;

	if (one) {
		standard_output_put("Usage: vmemctl [OPTION]... COMMAND\n\n");
		put_command(one);
	} else {
		standard_output_put(usage);
		for_each_command(table, command) put_command(command);
	}
	standard_output_put("\nOptions:\n");
	for (const struct ctl_option *option = common_options; option->name;
	     option++)
		if (option->help)
			put_option(option, COMMON_COLUMN);
	standard_output_put(more);
}

/* check_argument() has checked that the command exists. */
static int ctl_help(const struct ctl_options *options)
{
	print_help(options->argument ? find_command(options->argument) : NULL);
	return 0;
}

static const struct ctl_command help_commands[] = {
	{.name = "help",
	 .help = "print this help, or the help of COMMAND",
	 .argument = CTL_COMMAND,
	 .optional = true,
	 .no_json = true,
	 .run = ctl_help},
	{},
};

static void print_option_row(const char *command,
			     const struct ctl_option *option)
{
	printf("%s --%s %s\n", command, option->name,
	       option->complete ? option->complete
	       : option->value	? "none"
				: "flag");
	if (option->letter)
		printf("%s -%c %s\n", command, option->letter,
		       option->value ? option->complete : "flag");
}

/*
 * Print the table, with a line for each command and for each option:
 *
 *	command NAME KIND a command and the kind of its argument option --NAME
 *	KIND an option of all commands common COMMAND --NAME KIND a common
 *	option of a command that calls vmemd own COMMAND --NAME KIND an option
 *	of this command only
 */
static void print_table(void)
{
	const struct ctl_command *command;
	const struct ctl_option *option;
	char owner[64];
	size_t table;

	for (option = common_options; option->name; option++)
		if (option->help && !option->scope)
			print_option_row("option", option);
	for_each_command(table, command)
	{
		printf("command %s %s\n", command->name,
		       arguments[command->argument].complete);
		snprintf(owner, sizeof(owner), "common %s", command->name);
		for (option = common_options; option->name; option++)
			if (option->scope && takes_common(command, option))
				print_option_row(owner, option);
		snprintf(owner, sizeof(owner), "own %s", command->name);
		for (option = command->options; option && option->name;
		     option++)
			print_option_row(owner, option);
	}
}

/* --- Parsing --- */

/**
 * struct parser - state of the parser
 * @long_options: options of all commands, for getopt_long()
 * @rows: row of each option
 * @nr: number of options
 * @given: whether each option was given
 * @letters: short options, for getopt_long()
 */
struct parser {
	struct option long_options[OPTIONS_MAX + 1];
	const struct ctl_option *rows[OPTIONS_MAX];
	size_t nr;
	bool given[OPTIONS_MAX];
	char letters[16];
};

/*
 * Add options. An option name has the same meaning in all commands; a command
 * may only have a different help for a common option, which is skipped here. An
 * option that does not fit or has no parser is an error in the tables. It
 * aborts every run, also in a build with NDEBUG, where assert() does nothing.
 */
static void add_options(struct parser *parser, const struct ctl_option *option)
{
	for (; option && option->name; option++) {
		size_t i = 0, length = strlen(parser->letters);

		while (i < parser->nr &&
		       strcmp(parser->rows[i]->name, option->name) != 0)
			i++;
		if (i < parser->nr)
			continue;
		/* A letter, a colon and the terminating zero. */
		if (i == OPTIONS_MAX || !option->parse ||
		    (option->letter && length + 3 > sizeof(parser->letters))) {
			fprintf(stderr, "vmemctl: no room or no parser: --%s\n",
				option->name);
			abort();
		}
		parser->rows[i] = option;
		parser->long_options[i] = (struct option){
			.name = option->name,
			.has_arg =
				option->value ? required_argument : no_argument,
			.val = OPTION_BASE + (int)i,
		};
		parser->nr++;
		if (option->letter)
			snprintf(parser->letters + length, 3, "%c%s",
				 option->letter, option->value ? ":" : "");
	}
}

static void add_all_options(struct parser *parser)
{
	const struct ctl_command *command;
	size_t table;

	add_options(parser, common_options);
	for_each_command(table, command) add_options(parser, command->options);
}

/* Return: index of the option that getopt_long() has found; -1: none. */
static int row_of(const struct parser *parser, int opt)
{
	if (opt >= OPTION_BASE)
		return opt - OPTION_BASE;
	for (size_t i = 0; i < parser->nr; i++)
		if (parser->rows[i]->letter && parser->rows[i]->letter == opt)
			return (int)i;
	return -1;
}

static int parse_options(struct parser *parser, struct ctl_options *options,
			 int argc, char **argv)
{
	int opt, ret;

	while (!options->version &&
	       (opt = getopt_long(argc, argv, parser->letters,
				  parser->long_options, NULL)) != -1) {
		int i = row_of(parser, opt);

		if (i < 0) {
			fputs("Try 'vmemctl --help'.\n", stderr);
			return -EINVAL;
		}
		ret = parser->rows[i]->parse(options, parser->rows[i], optarg);
		if (ret)
			return ret;
		parser->given[i] = true;
	}
	return 0;
}

/* Check that the command accepts all options that were given. */
static int check_options(const struct ctl_command *command,
			 const struct parser *parser,
			 const struct ctl_options *options)
{
	for (size_t i = 0; i < parser->nr; i++) {
		const struct ctl_option *option = parser->rows[i];

		if (!parser->given[i] || takes_own(command, option) ||
		    (is_common(option) && takes_common(command, option)))
			continue;
		ctl_complain("--%s is not for %s", option->name, command->name);
		return -EINVAL;
	}
	if (options->json && command->no_json) {
		ctl_complain("--json is not for %s", command->name);
		return -EINVAL;
	}
	if (command->check)
		return command->check(options);
	if (command->scope < CTL_ONE_VMEMD)
		return 0;
	if (options->nr_control > 1) {
		ctl_complain("%s is for one VM", command->name);
		return -EINVAL;
	}
	if (!options->nr_control) {
		ctl_complain("no VM: give -V NAME or --control PATH, or set "
			     "VMEMD_CONTROL; see 'vmemctl list'");
		return -EINVAL;
	}
	return 0;
}

/* Check and parse the argument of a command. */
static int check_argument(const struct ctl_command *command,
			  struct ctl_options *options)
{
	const char *text = options->argument;

	if (!text)
		return 0;
	if (command->argument == CTL_COMMAND && !find_command(text)) {
		ctl_complain("no command \"%s\"; try 'vmemctl help'", text);
		return -EINVAL;
	}
	/* number_arguments() may have added a blank. */
	if (command->argument == CTL_SIZE &&
	    size_parse_amount(text + strspn(text, " "), &options->amount)) {
		ctl_complain("%s %s: not a size", command->name,
			     text + strspn(text, " "));
		return -EINVAL;
	}
	if (command->argument == CTL_SWITCH && strcmp(text, "on") != 0 &&
	    strcmp(text, "off") != 0) {
		ctl_complain("%s %s: not on or off", command->name, text);
		return -EINVAL;
	}
	return 0;
}

/*
 * Parse the words after the options.
 *
 * Return: the command; NULL after printing an error.
 */
static const struct ctl_command *parse_command(struct ctl_options *options,
					       int argc, char **argv)
{
	const struct ctl_command *command;

	if (!argc) {
		ctl_complain("no command; try 'vmemctl --help'");
		return NULL;
	}
	command = find_command(argv[0]);
	if (!command) {
		ctl_complain("no command \"%s\"; try 'vmemctl --help'",
			     argv[0]);
		return NULL;
	}
	if (argc > 1 + !!command->argument ||
	    (argc < 2 && command->argument && !command->optional)) {
		ctl_complain("%s takes %s%s", command->name,
			     command->argument ? "one argument, "
					       : "no argument",
			     arguments[command->argument].what);
		return NULL;
	}
	options->argument = argc > 1 ? argv[1] : NULL;
	return check_argument(command, options) ? NULL : command;
}

/* Is the word an option whose value is the next word? */
static bool takes_next(const struct parser *parser, const char *word)
{
	for (size_t i = 0; i < parser->nr; i++) {
		const struct ctl_option *option = parser->rows[i];

		if (option->letter && word[0] == '-' &&
		    word[1] == option->letter && !word[2])
			return option->value;
		if (!strncmp(word, "--", 2) && !strcmp(word + 2, option->name))
			return option->value;
	}
	return false;
}

static bool is_size_command(const char *word)
{
	const struct ctl_command *command = find_command(word);

	return command && command->argument == CTL_SIZE;
}

/*
 * After a command that takes a size, a negative number is an argument and not
 * an option. Add a blank before the number, as getopt(3) treats a word that
 * begins with a blank as an argument.
 */
static int number_arguments(const struct parser *parser, int argc, char **argv)
{
	bool size = false;

	for (int i = 1; i < argc; i++) {
		char *word;

		size = size || is_size_command(argv[i]);
		if (!size || *argv[i] != '-' ||
		    takes_next(parser, argv[i - 1]) ||
		    !strchr("0123456789.", argv[i][1]) || !argv[i][1])
			continue;
		if (asprintf(&word, " %s", argv[i]) < 0)
			return -ENOMEM;
		argv[i] = word;
	}
	return 0;
}

/* Handle options that only print something. Return: whether one was given. */
static bool print_instead(const struct ctl_options *options, int argc,
			  char **argv)
{
	if (options->version)
		puts("vmemctl " VMEM_VERSION);
	else if (options->table)
		print_table();
	else if (options->help)
		print_help(argc ? find_command(argv[0]) : NULL);
	else
		return false;
	return true;
}

/**
 * command_line_parse() - parse the command line
 * @options: out: the options; the caller calls command_line_free() also on
 *	failure
 * @argc: number of words
 * @argv: the words
 * @command: out: the command; NULL: nothing is left to do
 *
 * Return: 0; -EINVAL after printing an error, if the command line is invalid;
 * another errno.
 */
int command_line_parse(struct ctl_options *options, int argc, char **argv,
		       const struct ctl_command **command)
{
	const char *control = getenv("VMEMD_CONTROL");
	struct parser parser = {0};
	int ret;

	*command = NULL;
	options->timeout_ms = WAIT_TIMEOUT_MS;
	options->fd = -1;
	add_all_options(&parser);
	if (number_arguments(&parser, argc, argv))
		return -ENOMEM;
	ret = parse_options(&parser, options, argc, argv);
	if (ret || print_instead(options, argc - optind, argv + optind))
		return ret;
	if (!options->nr_control && control && *control) {
		ret = add_control(options, strdup(control));
		if (ret)
			return ret;
	}
	*command = parse_command(options, argc - optind, argv + optind);
	return *command ? check_options(*command, &parser, options) : -EINVAL;
}

void command_line_free(struct ctl_options *options)
{
	for (size_t i = 0; i < options->nr_control; i++)
		free(options->control[i]);
	free(options->control);
}
