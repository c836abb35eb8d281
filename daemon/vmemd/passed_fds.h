/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Descriptors that were passed at the start; see passed_fds.c. */
#ifndef PASSED_FDS_H
#define PASSED_FDS_H

#include "options.h"

/* Size of a descriptor's name: kind, dash, device name and NUL. */
#define PASSED_FD_NAME_MAX (sizeof("vhost-user-") + DEVICE_NAME_MAX)

/* Descriptors of one device; -1: not passed. */
struct device_fds {
	int region;
	int memory;
	int state;
	int consumers;
	int vhost_user;
};

/* All passed descriptors. */
struct passed_fds {
	struct device_fds devices[VMEM_MAX_DEVICES];
	int control;
};

void passed_fds_init(struct passed_fds *fds);
int passed_fds_take(struct passed_fds *fds, const struct options *options);
void passed_fds_close(struct passed_fds *fds);

const char *passed_fd_name(const struct device_options *device,
			   const char *kind, char name[PASSED_FD_NAME_MAX]);

#endif /* PASSED_FDS_H */
