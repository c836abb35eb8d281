/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vmemctl, and the tables that define its commands. */
#ifndef VMEMCTL_COMMAND_LINE_H
#define VMEMCTL_COMMAND_LINE_H

#include "vmemctl.h"

/* Tables of commands, beside the functions. An empty row ends each table. */
extern const struct ctl_command check_commands[];
extern const struct ctl_command list_commands[];
extern const struct ctl_command metadata_commands[];
extern const struct ctl_command metrics_commands[];
extern const struct ctl_command place_commands[];
extern const struct ctl_command resize_commands[];
extern const struct ctl_command save_commands[];
extern const struct ctl_command set_commands[];
extern const struct ctl_command show_commands[];
extern const struct ctl_command status_commands[];
extern const struct ctl_command top_commands[];

int command_line_parse(struct ctl_options *options, int argc, char **argv,
		       const struct ctl_command **command);
void command_line_free(struct ctl_options *options);

#endif /* VMEMCTL_COMMAND_LINE_H */
