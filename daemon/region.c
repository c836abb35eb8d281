// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A region of kvm_vmem.ko as the backing of a virtio-mem device.
 *
 * The kernel has the truth: which blocks are plugged, the requested size, the
 * id of the last request. This file mirrors the blocks, so that the state of a
 * block can be told without a system call, and keeps nothing else that the
 * kernel does not know. A daemon that is killed and started again attaches to
 * the same descriptors and goes on.
 *
 * Who else may change the region: any process that was given a copy of the
 * descriptor. The kernel counts changes, and we count ours; when the counts
 * differ, the blocks are read anew.
 *
 * Request ids. Each change carries the id after the last one. The kernel
 * remembers the last request with its answer, so one that comes again with the
 * same id changes nothing and is answered as before. That closes the gap of a
 * daemon that died after the kernel had made a change and before the guest was
 * told: its successor finds the guest's request still in the queue and the
 * blocks already as requested. Instead of an error, which the guest has not
 * deserved, it asks the kernel to repeat the last request, and gets an answer
 * if it is this one, EINVAL if not.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "log.h"
#include "region.h"

/* How often blocks that change while they are read are read again. */
#define BLOCK_DUMP_TRIES 16

static struct region *to_region(struct backing *backing)
{
	return (struct region *)((char *)backing -
				 offsetof(struct region, backing));
}

static struct vmem_nl_name name_of(const struct region *region)
{
	return VMEM_NL_BY_FD(region->fd);
}

static void __attribute__((format(printf, 2, 3)))
set_text(struct vmem_nl_error *err, const char *format, ...)
{
	va_list ap;

	memset(err, 0, sizeof(*err));
	va_start(ap, format);
	vsnprintf(err->text, sizeof(err->text), format, ap);
	va_end(ap);
}

/* Where a dump of blocks goes. */
struct block_dump {
	const struct backing *backing;
	struct blocks plugged;
};

static int add_run(const struct vmem_nl_range *run, void *arg)
{
	struct block_dump *dump = arg;
	const struct backing *backing = dump->backing;
	uint64_t offset = run->gpa - backing->gpa;

	if (run->gpa < backing->gpa || !run->size || offset >= backing->size ||
	    run->size > backing->size - offset ||
	    offset % backing->block_size || run->size % backing->block_size)
		return -EBADMSG;
	blocks_set(&dump->plugged, offset / backing->block_size,
		   run->size / backing->block_size);
	return 0;
}

/* One try to read state and blocks; -EAGAIN: they do not belong together. */
static int read_once(struct region *region, struct vmem_nl_error *err)
{
	struct backing *backing = &region->backing;
	struct block_dump dump = {.backing = backing};
	struct vmem_nl_region before, after;
	int ret;

	ret = blocks_init(&dump.plugged, backing->plugged.nr);
	if (ret) {
		set_text(err, "out of memory");
		return ret;
	}
	ret = vmem_nl_region_get(region->nl, name_of(region), &before, err);
	if (ret)
		goto free_blocks;
	ret = vmem_nl_block_dump(region->nl, name_of(region), add_run, &dump,
				 err);
	if (ret)
		goto free_blocks;
	ret = vmem_nl_region_get(region->nl, name_of(region), &after, err);
	if (ret)
		goto free_blocks;
	if (after.changes != before.changes ||
	    dump.plugged.set * backing->block_size != after.plugged_size) {
		set_text(err, "the region's blocks change while they are read");
		ret = -EAGAIN;
		goto free_blocks;
	}
	blocks_free(&backing->plugged);
	backing->plugged = dump.plugged;
	region->state = after;
	region->changes = after.changes;
	return 0;

free_blocks:
	blocks_free(&dump.plugged);
	return ret;
}

/* Read state and blocks. On error the mirror is as it was. */
static int read_all(struct region *region, struct vmem_nl_error *err)
{
	int ret = -EAGAIN;

	for (int i = 0; i < BLOCK_DUMP_TRIES && ret == -EAGAIN; i++)
		ret = read_once(region, err);
	return ret;
}

/* A change of ours was carried out. */
static void carried_out(struct region *region,
			const struct vmem_nl_answer *answer)
{
	region->changes++;
	region->repeat_id = 0;
	region->state.request_id = answer->request_id;
	region->state.plugged_size = answer->plugged_size;
	region->state.populated_slots = answer->populated_slots;
}

