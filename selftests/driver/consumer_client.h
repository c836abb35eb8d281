/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A consumer of a vmemd's device: a connection to its control socket that has
 * subscribed, see CONSUMERS in vmemd(8). For tests: what fails ends the case.
 */
#ifndef CONSUMER_CLIENT_H
#define CONSUMER_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Longest line of vmemd's that is looked at. */
#define CONSUMER_LINE_MAX 4096

/* The question that changes nothing. */
#define CONTROL_STATUS "{\"id\":3,\"method\":\"status\"}\n"

/**
 * struct consumer_event - what vmemd tells
 * @name: "populate", "discard", "subscribed" or "closed"
 * @reason: of the last
 * @seq, @gpa, @size: of the first two
 * @nr_slots: memslots that come or go, from @slot on; @slots_gpa, @slots_size:
 *	what they cover
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
 * @line: bytes received from the start of a line on, @have of them
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
