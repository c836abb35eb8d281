/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Memory that there is beyond what is plugged, see excess.c. */
#ifndef EXCESS_H
#define EXCESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"

/*
 * More than this is warned of; a warning is due again once it was less than
 * half of it. Below, it may be a page here and there that the kernel has made
 * larger than was asked for.
 */
#define EXCESS_WARN (64ULL << 20)

/* How often it is looked for, where it has a cap: see excess.c. */
#define EXCESS_CHECK_USEC 1000000ULL

/**
 * struct excess - memory that there is beyond what is plugged
 * @label: for messages, see base/log.h; not owned
 * @cap: bytes that are borne, where @has_cap
 * @now: bytes when it was looked at last
 * @warned: it was warned of, and has not gone since
 * @punches: how often it was taken back
 * @punched_size: bytes that it was then, in all
 * @limit: for messages that a guest can cause
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
