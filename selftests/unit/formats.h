/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs cases with all formats of virtqueues: split and packed, with and without
 * indirect descriptors and event index.
 */
#ifndef FORMATS_H
#define FORMATS_H

#include <stdbool.h>

#include "unit.h"

#define FORMATS_NR 8

/* A case; its initial state is a pointer to the format's uint64_t of features. */
struct format_case {
	const char *name;
	CMUnitTestFunction function;
	bool once;
};

#define FORMAT_CASE(function)              \
	{                                  \
#function, function, false \
	}

/* A case without a queue; it runs once. */
#define PLAIN_CASE(function)              \
	{                                 \
#function, function, true \
	}

int formats_run(const struct format_case *cases, size_t nr,
		CMFixtureFunction set_up, CMFixtureFunction tear_down);

#endif /* FORMATS_H */
