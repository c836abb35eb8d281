// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory behind a region: a file that the VMM has mapped, and of which vmemd
 * has a descriptor. It is never mapped here.
 *
 * Of the file vmemd wants three things. Memory of unplugged blocks is given back
 * by punching holes, in the pages that the file is made of: a block must be
 * whole pages, else part of it would stay. Memory of blocks that are to be
 * plugged can be allocated before, so that a host without memory says so in time:
 * where pages are short when the guest touches them, the VMM gets a SIGBUS. And
 * how much memory the file has is told by its st_blocks, which all kinds keep:
 * what was touched or allocated, and was not punched since.
 *
 * Memory that is allocated here counts for vmemd's cgroup, not for the VMM's, as
 * for shmem and hugetlb who is first pays.
 *
 * KVM maps memory into the guest in pages of 1 GiB or 2 MiB if the file has such
 * pages, a memslot has room for one, and guest and host address are the same
 * modulo that size. Else it uses smaller ones, and the guest runs slower for as
 * long as it lives, without anything being wrong that anybody would see.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "backing/memory.h"
#include "backing/room.h"
#include "common/size.h"

/* The units of st_blocks, whatever the file system's blocks are. */
#define STAT_BLOCK_SIZE 512

/*
 * Memory that is allocated between two looks at what is left; small next to the
 * reserves of room.c.
 */
#define ALLOCATE_STEP (4ULL << 20)

#define SMALL_PAGE 4096ULL
#define LARGE_PAGE (2ULL << 20)
#define HUGE_PAGE  (1ULL << 30)

const char *memory_kind_name(enum memory_kind kind)
{
	static const char *const names[] = {
		[MEMORY_SHMEM] = "shmem",
		[MEMORY_HUGETLB] = "hugetlb",
		[MEMORY_DAX] = "dax",
		[MEMORY_FILE] = "file",
	};

	return names[kind];
}

static int recognize(struct memory *memory)
{
	struct statfs fs;
	struct statx stx;

	if (fstatfs(memory->fd, &fs) < 0)
		return -errno;
	memory->page_size = sysconf(_SC_PAGESIZE);
	if (fs.f_type == TMPFS_MAGIC) {
		memory->kind = MEMORY_SHMEM;
		return 0;
	}
	if (fs.f_type == HUGETLBFS_MAGIC) {
		memory->kind = MEMORY_HUGETLB;
		memory->page_size = fs.f_bsize;
		return 0;
	}
	/* A hole has to be whole blocks of the file system as well. */
	if ((uint64_t)fs.f_bsize > memory->page_size)
		memory->page_size = fs.f_bsize;
	if (statx(memory->fd, "", AT_EMPTY_PATH, 0, &stx) < 0)
		return -errno;
	memory->kind =
		stx.stx_attributes & STATX_ATTR_DAX ? MEMORY_DAX : MEMORY_FILE;
	return 0;
}

/* A file as long as the region. */
static int check_file(int fd, uint64_t size, struct error *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0) {
		int ret = -errno;

		return error_set(err, ret, "memory descriptor: %s",
				 strerror(-ret));
	}
	if (!S_ISREG(st.st_mode))
		return error_set(
			err, -EINVAL,
			"memory descriptor: not a memfd or regular file");
	if ((uint64_t)st.st_size < size)
		return error_set(err, -EINVAL,
				 "memory descriptor: %" PRIu64
				 " bytes, the region has %" PRIu64,
				 (uint64_t)st.st_size, size);
	return 0;
}

