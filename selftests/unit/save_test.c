// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Saved states: invalid states and files are refused, and files are replaced
 * atomically.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/virtio_mem.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <seccomp.h>

#include "common/save.h"
#include "common/save_file.h"
#include "unit.h"

#define GPA   (1024 * GIB)
#define BLOCK (2 * MIB)

/* Offsets in the file, see doc/save-format.md. */
#define VERSION_AT 8
#define ZERO_AT	   12
#define PLUGGED_AT 56
#define NODE_AT	   72
#define COUNT_AT   80

/* The test's folder. */
static char folder[] = "/tmp/save_test.XXXXXX";

static struct save_run runs[] = {
	{GPA, 3 * BLOCK},
	{GPA + 8 * BLOCK, BLOCK},
	{GPA + 64 * BLOCK, 64 * BLOCK},
};

static struct save_state good(void)
{
	return (struct save_state){
		.gpa = GPA,
		.region_size = GIB,
		.block_size = BLOCK,
		.usable_region_size = 512 * MIB,
		.requested_size = 256 * MIB,
		.features = 1ULL << VIRTIO_MEM_F_ACPI_PXM |
			    1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE,
		.node = 3,
		.runs = runs,
		.nr_runs = sizeof(runs) / sizeof(runs[0]),
	};
}

static uint8_t *format(const struct save_state *save, size_t *size)
{
	struct error err = {0};
	uint8_t *data;

	if (save_format(save, &data, size, &err))
		fail_msg("%s", err.text);
	return data;
}

static void assert_refused(const uint8_t *data, size_t size, const char *why)
{
	struct save_state save;
	struct error err = {0};

	assert_int_equal(save_parse(data, size, &save, &err), -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);
}

/* Recompute the checksum, as a malicious writer would. */
static void seal(uint8_t *data, size_t size)
{
	save_checksum(data, size - SAVE_CHECKSUM_SIZE,
		      data + size - SAVE_CHECKSUM_SIZE);
}

static void assert_same(const struct save_state *a, const struct save_state *b)
{
	assert_int_equal(a->gpa, b->gpa);
	assert_int_equal(a->region_size, b->region_size);
	assert_int_equal(a->block_size, b->block_size);
	assert_int_equal(a->usable_region_size, b->usable_region_size);
	assert_int_equal(a->requested_size, b->requested_size);
	assert_int_equal(a->features, b->features);
	assert_int_equal(a->node, b->node);
	assert_int_equal(a->nr_runs, b->nr_runs);
	if (a->nr_runs)
		assert_memory_equal(a->runs, b->runs,
				    a->nr_runs * sizeof(*a->runs));
}

static void a_state_comes_back(void **state)
{
	struct save_state save = good(), back;
	struct error err;
	uint8_t *data, *again;
	size_t size, again_size;

	(void)state;
	data = format(&save, &size);
	assert_int_equal(save_parse(data, size, &back, &err), 0);
	assert_same(&save, &back);
	assert_int_equal(save_plugged_size(&back), 68 * BLOCK);
	again = format(&back, &again_size);
	assert_int_equal(again_size, size);
	assert_memory_equal(again, data, size);
	free(again);
	free(data);
	save_state_free(&back);
}

static void a_state_may_have_no_blocks(void **state)
{
	struct save_state save = good(), back;
	struct error err;
	uint8_t *data;
	size_t size;

	(void)state;
	save.nr_runs = 0;
	save.usable_region_size = 0;
	save.requested_size = 0;
	data = format(&save, &size);
	assert_int_equal(save_parse(data, size, &back, &err), 0);
	assert_same(&save, &back);
	free(data);
	save_state_free(&back);
}

