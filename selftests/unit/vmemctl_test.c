// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The command vmemctl, run as a program, with a daemon whose answers the test
 * sets.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common/save_file.h"
#include "unit.h"

#define OUTPUT_MAX 65536

/**
 * struct fixture - a daemon for vmemctl
 * @dir: the test's folder; @path is in it
 * @answer: a line for each request; NULL: no answer
 * @mute: the daemon does not even accept
 * @terminal: vmemctl's output is a terminal
 * @columns: width of the terminal, 0: it reports none
 * @endless: answers are pages of an endless list; only standard error is
 *	recorded
 * @requests: what vmemctl has sent
 * @output: what vmemctl has printed
 */
struct fixture {
	char dir[32];
	char path[64];
	int fd;
	const char *answer;
	bool mute;
	bool terminal;
	unsigned short columns;
	bool endless;
	char requests[OUTPUT_MAX];
	char output[OUTPUT_MAX];
};

static int set_up(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	strcpy(f->dir, "/tmp/vmemctl-XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	snprintf(f->path, sizeof(f->path), "%s/control", f->dir);
	strcpy(addr.sun_path, f->path);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(bind(f->fd, (struct sockaddr *)&addr, sizeof(addr)),
			 0);
	assert_int_equal(listen(f->fd, 0), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	close(f->fd);
	unlink(f->path);
	assert_int_equal(rmdir(f->dir), 0);
	free(f);
	return 0;
}

/* Start of the fixture's answers; the request's id replaces the number. */
#define ANSWER_HEAD "{\"id\":1,"

/* Send the answer to request @id. */
static void send_answer(const struct fixture *f, int fd, unsigned int id)
{
	const char *rest = f->answer + strlen(ANSWER_HEAD);
	char head[32];

	assert_memory_equal(f->answer, ANSWER_HEAD, strlen(ANSWER_HEAD));
	snprintf(head, sizeof(head), "{\"id\":%u,", id);
	send(fd, head, strlen(head), MSG_NOSIGNAL | MSG_MORE);
	send(fd, rest, strlen(rest), MSG_NOSIGNAL);
}

/* Send a page of an endless list. */
static void send_page(int fd, unsigned int id)
{
	enum { ELEMENTS = 1 << 16 };
	char *page = malloc(128 + 2 * ELEMENTS);
	size_t have;

	assert_non_null(page);
	have = (size_t)sprintf(
		page, "{\"id\":%u,\"result\":{\"next\":%u,\"runs\":[0", id, id);
	for (size_t i = 1; i < ELEMENTS; i++) {
		page[have++] = ',';
		page[have++] = '0';
	}
	have += (size_t)sprintf(page + have, "]}}\n");
	assert_int_equal(send(fd, page, have, MSG_NOSIGNAL), have);
	free(page);
}

/* Answer requests until the client leaves. */
static void serve(struct fixture *f)
{
	int fd = accept4(f->fd, NULL, NULL, SOCK_CLOEXEC);
	unsigned int id = 0;
	size_t have = 0;

	assert_true(fd >= 0);
	/* A request is a line, which may arrive in pieces. */
	for (;;) {
		ssize_t got = recv(fd, f->requests + have,
				   sizeof(f->requests) - 1 - have, 0);

		if (got <= 0)
			break;
		have += (size_t)got;
		f->requests[have] = '\0';
		if (f->requests[have - 1] != '\n')
			continue;
		if (f->endless)
			send_page(fd, ++id);
		else if (f->answer)
			send_answer(f, fd, ++id);
	}
	close(fd);
}

/* Run vmemctl. Return: its exit status. */
static int run_program(struct fixture *f, const char *const *argv)
{
	const struct winsize window = {.ws_col = f->columns};
	size_t have = 0;
	ssize_t got;
	int out[2], status;
	pid_t child;

	if (f->terminal)
		assert_int_equal(openpty(&out[0], &out[1], NULL, NULL, &window),
				 0);
	else
		assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (!child) {
		dup2(f->endless ? open("/dev/null", O_WRONLY | O_CLOEXEC)
				: out[1],
		     STDOUT_FILENO);
		dup2(out[1], STDERR_FILENO);
		execv(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(out[1]);
	if (!f->mute)
		serve(f);
	while ((got = read(out[0], f->output + have,
			   sizeof(f->output) - 1 - have)) > 0)
		have += (size_t)got;
	f->output[have] = '\0';
	close(out[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static int run(struct fixture *f, const char *const *args)
{
	const char *argv[48] = {VMEMCTL, "--control", f->path};

	for (size_t i = 0; args[i]; i++)
		argv[3 + i] = args[i];
	return run_program(f, argv);
}

#define RUN(f, ...) run(f, (const char *const[]){__VA_ARGS__, NULL})

static void unknown_values_are_not_zero(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"result\":{\"driver\":{},\"requests\":{},"
		    "\"metadata\":{\"total\":4096}}}\n";
	assert_int_equal(RUN(f, "status"), 0);
	assert_non_null(strstr(f->output, "metadata                  4 KiB\n"));
	/* A missing value is not shown as 0 either. */
	assert_non_null(strstr(f->output, "plugged               not known\n"));
	f->answer = "{\"id\":1,\"result\":{\"driver\":{},\"requests\":{},"
		    "\"metadata\":null}}\n";
	assert_int_equal(RUN(f, "status"), 0);
	assert_non_null(strstr(f->output, "metadata              not known\n"));
	assert_null(strstr(f->output, "gfn_track"));
	f->answer = "{\"id\":1,\"result\":{\"slots\":[{\"id\":3,"
		    "\"metadata\":null}]}}\n";
	assert_int_equal(RUN(f, "slots"), 0);
	assert_non_null(strstr(f->output, "not known"));
}

static void the_state_of_the_driver_is_shown(void **state)
{
	static const struct {
		const char *answer;
		const char *shown;
	} drivers[] = {
#define DRIVER(members) \
	"{\"id\":1,\"result\":{\"driver\":{" members "},\"requests\":{}}}\n"
		{DRIVER(""), " no VMM connected\n"},
		{DRIVER("\"ready\":true,\"broken\":true"),
		 " no VMM connected\n"},
		{DRIVER("\"connected\":true"), " not ready\n"},
		{DRIVER("\"connected\":true,\"ready\":true"), "  ready\n"},
		{DRIVER("\"connected\":true,\"ready\":true,\"broken\":true"),
		 " broke its queue\n"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
		f->answer = drivers[i].answer;
		assert_int_equal(RUN(f, "status"), 0);
		assert_non_null(strstr(f->output, drivers[i].shown));
		assert_null(strstr(f->output, "state lost"));
	}
	f->answer = "{\"id\":1,\"result\":{\"driver\":{},\"requests\":{},"
		    "\"state_lost\":true}}\n";
	assert_int_equal(RUN(f, "status"), 0);
	assert_non_null(strstr(f->output, "state lost "));
}

/* A region may have more runs than vmemctl accepts. */
static void a_list_that_is_too_long_is_an_error(void **state)
{
	struct fixture *f = *state;

	f->endless = true;
	assert_int_equal(RUN(f, "blocks", "--json"), 1);
	assert_null(strstr(f->output, "not a vmemd's answer"));
	assert_non_null(strstr(f->output, "the list is longer"));
	f->endless = false;
}

static void a_refusal_exits_with_1(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"error\":{\"code\":\"EINVAL\","
		    "\"message\":\"no\"}}\n";
	assert_int_equal(RUN(f, "resize", "1G"), 1);
	assert_non_null(strstr(f->output, "no (EINVAL)"));
	f->mute = true;
	close(f->fd);
	f->fd = -1;
	assert_int_equal(RUN(f, "status"), 1);
	unlink(f->path);
	assert_int_equal(RUN(f, "status"), 1);
}

static void a_wrong_command_line_exits_with_2(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN(f, "reboot"), 2);
	assert_int_equal(RUN(f, "status", "--wait"), 2);
	assert_int_equal(RUN(f, "resize"), 2);
	assert_int_equal(RUN(f, "status", "--top"), 2);
	assert_int_equal(RUN(f, "metadata"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "--pid", "1"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "--memslots"), 2);
	assert_int_equal(RUN(f, "metadata", "--pid", "0"), 2);
	assert_int_equal(RUN(f, "metadata", "--pid", "1x"), 2);
	assert_int_equal(RUN(f, "metadata", "--fd", "-1"), 2);
	assert_int_equal(RUN(f, "metadata", "--fd", "99999999999"), 2);
	assert_int_equal(RUN(f, "metadata", "--top", "now"), 2);
	assert_int_equal(RUN(f, "resize", "1KiBB"), 2);
	assert_int_equal(RUN(f, "status", "--output", "x"), 2);
	assert_int_equal(RUN(f, "status", "--control", "other"), 2);
	assert_int_equal(RUN(f, "resize", "1G", "--timeout", "-1"), 2);
	assert_int_equal(RUN(f, "metrics", "--json"), 2);
	assert_int_equal(RUN(f, "metrics", "--wait"), 2);
	assert_int_equal(RUN(f, "metrics", "--device", "a"), 2);
	assert_int_equal(RUN(f, "top", "--interval", "0"), 2);
	assert_int_equal(RUN(f, "top", "--count", "0"), 2);
	assert_int_equal(RUN(f, "top", "--timeout", "1"), 2);
	assert_int_equal(RUN(f, "save"), 2);
	assert_int_equal(RUN(f, "save", "x", "--json"), 2);
	assert_int_equal(RUN(f, "hold"), 2);
	assert_int_equal(RUN(f, "hold", "maybe"), 2);
	assert_int_equal(RUN(f, "dirty-log", "true"), 2);
}

static void a_guest_that_stalls_exits_with_3(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"result\":{}}\n"
		    "{\"event\":\"state\",\"requested_size\":1073741824,"
		    "\"plugged_size\":0}\n";
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 3);
	assert_non_null(strstr(f->output, "stalled"));
}

static void a_daemon_that_does_not_answer_exits_with_4(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct fixture *f = *state;
	int fds[2];

	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 4);
	assert_non_null(strstr(f->output, "does not answer"));
	/* The daemon does not accept, and its backlog is full. */
	f->mute = true;
	strcpy(addr.sun_path, f->path);
	for (size_t i = 0; i < 2; i++) {
		fds[i] = socket(AF_UNIX,
				SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
		/* The last one may find the backlog full. */
		if (connect(fds[i], (struct sockaddr *)&addr, sizeof(addr)))
			assert_int_equal(errno, EAGAIN);
	}
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "0.2"),
			 4);
	close(fds[0]);
	close(fds[1]);
}

#define GIB_TEXT "1073741824"
#define HALF_GIB "536870912"
#define RESULT	 "{\"id\":1,\"result\":{}}\n"
#define STATE(plugged, more)                                   \
	"{\"event\":\"state\",\"requested_size\":" GIB_TEXT    \
	",\"plugged_size\":" plugged ",\"populated_slots\":4," \
	"\"connected\":true,\"ready\":true" more "}\n"

static void assert_in_order(const char *text, const char *const *parts)
{
	for (; *parts; parts++) {
		const char *at = strstr(text, *parts);

		if (!at)
			fail_msg("no \"%s\" in \"%s\"", *parts, text);
		text = at + strlen(*parts);
	}
}

static void a_bar_is_drawn_on_a_terminal(void **state)
{
	struct fixture *f = *state;

	f->terminal = true;
	f->answer =
		RESULT STATE("0", "") STATE(HALF_GIB, "") STATE(GIB_TEXT, "");
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "20"),
			 0);
	assert_non_null(
		strstr(f->output, "\r[........................] 0 B of 1 GiB"));
	assert_non_null(
		strstr(f->output, "\r[############............] 512 MiB of 1"));
	assert_non_null(strstr(f->output,
			       "\r[########################] 1 GiB of 1 GiB"));
	/* The bar begins where the guest was. */
	f->answer = RESULT STATE(HALF_GIB, "") STATE("805306368", "")
		STATE(GIB_TEXT, "");
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "20"),
			 0);
	assert_in_order(f->output,
			(const char *const[]){
				"\r[........................] 512 MiB of 1 GiB",
				"\r[############............] 768 MiB of 1 GiB",
				"\r[########################] 1 GiB of 1 GiB",
				NULL});
	f->answer =
		RESULT STATE("0", "") STATE(HALF_GIB, "") STATE(GIB_TEXT, "");
	/* No bar if the output is read line by line. */
	f->terminal = false;
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "20"),
			 0);
	assert_null(strchr(f->output, '\r'));
	assert_non_null(strstr(f->output, "plugged 512 MiB of 1 GiB"));
}

