// SPDX-License-Identifier: MIT
/*
 * The program that spawn_test starts instead of vmemd: it writes how it was
 * started to the file that is the first argument, and ends as the second
 * argument says.
 */
#include <dirent.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void write_descriptors(FILE *out)
{
	for (int fd = 0; fd < 1024; fd++) {
		struct stat status;

		/* Except the report file itself. */
		if (fd != fileno(out) && !fstat(fd, &status))
			fprintf(out, "fd %d %d\n", fd,
				(int)(status.st_mode & S_IFMT) >> 12);
	}
}

static void write_environment(FILE *out)
{
	for (char **at = environ; *at; at++)
		if (!strncmp(*at, "LISTEN_", 7) || !strncmp(*at, "NOTIFY", 6) ||
		    !strncmp(*at, "WATCHDOG", 8) || !strncmp(*at, "KEPT", 4))
			fprintf(out, "%s\n", *at);
	fprintf(out, "pid %d\n", getpid());
}

static void write_signals(FILE *out)
{
	struct sigaction action;
	sigset_t blocked;

	sigprocmask(SIG_BLOCK, NULL, &blocked);
	for (int i = 1; i < NSIG; i++) {
		if (sigismember(&blocked, i) > 0)
			fprintf(out, "blocked %d\n", i);
		if (!sigaction(i, NULL, &action) &&
		    action.sa_handler == SIG_IGN)
			fprintf(out, "ignored %d\n", i);
	}
}

int main(int argc, char **argv)
{
	FILE *out = argc > 2 ? fopen(argv[1], "we") : NULL;

	if (!out)
		return 2;
	write_descriptors(out);
	write_environment(out);
	write_signals(out);
	for (int i = 3; i < argc; i++)
		fprintf(out, "argument %s\n", argv[i]);
	fprintf(out, "end\n");
	fclose(out);
	if (!strcmp(argv[2], "wait"))
		pause();
	if (!strcmp(argv[2], "stubborn")) {
		signal(SIGTERM, SIG_IGN);
		pause();
	}
	return 0;
}
