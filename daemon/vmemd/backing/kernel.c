// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A region of kvm_vmem.ko as the backing of a virtio-mem device.
 *
 * The kernel stores the plugged blocks, the requested size and the id of the
 * last request. This file mirrors the blocks, so that the state of a block is
 * available without a system call. There is no other state here that the kernel
 * does not have. A daemon that is killed and restarted attaches to the same
 * descriptors and continues.
 *
 * Other writers. Any process with a copy of the descriptor can change the
 * region. The kernel counts changes, and this file counts its own. When the
 * counts differ, all blocks are read again.
 *
 * Waiting. The kernel executes changes in order, and KVM (so the VMM) can delay
 * each for any time. Most are answered at once. So this file waits for the
 * answer for a short time; a later answer is handled by the event loop. Reading
 * never waits for a change.
 *
 * Request ids. Each change carries the last id plus one. The kernel remembers
 * the last request and its answer. If the same request comes again with the
 * same id, the kernel changes nothing and repeats the answer. This covers two
 * cases:
 * - An answer is lost, because the kernel had no memory for it. The request is
 *   sent again. No other request is sent before the answer, because it is
 *   unknown whether the change was made.
 * - A daemon is killed after the kernel made a change and before the guest got
 *   the answer. The next daemon finds the guest's request in the queue, and the
 *   blocks already changed. ERROR would be wrong, so it asks the kernel to
 *   repeat the last request. The kernel answers if the request is the same, and
 *   returns EINVAL otherwise. The same happens when a front end disconnects
 *   before the answer and connects again.
 *
 * Allocation. With @prealloc, a plug has two steps: first its memory is
 * allocated, in parts, then the kernel is asked. If the memory runs out or the
 * kernel refuses, the blocks are owed, so that the memory is freed. The guest
 * gets ACK only when the memory is allocated, and it cannot use that memory up
 * otherwise.
 */
#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "backing/kernel.h"
#include "base/log.h"
#include "base/timer.h"
#include "common/fd.h"
#include "common/min_max.h"

/* Number of attempts to read blocks that change meanwhile. */
#define BLOCK_DUMP_TRIES 16

/*
 * Time to wait for an answer before the request is sent again: first and
 * maximum value. Sending again is necessary if the answer was lost, and
 * harmless if KVM is slow. The time doubles, so that few copies wait in the
 * kernel.
 */
#define AGAIN_USEC     (30 * 1000000ULL)
#define AGAIN_MAX_USEC (3600 * 1000000ULL)

/*
 * Time to block for the answer to a change of blocks before it is left to the
 * event loop. It is longer than nearly all changes take, and short enough for
 * other clients of the daemon. The first change after an ioeventfd was created
 * takes two ticks longer on 7.x, and is left to the event loop.
 */
#define ANSWER_SOON_USEC 2000

/* Delay before the region is read again after a failure. */
#define RECHECK_USEC 1000000ULL

static struct kernel_backing *to_kernel(struct backing *backing)
{
	return (struct kernel_backing *)((char *)backing -
					 offsetof(struct kernel_backing,
						  backing));
}

static struct vmem_nl_name name_of(const struct kernel_backing *region)
{
	return VMEM_NL_BY_FD(region->fd);
}

/* Check the kernel's report: the module may be of another version. */
static bool is_sane(const struct vmem_nl_region *state)
{
	uint64_t block = state->block_size, slot = state->slot_size;

	if (!block || block & (block - 1) || !slot || slot % block ||
	    !state->size || state->size % block || state->gpa % block ||
	    state->gpa > UINT64_MAX - state->size)
		return false;
	return state->nr_slots == (state->size - 1) / slot + 1 &&
	       state->requested_size <= state->size &&
	       state->requested_size % block == 0 &&
	       state->plugged_size <= state->size &&
	       state->plugged_size % block == 0 &&
	       state->populated_slots <= state->nr_slots;
}

