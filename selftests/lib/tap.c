// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The runner forks one process per case. The result is in a page that the case
 * and all its children share with the runner: a failure in a child of the case
 * counts too. The runner waits on a pidfd with the case's time limit, then
 * kills the remaining processes of the case's process group.
 */
#include "tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE_LEN 256

/**
 * struct tap_result - result of a case, shared with the runner
 * @failures: number of failed checks
 * @skipped: the case called tap_skip()
 * @reason: why the case was skipped
 */
struct tap_result {
	unsigned int failures;
	bool skipped;
	char reason[MESSAGE_LEN];
};

/*
 * The result of the running case. Outside a case, a failed check is still
 * printed, and ASSERT_*() ends the process.
 */
static struct tap_result no_case;
static struct tap_result *result = &no_case;
static _Thread_local char context[MESSAGE_LEN];

/*
 * Each line of the text becomes a note: a line without the mark would be parsed
 * as TAP.
 */
static void vnote(const char *fmt, va_list ap)
{
	char text[4 * MESSAGE_LEN];
	const char *line = text, *end;

	vsnprintf(text, sizeof(text), fmt, ap);
	do {
		end = strchrnul(line, '\n');
		printf("# %.*s\n", (int)(end - line), line);
		line = end + 1;
	} while (*end && *line);
	fflush(stdout);
}

/** tap_note() - Print a diagnostic; each line gets the mark "# ". */
void tap_note(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vnote(fmt, ap);
	va_end(ap);
}

/**
 * tap_context() - Set a context that the failed checks of the calling thread
 * print, for cases that repeat the same checks. An empty string removes it.
 */
void tap_context(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(context, sizeof(context), fmt, ap);
	va_end(ap);
}

/** tap_fail() - Record a failed check of the running case. */
void tap_fail(const char *file, int line, const char *fmt, ...)
{
	const char *base = strrchr(file, '/');
	char message[2 * MESSAGE_LEN];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	__atomic_fetch_add(&result->failures, 1, __ATOMIC_RELAXED);
	tap_note("%s:%d: %s%s%s", base ? base + 1 : file, line, context,
		 *context ? ": " : "", message);
}

/** tap_abort() - End the calling process after a failed check. */
void tap_abort(void)
{
	fflush(stdout);
	_exit(EXIT_FAILURE);
}

/** tap_skip() - End the running case as skipped. */
void tap_skip(const char *fmt, ...)
{
	va_list ap;
	char *at;

	va_start(ap, fmt);
	vsnprintf(result->reason, sizeof(result->reason), fmt, ap);
	va_end(ap);
	/* The reason ends the result line, so it must not contain a newline. */
	for (at = result->reason; *at; at++)
		if (*at == '\n')
			*at = ' ';
	result->skipped = true;
	fflush(stdout);
	_exit(TAP_EXIT_SKIP);
}

/**
 * tap_strerror() - Format the result of a call: the errno's name if it is an
 * error.
 *
 * Return: @buf.
 */
const char *tap_strerror(long long value, char *buf, size_t len)
{
	const char *name = NULL;

	if (value < 0 && value > -4096)
		name = strerrorname_np((int)-value);
	if (name)
		snprintf(buf, len, "-%s", name);
	else
		snprintf(buf, len, "%lld", value);
	return buf;
}

bool tap_check_cmp(const char *file, int line, const char *expr, long long a,
		   const char *op, long long b, bool ok)
{
	if (!ok)
		tap_fail(file, line, "%s: %lld (%#llx) is not %s %lld (%#llx)",
			 expr, a, (unsigned long long)a, op, b,
			 (unsigned long long)b);
	return ok;
}

bool tap_check_err(const char *file, int line, const char *expr, long long got,
		   int want)
{
	char got_str[TAP_STRERROR_LEN], want_str[TAP_STRERROR_LEN];
	bool ok = want ? got == -want : got >= 0;

	if (!ok)
		tap_fail(file, line, "%s: %s, not %s", expr,
			 tap_strerror(got, got_str, sizeof(got_str)),
			 tap_strerror(-want, want_str, sizeof(want_str)));
	return ok;
}

