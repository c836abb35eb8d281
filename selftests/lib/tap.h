/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Test cases and their report in the Test Anything Protocol, version 13.
 *
 * A test program is a table of cases; the name of a case says what it shows.
 * Each case has its own process, process group and time limit. A crash, a hang
 * or a stray child is therefore one "not ok", and does not affect the next
 * case. EXPECT_*() fails the case and continues; ASSERT_*() also ends the
 * calling process. Both print file, line and values.
 */
#ifndef SELFTESTS_TAP_H
#define SELFTESTS_TAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Exit status of a program that skipped all cases, as in kselftest. */
#define TAP_EXIT_SKIP 4

/**
 * struct tap_case - one test case
 * @name: what the case shows
 * @run: the function; the case passes if it returns
 * @arg: argument of @run
 * @timeout_s: limit of the run time in seconds, 0: TAP_DEFAULT_TIMEOUT_S
 */
struct tap_case {
	const char *name;
	void (*run)(const void *arg);
	const void *arg;
	unsigned int timeout_s;
};

/* A bound on hangs, large enough for slow emulated machines. */
#define TAP_DEFAULT_TIMEOUT_S 60

/*
 * Environment variable: a factor for all time limits, on slow machines. 1 if it
 * is unset or not a number; at most TAP_TIMEOUT_FACTOR_MAX.
 */
#define TAP_TIMEOUT_FACTOR_ENV "TAP_TIMEOUT_FACTOR"
#define TAP_TIMEOUT_FACTOR_MAX 100

/*
 * Environment variables for scripts/mutate. TAP_CASES: numbers of the cases that
 * tap_run() runs, separated by commas, if not all; it skips the others.
 * TAP_AFTER: a program that it runs after each case, with the number as only
 * argument.
 */
#define TAP_CASES_ENV "TAP_CASES"
#define TAP_AFTER_ENV "TAP_AFTER"

/* Result of a case. */
enum tap_verdict {
	TAP_PASSED,
	TAP_FAILED,
	TAP_SKIPPED,
};

/**
 * struct tap_outcome - result of a case, for tap_report()
 * @verdict: the result
 * @reason: why the case was skipped
 * @notes: the lines that the case printed
 */
struct tap_outcome {
	enum tap_verdict verdict;
	const char *reason;
	const char *notes;
};

int tap_run(const struct tap_case *cases, size_t nr);
int tap_report(const struct tap_case *cases, size_t nr,
	       void (*report)(const struct tap_case *c,
			      const struct tap_outcome *outcome, void *arg),
	       void *arg);
int tap_skip_all(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

void tap_note(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tap_context(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void tap_skip(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));
void tap_fail(const char *file, int line, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
void tap_abort(void) __attribute__((noreturn));

const char *tap_strerror(long long value, char *buf, size_t len);

/* Buffer size for tap_strerror(). */
#define TAP_STRERROR_LEN 48

bool tap_check_cmp(const char *file, int line, const char *expr, long long a,
		   const char *op, long long b, bool ok);
bool tap_check_err(const char *file, int line, const char *expr, long long got,
		   int want);

/* Values are compared as signed: no size in the tests has bit 63 set. */
#define TAP_CMP(a, op, b)                                                     \
	__extension__({                                                       \
		long long a_ = (long long)(a);                                \
		long long b_ = (long long)(b);                                \
		tap_check_cmp(__FILE__, __LINE__, #a " " #op " " #b, a_, #op, \
			      b_, a_ op b_);                                  \
	})

#define TAP_OR_ABORT(ok)             \
	do {                         \
		if (!(ok))           \
			tap_abort(); \
	} while (0)

#define EXPECT_EQ(a, b) ((void)TAP_CMP(a, ==, b))
#define EXPECT_NE(a, b) ((void)TAP_CMP(a, !=, b))
#define EXPECT_LT(a, b) ((void)TAP_CMP(a, <, b))
#define EXPECT_LE(a, b) ((void)TAP_CMP(a, <=, b))
#define EXPECT_GE(a, b) ((void)TAP_CMP(a, >=, b))
#define EXPECT_GT(a, b) ((void)TAP_CMP(a, >, b))
#define ASSERT_EQ(a, b) TAP_OR_ABORT(TAP_CMP(a, ==, b))
#define ASSERT_NE(a, b) TAP_OR_ABORT(TAP_CMP(a, !=, b))
#define ASSERT_LE(a, b) TAP_OR_ABORT(TAP_CMP(a, <=, b))
#define ASSERT_GE(a, b) TAP_OR_ABORT(TAP_CMP(a, >=, b))
#define ASSERT_GT(a, b) TAP_OR_ABORT(TAP_CMP(a, >, b))

/* For calls that return 0 (or more) or a negative errno. */
#define TAP_ERR(call, err)    tap_check_err(__FILE__, __LINE__, #call, call, err)
#define EXPECT_ERR(call, err) ((void)TAP_ERR(call, err))
#define EXPECT_OK(call)	      ((void)TAP_ERR(call, 0))
#define ASSERT_OK(call)	      TAP_OR_ABORT(TAP_ERR(call, 0))

#define EXPECT_TRUE(cond)                                          \
	do {                                                       \
		if (!(cond))                                       \
			tap_fail(__FILE__, __LINE__, "%s", #cond); \
	} while (0)
#define ASSERT_TRUE(cond)                                          \
	do {                                                       \
		if (!(cond)) {                                     \
			tap_fail(__FILE__, __LINE__, "%s", #cond); \
			tap_abort();                               \
		}                                                  \
	} while (0)

#endif /* SELFTESTS_TAP_H */
