/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A file of the consumers that may map a region's memory; see claims.c. */
#ifndef CLAIMS_H
#define CLAIMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/file_map.h"
#include "base/peer.h"
#include "common/error.h"

/* Size of a consumer's name, including the NUL. */
#define CONSUMER_NAME_MAX 64

/* The maximum number of consumers, see consumer.h. */
#define CLAIMS_MAX 10

/* Size of the file: one page. */
#define CLAIMS_SIZE 4096

/* Index of a consumer that is not in the file. */
#define CLAIMS_NONE (-1)

/**
 * struct claims_region - the region that the claims refer to
 * @region_id: unique id given by the kernel
 * @gpa: start of the region
 * @size: bytes
 */
struct claims_region {
	uint64_t region_id;
	uint64_t gpa;
	uint64_t size;
};

/**
 * struct claim - a consumer that may map the memory
 * @used: the entry is valid; written last
 * @subscribed: requests waited for this consumer
 * @uid: user of the process
 * @pid: see struct peer
 * @process_id: id in struct peer
 * @pid_namespace: PID namespace of @pid; 0: unknown
 * @name: chosen by the consumer
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
 * struct claims - a mapped claims file
 * @file: the mapping; NULL: there is no file
 * @map: see base/file_map.h
 * @pid_namespace: PID namespace of vmemd; 0: unknown
 * @was: checked copy of the entries that were found in the file; @was[i].used
 *	says whether entry i was valid
 * @mappings: copy of their limits of mappings
 */
struct claims {
	struct claims_file *file;
	struct file_map map;
	uint64_t pid_namespace;
	struct claim was[CLAIMS_MAX];
	uint64_t mappings[CLAIMS_MAX];
};

bool claims_is_name(const char *name);
int claims_open(struct claims *claims, int fd,
		const struct claims_region *region, uint64_t pid_namespace,
		struct error *err);
void claims_close(struct claims *claims);
int claims_add(struct claims *claims, const char *name, const struct peer *peer,
	       uint64_t mappings);
void claims_set_peer(struct claims *claims, int index, const struct peer *peer);
void claims_set_mappings(struct claims *claims, int index, uint64_t mappings);
void claims_set_subscribed(struct claims *claims, int index);
void claims_remove(struct claims *claims, int index);
int claims_peer(const struct claims *claims, const struct claim *claim,
		struct peer *peer);

#endif /* CLAIMS_H */
