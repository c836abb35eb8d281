/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The process at the other end of a socket; see peer.c. */
#ifndef PEER_H
#define PEER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * struct peer - a process
 * @uid: user of the process when it connected
 * @pid: PID; 0: unknown, e.g. of a process outside vmemd's PID namespace
 * @pidfd: descriptor that is readable once the process has ended; -1: none
 * @id: number that is unique until the host reboots; 0: not supported by the
 *	kernel
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