/* Writable, not sealed, on a file system that can punch holes. */
static int check_punch(const struct memory *memory, struct error *err)
{
	struct stat st;
	off_t behind;
	int ret;

	ret = fcntl(memory->fd, F_GETFL);
	if (ret < 0 || (ret & O_ACCMODE) == O_RDONLY)
		return error_set(
			err, -EPERM,
			"memory descriptor: read-only, memory cannot be "
			"given back");
	ret = fcntl(memory->fd, F_GET_SEALS);
	if (ret >= 0 && ret & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return error_set(err, -EPERM,
				 "memory descriptor: sealed, memory cannot be "
				 "given back");
	/* There is nothing behind the end; but is it understood? */
	if (fstat(memory->fd, &st) < 0) {
		ret = -errno;
		return error_set(err, ret, "memory descriptor: %s",
				 strerror(-ret));
	}
	behind = st.st_size + (-st.st_size & (memory->page_size - 1));
	if (fallocate(memory->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      behind, memory->page_size) < 0 &&
	    errno == EOPNOTSUPP)
		return error_set(
			err, -EOPNOTSUPP,
			"memory descriptor: its file system cannot give "
			"back memory (no FALLOC_FL_PUNCH_HOLE)");
	return 0;
}

/**
 * memory_init() - is this memory for a region?
 * @memory: filled on success; @fd stays the caller's
 * @fd: the VMM's memory
 * @size: bytes of the region
 * @block_size: bytes of a block
 * @err: why not
 *
 * Return: 0; -EINVAL, -EPERM, -EOPNOTSUPP it does not fit; another errno.
 */
int memory_init(struct memory *memory, int fd, uint64_t size,
		uint64_t block_size, struct error *err)
{
	char pages[SIZE_TEXT_MAX], blocks[SIZE_TEXT_MAX];
	int ret;

	memory->fd = fd;
	memory->room = NULL;
	ret = check_file(fd, size, err);
	if (ret)
		return ret;
	ret = recognize(memory);
	if (ret)
		return error_set(err, ret, "memory descriptor: %s",
				 strerror(-ret));
	if (block_size % memory->page_size)
		return error_set(
			err, -EINVAL,
			"memory descriptor: pages of %s, and the block "
			"size, %s, is not a multiple of that",
			size_format(memory->page_size, pages),
			size_format(block_size, blocks));
	return check_punch(memory, err);
}

static int change(const struct memory *memory, int mode, uint64_t offset,
		  uint64_t size)
{
	while (fallocate(memory->fd, mode | FALLOC_FL_KEEP_SIZE, offset, size) <
	       0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/**
 * memory_punch() - give memory back to the host; it reads zero from then on
 * @offset: where in the region; whole pages
 * @err: why not
 *
 * Return: 0, or an errno: some may be given back then.
 */
int memory_punch(const struct memory *memory, uint64_t offset, uint64_t size,
		 struct error *err)
{
	int ret = change(memory, FALLOC_FL_PUNCH_HOLE, offset, size);

	return ret ? error_set(err, ret, "discard: %s", strerror(-ret)) : 0;
}

/* Allocate a part, if there is room. Return: 0; -ENOMEM with a reason; an errno. */
static int allocate_step(const struct memory *memory, uint64_t offset,
			 uint64_t size, struct error *err)
{
	/* A file of another kind fails when its pool or disk has no more. */
	if (memory->room && memory->kind == MEMORY_SHMEM &&
	    room_check(memory->room, size, err))
		return -ENOMEM;
	return change(memory, 0, offset, size);
}

/**
 * memory_allocate() - get memory from the host, where there is none yet
 * @offset: where in the region; whole pages
 * @err: why not
 *
 * Contents stay. Memory that is new reads zero.
 *
 * Return: 0; -ENOSPC, -ENOMEM there is none; another errno. Some may have been
 * allocated then.
 */
int memory_allocate(const struct memory *memory, uint64_t offset, uint64_t size,
		    struct error *err)
{
	uint64_t step = memory->kind == MEMORY_SHMEM ? ALLOCATE_STEP : size;
	char pages[SIZE_TEXT_MAX];
	struct error error = {0};
	int ret = 0;

	for (uint64_t done = 0; !ret && done < size; done += step) {
		if (step > size - done)
			step = size - done;
		ret = allocate_step(memory, offset + done, step, &error);
	}
	if (*error.text)
		return error_set(err, ret, "no memory: %s", error.text);
	if (ret == -ENOSPC && memory->kind == MEMORY_HUGETLB)
		return error_set(err, ret, "the host has no free pages of %s",
				 size_format(memory->page_size, pages));
	if (ret == -ENOSPC || ret == -ENOMEM)
		return error_set(err, ret, "the host has no memory (%s)",
				 strerrorname_np(-ret));
	return ret ? error_set(err, ret, "allocate: %s", strerror(-ret)) : 0;
}

/* Return: an offset; -errno. The file's position is as it was: others share it. */
static int64_t seek(const struct memory *memory, uint64_t offset, int whence)
{
	off_t before = lseek(memory->fd, 0, SEEK_CUR);
	off_t found = before;
	int error;

	if (before >= 0)
		found = lseek(memory->fd, (off_t)offset, whence);
	error = errno;
	if (before >= 0)
		lseek(memory->fd, before, SEEK_SET);
	return found < 0 ? -error : found;
}

/**
 * memory_next_data() - where the next memory may be
 * @offset: from where on in the region, bytes
 * @size: of the region
 *
 * A file that does not tell, as one of huge pages, may have some anywhere.
 *
 * Return: an offset, @size if there is none.
 */
uint64_t memory_next_data(const struct memory *memory, uint64_t offset,
			  uint64_t size)
{
	int64_t data;

	if (offset >= size || memory->kind == MEMORY_HUGETLB)
		return offset;
	data = seek(memory, offset, SEEK_DATA);
	if (data < 0)
		return data == -ENXIO ? size : offset;
	return (uint64_t)data < size ? (uint64_t)data : size;
}

/**
 * memory_resident() - how much memory there is
 * @size: bytes that were touched or allocated, and not given back since; of
 *	shmem also what is swapped out. Of the whole file, which may be longer
 *	than the region.
 *
 * Return: 0, or an errno.
 */
int memory_resident(const struct memory *memory, uint64_t *size)
{
	struct stat st;

	if (fstat(memory->fd, &st) < 0)
		return -errno;
	*size = (uint64_t)st.st_blocks * STAT_BLOCK_SIZE;
	return 0;
}

/* The largest page that KVM can map into the guest if all fits. */
uint64_t memory_map_wanted(const struct memory *memory)
{
	switch (memory->kind) {
	case MEMORY_HUGETLB:
		return memory->page_size;
	case MEMORY_SHMEM:
	case MEMORY_DAX:
		return LARGE_PAGE;
	default:
		return SMALL_PAGE;
	}
}

/**
 * memory_map_size() - the largest page that KVM can map into the guest
 * @gpa: where the region begins in the guest
 * @hva: where its memory is mapped in the VMM
 * @slot_size: bytes of a memslot
 *
 * It is at most that: whether the host has such pages at hand is another
 * matter.
 */
uint64_t memory_map_size(const struct memory *memory, uint64_t gpa,
			 uint64_t hva, uint64_t slot_size)
{
	static const uint64_t sizes[] = {HUGE_PAGE, LARGE_PAGE};
	uint64_t wanted = memory_map_wanted(memory);

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (sizes[i] <= wanted && sizes[i] <= slot_size &&
		    !((gpa ^ hva) & (sizes[i] - 1)))
			return sizes[i];
	return SMALL_PAGE;
}
