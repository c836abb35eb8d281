/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of vmemd, and what was handed to it. */
#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "log.h"

/**
 * struct options - command line
 * @vhost_user_path: listen here for front ends; NULL if not given
 * @control_path: listen here for vmemctl; NULL if not given
 * @requested_size: initial requested size in bytes, where @has_requested_size
 * @node: ACPI proximity domain, where @has_node
 * @log_level: least important messages that are shown
 */
struct options {
	const char *vhost_user_path;
	const char *control_path;
	uint64_t requested_size;
	bool has_requested_size;
	uint16_t node;
	bool has_node;
	enum log_level log_level;
};

/* Descriptors handed over by name; -1 where there is none. */
struct passed_fds {
	int region;
	int memory;
	int vhost_user;
	int control;
};

int options_parse(struct options *options, int argc, char **argv);
int passed_fds_take(struct passed_fds *fds);
void passed_fds_close(struct passed_fds *fds);

#endif /* OPTIONS_H */