static void run_child(const struct tap_case *c)
{
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	context[0] = '\0';
	c->run(c->arg);
	fflush(stdout);
	_exit(result->failures ? EXIT_FAILURE : EXIT_SUCCESS);
}

/* Return: the wait status of @pid, or -1 when it took longer than @seconds. */
static int wait_child(pid_t pid, unsigned int seconds)
{
	int pidfd = pidfd_open(pid, 0);
	struct pollfd pfd = {.fd = pidfd, .events = POLLIN};
	struct timespec now, end;
	int status = -1, ready = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	do {
		long long ms;

		clock_gettime(CLOCK_MONOTONIC, &now);
		ms = (end.tv_sec - now.tv_sec) * 1000LL +
		     (end.tv_nsec - now.tv_nsec) / 1000000;
		if (ms <= 0)
			break;
		ready = poll(&pfd, 1, (int)ms);
	} while (ready < 0 && errno == EINTR);
	close(pidfd);

	/*
	 * Kill the case's process group: the case and its remaining children.
	 */
	if (ready <= 0)
		kill(pid, SIGKILL);
	kill(-pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return ready > 0 ? status : -1;
}

/* Return: true if the case passed. Prints the reason if it did not. */
static bool judge(int status, unsigned int seconds)
{
	if (status == -1)
		tap_note("timed out after %u s", seconds);
	else if (WIFSIGNALED(status))
		tap_note("killed by signal %d (%s)", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status))
		tap_note("exit status %d", WEXITSTATUS(status));
	else
		return !result->failures;
	return false;
}

/* The factor for time limits, see TAP_TIMEOUT_FACTOR_ENV. */
static unsigned int timeout_factor(void)
{
	const char *text = getenv(TAP_TIMEOUT_FACTOR_ENV);
	unsigned long factor = text ? strtoul(text, NULL, 10) : 0;

	return factor && factor <= TAP_TIMEOUT_FACTOR_MAX ? factor : 1;
}

/* Run a case to its end. Return: how it ended, or -errno. */
static int run_case(const struct tap_case *c)
{
	unsigned int seconds =
		timeout_factor() *
		(c->timeout_s ? c->timeout_s : TAP_DEFAULT_TIMEOUT_S);
	pid_t pid;
	int status;

	memset(result, 0, sizeof(*result));
	fflush(stdout);
	pid = fork();
	if (pid < 0)
		return -errno;
	if (!pid)
		run_child(c);
	/* The child calls it too: either process may run first. */
	setpgid(pid, pid);
	status = wait_child(pid, seconds);
	if (status != -1 && WIFEXITED(status) &&
	    WEXITSTATUS(status) == TAP_EXIT_SKIP && result->skipped &&
	    !result->failures)
		return TAP_SKIPPED;
	return judge(status, seconds) ? TAP_PASSED : TAP_FAILED;
}