/* The geometry of a region does not change. */
static bool is_same(const struct vmem_nl_region *a,
		    const struct vmem_nl_region *b)
{
	return a->gpa == b->gpa && a->size == b->size &&
	       a->block_size == b->block_size && a->slot_size == b->slot_size;
}

/* Read the region's state from the kernel. */
static int get_state(const struct kernel_backing *region,
		     struct vmem_nl_region *state, struct error *err)
{
	int ret = vmem_nl_region_get(region->nl, name_of(region), state, err);

	if (ret)
		return ret;
	if (!is_sane(state) ||
	    (region->state.size && !is_same(state, &region->state)))
		return error_set(err, -EBADMSG,
				 "the kernel's answer makes no sense");
	return 0;
}

/* Target of a dump of blocks. */
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

/* Read state and blocks once; -EAGAIN: they changed meanwhile. */
static int read_once(struct kernel_backing *region, struct error *err)
{
	struct backing *backing = &region->backing;
	struct block_dump dump = {.backing = backing};
	struct vmem_nl_region before, after;
	int ret;

	ret = blocks_init(&dump.plugged, backing->plugged.nr);
	if (ret)
		return error_set(err, ret, "out of memory");
	ret = get_state(region, &before, err);
	if (ret)
		goto free_blocks;
	ret = vmem_nl_block_dump(region->nl, name_of(region), add_run, &dump,
				 err);
	if (ret)
		goto free_blocks;
	ret = get_state(region, &after, err);
	if (ret)
		goto free_blocks;
	if (after.changes != before.changes ||
	    dump.plugged.set * backing->block_size != after.plugged_size) {
		ret = error_set(
			err, -EAGAIN,
			"the region's blocks change while they are read");
		goto free_blocks;
	}
	backing_adopt(backing, &dump.plugged);
	region->state = after;
	region->changes = after.changes;
	if (region->news)
		region->news(region->arg);
	return 0;

free_blocks:
	blocks_free(&dump.plugged);
	return ret;
}

/* Read state and blocks. On error the mirror is unchanged. */
static int read_all(struct kernel_backing *region, struct error *err)
{
	int ret = -EAGAIN;

	for (int i = 0; i < BLOCK_DUMP_TRIES && ret == -EAGAIN; i++)
		ret = read_once(region, err);
	return ret;
}

/* Read state and blocks. Must not be called while a change is in progress. */
int kernel_reload(struct kernel_backing *region, struct error *err)
{
	return read_all(region, err);
}

/*
 * Bring the mirror up to date. Must not be called while a change of this
 * process is in progress, which would look like a change by another process.
 *
 * Return: 0: it was up to date; 1: it is now; an errno.
 */
static int verify(struct kernel_backing *region, struct error *err)
{
	struct vmem_nl_region state;
	int ret;

	ret = get_state(region, &state, err);
	if (ret)
		return ret;
	if (state.changes != region->changes) {
		ret = read_all(region, err);
		return ret ? ret : 1;
	}
	region->state = state;
	return 0;
}

/**
 * kernel_recheck() - find changes by other processes and report them
 * @region: the region
 *
 * If a change is in progress, or reading fails, this is done later.
 */
void kernel_recheck(struct kernel_backing *region)
{
	struct error err;

	region->recheck = true;
	if (region->blocks.out)
		return;
	if (verify(region, &err) < 0) {
		log_limited(&region->limit, LOG_LEVEL_WARNING, region->label,
			    "reading the region: %s", err.text);
		timer_start(region->recheck_source, RECHECK_USEC);
		return;
	}
	region->recheck = false;
	sd_event_source_set_enabled(region->recheck_source, SD_EVENT_OFF);
}

static int on_recheck(sd_event_source *source __attribute__((unused)),
		      uint64_t usec __attribute__((unused)), void *arg)
{
	kernel_recheck(arg);
	return 0;
}

/* --- Changes --- */

static int ask(struct kernel_request *request, struct error *err)
{
	int ret;

	ret = vmem_nl_send(request->nl, name_of(request->region),
			   &request->change, err);
	if (ret && !request->asked)
		return ret;
	request->out = true;
	request->asked++;
	return 0;
}

