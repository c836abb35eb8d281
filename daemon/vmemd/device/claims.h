/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which consumers may map a region's memory, in a file; see claims.c. */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_map.h"
#include "base/peer.h"
#include "common/error.h"

/* Longest name of a consumer, with its end. */
#define CONSUMER_NAME_MAX 64

/* As many as there can be consumers, see consumer.h. */
#define CLAIMS_MAX 10

/* Of the file: a page has room for all. */
#define CLAIMS_SIZE 4096

/* Not in the file. */
#define CLAIMS_NONE (-1)

/**
 * struct claims_region - what the claims are of
 * @region_id: the kernel's, of which no two regions have the same
 * @gpa, @size: bytes
 */
struct claims_region {
	uint64_t region_id;
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct claim - a consumer that may map the memory
 * @used: there is one here; written last
 * @subscribed: it took part in requests
 * @uid, @pid, @process_id: as of struct peer
 * @pid_namespace: that @pid is of; 0: not known
 */
struct claim {
	uint64_t used;
	uint64_t subscribed;
	uint64_t uid;
	uint64_t pid;
	uint64_t process_id;
	uint64_t pid_namespace;
	char name[CONSUMER_NAME_MAX];
};

struct claims_file;

/**
 * struct claims - the file, mapped
 * @file: NULL: there is none
 * @pid_namespace: ours, 0 if it is not known
 * @was: what was found there, checked; @was[i].used tells where there is one
 */
struct claims {
	struct claims_file *file;
	struct file_map map;
	uint64_t pid_namespace;
	struct claim was[CLAIMS_MAX];
};

bool claims_is_name(const char *name);
int claims_open(struct claims *claims, int fd,
		const struct claims_region *region, uint64_t pid_namespace,
		struct error *err);
void claims_close(struct claims *claims);
int claims_add(struct claims *claims, const char *name,
	       const struct peer *peer);
void claims_set_subscribed(struct claims *claims, int index);
void claims_remove(struct claims *claims, int index);
int claims_peer(const struct claims *claims, const struct claim *claim,
		struct peer *peer);

#endif /* CLAIMS_H */