static int share_result(void)
{
	result = mmap(NULL, sizeof(*result), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (result != MAP_FAILED)
		return 0;
	result = &no_case;
	return -errno;
}

static void unshare_result(void)
{
	munmap(result, sizeof(*result));
	result = &no_case;
}

/* Return: whether a case is to be run, see TAP_CASES_ENV. */
static bool is_chosen(size_t number)
{
	const char *at = getenv(TAP_CASES_ENV);

	if (!at)
		return true;
	while (*at) {
		char *end;

		if (strtoul(at, &end, 10) == number)
			return true;
		at = *end ? end + 1 : end;
	}
	return false;
}

/*
 * Run the program after a case, see TAP_AFTER_ENV.
 *
 * Return: false after a report, if that fails.
 */
static bool run_after(size_t number)
{
	char *program = getenv(TAP_AFTER_ENV);
	char text[24];
	char *argv[] = {program, text, NULL};
	int status;
	pid_t pid;

	if (!program)
		return true;
	snprintf(text, sizeof(text), "%zu", number);
	if (posix_spawn(&pid, program, NULL, NULL, argv, environ) ||
	    waitpid(pid, &status, 0) != pid || status) {
		printf("Bail out! %s failed\n", program);
		return false;
	}
	return true;
}

/**
 * tap_run() - Run all cases and report them.
 *
 * Return: the program's exit status: 0 if no case failed, 1 if one failed,
 * TAP_EXIT_SKIP if all were skipped.
 */
int tap_run(const struct tap_case *cases, size_t nr)
{
	size_t i, failed = 0, skipped = 0;
	int r;

	r = share_result();
	if (r) {
		printf("Bail out! mmap: %s\n", strerror(-r));
		return EXIT_FAILURE;
	}

	printf("TAP version 13\n1..%zu\n", nr);
	for (i = 0; i < nr; i++) {
		const struct tap_case *c = &cases[i];

		if (!is_chosen(i + 1)) {
			skipped++;
			printf("ok %zu - %s # SKIP not chosen\n", i + 1,
			       c->name);
			continue;
		}
		r = run_case(c);
		if (r < 0) {
			printf("Bail out! fork: %s\n", strerror(-r));
			return EXIT_FAILURE;
		}
		if (r == TAP_SKIPPED) {
			skipped++;
			printf("ok %zu - %s # SKIP %s\n", i + 1, c->name,
			       result->reason);
		} else if (r == TAP_PASSED) {
			printf("ok %zu - %s\n", i + 1, c->name);
		} else {
			failed++;
			printf("not ok %zu - %s\n", i + 1, c->name);
		}
		fflush(stdout);
		if (!run_after(i + 1)) {
			failed++;
			break;
		}
	}
	unshare_result();
	if (failed)
		return EXIT_FAILURE;
	return nr && skipped == nr ? TAP_EXIT_SKIP : EXIT_SUCCESS;
}

/* The content of a file as a string, which the caller frees. */
static char *read_all(int fd)
{
	off_t size = lseek(fd, 0, SEEK_END);
	char *text = size < 0 ? NULL : calloc(1, (size_t)size + 1);

	if (text && pread(fd, text, (size_t)size, 0) != size) {
		free(text);
		text = NULL;
	}
	return text;
}

/**
 * tap_report() - Run all cases without printing anything.
 * @report: called with the result of each case
 * @arg: argument of @report
 *
 * The output of the cases and the runner goes to @report's notes.
 *
 * Return: 0, or -errno if not all cases were run.
 */
int tap_report(const struct tap_case *cases, size_t nr,
	       void (*report)(const struct tap_case *c,
			      const struct tap_outcome *outcome, void *arg),
	       void *arg)
{
	int saved, notes, r;
	size_t i;

	r = share_result();
	if (r)
		return r;
	fflush(stdout);
	saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	notes = memfd_create("notes", MFD_CLOEXEC);
	if (saved < 0 || notes < 0 || dup2(notes, STDOUT_FILENO) < 0) {
		r = -errno;
		goto out_close;
	}
	for (i = 0; i < nr; i++) {
		struct tap_outcome outcome = {.reason = result->reason};
		char *text;

		if (ftruncate(notes, 0) || lseek(notes, 0, SEEK_SET)) {
			r = -errno;
			break;
		}
		r = run_case(&cases[i]);
		if (r < 0)
			break;
		fflush(stdout);
		text = read_all(notes);
		if (!text) {
			r = -ENOMEM;
			break;
		}
		outcome.verdict = r;
		outcome.notes = text;
		r = 0;
		report(&cases[i], &outcome, arg);
		free(text);
	}
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
out_close:
	if (saved >= 0)
		close(saved);
	if (notes >= 0)
		close(notes);
	unshare_result();
	return r;
}

/**
 * tap_skip_all() - Report that all cases of a program are skipped.
 *
 * Return: the program's exit status.
 */
int tap_skip_all(const char *fmt, ...)
{
	va_list ap;

	printf("TAP version 13\n1..0 # SKIP ");
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	return TAP_EXIT_SKIP;
}
