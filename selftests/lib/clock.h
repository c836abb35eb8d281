/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The monotonic clock. */
#ifndef SELFTESTS_CLOCK_H
#define SELFTESTS_CLOCK_H

#include <stdint.h>

uint64_t now_ns(void);

#endif /* SELFTESTS_CLOCK_H */