/* Where the bar does not fit, the text is shown without it. */
static void a_bar_leaves_the_text_its_place(void **state)
{
	static const char text[] = "512 MiB of 1 GiB";
	struct fixture *f = *state;

	f->terminal = true;
	/* The last column is not used. */
	for (f->columns = sizeof(text); f->columns < 32; f->columns++) {
		f->answer = RESULT STATE(HALF_GIB, "") STATE(GIB_TEXT, "");
		assert_int_equal(
			RUN(f, "resize", "1G", "--wait", "--timeout", "20"), 0);
		if (!strstr(f->output, text))
			fail_msg("%u columns: \"%s\"", f->columns, f->output);
	}
}

static void a_stall_is_explained(void **state)
{
	static const struct {
		const char *answer;
		const char *size;
		const char *reason;
	} stalls[] = {
		{RESULT "{\"event\":\"state\",\"requested_size\":" GIB_TEXT
			",\"plugged_size\":0}\n",
		 "1G", "no VMM is connected"},
		{RESULT "{\"event\":\"state\",\"requested_size\":" GIB_TEXT
			",\"plugged_size\":0,\"connected\":true}\n",
		 "1G", "no virtio_mem driver"},
		{RESULT STATE("0", ",\"last_failure\":\"no huge pages\""), "1G",
		 "no huge pages"},
		{RESULT STATE("0", ",\"state_lost\":true"), "1G",
		 "state was lost"},
		{RESULT STATE("0", ",\"given_back\":true"), "1G",
		 "lacks memory for page structures"},
		{RESULT STATE("2147483648", ""), "1G", "memory that is in use"},
		{RESULT STATE("0", ""), "1G", "does not plug more"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(stalls) / sizeof(stalls[0]); i++) {
		int ret;

		f->answer = stalls[i].answer;
		/* A busy machine may not have an answer yet. */
		do
			ret = RUN(f, "resize", stalls[i].size, "--wait",
				  "--timeout", "0.1");
		while (ret == 4);
		assert_int_equal(ret, 3);
		assert_non_null(strstr(f->output, stalls[i].reason));
	}
	/*
	 * The reason is also shown while waiting: once during the wait, once at
	 * the end.
	 */
	f->terminal = true;
	assert_int_equal(RUN(f, "resize", "1G", "--wait", "--timeout", "3.2"),
			 3);
	assert_non_null(strstr(f->output,
			       "0 B of 1 GiB: the guest does not plug more"));
	assert_non_null(strstr(f->output, "stalled at 0 B of 1 GiB"));
}

/* --- The host --- */

/* Run vmemctl without a vmemd, on the host of vmemctl_host.c. */
#define RUN_ON_HOST(f, ...) \
	run_program(f, (const char *const[]){VMEMCTL_HOST, __VA_ARGS__, NULL})

static void top_lists_regions_by_id_and_their_sum(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN_ON_HOST(f, "top", "--count", "1"), 0);
	assert_in_order(
		f->output,
		(const char *const[]){
			"\n     4       10  vm10", "256 MiB", "64 MiB",
			"32 MiB", "2/8", "2 MiB", "16 MiB\n",
			"     6       20  vm20", "128 MiB", "32 MiB", "16 MiB",
			"4/16", "4 MiB", "-\n", "     9       30  vm30",
			"512 MiB", "256 MiB", "128 MiB", "1/4", "1 MiB",
			"8 MiB\n",
			/* The cost of one memslot is known for two regions. */
			"     3           in all ", "896 MiB", "352 MiB",
			"176 MiB", "7/28", "7 MiB", "24 MiB\n", NULL});
}

