/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Allocations that fail. The kernel's fault injection counts the allocations of
 * a task and fails the n-th (/proc/PID/task/TID/fail-nth). A stack trace filter
 * restricts the count to allocations that the module's functions make.
 */
#ifndef SELFTESTS_FAIL_NTH_H
#define SELFTESTS_FAIL_NTH_H

#include <sys/types.h>

/**
 * struct fail_nth - fault injection for one task
 * @fd: the task's fail-nth file
 */
struct fail_nth {
	int fd;
};

const char *fail_nth_unavailable(void);
void fail_nth_init(struct fail_nth *f, pid_t pid);
void fail_nth_end(struct fail_nth *f);
void fail_nth_arm(const struct fail_nth *f, unsigned int nth);
unsigned int fail_nth_disarm(const struct fail_nth *f);

#endif /* SELFTESTS_FAIL_NTH_H */
