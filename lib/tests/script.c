// SPDX-License-Identifier: MIT
#include "script.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"

static bool say(int fd, const struct script_part *part)
{
	size_t size = part->size ? part->size : strlen(part->says), sent = 0;

	while (sent < size) {
		ssize_t put =
			send(fd, part->says + sent, size - sent, MSG_NOSIGNAL);

		if (put < 0)
			return false;
		sent += (size_t)put;
	}
	return true;
}

/* Record what is received. Return: number of complete lines. */
static unsigned int hear(int fd, int heard_fd, bool *open)
{
	char text[4096];
	unsigned int lines = 0;
	ssize_t got = recv(fd, text, sizeof(text), 0);

	*open = got > 0;
	if (got > 0 && write(heard_fd, text, (size_t)got) < 0)
		_exit(1);
	for (ssize_t i = 0; i < got; i++)
		lines += text[i] == '\n';
	return lines;
}

static void play(int fd, int heard_fd, const struct script_part *part)
{
	unsigned int lines = 0;
	bool open = true;

	while (open && !lines)
		lines = hear(fd, heard_fd, &open);
	if (part->says)
		while (say(fd, part) && part->again)
			;
	while (open && lines < 1 + part->hears)
		lines += hear(fd, heard_fd, &open);
	while (!part->ends && open)
		hear(fd, heard_fd, &open);
	close(fd);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	strcpy(address.sun_path, path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)),
			 0);
	assert_int_equal(listen(fd, SOMAXCONN), 0);
	return fd;
}

/* Serve @nr connections, one after the other. */
void script_start(struct script *script, const struct script_part *parts,
		  size_t nr)
{
	int listen_fd, heard[2];

	strcpy(script->dir, "/tmp/script-XXXXXX");
	assert_non_null(mkdtemp(script->dir));
	strcpy(script->path, script->dir);
	strcat(script->path, "/control");
	listen_fd = listen_at(script->path);
	/* The pipe holds unread data up to its size; the tests send little. */
	assert_int_equal(pipe(heard), 0);
	script->pid = fork();
	assert_true(script->pid >= 0);
	if (!script->pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (size_t i = 0; i < nr; i++)
			play(accept(listen_fd, NULL, NULL), heard[1],
			     &parts[i]);
		_exit(0);
	}
	close(listen_fd);
	close(heard[1]);
	script->heard_fd = heard[0];
}

/* Everything received until the process ended. Return: @text. */
const char *script_heard(const struct script *script, char *text, size_t size)
{
	size_t have = 0;
	ssize_t got;

	while (have < size - 1 &&
	       (got = read(script->heard_fd, text + have, size - 1 - have)) > 0)
		have += (size_t)got;
	text[have] = '\0';
	return text;
}

void script_stop(struct script *script)
{
	kill(script->pid, SIGKILL);
	assert_int_equal(waitpid(script->pid, NULL, 0), script->pid);
	close(script->heard_fd);
	unlink(script->path);
	assert_int_equal(rmdir(script->dir), 0);
}