/* Leave the answer to the event loop, and send again if it does not come. */
static void await_answer(struct kernel_request *request)
{
	timer_start(request->again_source, request->wait_usec);
	request->wait_usec = min(2 * request->wait_usec, AGAIN_MAX_USEC);
}

static int on_again(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct kernel_request *request = arg;
	struct error err;

	log_limited(&request->region->limit, LOG_LEVEL_WARNING,
		    request->region->label,
		    "the kernel has not answered: sending the request again");
	ask(request, &err);
	await_answer(request);
	return 0;
}

/* Send request->change. Return: 0, or an errno with the error set. */
static int ask_kernel(struct kernel_request *request, bool repeat)
{
	struct backing *backing = &request->region->backing;
	struct error err;
	int ret;

	if (request->out) {
		return error_set(
			&backing->error, -EBUSY,
			"the kernel has not answered the request before");
	}
	request->asked = 0;
	request->repeat = repeat;
	request->wait_usec = AGAIN_USEC;
	ret = ask(request, &err);
	if (!ret)
		return 0;
	if (ret == -EAGAIN || ret == -EINVAL)
		ret = -EBUSY;
	return error_set(&backing->error, ret, "%s", err.text);
}

/* Number of the current turn of the event loop; not 0. */
static uint64_t loop_turn(const struct kernel_backing *region)
{
	uint64_t turn = 0;

	sd_event_get_iteration(region->allocate.event, &turn);
	return turn + 1;
}

/* Is the answer plausible for the request? */
static bool is_answer(const struct kernel_backing *region,
		      const struct vmem_nl_answer *answer)
{
	const struct vmem_nl_region *state = &region->state;

	return answer->request_id == region->blocks.change.request_id &&
	       answer->plugged_size <= state->size &&
	       answer->plugged_size % state->block_size == 0 &&
	       answer->populated_slots <= state->nr_slots;
}

/* The kernel has executed a change. */
static void carried_out(struct kernel_backing *region,
			const struct vmem_nl_answer *answer)
{
	const struct vmem_nl_change *change = &region->blocks.change;

	if (!is_answer(region, answer)) {
		/* Ignore the answer and read everything again. */
		log_limited(&region->limit, LOG_LEVEL_WARNING, region->label,
			    "the kernel's answer makes no sense");
		region->recheck = true;
		region->changes = 0;
		return;
	}

	if (change->type == VMEM_NL_PLUG)
		backing_note_plugged(&region->backing, change->range.gpa,
				     change->range.size);
	else
		backing_note_unplugged(&region->backing, change->range.gpa,
				       change->range.size);
	region->changes++;
	region->may_repeat = false;
	region->state.request_id = answer->request_id;
	region->state.plugged_size = answer->plugged_size;
	region->state.populated_slots = answer->populated_slots;
	region->fresh = 0;
	if (change->type != VMEM_NL_PLUG &&
	    region->backing.plugged.set * region->backing.block_size ==
		    answer->plugged_size)
		region->fresh = loop_turn(region);
}

/* Are all blocks of the request in the state that it wants? */
static bool as_wanted(const struct kernel_backing *region)
{
	const struct vmem_nl_change *change = &region->blocks.change;
	const struct backing *backing = &region->backing;
	uint64_t first =
		(change->range.gpa - backing->gpa) / backing->block_size;
	uint64_t nr = change->range.size / backing->block_size;

	return blocks_count(&backing->plugged, first, nr) ==
	       (change->type == VMEM_NL_PLUG ? nr : 0);
}