static void a_file_cut_anywhere_is_refused(void **state)
{
	struct save_state save = good(), back;
	struct error err;
	uint8_t *data, *cut;
	size_t size;

	(void)state;
	data = format(&save, &size);
	for (size_t i = 0; i < size; i++) {
		/*
		 * A separate allocation, so that sanitizers find a read beyond
		 * it.
		 */
		cut = malloc(i + !i);
		assert_non_null(cut);
		memcpy(cut, data, i);
		err.text[0] = '\0';
		assert_int_equal(save_parse(cut, i, &back, &err), -EINVAL);
		assert_string_not_equal(err.text, "");
		free(cut);
	}
	assert_refused(data, 0, "not a saved state");
	assert_refused(data, VERSION_AT, "cut off");
	assert_refused(data, size - 1, "cut off or damaged");
	free(data);
}

static void a_longer_file_is_refused(void **state)
{
	struct save_state save = good();
	uint8_t *data;
	size_t size;

	(void)state;
	data = format(&save, &size);
	data = realloc(data, size + sizeof(struct save_run));
	assert_non_null(data);
	memset(data + size, 0, sizeof(struct save_run));
	assert_refused(data, size + 1, "damaged");
	assert_refused(data, size + sizeof(struct save_run), "damaged");
	free(data);
}

/* Any byte may change; also with a length that still fits. */
static void each_changed_byte_is_found(void **state)
{
	struct save_state save = good(), back;
	struct error err;
	uint8_t *data;
	size_t size;

	(void)state;
	data = format(&save, &size);
	for (size_t i = 0; i < size; i++) {
		for (int bit = 0; bit < 8; bit++) {
			data[i] ^= 1 << bit;
			assert_int_equal(save_parse(data, size, &back, &err),
					 -EINVAL);
			data[i] ^= 1 << bit;
		}
	}
	data[100] ^= 1;
	assert_refused(data, size, "checksum");
	free(data);
}

static void other_files_are_refused(void **state)
{
	static const uint8_t elf[] = "\177ELF, or whatever it may be";
	struct save_state save = good();
	uint8_t *data;
	size_t size;

	(void)state;
	assert_refused(elf, sizeof(elf), "not a saved state");
	data = format(&save, &size);
	/* Another version may be longer or shorter. */
	data[VERSION_AT] = SAVE_VERSION + 1;
	assert_refused(data, size, "of version 2");
	assert_refused(data, VERSION_AT + 4, "of version 2");
	data[VERSION_AT] = 0;
	seal(data, size);
	assert_refused(data, size, "of version 0");
	free(data);
}

static void contradictory_numbers_are_refused(void **state)
{
	struct save_state save = good();
	uint8_t *data;
	size_t size;

	(void)state;
	data = format(&save, &size);
	/* 16 times this number overflows to the actual size. */
	data[COUNT_AT + 7] = 0x10;
	seal(data, size);
	assert_refused(data, size, "cut off or damaged");
	data[COUNT_AT + 7] = 0;
	data[COUNT_AT]--;
	seal(data, size);
	assert_refused(data, size, "cut off or damaged");
	data[COUNT_AT]++;
	data[PLUGGED_AT + 3]++;
	seal(data, size);
	assert_refused(data, size, "as it says");
	data[PLUGGED_AT + 3]--;
	data[ZERO_AT] = 1;
	seal(data, size);
	assert_refused(data, size, "reserved");
	data[ZERO_AT] = 0;
	data[NODE_AT + 2] = 1;
	seal(data, size);
	assert_refused(data, size, "reserved");
	free(data);
}

