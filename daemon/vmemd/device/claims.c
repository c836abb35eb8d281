// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A file of the consumers that may map a region's memory. It outlives vmemd.
 *
 * A consumer's mappings outlive vmemd; its connection does not. A restarted
 * vmemd must know the consumers before it changes any memory. The file is a
 * memfd of one page. The VMM or the service manager holds it and passes it to
 * each vmemd as the descriptor "consumers".
 *
 * The file does not record which blocks a consumer maps. After a restart, a
 * recorded consumer is assumed to map any block.
 *
 * The file is mapped, so a store survives a kill of vmemd at any point. Each
 * entry has a member that is stored last and makes the entry valid. Other
 * processes may write to the file. It is therefore read once, into a copy, and
 * the copy is checked like a message from a client.
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

/*
 * "vmemclms". VERSION is the layout of all that a vmemd has to know. Limits of
 * mappings have not changed it: an older vmemd can ignore them, and they have a
 * check of their own.
 */
#define MAGIC	0x766d656d636c6d73ULL
#define VERSION 1

/**
 * struct claim_mappings - a limit, which older versions of vmemd ignore
 * @limit: 0 for no limit
 * @pid: as in struct claim
 * @process_id: as in struct claim
 * @check: of the name, see check_of()
 *
 * An older version may store another claim with the same index, and keeps the limit
 * of the previous claim. So a limit is valid only for the process and the name for
 * which it was stored. If the claim's process is unknown, only the name counts.
 */
struct claim_mappings {
	uint64_t limit;
	uint64_t pid;
	uint64_t process_id;
	uint64_t check;
};

/**
 * struct claims_file - contents of the file
 * @magic: written last; a file without it counts as new
 * @version: version of this layout
 * @region: region that the claims refer to
 * @claims: an entry per consumer
 * @mappings: of each consumer, its limit of mappings
 */
struct claims_file {
	uint64_t magic;
	uint64_t version;
	struct claims_region region;
	struct claim claims[CLAIMS_MAX];
	struct claim_mappings mappings[CLAIMS_MAX];
};

_Static_assert(sizeof(struct claims_file) <= CLAIMS_SIZE,
	       "the file has room for all");

