/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reading clocks. */
#ifndef CLOCKS_H
#define CLOCKS_H

#include <stdint.h>

uint64_t clock_monotonic_ns(void);
int clock_realtime_s(uint64_t *seconds);

#endif /* CLOCKS_H */
