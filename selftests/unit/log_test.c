// SPDX-License-Identifier: GPL-2.0-or-later
/* Log messages, and a reader of standard error that does not read. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "unit.h"

/* More messages than a pipe holds. */
#define MANY 10000

/* Longest text read from a pipe. */
#define TEXT_MAX (1 << 20)

/**
 * struct fixture - a pipe in place of standard error
 * @reader: the read end
 * @saved: the real standard error
 * @text: the last text read
 */
struct fixture {
	int reader;
	int saved;
	char text[TEXT_MAX];
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	int pair[2];

	assert_non_null(f);
	assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
	assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
	f->reader = pair[0];
	f->saved = dup(STDERR_FILENO);
	assert_true(f->saved >= 0);
	assert_int_equal(dup2(pair[1], STDERR_FILENO), STDERR_FILENO);
	close(pair[1]);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(dup2(f->saved, STDERR_FILENO), STDERR_FILENO);
	close(f->saved);
	close(f->reader);
	free(f);
	return 0;
}

/* Everything written so far. */
static const char *take(struct fixture *f)
{
	size_t have = 0;
	ssize_t got;

	do {
		got = read(f->reader, f->text + have,
			   sizeof(f->text) - 1 - have);
		have += got > 0 ? (size_t)got : 0;
	} while (got > 0);
	f->text[have] = '\0';
	return f->text;
}

static unsigned int count_lines(const char *text)
{
	unsigned int nr = 0;

	for (; *text; text++)
		nr += *text == '\n';
	return nr;
}

static void a_message_is_a_line(void **state)
{
	struct fixture *f = *state;

	log_warning("%s", "one\ntwo\33[m");
	assert_string_equal(take(f), "vmemd: one two [m\n");
	log_debug("too much");
	assert_string_equal(take(f), "");
}

/* JOURNAL_STREAM may be inherited and refer to another stream. */
static void only_the_journals_own_stream_has_priorities(void **state)
{
	struct fixture *f = *state;
	char stream[64];
	struct stat st;

	assert_int_equal(fstat(STDERR_FILENO, &st), 0);
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino + 1);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init(LOG_LEVEL_WARNING);
	log_warning("text");
	assert_string_equal(take(f), "vmemd: text\n");
	snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t)st.st_dev,
		 (uintmax_t)st.st_ino);
	setenv("JOURNAL_STREAM", stream, 1);
	log_init(LOG_LEVEL_WARNING);
	log_warning("text");
	assert_string_equal(take(f), "<4>vmemd: text\n");
	unsetenv("JOURNAL_STREAM");
	log_init(LOG_LEVEL_WARNING);
}

static void a_label_comes_first(void **state)
{
	struct log_limit limit = {0};
	struct fixture *f = *state;

	log_warning_of("node0: ", "%s", "text");
	assert_string_equal(take(f), "vmemd: node0: text\n");
	log_warning_of(NULL, "text");
	log_warning_of("", "text");
	assert_string_equal(take(f), "vmemd: text\nvmemd: text\n");
	/* Suppressed messages had the same prefix. */
	for (int i = 0; i <= LOG_LIMIT_BURST; i++)
		log_limited(&limit, LOG_LEVEL_ERR, "far: ", "often");
	assert_int_equal(count_lines(take(f)), LOG_LIMIT_BURST);
	limit.window_ns = 1;
	log_limited(&limit, LOG_LEVEL_ERR, "far: ", "later");
	assert_string_equal(take(f),
			    "vmemd: far: 1 messages like this left out\n"
			    "vmemd: far: later\n");
}

/* A wait would never end; the test's time limit catches it. */
static void logging_never_blocks(void **state)
{
	struct fixture *f = *state;
	unsigned int read_nr, lost = 0;
	const char *text;

	for (int i = 0; i < MANY; i++)
		log_err("message %d", i);
	text = take(f);
	read_nr = count_lines(text);
	assert_in_range(read_nr, 1, MANY - 1);
	assert_int_equal(strncmp(text, "vmemd: message 0\n", 17), 0);
	/* Lost messages are counted. */
	log_err("the next");
	text = take(f);
	assert_int_equal(
		sscanf(text, "vmemd: %u messages were left out", &lost), 1);
	assert_int_equal(read_nr + lost, MANY);
	assert_string_equal(strchr(text, '\n') + 1, "vmemd: the next\n");
	/* The count is reported once. */
	log_err("another");
	assert_string_equal(take(f), "vmemd: another\n");
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_message_is_a_line),
		T(only_the_journals_own_stream_has_priorities),
		T(a_label_comes_first),
		T(logging_never_blocks),
	};

	log_init(LOG_LEVEL_WARNING);
	return unit_run(tests, NULL, NULL);
}
