// SPDX-License-Identifier: GPL-2.0-or-later
/* Mappings of files that are truncated or have no pages left. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "unit.h"
#include "vhost/guest_memory.h"

#define HUGE_PAGE (2 * MIB)
#define UVA	  0x7f0000000000ULL

/* Index of the next allocation to fail, from 1 on; 0: none. */
static unsigned int failing;

/* The C library's function, with failures. */
void *reallocarray(void *old, size_t nr, size_t size)
{
	size_t bytes;

	if (failing && !--failing)
		return NULL;
	if (__builtin_mul_overflow(nr, size, &bytes))
		return NULL;
	return realloc(old, bytes);
}

struct fixture {
	struct guard guard;
	struct guest_memory memory;
	struct error err;
	int fd;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	f->memory.guard = &f->guard;
	f->fd = memfd_create("guarded-memory", MFD_CLOEXEC);
	assert_int_equal(ftruncate(f->fd, 4 * MIB), 0);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	guest_memory_clear(&f->memory);
	guard_stop(&f->guard);
	close(f->fd);
	free(f);
	return 0;
}

static int add(struct fixture *f, struct guest_memory *memory, uint64_t gpa,
	       uint64_t size, int fd)
{
	return guest_memory_add(memory, gpa, UVA + gpa, size, 0, fd, &f->err);
}

/* Touch the byte at @gpa. */
static uint8_t touch(const struct guest_memory *memory, uint64_t gpa)
{
	volatile uint8_t *at;
	uint64_t left;

	at = guest_memory_at_gpa(memory, gpa, 1, &left);
	assert_non_null(at);
	return ++*at;
}

/* Number of mappings of files with this name in the process. */
static unsigned int mappings(const char *name)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned int nr = 0;
	char line[512];

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps))
		nr += strstr(line, name) != NULL;
	fclose(maps);
	return nr;
}

static void a_truncated_file_is_replaced(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(add(f, &f->memory, 0, MIB, f->fd), 0);
	assert_int_equal(touch(&f->memory, 0), 1);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	assert_int_equal(touch(&f->memory, MIB - 1), 1);
	assert_true(f->memory.lost);
	/*
	 * The whole mapping is replaced, so that there are no further faults.
	 */
	assert_int_equal(touch(&f->memory, 0), 1);
	assert_int_equal(mappings("guarded-memory"), 0);
}

/* The flag belongs to the table that has the mapping now. */
static void a_table_that_has_replaced_another(void **state)
{
	struct fixture *f = *state;
	struct guest_memory next = {.guard = &f->guard};

	assert_int_equal(add(f, &f->memory, 0, MIB, f->fd), 0);
	assert_int_equal(add(f, &next, 0, MIB, f->fd), 0);
	assert_int_equal(add(f, &next, 2 * MIB, MIB, f->fd), 0);
	guest_memory_replace(&f->memory, &next);
	assert_int_equal(next.nr, 0);
	assert_int_equal(f->guard.nr, 2);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	touch(&f->memory, 2 * MIB);
	assert_true(f->memory.lost);
	assert_false(next.lost);
	guest_memory_clear(&f->memory);
	assert_false(f->memory.lost);
	assert_int_equal(f->guard.nr, 0);
}

static void each_guard_has_its_own_flag(void **state)
{
	struct fixture *f = *state;
	struct guard other = {0};
	struct guest_memory memory = {.guard = &other};

	assert_int_equal(add(f, &memory, 0, MIB, f->fd), 0);
	assert_int_equal(add(f, &f->memory, 0, MIB, f->fd), 0);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	touch(&f->memory, 0);
	assert_true(f->memory.lost);
	assert_false(memory.lost);
	touch(&memory, 0);
	assert_true(memory.lost);
	guest_memory_clear(&memory);
	guard_stop(&other);
}

/*
 * Lengths that are no multiple of a huge page. The file has no huge pages after
 * it was truncated, whether or not the host has any.
 */
static void huge_pages_are_replaced_whole(void **state)
{
	struct fixture *f = *state;
	int fd = memfd_create("guarded-huge", MFD_CLOEXEC | MFD_HUGETLB);

	if (fd < 0)
		skip();
	assert_int_equal(ftruncate(fd, 4 * HUGE_PAGE), 0);
	assert_int_equal(add(f, &f->memory, 0, 3 * MIB, fd), 0);
	assert_int_equal(mappings("guarded-huge"), 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	assert_int_equal(touch(&f->memory, 3 * MIB - 1), 1);
	assert_true(f->memory.lost);
	assert_int_equal(mappings("guarded-huge"), 0);
	guest_memory_clear(&f->memory);
	/* Untouched mappings are unmapped as a whole. */
	assert_int_equal(ftruncate(fd, 4 * HUGE_PAGE), 0);
	for (int i = 0; i < 10; i++) {
		assert_int_equal(add(f, &f->memory, 0, 3 * MIB, fd), 0);
		guest_memory_clear(&f->memory);
	}
	assert_int_equal(mappings("guarded-huge"), 0);
	close(fd);
}

static void other_faults_kill(void **state)
{
	struct fixture *f = *state;
	volatile uint8_t *map;
	int status;
	pid_t pid;

	assert_int_equal(add(f, &f->memory, 0, MIB, f->fd), 0);
	map = mmap(NULL, MIB, PROT_READ, MAP_SHARED, f->fd, 0);
	assert_ptr_not_equal(map, MAP_FAILED);
	assert_int_equal(ftruncate(f->fd, 0), 0);
	pid = fork();
	if (!pid)
		_exit(*map);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	/* Killed by the signal, or by the sanitizer's report. */
	assert_true(WIFSIGNALED(status) || WEXITSTATUS(status));
	munmap((void *)map, MIB);
}

#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

/* Memory is added completely, mapped and guarded, or not at all. */
static void failed_allocations_add_nothing(void **state)
{
	struct fixture *f = *state;
	unsigned int nth;
	int ret;

	for (nth = 1;; nth++) {
		failing = nth;
		ret = add(f, &f->memory, 0, MIB, f->fd);
		if (failing)
			break;
		assert_int_equal(ret, -ENOMEM);
		assert_string_equal(f->err.text, "out of memory");
		assert_int_equal(f->memory.nr, 0);
		assert_int_equal(f->guard.nr, 0);
		assert_int_equal(mappings("guarded-memory"), 0);
	}
	failing = 0;
	/* One allocation for the table and one for the guard. */
	assert_int_equal(nth, 3);
	assert_int_equal(ret, 0);
	assert_int_equal(touch(&f->memory, 0), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(a_truncated_file_is_replaced),
		T(a_table_that_has_replaced_another),
		T(each_guard_has_its_own_flag),
		T(huge_pages_are_replaced_whole),
		T(other_faults_kill),
		T(failed_allocations_add_nothing),
	};

	return unit_run(tests, NULL, NULL);
}
