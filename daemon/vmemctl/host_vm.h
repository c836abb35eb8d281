/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The KVM VMs of the processes of this host, of any VMM. */
#ifndef HOST_VM_H
#define HOST_VM_H

#include <stddef.h>
#include <sys/types.h>

/* Buffer size for the name of a process, from /proc/PID/comm. */
#define COMMAND_MAX 64

/**
 * struct host_vm - a VM, and a process that has a descriptor of it
 * @pid: the process; the first one if there are several
 * @command: name of the process
 * @number: number of the VM's descriptor in the process
 * @fd: own descriptor of the VM, -1 after host_vm_close()
 */
struct host_vm {
	pid_t pid;
	char command[COMMAND_MAX];
	int number;
	int fd;
};

/**
 * struct host_vms - a list of VMs, without duplicates
 * @vms: the VMs
 * @nr: number of VMs
 * @refused: number of processes that could not be inspected for lack of
 *	permission
 */
struct host_vms {
	struct host_vm *vms;
	size_t nr;
	size_t refused;
};

void host_vm_command(pid_t pid, char command[COMMAND_MAX]);

int host_vm_of(struct host_vms *vms, pid_t pid);
int host_vm_all(struct host_vms *vms);
void host_vm_close(struct host_vms *vms);
void host_vm_free(struct host_vms *vms);

#endif /* HOST_VM_H */