/* Such a state is neither written nor accepted from a file. */
static void assert_invalid(const struct save_state *save, const char *why)
{
	struct save_state ok = good();
	struct save_run run = {GPA, BLOCK};
	struct error err = {0};
	uint64_t values[8], plugged = 0;
	uint8_t *data;
	size_t size, nr;

	assert_int_equal(save_format(save, &data, &size, &err), -EINVAL);
	if (!strstr(err.text, why))
		fail_msg("\"%s\" does not say \"%s\"", err.text, why);

	ok.nr_runs = 0;
	data = format(&ok, &size);
	nr = save->nr_runs * sizeof(run);
	data = realloc(data, size + nr);
	assert_non_null(data);
	for (size_t i = 0; i < save->nr_runs; i++)
		plugged += save->runs[i].size;
	values[0] = save->gpa;
	values[1] = save->region_size;
	values[2] = save->block_size;
	values[3] = save->usable_region_size;
	values[4] = save->requested_size;
	values[5] = plugged;
	values[6] = save->features;
	values[7] = save->node;
	memcpy(data + 16, values, sizeof(values));
	memcpy(data + COUNT_AT, &save->nr_runs, sizeof(save->nr_runs));
	if (nr)
		memcpy(data + 88, save->runs, nr);
	seal(data, size + nr);
	assert_refused(data, size + nr, why);
	free(data);
}

static void invalid_sizes_are_refused(void **state)
{
	struct save_state save;

	(void)state;
	save = good();
	save.block_size = 0;
	assert_invalid(&save, "power of two");
	save.block_size = 3 * MIB;
	assert_invalid(&save, "power of two");
	save.block_size = 2048;
	assert_invalid(&save, "power of two");
	save = good();
	save.gpa += 4096;
	assert_invalid(&save, "the guest address");
	save = good();
	save.region_size += 4096;
	assert_invalid(&save, "the region size");
	save.region_size = 0;
	assert_invalid(&save, "is empty");
	save = good();
	save.gpa = -BLOCK;
	assert_invalid(&save, "beyond all addresses");
	save = good();
	save.usable_region_size += 1;
	assert_invalid(&save, "the usable region size");
	save.usable_region_size = save.region_size + BLOCK;
	assert_invalid(&save, "larger than the region");
	save = good();
	save.requested_size -= 1;
	assert_invalid(&save, "the requested size");
	save.requested_size = save.usable_region_size + BLOCK;
	assert_invalid(&save, "more than is usable");
	save = good();
	save.features &= ~(1ULL << VIRTIO_MEM_F_ACPI_PXM);
	assert_invalid(&save, "a node, 3");
}

static void invalid_runs_are_refused(void **state)
{
	struct save_run two[2];
	struct save_state save = good();

	(void)state;
	save.runs = two;
	save.nr_runs = 2;
	two[0] = (struct save_run){GPA + 4096, BLOCK};
	two[1] = (struct save_run){GPA + 8 * BLOCK, BLOCK};
	assert_invalid(&save, "run 0");
	two[0] = (struct save_run){GPA, BLOCK / 2};
	assert_invalid(&save, "whole blocks");
	two[0].size = 0;
	assert_invalid(&save, "whole blocks");
	two[0].size = BLOCK;
	two[1].size = save.usable_region_size;
	assert_invalid(&save, "run 1");
	assert_invalid(&save, "outside of what is usable");
	two[1] = (struct save_run){GPA + save.usable_region_size, BLOCK};
	assert_invalid(&save, "outside of what is usable");
	two[1] = (struct save_run){GPA + BLOCK, -BLOCK};
	assert_invalid(&save, "outside of what is usable");
	two[1] = (struct save_run){GPA - BLOCK, BLOCK};
	assert_invalid(&save, "outside of what is usable");
	two[0] = (struct save_run){GPA, 4 * BLOCK};
	two[1] = (struct save_run){GPA + 3 * BLOCK, BLOCK};
	assert_invalid(&save, "overlaps");
	two[1] = (struct save_run){GPA + 4 * BLOCK, BLOCK};
	assert_invalid(&save, "part of the one before");
	two[0] = (struct save_run){GPA + 8 * BLOCK, BLOCK};
	assert_invalid(&save, "out of order");
}

static char *in_folder(const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", folder, name) < 0)
		fail_msg("out of memory");
	return path;
}

