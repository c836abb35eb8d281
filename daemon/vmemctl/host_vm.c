// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A VM is found by the name of its descriptor in /proc, and the descriptor is
 * duplicated with pidfd_getfd(2), which needs the permissions of ptrace(2).
 * kcmp(2) on the duplicates shows which descriptors belong to the same VM.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "common/fd.h"
#include "host_vm.h"

/* Buffer size for "/proc/PID/fd/N". */
#define PROC_PATH_MAX 64

static const char vm_name[] = "anon_inode:kvm-vm";

static bool is_number(const char *text)
{
	return isdigit((unsigned char)*text);
}

/**
 * host_vm_command() - get the name of a process
 * @pid: the process
 * @command: out: its name, or "?" if it cannot be read
 *
 * Unprintable characters are replaced, because the name is printed on
 * terminals.
 */
void host_vm_command(pid_t pid, char command[COMMAND_MAX])
{
	char path[PROC_PATH_MAX];
	FILE *f;

	strcpy(command, "?");
	snprintf(path, sizeof(path), "/proc/%d/comm", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return;
	if (fgets(command, COMMAND_MAX, f))
		command[strcspn(command, "\n")] = '\0';
	fclose(f);
	for (char *c = command; *c; c++)
		if (!isprint((unsigned char)*c))
			*c = '?';
}

/* Is the VM in the list? Without kcmp(2), each descriptor counts as a VM. */
static bool is_known(const struct host_vms *vms, int fd)
{
	pid_t self = getpid();

	for (size_t i = 0; i < vms->nr; i++)
		if (!syscall(SYS_kcmp, self, self, KCMP_FILE, vms->vms[i].fd,
			     fd))
			return true;
	return false;
}

static int add(struct host_vms *vms, const struct host_vm *vm)
{
	struct host_vm *grown;

	grown = reallocarray(vms->vms, vms->nr + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	vms->vms = grown;
	vms->vms[vms->nr++] = *vm;
	return 0;
}

static bool is_vm(pid_t pid, int number)
{
	char path[PROC_PATH_MAX], target[sizeof(vm_name)];
	ssize_t length;

	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)pid, number);
	length = readlink(path, target, sizeof(target));
	return length == sizeof(vm_name) - 1 &&
	       !memcmp(target, vm_name, sizeof(vm_name) - 1);
}

/* Add descriptor @number of a process if it is a VM that is not known yet. */
static int consider(struct host_vms *vms, pid_t pid, int pidfd, int number)
{
	struct host_vm vm = {.pid = pid, .number = number};
	int ret = 0;

	if (!is_vm(pid, number))
		return 0;
	vm.fd = (int)syscall(SYS_pidfd_getfd, pidfd, number, 0);
	if (vm.fd < 0)
		/* The descriptor was closed in the meantime. */
		return errno == EBADF || errno == ESRCH ? 0 : -errno;
	if (!is_known(vms, vm.fd)) {
		host_vm_command(vm.pid, vm.command);
		ret = add(vms, &vm);
		if (!ret)
			return 0;
	}
	close(vm.fd);
	return ret;
}

/* Append the VMs of one process. */
static int add_process(struct host_vms *vms, pid_t pid)
{
	char path[PROC_PATH_MAX];
	struct dirent *entry;
	int pidfd, ret = 0;
	DIR *dir;

	/* Open the pidfd first, so that the pid cannot be reused unnoticed. */
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return -errno;
	snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	if (!dir) {
		ret = errno == ENOENT ? -ESRCH : -errno;
		goto out_pidfd;
	}
	while (!ret && (entry = readdir(dir)))
		if (is_number(entry->d_name))
			ret = consider(vms, pid, pidfd, atoi(entry->d_name));
	closedir(dir);
out_pidfd:
	close(pidfd);
	return ret;
}

/**
 * host_vm_of() - find the VMs of a process
 * @vms: out: the VMs; the caller calls host_vm_free() also on failure
 * @pid: the process
 *
 * Return: 0; -ESRCH: no such process; -EACCES, -EPERM: no permission to inspect
 * it; another errno.
 */
int host_vm_of(struct host_vms *vms, pid_t pid)
{
	*vms = (struct host_vms){0};
	return add_process(vms, pid);
}

static bool is_refused(int ret)
{
	return ret == -EACCES || ret == -EPERM;
}

static int by_pid(const void *a, const void *b)
{
	const pid_t *left = a, *right = b;

	/* Pids are positive, so this does not overflow. */
	return *left - *right;
}

/* All processes, sorted by pid. */
static int list_processes(pid_t **pids, size_t *nr)
{
	struct dirent *entry;
	DIR *dir = opendir("/proc");
	int ret = 0;

	*pids = NULL;
	*nr = 0;
	if (!dir)
		return -errno;
	while ((entry = readdir(dir))) {
		pid_t *grown;

		if (!is_number(entry->d_name))
			continue;
		grown = reallocarray(*pids, *nr + 1, sizeof(**pids));
		if (!grown) {
			ret = -ENOMEM;
			break;
		}
		*pids = grown;
		(*pids)[(*nr)++] = atoi(entry->d_name);
	}
	closedir(dir);
	if (*nr)
		qsort(*pids, *nr, sizeof(**pids), by_pid);
	return ret;
}

/* Raise the limit of descriptors: there is one for each VM of the host. */
static void raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

/**
 * host_vm_all() - find the VMs of all processes that may be inspected
 * @vms: out: the VMs; the caller calls host_vm_free() also on failure
 *
 * Return: 0 or a negative errno.
 */
int host_vm_all(struct host_vms *vms)
{
	pid_t *pids;
	size_t nr;
	int ret;

	*vms = (struct host_vms){0};
	raise_limit();
	ret = list_processes(&pids, &nr);
	for (size_t i = 0; !ret && i < nr; i++) {
		ret = add_process(vms, pids[i]);
		if (is_refused(ret))
			vms->refused++;
		if (is_refused(ret) || ret == -ESRCH)
			ret = 0;
	}
	free(pids);
	return ret;
}

/** host_vm_close() - close the descriptors, which keep the VMs alive */
void host_vm_close(struct host_vms *vms)
{
	for (size_t i = 0; i < vms->nr; i++)
		fd_close(&vms->vms[i].fd);
}

void host_vm_free(struct host_vms *vms)
{
	host_vm_close(vms);
	free(vms->vms);
	*vms = (struct host_vms){0};
}
