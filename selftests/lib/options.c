// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* Return: whether the whole of @text is a number. */
static bool parse(const char *text, uint64_t *number)
{
	char *end;

	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && end != text && !*end;
}

/**
 * options_parse() - parse [--seed N] [--steps N]. Return: false if they are
 * invalid.
 */
bool options_parse(struct options *options, int argc, char **argv)
{
	const char *seed_text = getenv(options->seed_env);
	const char *steps_text = getenv(options->steps_env);
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
		if (!strcmp(argv[i], "--seed"))
			seed_text = argv[i + 1];
		else if (!strcmp(argv[i], "--steps"))
			steps_text = argv[i + 1];
		else
			return false;
	}
	if (i != argc || (steps_text && !parse(steps_text, &options->steps)))
		return false;
	if (seed_text)
		return parse(seed_text, &options->seed);
	return getrandom(&options->seed, sizeof(options->seed), 0) ==
	       sizeof(options->seed);
}
