/* SPDX-License-Identifier: MIT */
/* Starting a program with descriptors, by the socket activation protocol. */
#ifndef KVMVMEM_SPAWN_H
#define KVMVMEM_SPAWN_H

#include "fail.h"

/**
 * struct kvmvmem_spawn - what to start, and with what
 * @program: path
 * @argv: with @program first, and NULL last
 * @fds: from descriptor 3 on, @nr_fds of them
 * @names: of them, with colons in between
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
