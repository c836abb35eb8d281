// SPDX-License-Identifier: GPL-2.0-or-later
/* vmemctl system-reset: tell vmemd what a VMM has not told it. */
#include "vmemctl.h"
#include "vmemctl_daemon.h"

int ctl_system_reset(const struct ctl_options *options)
{
	json_object *params, *result;
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (ret)
		goto out;
	params = json_object_new_object();
	json_object_object_add(params, "force",
			       json_object_new_boolean(options->force));
	ret = daemon_call(&daemon, "system-reset", params, &result);
	if (ret)
		goto out;
	if (options->json)
		print_json(result);
	json_object_put(result);
out:
	daemon_close(&daemon);
	return ret;
}
