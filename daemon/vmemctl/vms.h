/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMs of this host, by name. */
#ifndef VMEMCTL_VMS_H
#define VMEMCTL_VMS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * struct vms - of the host, in the order of their names
 * @vms: @nr of them
 * @hidden: there may be more, in folders that may not be read
 * @name: of the VM: its folder's; NULL where the control socket is elsewhere
 * @path: its control socket
 * @pid: process that says it listens there; 0 where the socket was found by name
 * @idle: systemd listens there, and has not started a vmemd: whoever connects
 *	starts one
 */
struct vms {
	struct vm_place {
		char *name;
		char *path;
		pid_t pid;
		bool idle;
	} * vms;
	size_t nr;
	bool hidden;
};

int vms_find(struct vms *vms);
void vms_free(struct vms *vms);
int vms_path(const char *name, char **path);
char *vms_name(const char *path);

#endif /* VMEMCTL_VMS_H */