/* Return: how often a text occurs in the output. */
static unsigned int count_of(const struct fixture *f, const char *text)
{
	unsigned int nr = 0;

	for (const char *at = f->output; (at = strstr(at, text)); at++)
		nr++;
	return nr;
}

#define ALL_REGIONS "     3           in all "

/* Only a terminal is drawn again and again. */
static void top_prints_as_often_as_it_is_told(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN_ON_HOST(f, "top"), 0);
	assert_int_equal(count_of(f, ALL_REGIONS), 1);
	assert_int_equal(count_of(f, "\x1b"), 0);
	assert_int_equal(
		RUN_ON_HOST(f, "top", "--interval", "0.01", "--count", "3"), 0);
	assert_int_equal(count_of(f, ALL_REGIONS), 3);
	assert_int_equal(count_of(f, "\x1b"), 0);
	assert_int_equal(RUN_ON_HOST(f, "--json", "top"), 0);
	assert_int_equal(count_of(f, "\"regions\""), 1);
	f->terminal = true;
	assert_int_equal(RUN_ON_HOST(f, "top", "--count", "1"), 0);
	assert_int_equal(count_of(f, ALL_REGIONS), 1);
	assert_int_equal(count_of(f, "\x1b"), 0);
	assert_int_equal(RUN_ON_HOST(f, "--json", "top", "--interval", "0.01",
				     "--count", "2"),
			 0);
	assert_int_equal(count_of(f, "\"regions\""), 2);
	assert_int_equal(count_of(f, "\x1b"), 0);
	assert_int_equal(
		RUN_ON_HOST(f, "top", "--interval", "0.01", "--count", "2"), 0);
	assert_int_equal(count_of(f, ALL_REGIONS), 2);
	assert_true(count_of(f, "\x1b") > 0);
}