/* The kernel refused a request. Return: the result for the device. */
static int refused(struct kernel_backing *region, int error,
		   const struct error *err)
{
	static const char *const names[] = {
		[VMEM_NL_PLUG] = "plug",
		[VMEM_NL_UNPLUG] = "unplug",
		[VMEM_NL_UNPLUG_ALL] = "unplug all",
	};
	struct kernel_request *request = &region->blocks;
	struct backing *backing = &region->backing;
	struct error again;
	int ret;

	error_set(&backing->error, error, "%s: %.100s (%s)",
		  names[request->change.type], err->text,
		  strerrorname_np(-error));
	if (request->repeat) {
		if (error == -EINVAL)
			region->may_repeat = false;
		return error == -EAGAIN ? -EBUSY : error;
	}
	if (request->asked == 1 && error != -EEXIST && error != -ENXIO &&
	    error != -EINVAL)
		return error == -EAGAIN ? -EBUSY : error;
	/*
	 * Blocks or request ids in the kernel may differ from the mirror. If
	 * another process changed them, the device must judge the request
	 * again. Otherwise something else in the VM is in the way.
	 */
	ret = verify(region, &again);
	if (ret < 0)
		return -EBUSY;
	/*
	 * If the request was sent more than once, the kernel may have executed
	 * the first copy, and then a request of another process, which replaced
	 * the remembered one.
	 */
	if (ret && request->asked > 1 && as_wanted(region))
		return 0;
	return ret ? -EAGAIN : -EBUSY;
}

static void end_request(struct kernel_request *request)
{
	request->out = false;
	sd_event_source_set_enabled(request->again_source, SD_EVENT_OFF);
}

/* The kernel has answered. Return: the result for the device. */
static int end_blocks(struct kernel_backing *region, int ret,
		      const struct vmem_nl_changed *changed,
		      const struct error *err)
{
	struct backing *backing = &region->backing;

	end_request(&region->blocks);
	if (ret)
		ret = refused(region, ret, err);
	else if (region->blocks.repeat)
		region->may_repeat = false;
	else
		carried_out(region, &changed->blocks);
	if (!ret && region->blocks.repeat)
		log_limited(&region->limit, LOG_LEVEL_INFO, region->label,
			    "request %" PRIu64
			    " was executed before and is answered "
			    "again",
			    region->blocks.change.request_id);
	if (ret && region->prealloc &&
	    region->blocks.change.type == VMEM_NL_PLUG)
		backing_owe(backing, region->blocks.change.range.gpa,
			    region->blocks.change.range.size);
	if (region->seen && region->seen != region->changes)
		region->recheck = true;
	region->seen = 0;
	if (region->recheck) {
		region->fresh = 0;
		kernel_recheck(region);
	}
	return ret;
}

/* --- Settings --- */

static void report_setting(struct kernel_backing *region, unsigned int setting,
			   int ret, const char *text)
{
	if (setting & VMEM_NL_SET_DIRTY_LOG) {
		if (region->log_set)
			region->log_set(region->arg, ret, ret ? text : "");
	} else if (region->size_set) {
		region->size_set(region->arg, ret, ret ? text : "");
	}
}

/*
 * Send the next waiting setting. The two kinds take turns.
 *
 * Return: 0; an errno with the error set; the setting is dropped then.
 */
static int begin_setting(struct kernel_backing *region)
{
	struct vmem_nl_change *change = &region->size.change;
	unsigned int setting = VMEM_NL_SET_REQUESTED_SIZE;
	int ret;

	if (!(region->wanted & VMEM_NL_SET_REQUESTED_SIZE) ||
	    (region->wanted & VMEM_NL_SET_DIRTY_LOG &&
	     change->set == VMEM_NL_SET_REQUESTED_SIZE))
		setting = VMEM_NL_SET_DIRTY_LOG;
	region->wanted &= ~setting;
	*change = (struct vmem_nl_change){
		.type = VMEM_NL_SET,
		.set = setting,
		.requested_size = region->wanted_size,
		.dirty_log = region->wanted_log,
	};
	ret = ask_kernel(&region->size, false);
	if (!ret)
		await_answer(&region->size);
	return ret;
}

static void begin_settings(struct kernel_backing *region)
{
	while (region->wanted && !region->size.out) {
		int ret = begin_setting(region);

		if (ret)
			report_setting(region, region->size.change.set, ret,
				       region->backing.error.text);
	}
}

