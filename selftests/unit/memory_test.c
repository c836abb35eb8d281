// SPDX-License-Identifier: GPL-2.0-or-later
/* The memory of a region: which files are accepted, discarding, allocation. */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

#include "backing/memory.h"
#include "backing/room.h"
#include "unit.h"

#define SIZE (8 * MIB)

static int new_memfd(unsigned int flags, uint64_t size)
{
	int fd = memfd_create("memory_test", MFD_CLOEXEC | flags);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, size), 0);
	return fd;
}

static void assert_refused(int fd, uint64_t block_size, int error,
			   const char *why)
{
	struct error err = {0};
	struct memory memory;

	assert_int_equal(memory_init(&memory, fd, SIZE, block_size, &err),
			 error);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

static struct memory taken(int fd, uint64_t block_size)
{
	struct error err = {0};
	struct memory memory;

	if (memory_init(&memory, fd, SIZE, block_size, &err))
		fail_msg("%s", err.text);
	return memory;
}

static uint64_t resident(const struct memory *memory)
{
	uint64_t size;

	assert_int_equal(memory_resident(memory, &size), 0);
	return size;
}

static void memory_that_cannot_be_given_back_is_refused(void **state)
{
	int fd, fds[2];
	char path[64];

	(void)state;
	fd = new_memfd(0, SIZE - 1);
	assert_refused(fd, 2 * MIB, -EINVAL, "the region has 8388608");
	close(fd);

	assert_int_equal(pipe(fds), 0);
	assert_refused(fds[1], 2 * MIB, -EINVAL, "not a memfd");
	close(fds[0]);
	close(fds[1]);
	assert_refused(-1, 2 * MIB, -EBADF, "Bad file descriptor");

	fd = new_memfd(MFD_ALLOW_SEALING, SIZE);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	fds[0] = open(path, O_RDONLY);
	assert_true(fds[0] >= 0);
	assert_refused(fds[0], 2 * MIB, -EPERM, "read-only");
	close(fds[0]);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
	assert_refused(fd, 2 * MIB, -EPERM, "sealed");
	close(fd);
}

static void a_block_is_whole_pages(void **state)
{
	struct memory memory;
	int fd;

	(void)state;
	fd = new_memfd(0, SIZE);
	assert_refused(fd, 2048, -EINVAL, "pages of 4 KiB");
	memory = taken(fd, 4096);
	assert_int_equal(memory.kind, MEMORY_SHMEM);
	assert_int_equal(memory.page_size, 4096);
	close(fd);

	/* Such a file can be created on a host without huge pages. */
	fd = new_memfd(MFD_HUGETLB | MFD_HUGE_2MB, SIZE);
	assert_refused(fd, MIB, -EINVAL, "pages of 2 MiB");
	memory = taken(fd, 4 * MIB);
	assert_int_equal(memory.kind, MEMORY_HUGETLB);
	assert_int_equal(memory.page_size, 2 * MIB);
	close(fd);
}

/* On the disk of the build folder; the file system varies. */
static void a_file_is_memory_too(void **state)
{
	char path[] = "memory_test.XXXXXX";
	struct error err;
	struct memory memory;
	int fd, ret;

	(void)state;
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(ftruncate(fd, SIZE), 0);
	ret = memory_init(&memory, fd, SIZE, 2 * MIB, &err);
	if (ret == -EOPNOTSUPP)
		assert_non_null(strstr(err.text, "cannot give back"));
	else
		assert_int_equal(ret, 0);
	close(fd);
}

/*
 * ramfs has no fallocate(2). Exit status of a child; 255: the test cannot run
 * here.
 */
static int file_on_ramfs(void)
{
	struct error err;
	struct memory memory;
	int fd;

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("ramfs", "/tmp", "ramfs", 0, NULL))
		return 255;
	fd = open("/tmp/file", O_CREAT | O_RDWR, 0600);
	if (fd < 0 || ftruncate(fd, SIZE))
		return 255;
	return memory_init(&memory, fd, SIZE, 2 * MIB, &err) != -EOPNOTSUPP ||
	       !strstr(err.text, "FALLOC_FL_PUNCH_HOLE");
}

static void a_file_system_without_holes_is_refused(void **state)
{
	int status;
	pid_t pid;

	(void)state;
	pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		_exit(file_on_ramfs());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 255)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void punched_memory_is_freed_and_reads_zero(void **state)
{
	struct error err;
	struct memory memory;
	int fd = new_memfd(0, SIZE);
	uint8_t *map;

	(void)state;
	memory = taken(fd, 2 * MIB);
	map = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(resident(&memory), 0);
	memset(map, 0x5a, SIZE);
	assert_int_equal(resident(&memory), SIZE);
	assert_int_equal(memory_punch(&memory, 2 * MIB, 4 * MIB, &err), 0);
	assert_int_equal(resident(&memory), SIZE - 4 * MIB);
	assert_int_equal(map[2 * MIB - 1], 0x5a);
	assert_int_equal(map[2 * MIB], 0);
	assert_int_equal(map[6 * MIB - 1], 0);
	assert_int_equal(map[6 * MIB], 0x5a);
	munmap(map, SIZE);
	close(fd);
}