static void metadata_of_the_host_is_by_size(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN_ON_HOST(f, "metadata", "--top"), 0);
	assert_in_order(
		f->output,
		(const char *const[]){"\n      20  vm20", "21", "2", "3 MiB",
				      "24 MiB\n", "      30  vm30", "31",
				      "24 MiB\n", "      10  vm10", "11",
				      "18 MiB\n", "       3  in all", "6",
				      "9 MiB", "66 MiB\n", NULL});
}

static void metadata_of_a_process_is_by_address_space(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(RUN_ON_HOST(f, "metadata", "--pid", "10"), 0);
	assert_in_order(f->output,
			(const char *const[]){
				"process 10 (vm10), descriptor 11\n",
				"\nnormal ", "1", "1 MiB", "9 MiB", "1 MiB",
				"8 MiB", "\nSMM ", "1", "2 MiB", "9 MiB",
				"\nboth ", "2", "3 MiB", "18 MiB", NULL});
	assert_null(strstr(f->output, "guest address"));
	assert_null(strstr(f->output, "change all the time"));
	assert_int_equal(
		RUN_ON_HOST(f, "metadata", "--pid", "30", "--memslots"), 0);
	assert_in_order(f->output,
			(const char *const[]){"guest address", "\nnormal ",
					      " 5  0x100000000 ", "1 MiB",
					      "\nSMM ", " 5  0x100000000 ",
					      "2 MiB", NULL});
	assert_non_null(strstr(f->output, "change all the time"));
	/* A descriptor given by number has no process. */
	assert_int_equal(RUN_ON_HOST(f, "metadata", "--fd", "1"), 0);
	assert_null(strstr(f->output, "process"));
	assert_non_null(strstr(f->output, "\nboth "));
}

static void metadata_of_no_process_is_an_error(void **state)
{
	static const struct {
		int error;
		const char *text;
	} errors[] = {
		{ESRCH, "vmemctl: there is no process "},
		{EPERM, "inspecting it needs the permissions of ptrace(2)"},
		{EACCES, "inspecting it needs the permissions of ptrace(2)"},
		{EIO, ": Input/output error\n"},
	};
	struct fixture *f = *state;

	f->mute = true;
	for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
		char pid[16];

		snprintf(pid, sizeof(pid), "%d", 1000 + errors[i].error);
		assert_int_equal(RUN_ON_HOST(f, "metadata", "--pid", pid), 1);
		assert_in_order(
			f->output,
			i ? (const char *const[]){"vmemctl: process ", pid,
						  errors[i].text, NULL}
			  : (const char *const[]){errors[i].text, pid, NULL});
	}
}

#define KINDS(total, memslot, rmap, lpage_info, gfn_track, dirty_bitmap) \
	"\"metadata\":{\"total\":" total ",\"memslot\":" memslot         \
	",\"rmap\":" rmap ",\"lpage_info\":" lpage_info                  \
	",\"gfn_track\":" gfn_track ",\"dirty_bitmap\":" dirty_bitmap "}"
#define KINDS_OF_SLOT KINDS("12582948", "4194304", "8388608", "11", "12", "13")
#define KINDS_OF_VM   KINDS("25165896", "8388608", "16777216", "22", "24", "26")
#define ADDRESS_SPACE(nr, size)                                           \
	"{\"address_space\":" nr ",\"nr_memslots\":1,\"memory\":" size    \
	",\"changing\":false," KINDS_OF_SLOT ",\"memslots\":[{\"id\":5,"  \
	"\"flags\":3,\"gpa\":4294967296,\"size\":" size "," KINDS_OF_SLOT \
	"}]}"