/* The fences keep the compiler from reordering stores to the file. */
static void store(volatile uint64_t *field, uint64_t value)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*field = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static uint64_t load(const volatile uint64_t *field)
{
	return *field;
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
 * claims_is_name() - check the name of a consumer
 * @name: read up to CONSUMER_NAME_MAX bytes
 *
 * Terminals and logs show names, so only printable ASCII without spaces is
 * accepted.
 *
 * Return: whether the name is valid.
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

/* FNV-1a of a name, which other processes may have changed in the file. */
static uint64_t check_of(const char *name)
{
	uint64_t check = 0xcbf29ce484222325ULL;

	for (int i = 0; i < CONSUMER_NAME_MAX && name[i]; i++)
		check = (check ^ (unsigned char)name[i]) * 0x100000001b3ULL;
	return check;
}

static bool is_limit_of(const struct claim_mappings *limit,
			const struct claim *claim)
{
	return limit->check == check_of(claim->name) &&
	       (!claim->pid_namespace ||
		(limit->pid == claim->pid &&
		 limit->process_id == claim->process_id));
}

/*
 * Copy the entries and check the copies. Each value is read once, because other
 * processes may write to the file.
 *
 * Return: 0; -EINVAL with @err set.
 */
static int read_claims(struct claims *claims, struct error *err)
{
	const volatile struct claims_file *file = claims->file;

	for (size_t i = 0; i < CLAIMS_MAX; i++) {
		struct claim *was = &claims->was[i];
		struct claim_mappings limit = file->mappings[i];

		*was = file->claims[i];
		if (was->used && is_damaged(was))
			return error_set(err, -EINVAL,
					 "\"consumers\" descriptor: damaged");
		if (was->used && is_limit_of(&limit, was))
			claims->mappings[i] = limit.limit;
	}
	return 0;
}

/**
 * claims_open() - map the file and initialise it if it is new
 * @claims: to be closed by claims_close()
 * @fd: a writable regular file, empty if it is new; the caller keeps it
 * @region: the region; claims for another region are dropped
 * @pid_namespace: result of peer_namespace()
 * @err: set on error
 *
 * Return: 0; -EINVAL: the file is not a claims file, or damaged; an errno of
 * ftruncate(2) or mmap(2).
 */
int claims_open(struct claims *claims, int fd,
		const struct claims_region *region, uint64_t pid_namespace,
		struct error *err)
{
	uint64_t magic, version;
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
	/* Shrinking the file causes SIGBUS. Not all files can be sealed. */
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
	magic = load(&claims->file->magic);
	version = load(&claims->file->version);
	/* Without magic the file is new, or vmemd was killed in create(). */
	if (!magic) {
		create(claims->file, region);
		ret = 0;
	} else if (magic != MAGIC) {
		ret = error_set(err, -EINVAL,
				"\"consumers\" descriptor: not a file of "
				"consumers");
	} else if (version != VERSION) {
		ret = error_set(err, -EINVAL,
				"\"consumers\" descriptor: layout %" PRIu64
				", this vmemd knows %d",
				version, VERSION);
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

/* Unmap the file. Its contents stay. */
void claims_close(struct claims *claims)
{
	file_map_close(&claims->map);
	memset(claims, 0, sizeof(*claims));
}

/**
 * claims_add() - record a consumer
 * @claims: the file
 * @name: the consumer's name
 * @peer: the consumer's process
 * @mappings: the consumer's limit of mappings; 0: no limit
 *
 * Return: its index; CLAIMS_NONE: there is no file, or the file is full.
 */
int claims_add(struct claims *claims, const char *name, const struct peer *peer,
	       uint64_t mappings)
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
	claims->file->mappings[index] = (struct claim_mappings){
		.limit = mappings,
		.pid = claim->pid,
		.process_id = claim->process_id,
		.check = check_of(claim->name),
	};
	store(&claim->used, 1);
	return index;
}

/**
 * claims_set_peer() - record the process of a claim, which was unknown before
 * @claims: the file
 * @index: of the claim, or CLAIMS_NONE
 * @peer: the process
 *
 * The claim and its limit are valid all the time. If vmemd is killed meanwhile, the
 * process is unknown to the next vmemd.
 */
void claims_set_peer(struct claims *claims, int index, const struct peer *peer)
{
	struct claim *claim;

	if (index == CLAIMS_NONE)
		return;
	claim = &claims->file->claims[index];
	store(&claim->pid_namespace, 0);
	store(&claim->uid, peer->uid);
	store(&claim->pid, (uint64_t)peer->pid);
	store(&claim->process_id, peer->id);
	store(&claims->file->mappings[index].pid, (uint64_t)peer->pid);
	store(&claims->file->mappings[index].process_id, peer->id);
	store(&claim->pid_namespace, claims->pid_namespace);
}

/* Record another limit of mappings. A valid limit stays valid all the time. */
void claims_set_mappings(struct claims *claims, int index, uint64_t mappings)
{
	const struct claim *claim;
	struct claim_mappings *limit;

	if (index == CLAIMS_NONE)
		return;
	claim = &claims->file->claims[index];
	limit = &claims->file->mappings[index];
	if (!is_limit_of(limit, claim))
		store(&limit->check, 0);
	store(&limit->limit, mappings);
	store(&limit->pid, claim->pid);
	store(&limit->process_id, claim->process_id);
	store(&limit->check, check_of(claim->name));
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
 * claims_peer() - find the process of a claim
 * @claims: the file
 * @claim: an entry of @claims->was
 * @peer: to be closed by peer_close()
 *
 * A PID of another PID namespace is ignored; the process is unknown then.
 *
 * Return: as peer_find().
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
