/* SPDX-License-Identifier: MIT */
/* Start a program with descriptors, by the socket activation protocol. */
#ifndef KVMVMEM_SPAWN_H
#define KVMVMEM_SPAWN_H

#include "fail.h"

/**
 * struct kvmvmem_spawn - parameters of kvmvmem_spawn()
 * @program: path of the program
 * @argv: arguments; the first is @program, the last is NULL
 * @fds: descriptors, which become descriptor 3 and the following ones
 * @nr_fds: number of @fds
 * @names: names of @fds, separated by colons
 */
struct kvmvmem_spawn {
	const char *program;
	char *const *argv;
	const int *fds;
	unsigned int nr_fds;
	const char *names;
};

int kvmvmem_spawn(const struct kvmvmem_spawn *spawn,
		  struct kvmvmem_error *error);
void kvmvmem_reap(int pidfd);

#endif /* KVMVMEM_SPAWN_H */
