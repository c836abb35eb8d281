// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-gdb: send packets of GDB's remote protocol to a VMM.
 *
 * QEMU stops the VM when it connects, and resumes it when it detaches.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lines.h"

#define DETACH "D"

static const char usage[] =
	"Usage: vmem-gdb SOCKET SECONDS PACKET...\n"
	"Send packets to a GDB stub, and print the answer to each in a line. Then detach.\n"
	"Exit status: 0 all are answered, 1 not, 2 wrong usage.\n";

/* Set answer, which has LINES_MAX bytes, to the answer without its checksum. */
static bool ask(struct lines *stub, time_t deadline, const char *packet,
		char *answer)
{
	char line[LINES_MAX];
	unsigned char sum = 0;
	const char *at;

	for (at = packet; *at; at++)
		sum = (unsigned char)(sum + (unsigned char)*at);
	if ((size_t)snprintf(line, sizeof(line), "$%s#%02x", packet, sum) >=
	    sizeof(line)) {
		errno = EMSGSIZE;
		return false;
	}
	/* Before the answer are the last one's checksum and acknowledgments. */
	if (!lines_send(stub, line) ||
	    !lines_read_to(stub, deadline, '#', line))
		return false;
	at = strchr(line, '$');
	if (!at) {
		errno = EPROTO;
		return false;
	}
	strcpy(answer, at + 1);
	return lines_send(stub, "+");
}

int main(int argc, char **argv)
{
	char answer[LINES_MAX];
	struct lines stub;
	bool done = true;
	time_t deadline;
	int i;

	if (argc < 4) {
		fputs(usage, stderr);
		return 2;
	}
	deadline = lines_now() + (time_t)strtoul(argv[2], NULL, 10);
	if (!lines_connect(&stub, argv[1])) {
		fprintf(stderr, "vmem-gdb: %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	for (i = 3; i < argc && done; i++) {
		done = ask(&stub, deadline, argv[i], answer);
		if (done)
			puts(answer);
	}
	done = done && ask(&stub, deadline, DETACH, answer);
	lines_close(&stub);
	return done ? 0 : 1;
}
