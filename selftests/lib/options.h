/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of tests that make random steps: what makes a run again. */
#ifndef SELFTESTS_OPTIONS_H
#define SELFTESTS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct options - what a run is made of
 * @seed_env, @steps_env: variables of the environment with what no option says
 * @seed: of the random numbers; without any a random one
 * @steps: how many; what it is before if nothing says
 */
struct options {
	const char *seed_env;
	const char *steps_env;
	uint64_t seed;
	uint64_t steps;
};

bool options_parse(struct options *options, int argc, char **argv);

#endif /* SELFTESTS_OPTIONS_H */
