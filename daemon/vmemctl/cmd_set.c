// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl hold, dirty-log, system-reset and forget-consumer: single requests
 * that vmemd answers when they are done.
 */
#include <string.h>

#include "command_line.h"
#include "daemon_call.h"

static int tell(const struct ctl_options *options, const char *method,
		const char *name, json_object *value)
{
	json_object *params;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret) {
		params = json_object_new_object();
		json_object_object_add(params, name, json_object_get(value));
		ret = daemon_tell(&daemon, method, params, options->json);
	}
	daemon_close(&daemon);
	json_object_put(value);
	return ret;
}

static int set(const struct ctl_options *options, const char *method,
	       const char *name, bool value)
{
	return tell(options, method, name, json_object_new_boolean(value));
}

static int ctl_forget_consumer(const struct ctl_options *options)
{
	return tell(options, "forget-consumer", "name",
		    json_object_new_string(options->argument));
}

static int ctl_hold(const struct ctl_options *options)
{
	return set(options, "hold", "on", !strcmp(options->argument, "on"));
}

static int ctl_dirty_log(const struct ctl_options *options)
{
	return set(options, "dirty-log", "on",
		   !strcmp(options->argument, "on"));
}

static int ctl_system_reset(const struct ctl_options *options)
{
	return set(options, "system-reset", "force", options->force);
}

static const struct ctl_option reset_options[] = {
	{.name = "force",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, force),
	 .help = "even while a driver is in use"},
	{},
};

const struct ctl_command set_commands[] = {
	{.name = "system-reset",
	 .scope = CTL_ONE_VMEMD,
	 .help = "unplug all blocks after a reset of the guest; their contents\n"
		 "are lost. Refused while a driver is in use",
	 .options = reset_options,
	 .run = ctl_system_reset},
	{.name = "hold",
	 .argument = CTL_SWITCH,
	 .scope = CTL_ONE_VMEMD,
	 .help = "for a migration: refuse to plug and unplug, or end that",
	 .run = ctl_hold},
	{.name = "dirty-log",
	 .argument = CTL_SWITCH,
	 .scope = CTL_ONE_VMEMD,
	 .help = "switch dirty logging of all memslots of the region",
	 .run = ctl_dirty_log},
	{.name = "forget-consumer",
	 .argument = CTL_CONSUMER,
	 .scope = CTL_ONE_VMEMD,
	 .help = "declare that the consumer NAME, which is away, has nothing\n"
		 "mapped; vmemd no longer waits for it",
	 .run = ctl_forget_consumer},
	{},
};
