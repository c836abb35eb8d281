/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Handing a region to vmemd: to one that this VMM starts, with the file
 * descriptors of the socket-activation protocol, or to a running one, by the
 * attach call of its control socket.
 */
#ifndef VMEMD_H
#define VMEMD_H

#include <sys/types.h>

/* Most --vmemd-arg options. */
#define VMEMD_MAX_ARGS 32

/* Bytes of a device's name: vmemd takes none that is longer. */
#define DEVICE_NAME_MAX 31

struct region_config;

/**
 * struct vmemd - the daemon that serves our region
 * @pid: process we started, 0 if it is not ours
 * @pid_fd: polls readable when that process has ended
 * @control_path: control socket we made, to be unlinked
 * @consumers_fd: file in which it notes its consumers, and which the next one
 *	gets; -1: none was started yet
 */
struct vmemd {
	pid_t pid;
	int pid_fd;
	const char *control_path;
	int consumers_fd;
};

void vmemd_init(struct vmemd *vmemd);

/**
 * vmemd_spawn() - start vmemd
 * @vmemd: the daemon
 * @path: its program
 * @args: further options, NULL-terminated, at most VMEMD_MAX_ARGS
 * @control_path: where its control socket shall be, NULL for none
 * @region_fd: the region
 * @memory_fd: memfd of the region's memory
 *
 * To be called before any thread is started.
 *
 * Return: a socket to be the vhost-user front end of, or a negative errno,
 * with a message.
 */
int vmemd_spawn(struct vmemd *vmemd, const char *path, char *const *args,
		const char *control_path, int region_fd, int memory_fd);

/**
 * vmemd_plan() - ask a running vmemd how the region is to be cut
 * @control_path: its control socket
 * @device: the device's name there, NULL if it needs none
 * @region: the region; slot_size is filled in
 * @used: memslots that the VMM has itself
 * @kvm_limit: KVM_CAP_NR_MEMSLOTS
 *
 * Return: 0 or a negative errno, with a message.
 */
int vmemd_plan(const char *control_path, const char *device,
	       struct region_config *region, unsigned int used,
	       unsigned int kvm_limit);

/**
 * vmemd_system_reset() - report to vmemd that the guest's system is reset
 * @control_path: its control socket
 * @device: the device's name there, NULL if it needs none
 *
 * The device must have been reset. On return nothing is plugged any more.
 *
 * Return: 0 or a negative errno, with a message.
 */
int vmemd_system_reset(const char *control_path, const char *device);

/**
 * vmemd_attach() - hand the region to a running vmemd
 * @vhost_user_path: its vhost-user socket
 * @control_path: its control socket
 * @device: the device's name there, NULL if it needs none
 * @region_fd: the region
 * @memory_fd: memfd of the region's memory
 *
 * Return: a socket to be the vhost-user front end of, or a negative errno,
 * with a message.
 */
int vmemd_attach(const char *vhost_user_path, const char *control_path,
		 const char *device, int region_fd, int memory_fd);

/**
 * vmemd_try_attach() - vmemd_attach() without a message if there is no vmemd
 * @vhost_user_path: as there
 * @control_path: as there
 * @device: as there
 * @region_fd: as there
 * @memory_fd: as there
 *
 * Return: as there.
 */
int vmemd_try_attach(const char *vhost_user_path, const char *control_path,
		     const char *device, int region_fd, int memory_fd);

/**
 * vmemd_stop() - end a vmemd that was started here, if it still runs
 * @vmemd: the daemon
 */
void vmemd_stop(struct vmemd *vmemd);

#endif /* VMEMD_H */
