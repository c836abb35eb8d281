/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory in use beyond the plugged size, see excess.c. */
#ifndef EXCESS_H
#define EXCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

/*
 * Excess above this limit causes a warning. The warning is armed again once the
 * excess is at most half of it. Less excess may come from the kernel, which may
 * use larger pages than requested.
 */
#define EXCESS_WARN (64ULL << 20)

/* Interval of checks if there is a cap, see excess.c. */
#define EXCESS_CHECK_USEC 1000000ULL

/**
 * struct excess - memory in use beyond the plugged size
 * @label: prefix of messages, see base/log.h; not owned
 * @cap: tolerated bytes, if @has_cap
 * @has_cap: excess above @cap is discarded
 * @now: bytes at the last check
 * @warned: the warning has been logged and is not armed again yet
 * @punches: number of times that excess was discarded
 * @punched_size: total excess at these times, in bytes
 * @limit: rate limit for messages that a guest can cause
 */
struct excess {
	const char *label;
	uint64_t cap;
	bool has_cap;
	uint64_t now;
	bool warned;
	uint64_t punches;
	uint64_t punched_size;
	struct log_limit limit;
};

bool excess_look(struct excess *excess, uint64_t resident, uint64_t plugged,
		 uint64_t owed, bool taking);

#endif /* EXCESS_H */
