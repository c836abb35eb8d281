// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state of a device whose memory vmemd makes itself.
 *
 * There is no kernel to remember which blocks are plugged, so a file does: a
 * memfd, or a file on tmpfs, that outlives this process with whoever else holds
 * it, as the memory itself does. It is mapped, and a store to it is there as
 * soon as it is made: a process that is killed loses nothing that it has
 * stored, and its stores are there in the order of the program. So all that it
 * takes is an order in which every moment makes sense:
 *
 * - What is one number is one aligned store of 64 bits.
 * - A change of blocks is many stores. First it is written down as a record, in
 *   that of the two which is not current; making it current, one store, is the
 *   moment at which the change has happened. Then the bits follow. Whoever opens
 *   the file carries out the current record again, which does no harm if it was
 *   carried out before.
 *
 * The last record also answers a guest whose answer was lost, as the kernel's
 * last request id does for a region there.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "backing/vmm_state.h"
#include "base/log.h"

/* "vmemstat", and the layout of struct shmem_header. */
#define MAGIC	0x766d656d73746174ULL
#define VERSION 1

#define WORD_BITS 64

/* Store one number of the state; it is there at once, or not at all. */
void vmm_state_set(volatile uint64_t *field, uint64_t value)
{
	/* Where a process ends, what its processor has stored is in order. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*field = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

const struct shmem_record *vmm_state_last(const struct vmm_state *state)
{
	return &state->header->records[state->header->current & 1];
}

bool vmm_state_plugged(const struct vmm_state *state, uint64_t block)
{
	return state->map[block / WORD_BITS] >> block % WORD_BITS & 1;
}

static void carry_out(struct vmm_state *state,
		      const struct shmem_record *record)
{
	uint64_t end = record->first + record->nr;

	for (uint64_t i = record->first; i < end; i++) {
		uint64_t bit = 1ULL << i % WORD_BITS;
		uint64_t *word = &state->map[i / WORD_BITS];

		if (i % WORD_BITS == 0 && end - i >= WORD_BITS) {
			*word = record->plug ? ~0ULL : 0;
			i += WORD_BITS - 1;
		} else if (record->plug) {
			*word |= bit;
		} else {
			*word &= ~bit;
		}
	}
}

/**
 * vmm_state_commit() - blocks were plugged or unplugged
 * @first: number of the first block
 * @nr: how many, at least one
 */
void vmm_state_commit(struct vmm_state *state, uint64_t first, uint64_t nr,
		      bool plug)
{
	struct shmem_header *header = state->header;
	uint64_t next = !(header->current & 1);

	header->records[next] = (struct shmem_record){first, nr, plug};
	vmm_state_set(&header->current, next);
	carry_out(state, &header->records[next]);
}

/* A file that is new, or was being made when its maker was killed. */
static void create(struct vmm_state *state, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size)
{
	struct shmem_header *header = state->header;

	memset(header, 0, state->size);
	header->version = VERSION;
	header->region_size = region_size;
	header->block_size = block_size;
	header->slot_size = slot_size;
	vmm_state_set(&header->magic, MAGIC);
}

/**
 * vmm_state_fits() - can a region be at this guest address?
 * @gpa: multiple of the block size, with room for the region behind it
 */
bool vmm_state_fits(uint64_t gpa, uint64_t region_size, uint64_t block_size)
{
	return gpa % block_size == 0 && gpa <= UINT64_MAX - region_size;
}

/*
 * Values that vmm.c does not store. The file is as little to be trusted as a
 * message: others may hold it.
 */
static bool is_damaged(const struct shmem_header *header)
{
	uint64_t size = header->region_size, block = header->block_size;
	uint64_t nr = size / block;

	for (size_t i = 0; i < 2; i++) {
		const struct shmem_record *record = &header->records[i];

		if (record->first > nr || record->nr > nr - record->first ||
		    record->plug > 1)
			return true;
	}
	return !vmm_state_fits(header->gpa, size, block) ||
	       header->requested_size > size ||
	       header->requested_size % block || header->used > 1 ||
	       header->current > 1;
}

/* Is what was found there for the device that we are to be? */
static int check(const struct shmem_header *header, uint64_t region_size,
		 uint64_t block_size, uint64_t slot_size, struct error *err)
{
	const struct {
		const char *what;
		uint64_t is;
		uint64_t wanted;
	} same[] = {
		{"region", header->region_size, region_size},
		{"block", header->block_size, block_size},
		{"slot", header->slot_size, slot_size},
	};

	if (header->version != VERSION)
		return error_set(err, -EINVAL,
				 "\"state\" descriptor: layout %" PRIu64
				 ", this vmemd knows %d",
				 header->version, VERSION);
	for (size_t i = 0; i < sizeof(same) / sizeof(same[0]); i++) {
		if (same[i].is == same[i].wanted)
			continue;
		return error_set(err, -EINVAL,
				 "\"state\" descriptor: %s size %" PRIu64
				 ", not %" PRIu64,
				 same[i].what, same[i].is, same[i].wanted);
	}
	if (is_damaged(header))
		return error_set(err, -EINVAL, "\"state\" descriptor: damaged");
	return 0;
}

/* Is there a state in a file? Nothing is changed. */
bool vmm_state_is_there(int fd)
{
	uint64_t magic;

	return pread(fd, &magic, sizeof(magic),
		     offsetof(struct shmem_header, magic)) == sizeof(magic) &&
	       magic == MAGIC;
}

/**
 * vmm_state_open() - map the state, and make it if the file is new
 * @fd: a regular file that may be written, empty if it is new; not kept
 * @region_size, @block_size, @slot_size: bytes; what it has to be for
 * @err: what is wrong, on error
 *
 * Return: 0; -EINVAL it is another's; an errno of ftruncate(2) or mmap(2).
 */
int vmm_state_open(struct vmm_state *state, int fd, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size, struct error *err)
{
	uint64_t words = region_size / block_size / WORD_BITS + 1;
	struct stat st;
	int ret;

	memset(state, 0, sizeof(*state));
	state->size = SHMEM_STATE_HEADER + words * sizeof(uint64_t);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (st.st_size && (uint64_t)st.st_size != state->size))
		return error_set(
			err, -EINVAL,
			"\"state\" descriptor: not a file that is empty or of "
			"%zu bytes",
			state->size);
	if (!st.st_size && ftruncate(fd, (off_t)state->size) < 0) {
		ret = -errno;
		return error_set(err, ret, "\"state\" descriptor: %s",
				 strerror(-ret));
	}
	/* A mapping beyond a file's end is a SIGBUS. Not all files can be sealed. */
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0)
		log_debug("the state is not sealed: %s", strerror(errno));
	if (fstat(fd, &st) < 0 || (uint64_t)st.st_size != state->size)
		return error_set(err, -EINVAL,
				 "\"state\" descriptor: its size changes");
	ret = file_map_open(&state->file, fd, 0, state->size, 0);
	if (ret)
		return error_set(err, ret, "\"state\" descriptor: %s",
				 strerror(-ret));
	state->header = state->file.at;
	state->map = (uint64_t *)((char *)state->file.at + SHMEM_STATE_HEADER);
	state->found = state->header->magic == MAGIC;
	if (!state->found) {
		create(state, region_size, block_size, slot_size);
		memcpy(&state->was, state->header, sizeof(state->was));
		return 0;
	}
	/* Read once: what was checked is what is used. */
	memcpy(&state->was, state->header, sizeof(state->was));
	ret = check(&state->was, region_size, block_size, slot_size, err);
	if (ret) {
		vmm_state_close(state);
		return ret;
	}
	carry_out(state, &state->was.records[state->was.current]);
	return 0;
}

void vmm_state_close(struct vmm_state *state)
{
	file_map_close(&state->file);
	memset(state, 0, sizeof(*state));
}
