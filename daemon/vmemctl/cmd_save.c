// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl save: write the state of a device, which vmemd reports, to a file.
 *
 * The state is checked before it is written, by the same code that checks it
 * before a restore. A file that exists is therefore valid.
 */
#include <errno.h>
#include <stdlib.h>

#include "command_line.h"
#include "common/json_member.h"
#include "common/save_file.h"
#include "daemon_call.h"

/* Number of attempts to read a state that changes while it is read. */
#define SAVE_TRIES 16

/* Maximum number of runs in a file. */
#define RUNS_MAX (SAVE_FILE_MAX / sizeof(struct save_run))

/* Add the runs of a page. */
static int add_runs(const struct daemon *daemon, struct save_state *state,
		    json_object *page)
{
	json_object *runs = answer_array(page, "runs");
	size_t nr = answer_array_length(runs);
	struct save_run *grown;

	if (!nr)
		return 0;
	if (nr > RUNS_MAX - state->nr_runs)
		return daemon_not_vmemd(daemon);
	grown = reallocarray(state->runs, state->nr_runs + nr, sizeof(*grown));
	if (!grown) {
		ctl_complain("out of memory");
		return -ENOMEM;
	}
	state->runs = grown;
	for (size_t i = 0; i < nr; i++) {
		json_object *run = json_object_array_get_idx(runs, i);

		grown[state->nr_runs++] = (struct save_run){
			.gpa = answer_size(run, "gpa"),
			.size = answer_size(run, "size"),
		};
	}
	return 0;
}

static void take_fields(struct save_state *state, json_object *page)
{
	state->gpa = answer_size(page, "gpa");
	state->region_size = answer_size(page, "region_size");
	state->block_size = answer_size(page, "block_size");
	state->usable_region_size = answer_size(page, "usable_region_size");
	state->requested_size = answer_size(page, "requested_size");
	state->features = answer_size(page, "features");
	state->node = answer_size(page, "node");
}

/* Read all pages. Return: 0; -EAGAIN: the state has changed; another errno. */
static int read_state(struct daemon *daemon, struct save_state *state)
{
	uint64_t changes = 0, start = 0;
	bool more = true;
	json_object *page;
	int ret = 0;

	for (bool first = true; !ret && more; first = false) {
		json_object *params = json_object_new_object();

		json_add_size(params, "start", start);
		ret = daemon_call(daemon, "save", params, &page);
		if (ret)
			return ret;
		if (first) {
			take_fields(state, page);
			changes = answer_size(page, "changes");
		}
		if (answer_size(page, "changes") != changes)
			ret = -EAGAIN;
		else
			ret = add_runs(daemon, state, page);
		more = answer_has_size(page, "next");
		/* Require progress, so that the loop ends. */
		if (!ret && more && answer_size(page, "next") <= start)
			ret = daemon_not_vmemd(daemon);
		start = answer_size(page, "next");
		json_object_put(page);
	}
	return ret;
}

static int write_state(const struct save_state *state, const char *path)
{
	struct error err;
	uint8_t *data;
	size_t size;
	int ret;

	ret = save_format(state, &data, &size, &err);
	if (ret) {
		ctl_complain("the state from vmemd cannot be saved: %s",
			     err.text);
		return ret;
	}
	ret = save_file_write(path, data, size, &err);
	if (ret)
		ctl_complain("%s: %s", path, err.text);
	free(data);
	return ret;
}

static int ctl_save(const struct ctl_options *options)
{
	struct save_state state = {0};
	struct daemon daemon;
	int ret;

	ret = daemon_open(&daemon, options->control[0], options);
	if (ret)
		goto out;
	ret = -EAGAIN;
	for (int i = 0; i < SAVE_TRIES && ret == -EAGAIN; i++) {
		save_state_free(&state);
		daemon_begin(&daemon);
		ret = read_state(&daemon, &state);
	}
	if (ret == -EAGAIN)
		ctl_complain(
			"blocks change all the time: hold the device first "
			"(vmemctl hold on)");
	else if (!ret)
		ret = write_state(&state, options->argument);
out:
	save_state_free(&state);
	daemon_close(&daemon);
	return ret;
}

const struct ctl_command save_commands[] = {
	{.name = "save",
	 .argument = CTL_FILE,
	 .no_json = true,
	 .scope = CTL_ONE_VMEMD,
	 .help = "write the state of the device to FILE, for vmemd --restore",
	 .run = ctl_save},
	{},
};