static int failed(struct region *region, const char *what, int error,
		  const struct vmem_nl_error *err)
{
	struct backing *backing = &region->backing;
	uint64_t changes = region->changes;
	struct vmem_nl_error again;

	snprintf(backing->reason, sizeof(backing->reason), "%s: %.100s (%s)",
		 what, err->text, strerrorname_np(-error));
	if (error != -EEXIST && error != -ENXIO && error != -EINVAL)
		return error == -EAGAIN ? -EBUSY : error;
	/*
	 * The kernel does not see blocks or request ids as we do. If they have
	 * changed behind our back, the request is to be judged again. If not,
	 * it is something else of the VM's that is in the way.
	 */
	if (!read_all(region, &again) && region->changes != changes)
		return -EAGAIN;
	return -EBUSY;
}

static int region_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct region *region = to_region(backing);
	struct vmem_nl_range range = {.gpa = gpa, .size = size};
	struct vmem_nl_answer answer;
	struct vmem_nl_error err;
	int ret;

	ret = vmem_nl_plug(region->nl, name_of(region),
			   region->state.request_id + 1, &range, 1, &answer,
			   &err);
	if (ret)
		return failed(region, "plug", ret, &err);
	blocks_set(&backing->plugged,
		   (gpa - backing->gpa) / backing->block_size,
		   size / backing->block_size);
	carried_out(region, &answer);
	return 0;
}

static int region_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct region *region = to_region(backing);
	struct vmem_nl_range range = {.gpa = gpa, .size = size};
	struct vmem_nl_answer answer;
	struct vmem_nl_error err;
	int ret;

	ret = vmem_nl_unplug(region->nl, name_of(region),
			     region->state.request_id + 1, &range, 1, &answer,
			     &err);
	if (ret)
		return failed(region, "unplug", ret, &err);
	blocks_clear(&backing->plugged,
		     (gpa - backing->gpa) / backing->block_size,
		     size / backing->block_size);
	carried_out(region, &answer);
	return 0;
}

static int region_unplug_all(struct backing *backing)
{
	struct region *region = to_region(backing);
	struct vmem_nl_answer answer;
	struct vmem_nl_error err;
	int ret;

	ret = vmem_nl_unplug_all(region->nl, name_of(region),
				 region->state.request_id + 1, &answer, &err);
	if (ret)
		return failed(region, "unplug all", ret, &err);
	blocks_clear(&backing->plugged, 0, backing->plugged.nr);
	carried_out(region, &answer);
	return 0;
}

static int region_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct region *region = to_region(backing);

	if (fallocate(region->memory_fd,
		      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
		      gpa - backing->gpa, size) < 0) {
		int ret = -errno;

		snprintf(backing->reason, sizeof(backing->reason),
			 "discard: %s", strerror(-ret));
		return ret;
	}
	return 0;
}

static bool region_repeated(struct backing *backing, bool plug, uint64_t gpa,
			    uint64_t size)
{
	struct region *region = to_region(backing);
	struct vmem_nl_range range = {.gpa = gpa, .size = size};
	struct vmem_nl_answer answer;
	uint64_t id = region->repeat_id;
	int ret;

	if (!id)
		return false;
	region->repeat_id = 0;
	ret = (plug ? vmem_nl_plug : vmem_nl_unplug)(
		region->nl, name_of(region), id, &range, 1, &answer, NULL);
	if (ret)
		return false;
	log_info("request %" PRIu64 " was carried out before the restart and "
		 "is answered now",
		 id);
	return true;
}

static const struct backing_ops region_ops = {
	.plug = region_plug,
	.unplug = region_unplug,
	.unplug_all = region_unplug_all,
	.discard = region_discard,
	.repeated = region_repeated,
};

/* Memory that can be given back: a file as long as the region, not sealed. */
static int check_memory(int fd, uint64_t size, struct vmem_nl_error *err)
{
	struct stat st;
	int flags, seals;

	if (fstat(fd, &st) < 0) {
		int ret = -errno;

		set_text(err, "memory descriptor: %s", strerror(-ret));
		return ret;
	}
	if (!S_ISREG(st.st_mode)) {
		set_text(err, "memory descriptor: not a memfd or regular file");
		return -EINVAL;
	}
	if ((uint64_t)st.st_size < size) {
		set_text(err,
			 "memory descriptor: %" PRIu64 " bytes, the region "
			 "has %" PRIu64,
			 (uint64_t)st.st_size, size);
		return -EINVAL;
	}
	flags = fcntl(fd, F_GETFL);
	seals = fcntl(fd, F_GET_SEALS);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY ||
	    (seals >= 0 && seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))) {
		set_text(err, "memory descriptor: read-only or sealed, memory "
			      "cannot be given back");
		return -EPERM;
	}
	return 0;
}