/* Number of files in the folder whose name begins so. */
static size_t names(const char *path)
{
	glob_t found;
	char *pattern;
	size_t nr;

	if (asprintf(&pattern, "%s*", path) < 0)
		fail_msg("out of memory");
	nr = glob(pattern, 0, NULL, &found) ? 0 : found.gl_pathc;
	globfree(&found);
	free(pattern);
	return nr;
}

/* Two states of different lengths. */
struct two {
	struct save_state states[2];
	uint8_t *data[2];
	size_t size[2];
};

static void two_states(struct two *two)
{
	two->states[0] = good();
	two->states[1] = good();
	two->states[1].nr_runs = 2;
	for (int i = 0; i < 2; i++)
		two->data[i] = format(&two->states[i], &two->size[i]);
}

static void free_two(struct two *two)
{
	for (int i = 0; i < 2; i++)
		free(two->data[i]);
}

static int write_one(const struct two *two, const char *path, int which)
{
	struct error err;

	return save_file_write(path, two->data[which], two->size[which], &err);
}

static void assert_has(const struct two *two, const char *path, int which)
{
	struct error err = {0};
	struct save_state back;

	if (save_file_read(path, &back, &err))
		fail_msg("%s", err.text);
	assert_same(&two->states[which], &back);
	save_state_free(&back);
}

static void a_file_is_written_and_replaced(void **state)
{
	char *path = in_folder("written");
	struct stat st;
	struct two two;

	(void)state;
	two_states(&two);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(write_one(&two, path, i), 0);
		assert_has(&two, path, i);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 07777, 0600);
	}
	assert_int_equal(names(path), 1);
	free_two(&two);
	free(path);
}

static void other_than_files_are_refused(void **state)
{
	char *pipe_path = in_folder("pipe"), *none = in_folder("none/none");
	char *large = in_folder("large");
	struct error err;
	struct save_state save;
	struct two two;
	int fd;

	(void)state;
	two_states(&two);
	assert_int_equal(mkfifo(pipe_path, 0600), 0);
	assert_int_equal(write_one(&two, pipe_path, 0), -EINVAL);
	assert_int_equal(write_one(&two, folder, 0), -EINVAL);
	assert_int_equal(write_one(&two, none, 0), -ENOENT);
	assert_int_equal(save_file_read(pipe_path, &save, &err), -EINVAL);
	assert_int_equal(save_file_read(folder, &save, &err), -EINVAL);
	assert_int_equal(save_file_read(none, &save, &err), -ENOENT);
	fd = open(large, O_CREAT | O_WRONLY, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, SAVE_FILE_MAX + 1), 0);
	close(fd);
	assert_int_equal(save_file_read(large, &save, &err), -EFBIG);
	free_two(&two);
	free(large);
	free(pipe_path);
	free(none);
}

/*
 * Called in the child before it writes. Return: -1 if this cannot be tested
 * here.
 */
typedef int (*handicap_fn)(void);

/* Replace the first state by the second under a handicap. */
static int write_with(const struct two *two, const char *path,
		      handicap_fn handicap)
{
	int status;
	pid_t pid;

	pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		if (handicap())
			_exit(255);
		_exit(-write_one(two, path, 1));
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* A full disk: a tmpfs of one page, which holds the old file. */
static char *full_path;

static int full_disk(void)
{
	static struct two two;

	if (unshare(CLONE_NEWNS | (geteuid() ? CLONE_NEWUSER : 0)) ||
	    mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("tmpfs", folder, "tmpfs", 0, "size=4k"))
		return -1;
	two_states(&two);
	if (write_one(&two, full_path, 0))
		return -1;
	/* The tmpfs exists only in this child, so check it here. */
	if (write_one(&two, full_path, 1) != -ENOSPC)
		_exit(1);
	assert_has(&two, full_path, 0);
	assert_int_equal(names(full_path), 1);
	_exit(0);
}

static void a_full_disk_changes_nothing(void **state)
{
	struct two two;
	int status;

	(void)state;
	two_states(&two);
	full_path = in_folder("full");
	status = write_with(&two, full_path, full_disk);
	free(full_path);
	free_two(&two);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 255)
		skip();
	assert_int_equal(status, 0);
}