/* Programs rely on each member. */
static void json_has_all_members(void **state)
{
	struct fixture *f = *state;

	f->mute = true;
	assert_int_equal(
		RUN_ON_HOST(f, "--json", "metadata", "--fd", "1", "--memslots"),
		0);
	assert_string_equal(
		f->output,
		"{\"vms\":[{\"pid\":0,\"command\":\"\",\"fd\":1,"
		"\"address_spaces\":[" ADDRESS_SPACE(
			"0",
			"1048576") "," ADDRESS_SPACE("1",
						     "2097152") "]," KINDS_OF_VM
								"}]}\n");
	assert_int_equal(RUN_ON_HOST(f, "--json", "metadata", "--pid", "30"),
			 0);
	assert_in_order(f->output,
			(const char *const[]){"{\"vms\":[{\"pid\":30,"
					      "\"command\":\"vm30\",\"fd\":31,",
					      "\"changing\":false,",
					      "\"changing\":true,", NULL});
	assert_int_equal(count_of(f, "\"memslots\""), 0);
	assert_int_equal(RUN_ON_HOST(f, "--json", "metadata", "--top"), 0);
	assert_in_order(f->output,
			(const char *const[]){"{\"pid\":20,", "{\"pid\":30,",
					      "{\"pid\":10,", NULL});
	assert_int_equal(RUN_ON_HOST(f, "--json", "top"), 0);
	assert_string_equal(
		f->output,
		"{\"regions\":[{\"region_id\":4,\"pid\":10,"
		"\"command\":\"vm10\",\"region_size\":268435456,"
		"\"requested_size\":67108864,\"plugged_size\":33554432,"
		"\"populated_slots\":2,\"nr_slots\":8,\"metadata\":2097152,"
		"\"saved\":16777216},{\"region_id\":6,\"pid\":20,"
		"\"command\":\"vm20\",\"region_size\":134217728,"
		"\"requested_size\":33554432,\"plugged_size\":16777216,"
		"\"populated_slots\":4,\"nr_slots\":16,\"metadata\":4194304,"
		"\"saved\":null},{\"region_id\":9,\"pid\":30,"
		"\"command\":\"vm30\",\"region_size\":536870912,"
		"\"requested_size\":268435456,\"plugged_size\":134217728,"
		"\"populated_slots\":1,\"nr_slots\":4,\"metadata\":1048576,"
		"\"saved\":8388608}]}\n");
}

/* --- Metrics --- */

#define STATUS                                                              \
	"{\"id\":1,\"result\":{\"region_size\":1099511627776,"              \
	"\"requested_size\":" GIB_TEXT ",\"plugged_size\":" HALF_GIB        \
	",\"usable_region_size\":1342177280,\"nr_slots\":8192,"             \
	"\"populated_slots\":4,\"undiscarded_size\":0,"                     \
	"\"metadata\":{\"memslot\":2048,\"rmap\":0,\"total\":2048},"        \
	"\"whole_metadata\":null,"                                          \
	"\"zap_ranges\":true,\"range_zaps\":3,\"zaps_by_kvm\":1,"           \
	"\"driver\":{\"connected\":true,\"ready\":false},"                  \
	"\"state_lost\":true,"                                              \
	"\"requests\":{\"plug\":{\"ack\":7,\"busy\":1}},"                   \
	"\"latencies_ns\":{\"plug\":{\"buckets\":["                         \
	"{\"most\":100000,\"count\":1},{\"most\":1000000000,\"count\":2}]," \
	"\"count\":8,\"sum\":2500000000}}}}\n"

