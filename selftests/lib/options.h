/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Options of tests with random steps, to repeat a run. */
#ifndef SELFTESTS_OPTIONS_H
#define SELFTESTS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

/**
 * struct options - the parameters of a run
 * @seed_env, @steps_env: environment variables that apply if the option is not
 *	given
 * @seed: of the random numbers; random by default
 * @steps: number of steps; the caller sets the default
 */
struct options {
	const char *seed_env;
	const char *steps_env;
	uint64_t seed;
	uint64_t steps;
};

bool options_parse(struct options *options, int argc, char **argv);

#endif /* SELFTESTS_OPTIONS_H */