static void end_size(struct kernel_backing *region, int ret,
		     const struct vmem_nl_changed *changed,
		     const struct error *err)
{
	const struct vmem_nl_region *state = &changed->region;
	unsigned int setting = region->size.change.set;

	end_request(&region->size);
	if (!ret && is_sane(state) && is_same(state, &region->state)) {
		region->state.requested_size = state->requested_size;
		region->state.dirty_log = state->dirty_log;
		/* A larger count means changes by other processes. */
		if (state->changes == region->changes + 1)
			region->changes = state->changes;
	}
	/* If a later value waits, only its answer is reported. */
	if (!(region->wanted & setting))
		report_setting(region, setting, ret, err->text);
	begin_settings(region);
}

/*
 * Receive the answer to a request.
 * @wait: block for up to ANSWER_SOON_USEC
 * @result: set to 0, or to the kernel's errno with @err set
 *
 * Return: whether the answer has arrived.
 */
static bool take_answer(struct kernel_request *request, bool wait, int *result,
			struct vmem_nl_changed *changed, struct error *err)
{
	int ret = vmem_nl_receive(request->nl, wait, changed, err);

	if (ret == -EINPROGRESS || !request->out)
		return false;
	if (ret && vmem_nl_failure(request->nl)->unknown) {
		log_limited(&request->region->limit, LOG_LEVEL_WARNING,
			    request->region->label,
			    "an answer of the kernel's was lost: %s",
			    err->text);
		/* The second copy is sent at once, further ones by timer. */
		if (request->asked == 1) {
			ask(request, err);
			await_answer(request);
		}
		return false;
	}
	/* The kernel's queue is full; it may contain the first copy. */
	if (ret == -EBUSY && request->asked > 1)
		return false;
	*result = ret;
	return true;
}

static int on_answer(sd_event_source *source __attribute__((unused)),
		     int fd __attribute__((unused)),
		     uint32_t revents __attribute__((unused)), void *arg)
{
	struct kernel_request *request = arg;
	struct kernel_backing *region = request->region;
	struct backing *backing = &region->backing;
	struct vmem_nl_changed changed;
	struct error err;
	int ret;

	if (!take_answer(request, false, &ret, &changed, &err))
		return 0;
	if (request == &region->size) {
		end_size(region, ret, &changed, &err);
		return 0;
	}
	ret = end_blocks(region, ret, &changed, &err);
	backing_ended(backing, ret);
	return 0;
}

/* Send the request. Return: the result if answered soon; -EINPROGRESS. */
static int begin_blocks(struct kernel_backing *region, bool repeat)
{
	struct vmem_nl_changed changed;
	struct error err;
	bool others;
	int ret;

	ret = ask_kernel(&region->blocks, repeat);
	if (ret)
		return ret;
	if (take_answer(&region->blocks, true, &ret, &changed, &err)) {
		/*
		 * The change makes the descriptor readable. Read it here to
		 * avoid a wakeup; after an unplug, discarding reads it.
		 */
		if (region->blocks.change.type == VMEM_NL_PLUG)
			kernel_read_changes(region, &others);
		return end_blocks(region, ret, &changed, &err);
	}
	if (region->blocks.asked == 1)
		await_answer(&region->blocks);
	return -EINPROGRESS;
}

static int begin_change(struct backing *backing, enum vmem_nl_change_type type,
			uint64_t gpa, uint64_t size)
{
	struct kernel_backing *region = to_kernel(backing);

	if (!region->blocks.out)
		region->blocks.change = (struct vmem_nl_change){
			.type = type,
			.request_id = region->state.request_id + 1,
			.range = {.gpa = gpa, .size = size},
		};
	return begin_blocks(region, false);
}

static int kernel_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct kernel_backing *region = to_kernel(backing);

	if (!region->prealloc || region->blocks.out)
		return begin_change(backing, VMEM_NL_PLUG, gpa, size);
	region->allocating = (struct vmem_nl_range){.gpa = gpa, .size = size};
	region->allocated = 0;
	turn_take(&region->allocate);
	return -EINPROGRESS;
}

