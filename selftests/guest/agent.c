// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-guest: the agent in a nested guest, on its serial console.
 *
 * It prints "vmem-guest ready" once, then serves one request at a time. A
 * request is a line, TAG COMMAND [ARGUMENT]... The answer is any number of
 * lines "TAG:text" and a final line, "TAG=ok" or "TAG=error MESSAGE". The
 * client chooses the tag, so kernel messages and answers to a disconnected
 * client cannot be mistaken for its answer.
 *
 *	meminfo			memtotal, memfree, memavailable, in bytes
 *	wait-memtotal B S	wait up to S seconds until MemTotal is B bytes;
 *				the current value is reported at once as "from"
 *	plugged			bytes and memory blocks of virtio-mem memory
 *	pattern SEED		write and verify hotplugged memory (pattern.h)
 *	hold B SEED		use B bytes from now on (hold.h)
 *	verify			verify them; they stay in use
 *	release			verify and free them
 *	dmesg			the kernel's log
 *	sh COMMAND		run a shell command; "error" if it fails
 *	crash-load		load the crash kernel (crash.h)
 *	crash			panic
 *	kexec			start the crash kernel in place of this one
 *	vmcore SEED		in a crash kernel: hotplugged memory in the dump
 *	reboot			reset the machine
 *	poweroff		power off the guest
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "crash.h"
#include "hold.h"
#include "hotplug.h"
#include "pattern.h"

#define MAX_LINE  256
#define MAX_WORDS 8
/* klogctl(2): read the whole log without clearing it; get its size. */
#define SYSLOG_READ_ALL 3
#define SYSLOG_SIZE	10

struct request {
	const char *tag;
	const char *command;
	char *args[MAX_WORDS];
	unsigned int nr_args;
};

static void answer(const struct request *request, const char *key,
		   uint64_t value)
{
	printf("%s:%s %llu\n", request->tag, key, (unsigned long long)value);
}

static bool parse_number(const char *text, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, 0);
	return !errno && !*end;
}

static int do_meminfo(const struct request *request)
{
	static const char *const names[][2] = {
		{"MemTotal", "memtotal"},
		{"MemFree", "memfree"},
		{"MemAvailable", "memavailable"},
	};
	uint64_t value;
	unsigned int i;
	int ret;

	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		ret = hotplug_meminfo(names[i][0], &value);
		if (ret)
			return ret;
		answer(request, names[i][1], value);
	}
	return 0;
}

static int do_wait_memtotal(const struct request *request)
{
	uint64_t wanted, seconds, total;
	int ret;

	if (request->nr_args != 2 || !parse_number(request->args[0], &wanted) ||
	    !parse_number(request->args[1], &seconds))
		return -EINVAL;
	/* A client may wait for this line before it makes the change. */
	ret = hotplug_meminfo("MemTotal", &total);
	if (ret)
		return ret;
	answer(request, "from", total);
	fflush(stdout);
	ret = hotplug_wait_memtotal(wanted, seconds, &total);
	if (!ret || ret == -ETIMEDOUT)
		answer(request, "memtotal", total);
	return ret;
}

static int do_plugged(const struct request *request)
{
	struct hotplug_state state;
	int ret = hotplug_read(&state);

	if (ret)
		return ret;
	answer(request, "plugged", state.plugged);
	answer(request, "online_blocks", state.online_blocks);
	answer(request, "offline_blocks", state.offline_blocks);
	answer(request, "block_bytes", state.block_bytes);
	answer(request, "movable_free", state.movable_free);
	return 0;
}

static int do_pattern(const struct request *request)
{
	struct pattern_result result;
	uint64_t seed;
	int ret;

	if (request->nr_args != 1 || !parse_number(request->args[0], &seed))
		return -EINVAL;
	ret = pattern_run(seed, &result);
	if (ret && ret != -EILSEQ)
		return ret;
	answer(request, "bytes", result.bytes);
	answer(request, "hotplugged_bytes", result.hotplugged_bytes);
	answer(request, "bad_pages", result.bad_pages);
	answer(request, "first_bad_page", result.first_bad_page);
	answer(request, "write_ms", result.write_ms);
	answer(request, "verify_ms", result.verify_ms);
	/* The memory is faulty, which no other errno expresses better. */
	return ret ? -EIO : 0;
}

static int do_hold(const struct request *request)
{
	uint64_t bytes, seed;

	if (request->nr_args != 2 || !parse_number(request->args[0], &bytes) ||
	    !parse_number(request->args[1], &seed))
		return -EINVAL;
	return hold_begin(bytes, seed);
}

static int answer_verified(const struct request *request,
			   int (*verify)(uint64_t *bad_pages))
{
	uint64_t bad_pages = 0;
	int ret = verify(&bad_pages);

	answer(request, "bad_pages", bad_pages);
	return ret == -EILSEQ ? -EIO : ret;
}

static int do_verify(const struct request *request)
{
	return answer_verified(request, hold_verify);
}

static int do_release(const struct request *request)
{
	return answer_verified(request, hold_end);
}

