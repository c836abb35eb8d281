// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The state file of a device whose memory vmemd creates.
 *
 * No region in the kernel stores the plugged blocks of such a device, so a file
 * does: a memfd, or a file on tmpfs. Another process holds it, like the memory
 * file, so that both outlive vmemd. The file is mapped. If vmemd is killed, all
 * its earlier stores are in the file, and no later ones. So it is enough to
 * order the stores such that the file is consistent at each point:
 *
 * - A single number is stored by one aligned 64-bit store.
 * - A change of blocks takes many stores. First it is written to the record
 *   that is not current. One store then makes this record current and commits
 *   the change. The bitmap is updated after that. When the file is opened, the
 *   current record is applied to the bitmap again, which is idempotent.
 *
 * The last record also allows to answer a request again whose answer was lost,
 * like the last request id of a region in the kernel.
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
#include "common/min_max.h"

/* "vmemstat"; VERSION is the layout of struct vmm_header. */
#define MAGIC	0x766d656d73746174ULL
#define VERSION 1

#define WORD_BITS 64

/* Store one number of the state atomically. */
void vmm_state_set(volatile uint64_t *field, uint64_t value)
{
	/* A killed process's stores are in program order: no CPU barrier. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	*field = value;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

const volatile struct vmm_record *vmm_state_last(const struct vmm_state *state)
{
	return &state->header->records[state->header->current & 1];
}

bool vmm_state_plugged(const struct vmm_state *state, uint64_t block)
{
	return state->map[block / WORD_BITS] >> block % WORD_BITS & 1;
}

/**
 * vmm_state_next() - find the next plugged block
 * @state: the state
 * @from: start of the search
 * @nr: number of blocks of the region
 *
 * Return: the block, or @nr.
 */
uint64_t vmm_state_next(const struct vmm_state *state, uint64_t from,
			uint64_t nr)
{
	for (uint64_t at = from; at < nr; at += WORD_BITS - at % WORD_BITS) {
		uint64_t word = state->map[at / WORD_BITS] >> at % WORD_BITS;

		if (word)
			return min(at + (uint64_t)__builtin_ctzll(word), nr);
	}
	return nr;
}

static void carry_out(struct vmm_state *state, const struct vmm_record *record)
{
	uint64_t end = record->first + record->nr;

	for (uint64_t i = record->first; i < end; i++) {
		uint64_t bit = 1ULL << i % WORD_BITS;
		volatile uint64_t *word = &state->map[i / WORD_BITS];

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
 * vmm_state_commit() - store that blocks are plugged or unplugged
 * @state: the state
 * @first: first block
 * @nr: number of blocks, at least one
 * @plug: true: plugged; false: unplugged
 */
void vmm_state_commit(struct vmm_state *state, uint64_t first, uint64_t nr,
		      bool plug)
{
	volatile struct vmm_header *header = state->header;
	const struct vmm_record record = {first, nr, plug};
	uint64_t next = !(header->current & 1);

	header->records[next] = record;
	vmm_state_set(&header->current, next);
	/* Another process may have changed the record in the file. */
	carry_out(state, &record);
}

/* Initialise a file that is new, or whose initialisation was interrupted. */
static void create(struct vmm_state *state, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size)
{
	volatile struct vmm_header *header = state->header;

	memset(state->file.at, 0, state->size);
	header->version = VERSION;
	header->region_size = region_size;
	header->block_size = block_size;
	header->slot_size = slot_size;
	vmm_state_set(&header->magic, MAGIC);
}

/**
 * vmm_state_fits() - check the guest address of a region
 * @gpa: guest address
 * @region_size: bytes in the region
 * @block_size: bytes per block
 *
 * Return: whether a region can be at @gpa: a multiple of the block size, with
 * enough space after it.
 */
bool vmm_state_fits(uint64_t gpa, uint64_t region_size, uint64_t block_size)
{
	return gpa % block_size == 0 && gpa <= UINT64_MAX - region_size;
}

/*
 * Does the header have values that vmm.c never stores? Other processes may
 * write to the file, so it is checked like a message.
 */
static bool is_damaged(const struct vmm_header *header)
{
	uint64_t size = header->region_size, block = header->block_size;
	uint64_t nr = size / block;

	for (size_t i = 0; i < 2; i++) {
		const struct vmm_record *record = &header->records[i];

		if (record->first > nr || record->nr > nr - record->first ||
		    record->plug > 1)
			return true;
	}
	return !vmm_state_fits(header->gpa, size, block) ||
	       header->requested_size > size ||
	       header->requested_size % block || header->used > 1 ||
	       header->current > 1;
}

/* Check that the state was made for a device of this geometry. */
static int check(const struct vmm_header *header, uint64_t region_size,
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

/* Does the file have a state? The file is not changed. */
bool vmm_state_is_there(int fd)
{
	uint64_t magic;

	return pread(fd, &magic, sizeof(magic),
		     offsetof(struct vmm_header, magic)) == sizeof(magic) &&
	       magic == MAGIC;
}

/**
 * vmm_state_open() - map the state file and initialise it if it is new
 * @state: to be closed by vmm_state_close()
 * @fd: a writable regular file, empty if it is new; the caller keeps it
 * @region_size: bytes in the region
 * @block_size: bytes per block
 * @slot_size: bytes in the first slot
 * @err: set on error
 *
 * Return: 0; -EINVAL: not a state file, of another geometry, or damaged; an
 * errno of ftruncate(2) or mmap(2).
 */
int vmm_state_open(struct vmm_state *state, int fd, uint64_t region_size,
		   uint64_t block_size, uint64_t slot_size, struct error *err)
{
	uint64_t words = region_size / block_size / WORD_BITS + 1;
	struct stat st;
	int ret;

	memset(state, 0, sizeof(*state));
	state->size = VMM_STATE_HEADER + words * sizeof(uint64_t);
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
	/* Not all files can be sealed; vmm.c guards the mapping. */
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
	state->map = (volatile uint64_t *)((char *)state->file.at +
					   VMM_STATE_HEADER);
	state->found = state->header->magic == MAGIC;
	if (!state->found) {
		create(state, region_size, block_size, slot_size);
		state->was = *state->header;
		return 0;
	}
	/* Read once, so that only checked values are used. */
	state->was = *state->header;
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