/**
 * region_attach() - take over a region
 * @region: filled on success; owns @fd and @memory_fd then
 * @nl: stays the caller's
 * @err: why not, on error
 *
 * O_NONBLOCK is set on @fd, for all who share it.
 *
 * Return: 0; -ENODEV the VM is gone; an errno of netlink's; -EINVAL, -EPERM
 * memory that does not fit.
 */
int region_attach(struct region *region, struct vmem_nl *nl, int fd,
		  int memory_fd, struct vmem_nl_error *err)
{
	struct backing *backing = &region->backing;
	struct vmem_nl_region *state = &region->state;
	int flags, ret;

	memset(region, 0, sizeof(*region));
	region->nl = nl;
	region->fd = fd;
	region->memory_fd = memory_fd;
	ret = vmem_nl_region_get(nl, name_of(region), state, err);
	if (ret)
		return ret;
	if (!state->alive) {
		set_text(err, "the region's VM is gone");
		return -ENODEV;
	}
	if (!state->block_size || state->size % state->block_size ||
	    state->gpa % state->block_size) {
		set_text(err, "the kernel's answer makes no sense");
		return -EBADMSG;
	}
	ret = check_memory(memory_fd, state->size, err);
	if (ret)
		return ret;
	flags = fcntl(fd, F_GETFL);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) {
		ret = -errno;
		set_text(err, "region descriptor: %s", strerror(-ret));
		return ret;
	}

	backing->ops = &region_ops;
	backing->gpa = state->gpa;
	backing->size = state->size;
	backing->block_size = state->block_size;
	ret = blocks_init(&backing->plugged, state->size / state->block_size);
	if (ret) {
		set_text(err, "out of memory");
		return ret;
	}
	ret = read_all(region, err);
	if (ret) {
		blocks_free(&backing->plugged);
		return ret;
	}
	region->repeat_id = state->request_id;
	region->used_before = state->request_id || state->plugged_size;
	return 0;
}

void region_detach(struct region *region)
{
	blocks_free(&region->backing.plugged);
	close(region->fd);
	close(region->memory_fd);
}

/* Write the requested size down in the kernel. */
int region_set_requested(struct region *region, uint64_t size,
			 struct vmem_nl_error *err)
{
	struct vmem_nl_region state;
	int ret;

	ret = vmem_nl_region_set(region->nl, name_of(region),
				 VMEM_NL_SET_REQUESTED_SIZE, size, false,
				 &state, err);
	if (ret)
		return ret;
	region->state.requested_size = state.requested_size;
	/* If others have changed something too, the counts shall differ. */
	if (state.changes == region->changes + 1)
		region->changes = state.changes;
	return 0;
}

/**
 * region_refresh() - learn what others have changed
 * @blocks_changed: blocks are plugged or unplugged that were not
 *
 * Return: 0, or an errno of netlink's.
 */
int region_refresh(struct region *region, bool *blocks_changed,
		   struct vmem_nl_error *err)
{
	struct backing *backing = &region->backing;
	struct vmem_nl_region state;
	int ret;

	*blocks_changed = false;
	ret = vmem_nl_region_get(region->nl, name_of(region), &state, err);
	if (ret)
		return ret;
	/* A change of the requested size counts, and leaves the blocks. */
	if (state.changes == region->changes &&
	    state.plugged_size == backing->plugged.set * backing->block_size) {
		region->state = state;
		return 0;
	}
	*blocks_changed = true;
	return read_all(region, err);
}

/**
 * region_read_changes() - consume the kernel's change count
 * @others: somebody else has changed the region; only then need it be read
 *
 * After this the descriptor polls for the next change.
 *
 * Return: 0; -ENODEV the VM is gone; an errno of read(2).
 */
int region_read_changes(struct region *region, bool *others)
{
	uint64_t changes;
	ssize_t got;

	*others = false;
	got = read(region->fd, &changes, sizeof(changes));
	if (got == 0)
		return -ENODEV;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	*others = changes != region->changes;
	return 0;
}