/* Allocate the next part. Return: 0: complete; -EINPROGRESS; an errno. */
static int allocate_more(struct kernel_backing *region)
{
	struct backing *backing = &region->backing;
	uint64_t left = region->allocating.size - region->allocated;
	uint64_t part =
		min(max(MEMORY_ALLOCATE_MAX, region->memory.page_size), left);
	int ret;

	ret = memory_allocate(&region->memory,
			      region->allocating.gpa - backing->gpa +
				      region->allocated,
			      part, &backing->error);
	work_add(backing->plugged.work,
		 WORK_CALL_STEPS + part / WORK_STEP_BYTES);
	if (ret)
		return error_wrap(&backing->error, ret, "plug");
	region->allocated += part;
	return part < left ? -EINPROGRESS : 0;
}

static int on_allocate(sd_event_source *source __attribute__((unused)),
		       void *arg)
{
	struct kernel_backing *region = arg;
	struct backing *backing = &region->backing;
	struct vmem_nl_range range = region->allocating;
	int ret;

	ret = allocate_more(region);
	if (ret == -EINPROGRESS) {
		turn_take(&region->allocate);
		return 0;
	}
	region->allocating.size = 0;
	if (!ret)
		ret = begin_change(backing, VMEM_NL_PLUG, range.gpa,
				   range.size);
	if (ret == -EINPROGRESS)
		return 0;
	if (ret)
		backing_owe(backing, range.gpa, range.size);
	backing_ended(backing, ret);
	return 0;
}

static int kernel_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_change(backing, VMEM_NL_UNPLUG, gpa, size);
}

static int kernel_unplug_all(struct backing *backing)
{
	return begin_change(backing, VMEM_NL_UNPLUG_ALL, backing->gpa,
			    backing->size);
}

/* The device has called verify() before, so the last request id is known. */
static int kernel_repeat(struct backing *backing, bool plug, uint64_t gpa,
			 uint64_t size)
{
	struct kernel_backing *region = to_kernel(backing);

	if (!region->may_repeat || !region->state.request_id)
		return -EINVAL;
	if (!region->blocks.out)
		region->blocks.change = (struct vmem_nl_change){
			.type = plug ? VMEM_NL_PLUG : VMEM_NL_UNPLUG,
			.request_id = region->state.request_id,
			.range = {.gpa = gpa, .size = size},
		};
	return begin_blocks(region, true);
}

static void kernel_answer_lost(struct backing *backing)
{
	to_kernel(backing)->may_repeat = true;
}

/*
 * Is the kernel's last answer still up to date? The change count can be read
 * once per change, and another holder of the descriptor, e.g. the VMM, may have
 * read it. So an answer is only trusted for one turn of the event loop.
 */
static bool is_fresh(struct kernel_backing *region)
{
	bool others;

	return region->fresh && region->fresh == loop_turn(region) &&
	       !kernel_read_changes(region, &others) && !others;
}

static int kernel_verify(struct backing *backing)
{
	struct error err;
	int ret;

	ret = verify(to_kernel(backing), &err);
	if (ret == -EAGAIN)
		ret = -EBUSY;
	return ret < 0 ? error_set(&backing->error, ret, "%s", err.text) : ret;
}

/*
 * Another process may have plugged an unplugged block since, with contents. So
 * verify before each discard. Right after an answer with the plugged size it is
 * enough to read the change count, which needs no netlink message.
 */
static int kernel_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct kernel_backing *region = to_kernel(backing);
	int changed = 0;

	if (!is_fresh(region))
		changed = kernel_verify(backing);
	region->fresh = 0;
	if (changed)
		return changed < 0 ? changed : -EAGAIN;
	return memory_punch(&region->memory, gpa - backing->gpa, size,
			    &backing->error);
}