/* Runs in the child. Standard error goes to the same output. */
static void become_shell(const char *command, int output_fd)
{
	dup2(output_fd, STDOUT_FILENO);
	dup2(output_fd, STDERR_FILENO);
	execl("/bin/sh", "sh", "-c", command, NULL);
	_exit(127);
}

static int do_sh(const struct request *request)
{
	char line[MAX_LINE];
	FILE *output;
	int fds[2], status;
	pid_t pid;

	if (!request->nr_args)
		return -EINVAL;
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	pid = fork();
	if (!pid)
		become_shell(request->args[0], fds[1]);
	close(fds[1]);
	output = pid < 0 ? NULL : fdopen(fds[0], "r");
	if (!output) {
		close(fds[0]);
		return -EAGAIN;
	}
	while (fgets(line, sizeof(line), output)) {
		line[strcspn(line, "\n")] = '\0';
		printf("%s:%s\n", request->tag, line);
	}
	fclose(output);
	if (waitpid(pid, &status, 0) < 0)
		return -errno;
	return status ? -EIO : 0;
}

static int do_vmcore(const struct request *request)
{
	struct crash_result result;
	uint64_t seed;
	int ret;

	if (request->nr_args != 1 || !parse_number(request->args[0], &seed))
		return -EINVAL;
	ret = crash_read(seed, &result);
	if (ret)
		return ret;
	answer(request, "bytes", result.bytes);
	answer(request, "pages", result.pages);
	answer(request, "held", result.held);
	answer(request, "zero", result.zero);
	return 0;
}

static int do_dmesg(const struct request *request)
{
	int size = klogctl(SYSLOG_SIZE, NULL, 0), len, ret = 0;
	char *log, *line, *rest;

	if (size < 0)
		return -errno;
	log = malloc((size_t)size + 1);
	if (!log)
		return -ENOMEM;
	len = klogctl(SYSLOG_READ_ALL, log, size);
	if (len < 0) {
		ret = -errno;
		goto out;
	}
	log[len] = '\0';
	for (rest = log; (line = strsep(&rest, "\n"));)
		if (*line)
			printf("%s:%s\n", request->tag, line);
out:
	free(log);
	return ret;
}

/* The final line must be transmitted before the machine stops. */
static void say_goodbye(const struct request *request)
{
	printf("%s=ok\n", request->tag);
	fflush(stdout);
	tcdrain(STDOUT_FILENO);
}

static int do_crash_load(const struct request *request)
{
	(void)request;
	return crash_load();
}

static int do_crash(const struct request *request)
{
	say_goodbye(request);
	return crash_now();
}

static int do_kexec(const struct request *request)
{
	say_goodbye(request);
	return crash_kexec();
}

static int do_reboot(const struct request *request)
{
	say_goodbye(request);
	reboot(RB_AUTOBOOT);
	return -errno;
}

static int do_poweroff(const struct request *request)
{
	say_goodbye(request);
	reboot(RB_POWER_OFF);
	return -errno;
}

static int serve(const struct request *request)
{
	static const struct {
		const char *name;
		int (*function)(const struct request *request);
	} commands[] = {
		{.name = "crash", .function = do_crash},
		{.name = "crash-load", .function = do_crash_load},
		{.name = "dmesg", .function = do_dmesg},
		{.name = "hold", .function = do_hold},
		{.name = "kexec", .function = do_kexec},
		{.name = "meminfo", .function = do_meminfo},
		{.name = "pattern", .function = do_pattern},
		{.name = "plugged", .function = do_plugged},
		{.name = "poweroff", .function = do_poweroff},
		{.name = "reboot", .function = do_reboot},
		{.name = "release", .function = do_release},
		{.name = "sh", .function = do_sh},
		{.name = "verify", .function = do_verify},
		{.name = "vmcore", .function = do_vmcore},
		{.name = "wait-memtotal", .function = do_wait_memtotal},
	};
	size_t i;

	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (!strcmp(request->command, commands[i].name))
			return commands[i].function(request);
	return -EOPNOTSUPP;
}

static void handle_line(char *line)
{
	struct request request = {.tag = strtok(line, " \r\n")};
	char *word;
	int ret;

	if (!request.tag)
		return;
	request.command = strtok(NULL, " \r\n");
	if (request.command && !strcmp(request.command, "sh")) {
		/* The shell splits the command into words. */
		word = strtok(NULL, "\r\n");
		if (word)
			request.args[request.nr_args++] = word;
	}
	while ((word = strtok(NULL, " \r\n")) && request.nr_args < MAX_WORDS)
		request.args[request.nr_args++] = word;
	if (!request.command || word)
		ret = -EINVAL;
	else
		ret = serve(&request);
	if (ret)
		printf("%s=error %s\n", request.tag, strerror(-ret));
	else
		printf("%s=ok\n", request.tag);
	fflush(stdout);
}

/* No echo and no translation: the other end is a program. */
static void set_raw(void)
{
	struct termios raw;

	if (tcgetattr(STDIN_FILENO, &raw))
		return; /* not a terminal, when tried outside a guest */
	cfmakeraw(&raw);
	tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

int main(void)
{
	char line[MAX_LINE];

	set_raw();
	/* On a new line, since the kernel may have left an incomplete one. */
	printf("\nvmem-guest ready\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin))
		handle_line(line);
	return 1;
}
