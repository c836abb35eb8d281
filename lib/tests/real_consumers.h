/* SPDX-License-Identifier: MIT */
/*
 * The daemon's own control socket and consumers with a backing without a
 * kernel, in a process that can be killed and started again. Tests act as its
 * guest by additional methods.
 */
#ifndef REAL_CONSUMERS_H
#define REAL_CONSUMERS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Result of a request that has not been answered yet. */
#define REAL_WAITS 1

/**
 * struct real_consumers - the process
 * @fd: the guest's connection, -1 without
 * @waits: a request has not been answered yet
 */
struct real_consumers {
	char dir[32];
	char path[64];
	pid_t pid;
	int fd;
	bool waits;
};

void real_consumers_init(struct real_consumers *real);
void real_consumers_start(struct real_consumers *real, uint32_t plugged,
			  bool attached);
void real_consumers_kill(struct real_consumers *real);
void real_consumers_free(struct real_consumers *real);

void real_consumers_ask(struct real_consumers *real, const char *method,
			unsigned int first, unsigned int nr);
int real_consumers_answer(struct real_consumers *real, int timeout_ms);
uint32_t real_consumers_plugged(struct real_consumers *real);

#endif /* REAL_CONSUMERS_H */
