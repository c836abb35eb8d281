/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process at the other end of a socket, and whether it is there; see peer.c. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct peer - a process
 * @uid: its user when it connected
 * @pid: 0: not known, as that of a process outside of our PID namespace
 * @pidfd: readable when it has ended, -1: there is none
 * @id: one that no other process has while the machine runs; 0: the kernel has
 *	no such number
 */
struct peer {
	uid_t uid;
	pid_t pid;
	int pidfd;
	uint64_t id;
};

#define PEER_UNKNOWN ((struct peer){.uid = (uid_t)-1, .pidfd = -1})

int peer_of_socket(struct peer *peer, int fd);
int peer_find(struct peer *peer);
bool peer_may_be(const struct peer *peer, const struct peer *other);
void peer_close(struct peer *peer);
uint64_t peer_namespace(void);

#endif /* PEER_H */
