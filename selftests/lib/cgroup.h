/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A memory cgroup for the test, and the memory charged to it. */
#ifndef SELFTESTS_CGROUP_H
#define SELFTESTS_CGROUP_H

#include <stdbool.h>
#include <stdint.h>

#define CGROUP_NO_LIMIT UINT64_MAX

bool cgroup_enter(void);
uint64_t cgroup_current(void);
void cgroup_limit(uint64_t bytes);
uint64_t cgroup_stat(const char *name);
void cgroup_step_out(void);
void cgroup_leave(void);

#endif /* SELFTESTS_CGROUP_H */
