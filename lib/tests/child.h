/* SPDX-License-Identifier: MIT */
/* A child that has copies of all descriptors, and does nothing. */
#ifndef CHILD_H
#define CHILD_H

#include <sys/types.h>

pid_t child_start(void);
void child_end(pid_t pid);

#endif /* CHILD_H */
