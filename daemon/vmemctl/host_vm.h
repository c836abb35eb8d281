/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The KVM VMs of this host's processes, whichever VMM made them. */
#ifndef HOST_VM_H
#define HOST_VM_H

#include <stddef.h>
#include <sys/types.h>

/* Room for the name of a process, as /proc/PID/comm has it. */
#define COMMAND_MAX 64

/**
 * struct host_vm - a VM, and a process that has it
 * @pid: the process; of several, the first
 * @command: its name
 * @number: the VM's descriptor there
 * @fd: a descriptor of our own, -1 after host_vm_close()
 */
struct host_vm {
	pid_t pid;
	char command[COMMAND_MAX];
	int number;
	int fd;
};

/**
 * struct host_vms - VMs, each once
 * @vms: @nr of them
 * @refused: processes that may not be looked into
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
