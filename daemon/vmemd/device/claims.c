// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Which consumers may map a region's memory, in a file that outlives vmemd.
 *
 * A consumer's maps outlive vmemd, and the connection by which vmemd knows of
 * them does not. So the next vmemd has to know who was there before it changes
 * anything. The file is a memfd of one page, which is passed as "consumers": by
 * a VMM that starts vmemd, or by the service manager, which keeps it.
 *
 * What a consumer maps is not in it. One that was there may map any block.
 *
 * The file is mapped, and a store to it is there as soon as it is made. Each
 * entry has a member that is stored last and makes it valid. Others may hold the
 * file, so it is read once, and believed as little as a message.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "device/claims.h"

/* "vmemclms", and the layout of struct claims_file. */
#define MAGIC	0x766d656d636c6d73ULL
#define VERSION 1

/**
 * struct claims_file - the file
 * @magic: written last, so that a file without it is a new one
 * @version: of this layout
 */
struct claims_file {
	uint64_t magic;
	uint64_t version;
	struct claims_region region;
	struct claim claims[CLAIMS_MAX];
};

_Static_assert(sizeof(struct claims_file) <= CLAIMS_SIZE,
	       "the file has room for all");

/* It is there at once, and in the order of the program. */
static void store(volatile uint64_t *field, uint64_t value)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*field = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void create(struct claims_file *file, const struct claims_region *region)
{
	store(&file->magic, 0);
	memset(file, 0, sizeof(*file));
	file->version = VERSION;
	file->region = *region;
	store(&file->magic, MAGIC);
}

/**
 * claims_is_name() - can a consumer have this name?
 * @name: ends where it is CONSUMER_NAME_MAX long, if not before
 *
 * Names are shown in terminals and logs.
 */
bool claims_is_name(const char *name)
{
	size_t length = strnlen(name, CONSUMER_NAME_MAX);

	if (!length || length == CONSUMER_NAME_MAX)
		return false;
	for (size_t i = 0; i < length; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return true;
}

static bool is_damaged(const struct claim *claim)
{
	return claim->used > 1 || claim->subscribed > 1 ||
	       claim->uid > UINT32_MAX || claim->pid > INT_MAX ||
	       !claims_is_name(claim->name);
}

/* Return: 0; -EINVAL with a text. */
static int read_claims(struct claims *claims, struct error *err)
{
	memcpy(claims->was, claims->file->claims, sizeof(claims->was));
	for (size_t i = 0; i < CLAIMS_MAX; i++)
		if (claims->was[i].used && is_damaged(&claims->was[i]))
			return error_set(err, -EINVAL,
					 "\"consumers\" descriptor: damaged");
	return 0;
}

/**
 * claims_open() - map the file, and make it if it is new
 * @fd: a regular file that may be written, empty if it is new; not kept
 * @region: what it has to be of; of another region it is as good as new
 * @pid_namespace: of peer_namespace()
 * @err: what is wrong, on error
 *
 * Return: 0; -EINVAL it is another's; an errno of ftruncate(2) or mmap(2).
 */
int claims_open(struct claims *claims, int fd,
		const struct claims_region *region, uint64_t pid_namespace,
		struct error *err)
{
	struct stat st;
	int ret;

	memset(claims, 0, sizeof(*claims));
	claims->pid_namespace = pid_namespace;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (st.st_size && st.st_size != CLAIMS_SIZE))
		return error_set(
			err, -EINVAL,
			"\"consumers\" descriptor: not a file that is empty "
			"or of %d bytes",
			CLAIMS_SIZE);
	if (!st.st_size && ftruncate(fd, CLAIMS_SIZE) < 0) {
		ret = -errno;
		goto failed;
	}
	/* A mapping beyond a file's end is a SIGBUS. Not all files can be sealed. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		log_debug("the consumers' file is not sealed: %s",
			  strerror(errno));
	if (fstat(fd, &st) < 0 || st.st_size != CLAIMS_SIZE) {
		ret = -EINVAL;
		goto failed;
	}
	ret = file_map_open(&claims->map, fd, 0, CLAIMS_SIZE, 0);
	if (ret)
		goto failed;
	claims->file = claims->map.at;
	/* A file without magic is new, or its creator was killed. */
	if (!claims->file->magic) {
		create(claims->file, region);
		ret = 0;
	} else if (claims->file->magic != MAGIC) {
		ret = error_set(err, -EINVAL,
				"\"consumers\" descriptor: not a file of "
				"consumers");
	} else if (claims->file->version != VERSION) {
		ret = error_set(err, -EINVAL,
				"\"consumers\" descriptor: layout %" PRIu64
				", this vmemd knows %d",
				claims->file->version, VERSION);
	} else if (memcmp(&claims->file->region, region, sizeof(*region))) {
		create(claims->file, region);
		ret = 0;
	} else {
		ret = read_claims(claims, err);
	}
	if (ret)
		claims_close(claims);
	return ret;

failed:
	return error_set(err, ret, "\"consumers\" descriptor: %s",
			 strerror(-ret));
}

/* What is in the file stays. */
void claims_close(struct claims *claims)
{
	file_map_close(&claims->map);
	memset(claims, 0, sizeof(*claims));
}

/**
 * claims_add() - one more consumer
 *
 * Return: its index; CLAIMS_NONE: there is no file, or no room.
 */
int claims_add(struct claims *claims, const char *name, const struct peer *peer)
{
	struct claim *claim;
	int index = 0;

	if (!claims->file)
		return CLAIMS_NONE;
	while (index < CLAIMS_MAX && claims->file->claims[index].used)
		index++;
	if (index == CLAIMS_MAX)
		return CLAIMS_NONE;
	claim = &claims->file->claims[index];
	claim->subscribed = 0;
	claim->uid = peer->uid;
	claim->pid = peer->pid;
	claim->process_id = peer->id;
	claim->pid_namespace = claims->pid_namespace;
	snprintf(claim->name, sizeof(claim->name), "%s", name);
	store(&claim->used, 1);
	return index;
}

void claims_set_subscribed(struct claims *claims, int index)
{
	if (index != CLAIMS_NONE)
		store(&claims->file->claims[index].subscribed, 1);
}

void claims_remove(struct claims *claims, int index)
{
	if (index != CLAIMS_NONE)
		store(&claims->file->claims[index].used, 0);
}

/**
 * claims_peer() - the process of a claim that was found
 * @peer: to be closed by peer_close()
 *
 * A number of another PID namespace says nothing of who is there.
 *
 * Return: 0, also if it is not known; -ESRCH it has ended.
 */
int claims_peer(const struct claims *claims, const struct claim *claim,
		struct peer *peer)
{
	*peer = PEER_UNKNOWN;
	peer->uid = (uid_t)claim->uid;
	if (!claims->pid_namespace ||
	    claim->pid_namespace != claims->pid_namespace)
		return 0;
	peer->pid = (pid_t)claim->pid;
	peer->id = claim->process_id;
	return peer_find(peer);
}