/* Skips holes, so that a large and little used region is swept quickly. */
static uint64_t kernel_next_memory(struct backing *backing, uint64_t from)
{
	return memory_next_data(&to_kernel(backing)->memory,
				from * backing->block_size, backing->size) /
	       backing->block_size;
}

static int kernel_keep_requested(struct backing *backing, uint64_t size,
				 struct error *err)
{
	return kernel_set_requested(to_kernel(backing), size, err);
}

static uint64_t kernel_populated_slots(const struct backing *backing)
{
	return to_kernel((struct backing *)backing)->state.populated_slots;
}

static void kernel_drop(struct backing *backing)
{
	kernel_detach(to_kernel(backing));
}

static const struct backing_ops kernel_ops = {
	.plug = kernel_plug,
	.unplug = kernel_unplug,
	.unplug_all = kernel_unplug_all,
	.repeat = kernel_repeat,
	.verify = kernel_verify,
	.discard = kernel_discard,
	.answer_lost = kernel_answer_lost,
	.next_memory = kernel_next_memory,
	.set_requested = kernel_keep_requested,
	.populated_slots = kernel_populated_slots,
	.detach = kernel_drop,
};

/* Open the sockets. Return: 0, or an errno with @err set. */
int kernel_nl_open(struct kernel_nl *nl, struct error *err)
{
	int ret;

	ret = vmem_nl_open(&nl->read, err);
	if (!ret)
		ret = vmem_nl_open(&nl->blocks, err);
	if (!ret)
		ret = vmem_nl_set_patience(nl->blocks, ANSWER_SOON_USEC, err);
	if (!ret)
		ret = vmem_nl_open(&nl->size, err);
	if (ret)
		kernel_nl_close(nl);
	return ret;
}

void kernel_nl_close(struct kernel_nl *nl)
{
	vmem_nl_close(nl->read);
	vmem_nl_close(nl->blocks);
	vmem_nl_close(nl->size);
	memset(nl, 0, sizeof(*nl));
}

static int add_request(struct kernel_backing *region, sd_event *event,
		       struct kernel_request *request, struct vmem_nl *nl)
{
	int ret;

	request->region = region;
	request->nl = nl;
	ret = sd_event_add_io(event, &request->answer_source, vmem_nl_fd(nl),
			      EPOLLIN, on_answer, request);
	if (ret >= 0)
		ret = timer_add(event, &request->again_source, on_again,
				request);
	return ret;
}

static int add_sources(struct kernel_backing *region, sd_event *event,
		       const struct kernel_nl *nl)
{
	int ret;

	ret = add_request(region, event, &region->blocks, nl->blocks);
	if (ret >= 0)
		ret = add_request(region, event, &region->size, nl->size);
	if (ret >= 0)
		ret = timer_add(event, &region->recheck_source, on_recheck,
				region);
	if (ret >= 0)
		ret = turn_init(&region->allocate, event, on_allocate, region);
	return ret;
}

static void drop_request(struct kernel_request *request)
{
	request->answer_source =
		sd_event_source_disable_unref(request->answer_source);
	request->again_source =
		sd_event_source_disable_unref(request->again_source);
}

static void drop_sources(struct kernel_backing *region)
{
	drop_request(&region->blocks);
	drop_request(&region->size);
	region->recheck_source =
		sd_event_source_disable_unref(region->recheck_source);
	turn_end(&region->allocate);
}

/**
 * kernel_attach() - attach to a region
 * @region: set on success, except for @label, @prealloc and the callbacks
 * @event: the event loop
 * @nl: netlink sockets; stay the caller's and open while attached
 * @fd: descriptor of the region; taken over on success
 * @memory_fd: memory file of the region; taken over on success
 * @err: set on error
 *
 * O_NONBLOCK is set on @fd, which affects all processes that share it.
 *
 * Return: 0; -ENODEV: the VM is gone; an errno of netlink's; -EINVAL, -EPERM,
 * -EOPNOTSUPP: the memory is unsuitable.
 */
