/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often the kernel enters a function, counted by kprobe events. Takes
 * tracefs at /sys/kernel/tracing.
 */
#ifndef SELFTESTS_PROFILE_H
#define SELFTESTS_PROFILE_H

#include <stddef.h>
#include <stdint.h>

void profile_start(const char *const *functions, size_t nr);
void profile_stop(void);
uint64_t profile_hits(const char *function);

#endif /* SELFTESTS_PROFILE_H */
