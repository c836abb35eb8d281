// SPDX-License-Identifier: GPL-2.0-or-later
#include "profile.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tap.h"

#define TRACEFS "/sys/kernel/tracing/"
/* Our group of events, and each event after its function. */
#define GROUP "memslot_bench"

static void write_file(const char *path, const char *text, int flags)
{
	int fd = open(path, O_WRONLY | flags);
	ssize_t len = (ssize_t)strlen(text);

	if (fd < 0 || write(fd, text, (size_t)len) != len) {
		perror(path);
		tap_abort();
	}
	close(fd);
}

/**
 * profile_start - count calls of functions from 0
 * @functions: their names
 * @nr: how many
 */
void profile_start(const char *const *functions, size_t nr)
{
	char line[256];

	for (size_t i = 0; i < nr; i++) {
		snprintf(line, sizeof(line), "p:" GROUP "/%s %s\n",
			 functions[i], functions[i]);
		write_file(TRACEFS "kprobe_events", line, O_APPEND);
	}
	write_file(TRACEFS "events/" GROUP "/enable", "1\n", 0);
}

/**
 * profile_stop - count no more, and forget; read the hits before
 */
void profile_stop(void)
{
	write_file(TRACEFS "events/" GROUP "/enable", "0\n", 0);
	write_file(TRACEFS "kprobe_events", "\n", O_TRUNC);
}

/**
 * profile_hits - calls of a function since profile_start()
 */
uint64_t profile_hits(const char *function)
{
	char line[256], name[128];
	uint64_t hits = 0, n;
	FILE *f;

	f = fopen(TRACEFS "kprobe_profile", "r");
	if (!f) {
		perror("kprobe_profile");
		tap_abort();
	}
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, " %127s %" SCNu64, name, &n) == 2 &&
		    !strcmp(name, function))
			hits = n;
	fclose(f);
	return hits;
}
