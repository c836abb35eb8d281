// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The memory behind a region: a file that the VMM maps, and of which vmemd has
 * a descriptor. vmemd does not map it.
 *
 * vmemd uses the file for three purposes:
 * - It frees the memory of unplugged blocks by punching holes. Only whole pages
 *   of the file are freed, so a block must consist of whole pages.
 * - It can allocate memory before a plug, so that a lack of memory is an error.
 *   If the guest touched memory that cannot be allocated, the VMM would get
 *   SIGBUS.
 * - It reads the amount of resident memory from st_blocks, which all kinds of
 *   files support. This is the memory that was touched or allocated, and not
 *   punched since.
 *
 * Memory that is allocated here is charged to vmemd's cgroup instead of the
 * VMM's, because shmem and hugetlb charge the first process that uses a page.
 *
 * KVM maps memory into the guest in pages of 1 GiB or 2 MiB if the file has
 * such pages, a memslot has room for one, and guest and host address are equal
 * modulo this size. Otherwise it uses smaller pages, which makes the guest
 * slower without any other symptom.
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

/* Unit of st_blocks, independent of the file system. */
#define STAT_BLOCK_SIZE 512

/*
 * Size of an allocation between two checks of the free memory. It is small
 * compared with the reserves in room.c.
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
	/* A hole must also consist of whole blocks of the file system. */
	if ((uint64_t)fs.f_bsize > memory->page_size)
		memory->page_size = fs.f_bsize;
	if (statx(memory->fd, "", AT_EMPTY_PATH, 0, &stx) < 0)
		return -errno;
	memory->kind =
		stx.stx_attributes & STATX_ATTR_DAX ? MEMORY_DAX : MEMORY_FILE;
	return 0;
}

/* Check that this is a regular file that is at least as long as the region. */
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

/* Check that holes can be punched: writable, not sealed, supported. */
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
	/* Test support with a hole beyond the end, which changes nothing. */
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
 * memory_init() - check and initialise the memory of a region
 * @memory: set on success
 * @fd: the memory file; stays the caller's
 * @size: bytes in the region
 * @block_size: bytes per block
 * @err: set on error
 *
 * Return: 0; -EINVAL, -EPERM, -EOPNOTSUPP: the file is unsuitable; another
 * errno.
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
 * memory_punch() - free memory; it reads zero afterwards
 * @memory: the memory
 * @offset: offset in the region; whole pages
 * @size: bytes; whole pages
 * @err: set on error
 *
 * Return: 0; an errno: a part may have been freed.
 */
int memory_punch(const struct memory *memory, uint64_t offset, uint64_t size,
		 struct error *err)
{
	int ret = change(memory, FALLOC_FL_PUNCH_HOLE, offset, size);

	return ret ? error_set(err, ret, "discard: %s", strerror(-ret)) : 0;
}

/* Allocate a part. Return: 0; -ENOMEM, with @err set or not; an errno. */
static int allocate_step(const struct memory *memory, uint64_t offset,
			 uint64_t size, struct error *err)
{
	/* Other kinds fail cleanly when their pool or disk is full. */
	if (memory->room && memory->kind == MEMORY_SHMEM &&
	    room_check(memory->room, size, err))
		return -ENOMEM;
	return change(memory, 0, offset, size);
}

/**
 * memory_allocate() - allocate memory in the holes of a range
 * @memory: the memory
 * @offset: offset in the region; whole pages
 * @size: bytes; whole pages
 * @err: set on error
 *
 * Contents are kept. New memory reads zero.
 *
 * Return: 0; -ENOSPC, -ENOMEM: the host has no memory left; another errno. On
 * an error, a part may have been allocated.
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

/* lseek() that restores the position, which other processes share. */
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
 * memory_next_data() - find the next offset that may have memory
 * @memory: the memory
 * @offset: start of the search, an offset in the region
 * @size: bytes in the region
 *
 * hugetlb files do not report holes, so any offset may have memory.
 *
 * Return: an offset; @size: there is no memory at or after @offset.
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
 * memory_resident() - get the amount of resident memory
 * @memory: the memory
 * @size: set to the number of bytes that were touched or allocated, and not
 *	freed since. For shmem this includes swapped-out memory. It covers the
 *	whole file, which may be longer than the region.
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

/* The largest page that KVM can map into the guest with good alignment. */
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
 * memory_map_size() - get the largest page that KVM can map into the guest
 * @memory: the memory
 * @gpa: guest address of the region
 * @hva: address at which the VMM maps the memory
 * @slot_size: bytes per memslot
 *
 * This is an upper bound: the host may be out of such pages.
 *
 * Return: the page size in bytes.
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