static void assert_line(const struct fixture *f, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The output has this line; %s is the VM's name. */
static void assert_line(const struct fixture *f, const char *format, ...)
{
	const char *at = f->output;
	char line[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	for (; (at = strstr(at, line)); at++)
		if ((at == f->output || at[-1] == '\n') &&
		    at[strlen(line)] == '\n')
			return;
	fail_msg("no line \"%s\"", line);
}

static void metrics_show_the_daemons_state(void **state)
{
	struct fixture *f = *state;
	const char *vm = f->path;

	f->answer = STATUS;
	assert_int_equal(RUN(f, "metrics"), 0);
	assert_line(f, "vmem_up{vm=\"%s\"} 1", vm);
	assert_line(f, "vmem_region_size_bytes{vm=\"%s\"} 1099511627776", vm);
	assert_line(f, "vmem_requested_size_bytes{vm=\"%s\"} 1073741824", vm);
	assert_line(f, "vmem_plugged_size_bytes{vm=\"%s\"} 536870912", vm);
	assert_line(f, "vmem_memslots{vm=\"%s\"} 8192", vm);
	assert_line(f, "vmem_populated_memslots{vm=\"%s\"} 4", vm);
	assert_line(f, "vmem_front_end_connected{vm=\"%s\"} 1", vm);
	assert_line(f, "vmem_driver_ready{vm=\"%s\"} 0", vm);
	assert_line(f, "vmem_state_lost{vm=\"%s\"} 1", vm);
	assert_line(f, "vmem_metadata_bytes{vm=\"%s\",kind=\"memslot\"} 2048",
		    vm);
	assert_null(strstr(f->output, "kind=\"total\""));
	/* An unknown value is omitted, not 0. */
	assert_null(strstr(f->output, "vmem_whole_metadata_bytes{"));
	assert_line(f, "vmem_zaps_total{vm=\"%s\",of=\"memslots\"} 3", vm);
	assert_line(f, "vmem_zaps_total{vm=\"%s\",of=\"vm\"} 1", vm);
	assert_line(f, "# TYPE vmem_requests_total counter");
	assert_line(f,
		    "vmem_requests_total{vm=\"%s\",request=\"plug\","
		    "answer=\"ack\"} 7",
		    vm);
	/* Buckets are cumulative. */
	assert_line(f,
		    "vmem_request_duration_seconds_bucket{vm=\"%s\","
		    "request=\"plug\",le=\"0.0001\"} 1",
		    vm);
	assert_line(f,
		    "vmem_request_duration_seconds_bucket{vm=\"%s\","
		    "request=\"plug\",le=\"1.0\"} 3",
		    vm);
	assert_line(f,
		    "vmem_request_duration_seconds_bucket{vm=\"%s\","
		    "request=\"plug\",le=\"+Inf\"} 8",
		    vm);
	assert_line(f,
		    "vmem_request_duration_seconds_sum{vm=\"%s\","
		    "request=\"plug\"} 2.500000000",
		    vm);
	assert_null(strstr(f->output, "EOF"));

	assert_int_equal(RUN(f, "metrics", "--openmetrics"), 0);
	assert_line(f, "# TYPE vmem_requests counter");
	assert_line(f, "# UNIT vmem_plugged_size_bytes bytes");
	assert_string_equal(f->output + strlen(f->output) - 6, "# EOF\n");
}

/* Hanging sockets together cost one time limit. */
static void hanging_daemons_do_not_delay_others(void **state)
{
	enum { HUNG = 12, LIMIT_S = 2 };
	char paths[HUNG][sizeof(((struct fixture *)0)->path) + 8];
	const char *args[2 * HUNG + 4];
	int fds[HUNG], full[HUNG];
	struct fixture *f = *state;
	struct timespec from, to;
	size_t nr = 0;

	for (size_t i = 0; i < HUNG; i++) {
		struct sockaddr_un addr = {.sun_family = AF_UNIX};

		snprintf(paths[i], sizeof(paths[i]), "%s-%zu", f->path, i);
		strcpy(addr.sun_path, paths[i]);
		fds[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(
			bind(fds[i], (struct sockaddr *)&addr, sizeof(addr)),
			0);
		assert_int_equal(listen(fds[i], 0), 0);
		/* Half of the sockets have a full backlog. */
		full[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (i % 2)
			assert_int_equal(connect(full[i],
						 (struct sockaddr *)&addr,
						 sizeof(addr)),
					 0);
		args[nr++] = "--control";
		args[nr++] = paths[i];
	}
	args[nr++] = "--timeout";
	args[nr++] = "2";
	args[nr++] = "metrics";
	args[nr] = NULL;
	f->answer = STATUS;
	clock_gettime(CLOCK_MONOTONIC, &from);
	assert_int_equal(run(f, args), 0);
	clock_gettime(CLOCK_MONOTONIC, &to);
	/* One after the other they would take at least this long. */
	assert_true(to.tv_sec - from.tv_sec < HUNG * LIMIT_S);
	assert_line(f, "vmem_up{vm=\"%s\"} 1", f->path);
	for (size_t i = 0; i < HUNG; i++) {
		assert_line(f, "vmem_up{vm=\"%s\"} 0", paths[i]);
		close(fds[i]);
		close(full[i]);
		unlink(paths[i]);
	}
}

static void a_missing_daemon_is_down(void **state)
{
	char other[sizeof(((struct fixture *)0)->path) + 8];
	struct fixture *f = *state;

	/* Other daemons are reported nevertheless. */
	snprintf(other, sizeof(other), "%s\"\\.x", f->path);
	f->answer = STATUS;
	assert_int_equal(RUN(f, "--control", other, "metrics"), 0);
	assert_line(f, "vmem_up{vm=\"%s\"} 1", f->path);
	assert_line(f, "vmem_up{vm=\"%s\\\"\\\\.x\"} 0", f->path);
	assert_non_null(strstr(f->output, "no vmemd listens there"));
	f->answer = "{\"id\":1,\"error\":{\"code\":\"ENODEV\","
		    "\"message\":\"no region yet\"}}\n";
	assert_int_equal(RUN(f, "metrics"), 0);
	assert_line(f, "vmem_up{vm=\"%s\"} 0", f->path);
	assert_null(strstr(f->output, "vmem_plugged_size_bytes{"));
}

#define SAVED                                                      \
	"\"gpa\":4294967296,\"region_size\":1073741824,"           \
	"\"block_size\":2097152,\"usable_region_size\":536870912," \
	"\"requested_size\":268435456,\"features\":3,\"node\":1,\"changes\":7"

static void a_state_is_saved(void **state)
{
	struct fixture *f = *state;
	struct error err;
	char file[64];
	struct save_state saved;

	snprintf(file, sizeof(file), "%s/state", f->dir);
	f->answer = "{\"id\":1,\"result\":{" SAVED ",\"runs\":["
		    "{\"gpa\":4294967296,\"size\":4194304},"
		    "{\"gpa\":4303355904,\"size\":2097152}]}}\n";
	assert_int_equal(RUN(f, "save", file), 0);
	assert_string_equal(f->output, "");
	assert_int_equal(save_file_read(file, &saved, &err), 0);
	assert_int_equal(saved.gpa, 4 * GIB);
	assert_int_equal(saved.region_size, GIB);
	assert_int_equal(saved.block_size, 2 * MIB);
	assert_int_equal(saved.usable_region_size, 512 * MIB);
	assert_int_equal(saved.requested_size, 256 * MIB);
	assert_int_equal(saved.features, 3);
	assert_int_equal(saved.node, 1);
	assert_int_equal(saved.nr_runs, 2);
	assert_int_equal(saved.runs[1].gpa, 4 * GIB + 8 * MIB);
	assert_int_equal(save_plugged_size(&saved), 6 * MIB);
	save_state_free(&saved);

	/*
	 * A state that could not be restored is not saved, and the old file
	 * stays.
	 */
	f->answer = "{\"id\":1,\"result\":{" SAVED ",\"runs\":["
		    "{\"gpa\":4294967296,\"size\":4096}]}}\n";
	assert_int_equal(RUN(f, "save", file), 1);
	assert_non_null(strstr(f->output, "cannot be saved"));
	assert_int_equal(save_file_read(file, &saved, &err), 0);
	assert_int_equal(saved.nr_runs, 2);
	save_state_free(&saved);
	unlink(file);
	/* Nor a state that the daemon refuses to report. */
	f->answer = "{\"id\":1,\"error\":{\"code\":\"EBUSY\",\"message\":"
		    "\"not now\"}}\n";
	assert_int_equal(RUN(f, "save", file), 1);
	assert_non_null(strstr(f->output, "not now"));
	assert_int_equal(access(file, F_OK), -1);
	f->answer = "{\"id\":1,\"result\":{" SAVED ",\"runs\":[]}}\n";
	assert_int_equal(RUN(f, "save", "/nowhere/at/all"), 1);
	assert_non_null(strstr(f->output, "/nowhere/at/all: No such file"));
}

static void metrics_replace_a_file(void **state)
{
	struct fixture *f = *state;
	char path[sizeof(f->path)], text[OUTPUT_MAX];
	struct stat st;
	FILE *file;

	snprintf(path, sizeof(path), "%s/vm.prom", f->dir);
	f->answer = STATUS;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(RUN(f, "metrics", "--output", path), 0);
		assert_string_equal(f->output, "");
		file = fopen(path, "re");
		assert_non_null(file);
		text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
		fclose(file);
		assert_non_null(strstr(text, "vmem_up{"));
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0644);
	}
	unlink(path);
	/*
	 * If the file cannot be replaced, no temporary file remains; see
	 * tear_down().
	 */
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(RUN(f, "metrics", "--output", path), 1);
	assert_int_equal(rmdir(path), 0);
	f->mute = true;
	assert_int_equal(
		RUN(f, "metrics", "--output", path, "--timeout", "0.1"), 0);
	unlink(path);
}

#define TWO                                                       \
	"{\"id\":1,\"result\":{\"devices\":["                     \
	"{\"device\":\"near\",\"attached\":true,\"driver\":{},"   \
	"\"requests\":{},\"plugged_size\":536870912},"            \
	"{\"device\":\"far\",\"attached\":false}],"               \
	"\"latencies_ns\":{\"plug\":{\"buckets\":[],\"count\":1," \
	"\"sum\":2000000}}}}\n"

static void several_devices_are_distinguished(void **state)
{
	const char *near, *far;
	struct fixture *f = *state;

	f->answer = TWO;
	assert_int_equal(RUN(f, "status"), 0);
	assert_null(strstr(f->requests, "device"));
	near = strstr(f->output, " near\n");
	far = strstr(f->output, " far\n");
	assert_non_null(near);
	assert_non_null(far);
	assert_true(near < strstr(f->output, "512 MiB"));
	assert_true(far > strstr(f->output, "512 MiB"));
	assert_non_null(strstr(far, "no region yet"));
	/* The request names the device. */
	f->answer = "{\"id\":1,\"result\":{\"slots\":[]}}\n";
	assert_int_equal(RUN(f, "slots", "--device", "far"), 0);
	assert_non_null(strstr(f->requests, "\"device\":\"far\""));
	f->answer = "{\"id\":1,\"result\":{}}\n"
		    "{\"device\":\"far\",\"event\":\"state\","
		    "\"requested_size\":1048576,\"plugged_size\":1048576}\n";
	assert_int_equal(RUN(f, "--device", "far", "resize", "1M", "--wait"),
			 0);
	assert_non_null(strstr(f->output, "far: plugged 1 MiB"));
	/* Both requests name it. */
	near = strstr(f->requests, "\"device\":\"far\"");
	assert_non_null(near);
	assert_non_null(strstr(near + 1, "\"device\":\"far\""));
}

/* Readers refuse a page with duplicate samples. */
static void samples_are_unique(void **state)
{
	struct fixture *f = *state;
	const char *first;

	f->answer = "{\"id\":1,\"result\":{\"devices\":["
		    "{\"device\":\"near\",\"attached\":true,\"driver\":{},"
		    "\"requests\":{}},{\"device\":\"far\",\"attached\":false},"
		    "{\"device\":\"near\",\"attached\":false}]}}\n";
	RUN(f, "metrics");
	assert_line(f, "vmem_up{vm=\"%s\",device=\"near\"} 1", f->path);
	assert_line(f, "vmem_up{vm=\"%s\",device=\"far\"} 0", f->path);
	first = strstr(f->output, "\nvmem_up{");
	assert_non_null(first);
	first = strstr(first + 1, "\nvmem_up{");
	assert_non_null(first);
	assert_null(strstr(first + 1, "\nvmem_up{"));
	first = strstr(f->output, "there are two of {");
	assert_non_null(first);
	assert_null(strstr(first + 1, "there are two of {"));
}

static void metrics_of_several_devices_name_them(void **state)
{
	struct fixture *f = *state;
	const char *vm = f->path;

	f->answer = TWO;
	assert_int_equal(RUN(f, "metrics"), 0);
	assert_line(f, "vmem_up{vm=\"%s\",device=\"near\"} 1", vm);
	assert_line(f, "vmem_up{vm=\"%s\",device=\"far\"} 0", vm);
	assert_line(f,
		    "vmem_plugged_size_bytes{vm=\"%s\",device=\"near\"} "
		    "536870912",
		    vm);
	assert_line(f,
		    "vmem_request_duration_seconds_sum{vm=\"%s\","
		    "device=\"near\",request=\"plug\"} 0.002000000",
		    vm);
	assert_non_null(strstr(f->requests, "\"device\":\"near\""));
	assert_null(strstr(f->requests, "\"device\":\"far\""));
	assert_null(strstr(f->output, "device=\"far\",request"));
}

/*
 * Commands without output: the request is sent, and --json prints the answer.
 */
static void commands_send_their_request(void **state)
{
	static const struct {
		const char *args[4];
		const char *request;
	} told[] = {
		{{"hold", "on"},
		 "\"method\":\"hold\",\"params\":{\"on\":true}}\n"},
		{{"hold", "off"},
		 "\"method\":\"hold\",\"params\":{\"on\":false}}\n"},
		{{"forget-consumer", "vfio0"},
		 "\"method\":\"forget-consumer\",\"params\":{\"name\":"
		 "\"vfio0\"}}\n"},
		{{"dirty-log", "on"},
		 "\"method\":\"dirty-log\",\"params\":{\"on\":true}}\n"},
		{{"system-reset"},
		 "\"method\":\"system-reset\",\"params\":{\"force\":false}}\n"},
		{{"system-reset", "--force"},
		 "\"method\":\"system-reset\",\"params\":{\"force\":true}}\n"},
		{{"resize", "1M"},
		 "\"method\":\"resize\",\"params\":{\"size\":1048576}}\n"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < sizeof(told) / sizeof(told[0]); i++) {
		const char *const *args = told[i].args;

		f->answer = "{\"id\":1,\"result\":{\"plugged_size\":0}}\n";
		assert_int_equal(run(f, args), 0);
		assert_non_null(strstr(f->requests, told[i].request));
		assert_string_equal(f->output, "");
		assert_int_equal(RUN(f, "--json", args[0], args[1]), 0);
		assert_non_null(strstr(f->output, "\"plugged_size\""));
		/* The daemon refused. */
		f->answer = "{\"id\":1,\"error\":{\"code\":\"EBUSY\","
			    "\"message\":\"the guest's driver is in use\"}}\n";
		assert_int_equal(run(f, args), 1);
		assert_non_null(
			strstr(f->output, "the guest's driver is in use"));
	}
}

static void a_place_is_told(void **state)
{
	struct fixture *f = *state;

	f->answer = "{\"id\":1,\"result\":{\"asked_early\":false}}\n";
	assert_int_equal(RUN(f, "place", "--address", "0x140000000"), 0);
	assert_string_equal(f->requests,
			    "{\"id\":1,\"method\":\"place\",\"params\":"
			    "{\"gpa\":5368709120}}\n");
	assert_string_equal(f->output, "the region is at 0x140000000\n");
	assert_int_equal(RUN(f, "--json", "place", "--address", "1"), 0);
	assert_string_equal(f->output, "{\"asked_early\":false}\n");
	f->answer = "{\"id\":1,\"result\":{\"asked_early\":true}}\n";
	assert_int_equal(RUN(f, "place", "--address", "0x140000000"), 0);
	assert_string_equal(f->output,
			    "the region is at 0x140000000; the guest's driver "
			    "has read the device before\n");
	f->answer = "{\"id\":1,\"error\":{\"code\":\"EBUSY\","
		    "\"message\":\"the region is in use\"}}\n";
	assert_int_equal(RUN(f, "place", "--address", "0x140000000"), 1);
	assert_non_null(strstr(f->output, "the region is in use (EBUSY)"));
	f->mute = true;
	assert_int_equal(RUN(f, "place"), 2);
	assert_int_equal(RUN(f, "place", "--address", "1", "--qmp", "x"), 2);
	assert_int_equal(RUN(f, "place", "--address", "0"), 2);
	assert_int_equal(RUN(f, "place", "--address", "-1"), 2);
	assert_int_equal(RUN(f, "place", "--address", "1G"), 2);
	assert_int_equal(RUN(f, "place", "--address", "0x10000000000000000"),
			 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(commands_send_their_request),
		T(a_place_is_told),
		T(unknown_values_are_not_zero),
		T(the_state_of_the_driver_is_shown),
		T(a_list_that_is_too_long_is_an_error),
		T(a_refusal_exits_with_1),
		T(a_wrong_command_line_exits_with_2),
		T(a_guest_that_stalls_exits_with_3),
		T(a_daemon_that_does_not_answer_exits_with_4),
		T(a_bar_is_drawn_on_a_terminal),
		T(a_bar_leaves_the_text_its_place),
		T(a_stall_is_explained),
		T(top_lists_regions_by_id_and_their_sum),
		T(top_prints_as_often_as_it_is_told),
		T(metadata_of_the_host_is_by_size),
		T(metadata_of_a_process_is_by_address_space),
		T(metadata_of_no_process_is_an_error),
		T(json_has_all_members),
		T(metrics_show_the_daemons_state),
		T(hanging_daemons_do_not_delay_others),
		T(a_missing_daemon_is_down),
		T(a_state_is_saved),
		T(metrics_replace_a_file),
		T(several_devices_are_distinguished),
		T(metrics_of_several_devices_name_them),
		T(samples_are_unique),
	};

	return unit_run(tests, NULL, NULL);
}
