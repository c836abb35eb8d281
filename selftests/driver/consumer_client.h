/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A consumer of a device of vmemd: a subscribed connection to the control
 * socket, see CONSUMERS in vmemd(8). For tests: any failure ends the case.
 */
#ifndef CONSUMER_CLIENT_H
#define CONSUMER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum length of a line from vmemd. */
#define CONSUMER_LINE_MAX 4096

/* A request that changes nothing. */
#define CONTROL_STATUS "{\"id\":3,\"method\":\"status\"}\n"

/**
 * struct consumer_event - an event from vmemd
 * @name: "populate", "discard", "subscribed" or "closed"
 * @reason: reason of "closed"
 * @seq: of "populate" and "discard": number to answer with
 * @gpa: of "populate" and "discard": start of the range
 * @size: of "populate" and "discard": size of the range
 * @nr_slots: number of memslots that are created or deleted
 * @slot: id of the first of them
 * @slots_gpa: guest address of the first of them
 * @slots_size: their total size
 */
struct consumer_event {
	char name[16];
	char reason[256];
	uint64_t seq;
	uint64_t gpa;
	uint64_t size;
	uint32_t nr_slots;
	uint32_t slot;
	uint64_t slots_gpa;
	uint64_t slots_size;
};

/**
 * struct consumer_client - a connection
 * @fd: the socket
 * @line: received bytes, from the start of a line
 * @have: number of bytes in @line
 */
struct consumer_client {
	int fd;
	char line[CONSUMER_LINE_MAX];
	size_t have;
};

void control_connect(struct consumer_client *c, const char *path);
void control_close(struct consumer_client *c);
void consumer_unsubscribe(struct consumer_client *c);
void control_write(const struct consumer_client *c, const char *line);
void control_ask(struct consumer_client *c, const char *line, char *answer,
		 size_t size);

void consumer_subscribe(struct consumer_client *c, const char *path,
			const char *name, uint32_t memslots, char *answer,
			size_t size);
void consumer_next(struct consumer_client *c, struct consumer_event *event);
bool consumer_waits(const struct consumer_client *c);
void consumer_done(struct consumer_client *c, uint64_t seq, bool ok,
		   const char *reason);

#endif /* CONSUMER_CLIENT_H */