static int no_room(void)
{
	struct rlimit limit = {64, 64};

	signal(SIGXFSZ, SIG_IGN);
	return setrlimit(RLIMIT_FSIZE, &limit);
}

static void a_write_that_fails_changes_nothing(void **state)
{
	char *path = in_folder("failed");
	struct two two;
	int status;

	(void)state;
	two_states(&two);
	assert_int_equal(write_one(&two, path, 0), 0);
	status = write_with(&two, path, no_room);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), EFBIG);
	assert_has(&two, path, 0);
	assert_int_equal(names(path), 1);
	free_two(&two);
	free(path);
}

/* The child is killed when half the file is written. */
static int die_in_write(void)
{
	struct rlimit limit = {64, 64};

	signal(SIGXFSZ, SIG_DFL);
	return setrlimit(RLIMIT_FSIZE, &limit);
}

static int die_at(int call, const struct scmp_arg_cmp *argument)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);

	if (!filter)
		return -1;
	if (seccomp_rule_add_array(filter, SCMP_ACT_KILL_PROCESS, call,
				   argument ? 1 : 0, argument))
		return -1;
	return seccomp_load(filter);
}

static int die_at_fsync(void)
{
	return die_at(SCMP_SYS(fsync), NULL);
}

static int die_at_rename(void)
{
	return die_at(SCMP_SYS(rename), NULL);
}

/* Killed after the rename, before the folder is synced. */
static int die_at_folder(void)
{
	struct scmp_arg_cmp folders =
		SCMP_CMP(2, SCMP_CMP_MASKED_EQ, O_DIRECTORY, O_DIRECTORY);

	return die_at(SCMP_SYS(openat), &folders);
}

static void a_writer_may_be_killed(void **state)
{
	static const struct {
		handicap_fn handicap;
		int has;
	} deaths[] = {
		{die_in_write, 0},
		{die_at_fsync, 0},
		{die_at_rename, 0},
		{die_at_folder, 1},
	};
	char *path = in_folder("killed");
	struct two two;
	int status;

	(void)state;
	two_states(&two);
	for (size_t i = 0; i < sizeof(deaths) / sizeof(deaths[0]); i++) {
		assert_int_equal(write_one(&two, path, 0), 0);
		status = write_with(&two, path, deaths[i].handicap);
		assert_true(WIFSIGNALED(status));
		assert_has(&two, path, deaths[i].has);
	}
	free_two(&two);
	free(path);
}

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
	char *pattern = in_folder("*");
	glob_t found;

	(void)state;
	if (!glob(pattern, 0, NULL, &found))
		for (size_t i = 0; i < found.gl_pathc; i++)
			unlink(found.gl_pathv[i]);
	globfree(&found);
	free(pattern);
	return rmdir(folder);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_state_comes_back),
		cmocka_unit_test(a_state_may_have_no_blocks),
		cmocka_unit_test(a_file_cut_anywhere_is_refused),
		cmocka_unit_test(a_longer_file_is_refused),
		cmocka_unit_test(each_changed_byte_is_found),
		cmocka_unit_test(other_files_are_refused),
		cmocka_unit_test(contradictory_numbers_are_refused),
		cmocka_unit_test(invalid_sizes_are_refused),
		cmocka_unit_test(invalid_runs_are_refused),
		cmocka_unit_test(a_file_is_written_and_replaced),
		cmocka_unit_test(other_than_files_are_refused),
		cmocka_unit_test(a_full_disk_changes_nothing),
		cmocka_unit_test(a_write_that_fails_changes_nothing),
		cmocka_unit_test(a_writer_may_be_killed),
	};

	return unit_run(tests, make_folder, remove_folder);
}