int kernel_attach(struct kernel_backing *region, sd_event *event,
		  const struct kernel_nl *nl, int fd, int memory_fd,
		  struct error *err)
{
	struct vmem_nl_region *state = &region->state;
	struct vmem_nl_region found;
	int ret;

	memset(region, 0, sizeof(*region));
	region->nl = nl->read;
	region->fd = fd;
	ret = get_state(region, &found, err);
	if (ret)
		return ret;
	if (!found.alive)
		return error_set(err, -ENODEV, "the region's VM is gone");
	*state = found;
	ret = memory_init(&region->memory, memory_fd, state->size,
			  state->block_size, err);
	if (ret)
		return ret;
	ret = fd_set_nonblock(fd);
	if (ret)
		return error_set(err, ret, "region descriptor: %s",
				 strerror(-ret));

	ret = backing_init(&region->backing, &kernel_ops, state->gpa,
			   state->size, state->block_size);
	if (ret)
		return error_set(err, ret, "out of memory");
	region->backing.nr_slots = state->nr_slots;
	region->backing.memory = &region->memory;
	ret = backing_note_file(&region->backing, memory_fd);
	if (ret) {
		error_set(err, ret, "memory descriptor: %s", strerror(-ret));
		goto free_backing;
	}
	ret = add_sources(region, event, nl);
	if (ret < 0) {
		error_set(err, ret, "the event loop: %s", strerror(-ret));
		goto drop;
	}
	ret = read_all(region, err);
	if (ret)
		goto drop;
	region->may_repeat = true;
	region->used_before = state->changes;
	return 0;

drop:
	drop_sources(region);
free_backing:
	backing_free(&region->backing);
	return ret;
}

void kernel_detach(struct kernel_backing *region)
{
	drop_sources(region);
	backing_free(&region->backing);
	close(region->fd);
	close(region->memory.fd);
}

/* Send a setting now, or after the answer to the previous one. */
static int want_setting(struct kernel_backing *region, unsigned int setting,
			struct error *err)
{
	int ret;

	region->wanted |= setting;
	if (region->size.out)
		return -EINPROGRESS;
	ret = begin_setting(region);
	if (ret)
		return error_set(err, ret, "%s", region->backing.error.text);
	return -EINPROGRESS;
}

/**
 * kernel_set_requested() - store the requested size in the kernel
 * @region: the region
 * @size: bytes
 * @err: set on error
 *
 * A size that is set before an earlier one was answered replaces the earlier
 * one. region->size_set() is called once for both, with the last result.
 *
 * Return: -EINPROGRESS: region->size_set() will be called; an errno.
 */
int kernel_set_requested(struct kernel_backing *region, uint64_t size,
			 struct error *err)
{
	region->wanted_size = size;
	return want_setting(region, VMEM_NL_SET_REQUESTED_SIZE, err);
}

/**
 * kernel_set_dirty_log() - switch dirty logging of all memslots on or off
 * @region: the region
 * @on: whether to log
 * @err: set on error
 *
 * The kernel changes all memslots in one batch. The setting also applies to
 * memslots that are populated later.
 *
 * Return: -EINPROGRESS: region->log_set() will be called; an errno.
 */
int kernel_set_dirty_log(struct kernel_backing *region, bool on,
			 struct error *err)
{
	region->wanted_log = on;
	return want_setting(region, VMEM_NL_SET_DIRTY_LOG, err);
}

/**
 * kernel_read_changes() - read the kernel's change count from the descriptor
 * @region: the region
 * @others: set to whether another process has changed the region
 *
 * The descriptor becomes readable again with the next change.
 *
 * Return: 0; -ENODEV: the VM is gone; an errno of read(2).
 */
int kernel_read_changes(struct kernel_backing *region, bool *others)
{
	uint64_t changes;
	ssize_t got;

	*others = false;
	got = read(region->fd, &changes, sizeof(changes));
	if (got == 0)
		return -ENODEV;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	/* During a change of this process, the origin is not known yet. */
	if (region->blocks.out)
		region->seen = changes;
	else
		*others = changes != region->changes;
	return 0;
}
