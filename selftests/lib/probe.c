// SPDX-License-Identifier: GPL-2.0-or-later
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tap.h"

/* Path of the module. */
#define PROBE_ENV     "MEMSLOT_PROBE_KO"
#define PROBE_DEFAULT "/lib/modules/memslot_probe.ko"

#define DEVICE "/dev/memslot-probe"

/**
 * probe_module_load() - Load the module. A failure is reported by the first
 * case that cannot open the device.
 */
void probe_module_load(void)
{
	const char *path = getenv(PROBE_ENV);
	int fd;

	fd = open(path ? path : PROBE_DEFAULT, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	syscall(SYS_finit_module, fd, "", 0);
	close(fd);
}

/**
 * probe_module_unload() - Unload the module, so that it does not slow down
 * other tests.
 */
void probe_module_unload(void)
{
	syscall(SYS_delete_module, "memslot_probe", O_NONBLOCK);
}

/**
 * probe_watch() - Begin to record what this thread makes KVM do in a VM.
 *
 * Skips the case if the module file does not exist; fails if it exists but did
 * not load.
 *
 * Return: a descriptor.
 */
int probe_watch(const struct vm *vm)
{
	const char *path = getenv(PROBE_ENV);
	int fd = open(DEVICE, O_RDWR | O_CLOEXEC);

	if (fd < 0 && access(path ? path : PROBE_DEFAULT, R_OK))
		tap_skip("neither " PROBE_ENV " nor " PROBE_DEFAULT);
	ASSERT_GE(fd, 0);
	ASSERT_EQ(ioctl(fd, PROBE_WATCH, &vm->fd), 0);
	return fd;
}

/** probe_pretend_pml() - Let KVM believe that the CPU logs dirty pages. */
void probe_pretend_pml(int fd)
{
	ASSERT_EQ(ioctl(fd, PROBE_PML), 0);
}

/** probe_track() - Register a page tracker. Return: 0 or -errno. */
int probe_track(int fd)
{
	return ioctl(fd, PROBE_TRACK) ? -errno : 0;
}

/** probe_assign() - Pretend an assigned device. Return: 0 or -errno. */
int probe_assign(int fd)
{
	return ioctl(fd, PROBE_ASSIGN) ? -errno : 0;
}

/**
 * probe_keep_mm() - Keep the caller's mm until @fd is closed. Then a kernel
 * thread lets go of it.
 */
void probe_keep_mm(int fd)
{
	ASSERT_EQ(ioctl(fd, PROBE_KEEP_MM), 0);
}

/**
 * probe_invalidate() - Let an invalidation of the VM's memory be in progress,
 * until probe_invalidated() or until @fd is closed.
 */
void probe_invalidate(int fd)
{
	ASSERT_EQ(ioctl(fd, PROBE_INVALIDATE), 0);
}

void probe_invalidated(int fd)
{
	ASSERT_EQ(ioctl(fd, PROBE_INVALIDATED), 0);
}

/** probe_is_awaited() - Does a change of memslots wait for invalidations? */
bool probe_is_awaited(int fd)
{
	int r = ioctl(fd, PROBE_IS_AWAITED);

	ASSERT_GE(r, 0);
	return r;
}

/**
 * probe_fail() - Let a prepare hook of KVM fail, once.
 * @change: the kind of change whose hook fails
 * @skip: changes of this kind that succeed before
 * @error: the error; 0 cancels the failure
 */
void probe_fail(int fd, enum probe_change change, uint32_t skip, int error)
{
	const struct probe_fail fail = {
		.change = change,
		.skip = skip,
		.error = (uint32_t)error,
	};

	ASSERT_EQ(ioctl(fd, PROBE_FAIL, &fail), 0);
}

/**
 * probe_look() - Make KVM look up a guest address; KVM caches the memslot
 * found.
 */
void probe_look(int fd, unsigned int as, uint64_t gpa)
{
	const struct probe_look look = {.gfn = gpa / GUEST_PAGE, .as = as};

	ASSERT_EQ(ioctl(fd, PROBE_LOOK, &look), 0);
}

void probe_read_vm(int fd, struct probe_vm *vm)
{
	ASSERT_EQ(ioctl(fd, PROBE_VM, vm), 0);
}

void probe_log_init(struct probe_log *log)
{
	log->events = calloc(PROBE_MAX_EVENTS, sizeof(*log->events));
	ASSERT_TRUE(log->events);
	log->nr = 0;
}

void probe_log_free(struct probe_log *log)
{
	free(log->events);
}

/** probe_log_read() - Take the events recorded since the last call. */
void probe_log_read(int fd, struct probe_log *log)
{
	struct probe_read read = {
		.events = (uintptr_t)log->events,
		.capacity = PROBE_MAX_EVENTS,
	};

	ASSERT_EQ(ioctl(fd, PROBE_READ, &read), 0);
	ASSERT_EQ(read.lost, 0);
	log->nr = read.nr;
}

void probe_dump_init(struct probe_dump *dump, uint32_t capacity)
{
	dump->slots = calloc(capacity, sizeof(*dump->slots));
	ASSERT_TRUE(dump->slots);
	dump->capacity = capacity;
}

void probe_dump_free(struct probe_dump *dump)
{
	free(dump->slots);
}

/** probe_dump_read() - Read a set of memslots. */
void probe_dump_read(int fd, unsigned int as, bool inactive,
		     struct probe_dump *dump)
{
	dump->set = (struct probe_set){
		.slots = (uintptr_t)dump->slots,
		.capacity = dump->capacity,
		.as = as,
		.inactive = inactive,
	};
	ASSERT_EQ(ioctl(fd, PROBE_SET, &dump->set), 0);
	ASSERT_LE(dump->set.nr, dump->capacity);
}

const char *probe_kind_name(uint32_t kind)
{
	static const char *const names[PROBE_NR_KINDS] = {
		[PROBE_PREPARE] = "prepare",
		[PROBE_COMMIT] = "commit",
		[PROBE_FLUSH_SHADOW] = "flush_shadow_memslot",
		[PROBE_RECLAIMED] = "guest_memory_reclaimed",
		[PROBE_UPDATED] = "memslots_updated",
		[PROBE_FREE] = "free_memslot",
		[PROBE_REQUEST] = "request to all vCPUs",
		[PROBE_FLUSH] = "flush of the TLBs",
		[PROBE_FLUSH_MEMSLOT] = "flush of a memslot",
		[PROBE_KICK] = "kick",
		[PROBE_MMU_PAGES] = "limit of MMU pages",
		[PROBE_WRITE_PROTECT] = "write protection",
		[PROBE_CLEAR_DIRTY] = "clearing of dirty bits",
		[PROBE_SPLIT] = "split of huge pages",
		[PROBE_RECOVER] = "recovery of huge pages",
		[PROBE_TRACKER] = "call of the page tracker",
		[PROBE_GRACE] = "grace period",
		[PROBE_UNMAP] = "unmapping",
	};

	return kind < PROBE_NR_KINDS ? names[kind] : "?";
}
