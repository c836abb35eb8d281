// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl hold, dirty-log and system-reset: vmemd is told of what the VMM does,
 * and answers when it has done its part.
 */
#include <string.h>

#include "call.h"
#include "vmemctl.h"

static int set(const struct ctl_options *options, const char *method,
	       const char *name, bool value)
{
	json_object *params;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (!ret) {
		params = json_object_new_object();
		json_object_object_add(params, name,
				       json_object_new_boolean(value));
		ret = daemon_tell(&daemon, method, params, options->json);
	}
	daemon_close(&daemon);
	return ret;
}

int ctl_hold(const struct ctl_options *options)
{
	return set(options, "hold", "on", !strcmp(options->argument, "on"));
}

int ctl_dirty_log(const struct ctl_options *options)
{
	return set(options, "dirty-log", "on",
		   !strcmp(options->argument, "on"));
}

int ctl_system_reset(const struct ctl_options *options)
{
	return set(options, "system-reset", "force", options->force);
}