static void allocated_memory_is_present_and_keeps_contents(void **state)
{
	struct error err;
	struct memory memory;
	int fd = new_memfd(0, SIZE);
	uint8_t byte = 0x5a;

	(void)state;
	memory = taken(fd, 2 * MIB);
	assert_int_equal(pwrite(fd, &byte, 1, 2 * MIB), 1);
	assert_int_equal(memory_allocate(&memory, 2 * MIB, 2 * MIB, &err), 0);
	assert_int_equal(resident(&memory), 2 * MIB);
	byte = 0;
	assert_int_equal(pread(fd, &byte, 1, 2 * MIB), 1);
	assert_int_equal(byte, 0x5a);
	assert_int_equal(lseek(fd, 0, SEEK_END), SIZE);
	close(fd);
}

static long free_huge_pages(void)
{
	char line[32] = "";
	int fd = open("/sys/kernel/mm/hugepages/hugepages-2048kB/"
		      "free_hugepages",
		      O_RDONLY);

	if (fd < 0)
		return 0;
	if (read(fd, line, sizeof(line) - 1) < 0)
		line[0] = '\0';
	close(fd);
	return strtol(line, NULL, 10);
}

static void missing_huge_pages_are_reported(void **state)
{
	struct error err = {0};
	struct memory memory;
	int fd;

	(void)state;
	if (free_huge_pages())
		skip();
	fd = new_memfd(MFD_HUGETLB | MFD_HUGE_2MB, SIZE);
	memory = taken(fd, 2 * MIB);
	assert_int_equal(memory_allocate(&memory, 0, 2 * MIB, &err), -ENOSPC);
	assert_non_null(strstr(err.text, "no free pages of 2 MiB"));
	close(fd);
}

static void resident_memory_is_found(void **state)
{
	int fd = new_memfd(0, SIZE);
	struct memory memory = taken(fd, 4096);

	(void)state;
	assert_int_equal(memory_next_data(&memory, 0, SIZE), SIZE);
	assert_int_equal(pwrite(fd, "x", 1, 3 * 4096 + 5), 1);
	assert_int_equal(memory_next_data(&memory, 0, SIZE), 3 * 4096);
	assert_int_equal(memory_next_data(&memory, 3 * 4096, SIZE), 3 * 4096);
	assert_int_equal(memory_next_data(&memory, 4 * 4096, SIZE), SIZE);
	/* Data behind the region does not count. */
	assert_int_equal(memory_next_data(&memory, 0, 2 * 4096), 2 * 4096);
	/* Other users of the file share its position. */
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 0);
	memory.kind = MEMORY_HUGETLB;
	assert_int_equal(memory_next_data(&memory, 4096, SIZE), 4096);
	close(fd);
}

/* The process has moved to other cgroups since it opened the files. */
static void a_process_that_was_moved_allocates_nothing(void **state)
{
	static const char before[] = "0::/\n", after[] = "0::/../other\n";
	struct room room = {.meminfo = -1, .membership = new_memfd(0, 0)};
	struct error err;

	(void)state;
	assert_int_equal(pwrite(room.membership, before, strlen(before), 0),
			 strlen(before));
	room_start(&room);
	assert_int_equal(room_check(&room, MIB, &err), 0);
	assert_int_equal(pwrite(room.membership, after, strlen(after), 0),
			 strlen(after));
	assert_int_equal(room_check(&room, MIB, &err), -ENOMEM);
	assert_non_null(strstr(err.text, "another cgroup"));
	room_close(&room);
}

static void what_kvm_can_map(void **state)
{
	struct memory memory = {.kind = MEMORY_HUGETLB, .page_size = GIB};

	(void)state;
	assert_int_equal(memory_map_wanted(&memory), GIB);
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, GIB), GIB);
	/* Equal misalignment of both addresses is harmless. */
	assert_int_equal(memory_map_size(&memory, 4 * GIB + 2 * MIB,
					 7 * GIB + 2 * MIB, GIB),
			 GIB);
	assert_int_equal(
		memory_map_size(&memory, 4 * GIB, 7 * GIB + 2 * MIB, GIB),
		2 * MIB);
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, GIB / 2),
			 2 * MIB);
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB + 4096, GIB),
			 4096);
	memory.page_size = 2 * MIB;
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, GIB),
			 2 * MIB);
	memory.kind = MEMORY_SHMEM;
	memory.page_size = 4096;
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, GIB),
			 2 * MIB);
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, MIB), 4096);
	memory.kind = MEMORY_FILE;
	assert_int_equal(memory_map_wanted(&memory), 4096);
	assert_int_equal(memory_map_size(&memory, 4 * GIB, 7 * GIB, GIB), 4096);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(memory_that_cannot_be_given_back_is_refused),
		cmocka_unit_test(a_block_is_whole_pages),
		cmocka_unit_test(a_file_is_memory_too),
		cmocka_unit_test(a_file_system_without_holes_is_refused),
		cmocka_unit_test(punched_memory_is_freed_and_reads_zero),
		cmocka_unit_test(
			allocated_memory_is_present_and_keeps_contents),
		cmocka_unit_test(missing_huge_pages_are_reported),
		cmocka_unit_test(resident_memory_is_found),
		cmocka_unit_test(a_process_that_was_moved_allocates_nothing),
		cmocka_unit_test(what_kvm_can_map),
	};

	return unit_run(tests, NULL, NULL);
}
