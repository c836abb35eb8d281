// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A client of the control socket that checks the protocol: each line is an
 * event or an answer, an answer has a result or an error, and there are no more
 * answers than requests.
 */
#include "fuzz_client.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fuzz.h"

/** fuzz_client_send() - Send bytes, with descriptors. */
void fuzz_client_send(struct fuzz_client *client, const void *bytes,
		      size_t size, const int *fds, size_t nr_fds)
{
	const char *text = bytes;
	ssize_t sent;

	if (!size || client->fd < 0)
		return;
	sent = fuzz_send(client->fd, bytes, size, fds, nr_fds);
	for (ssize_t i = 0; i < sent; i++)
		client->newlines += text[i] == '\n';
}

static void check_answer(struct fuzz_client *client, json_object *answer)
{
	json_object *part;

	fuzz_require(json_object_object_get_ex(answer, "id", &part));
	fuzz_require(json_object_object_get_ex(answer, "result", &part) !=
		     json_object_object_get_ex(answer, "error", &part));
	if (client->check)
		client->check(answer);
	/* One more answer for an overlong line or too many descriptors. */
	client->answers++;
	fuzz_require(client->answers <= client->newlines + 1);
}

/* An answer or an event: one object in a line. */
static void check_line(struct fuzz_client *client)
{
	static json_tokener *tokener;
	json_object *object, *part;

	if (!tokener)
		tokener = json_tokener_new();
	fuzz_require(tokener);
	json_tokener_reset(tokener);
	object =
		json_tokener_parse_ex(tokener, client->line, (int)client->have);
	fuzz_require(json_object_is_type(object, json_type_object));
	if (!json_object_object_get_ex(object, "event", &part))
		check_answer(client, object);
	else if (json_object_object_get_ex(object, "seq", &part))
		client->seq = json_object_get_uint64(part);
	json_object_put(object);
}

static void take(struct fuzz_client *client, const char *bytes, size_t size)
{
	while (size) {
		const char *end = memchr(bytes, '\n', size);
		size_t part = end ? (size_t)(end - bytes) : size;

		while (client->room - client->have < part) {
			client->room = client->room ? client->room * 2 : 4096;
			client->line = realloc(client->line, client->room);
			fuzz_require(client->line);
		}
		memcpy(client->line + client->have, bytes, part);
		client->have += part;
		if (!end)
			return;
		check_line(client);
		client->have = 0;
		bytes += part + 1;
		size -= part + 1;
	}
}

/** fuzz_client_read() - Read everything received. */
void fuzz_client_read(struct fuzz_client *client)
{
	static char bytes[256 << 10];
	ssize_t got;

	if (client->fd < 0)
		return;
	got = recv(client->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	if (got > 0)
		take(client, bytes, (size_t)got);
}

/** fuzz_client_leave() - End the connection, if there is one. */
void fuzz_client_leave(struct fuzz_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	client->fd = -1;
	client->newlines = 0;
	client->answers = 0;
	client->seq = 0;
	client->have = 0;
}
