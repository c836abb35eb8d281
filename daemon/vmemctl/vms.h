/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VMs of this host that have a vmemd, by name. */
#ifndef VMEMCTL_VMS_H
#define VMEMCTL_VMS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/**
 * struct vms - VMs of the host, sorted by name
 * @vms: the VMs
 * @nr: number of VMs
 * @hidden: a directory could not be read, so there may be more VMs
 * @vms.name: name of the VM, which is its directory; NULL if the control socket
 *	is elsewhere
 * @vms.path: path of the control socket
 * @vms.pid: process whose command line names the socket; 0 if the socket was
 *	found in the directory of the VM
 * @vms.idle: systemd listens on the socket and has not started vmemd; a
 *	connection would start it
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
