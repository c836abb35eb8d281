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
 * Waiting. The kernel carries out changes in the order they are asked for, each
 * when KVM lets it be done, which a VMM can delay for as long as it likes. Most
 * are there at once, so the answer is waited for, but not for long; then it is
 * an event of the loop, and other events have their turn before it. Reading
 * waits for nobody.
 *
 * Request ids. Each change carries the id after the last one. The kernel
 * remembers the last request with its answer, so one that comes again with the
 * same id changes nothing and is answered as before. That closes two gaps.
 * - An answer does not come, because there was no memory for it: the request is
 *   sent again. Until it is answered nothing else is asked for, since whether
 *   it was carried out is not known.
 * - A daemon died after the kernel had made a change and before the guest was
 *   told: its successor finds the guest's request still in the queue and the
 *   blocks already as requested. Instead of an error, which the guest has not
 *   deserved, it asks the kernel to repeat the last request, and gets an answer
 *   if it is this one, EINVAL if not. A front end that goes away before the
 *   answer, and comes back, leaves the same behind.
 *
 * Allocating. With @prealloc a plug has two steps: its memory is allocated, a
 * part at a time, and then the kernel is asked. If there is no memory, or the
 * kernel refuses, what was allocated is owed to the host, as the memory of
 * unplugged blocks always is. A guest is told of a plug only when its memory is
 * there, and nothing that it does can use it up again.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "backing/kernel.h"
#include "base/log.h"
#include "common/fd.h"

/* How often blocks that change while they are read are read again. */
#define BLOCK_DUMP_TRIES 16

/*
 * How long to wait for an answer before the request is sent again, which is
 * right if it is lost, and harmless if KVM is slow: at first, and at most. It
 * doubles, so that not many copies wait in the kernel.
 */
#define AGAIN_USEC     (30 * 1000000ULL)
#define AGAIN_MAX_USEC (3600 * 1000000ULL)

/*
 * How long to wait for the answer to a change of blocks before it is left to the
 * loop: longer than nearly all take, and so short that nobody misses the daemon.
 */
#define ANSWER_SOON_USEC 2000

/* How long after a failure the region is read again. */
#define RECHECK_USEC 1000000ULL

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

/*
 * What the kernel reports is checked as what a guest sends is: a module of
 * another version may be loaded.
 */
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
static int get_state(const struct region *region, struct vmem_nl_region *state,
		     struct vmem_nl_error *err)
{
	int ret = vmem_nl_region_get(region->nl, name_of(region), state, err);

	if (ret)
		return ret;
	if (!is_sane(state) ||
	    (region->state.size && !is_same(state, &region->state))) {
		set_text(err, "the kernel's answer makes no sense");
		return -EBADMSG;
	}
	return 0;
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
		set_text(err, "the region's blocks change while they are read");
		ret = -EAGAIN;
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

/* Read state and blocks. On error the mirror is as it was. */
static int read_all(struct region *region, struct vmem_nl_error *err)
{
	int ret = -EAGAIN;

	for (int i = 0; i < BLOCK_DUMP_TRIES && ret == -EAGAIN; i++)
		ret = read_once(region, err);
	return ret;
}

/* Read all anew, whether it has changed or not. Not while changes are out. */
int kernel_reload(struct region *region, struct vmem_nl_error *err)
{
	return read_all(region, err);
}

/*
 * Bring the mirror up to date. Not while a change of ours is on its way: its
 * answer could not be told from others' doing then.
 *
 * Return: 0 it was up to date; 1 it is now; an errno.
 */
static int verify(struct region *region, struct vmem_nl_error *err)
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

static void arm(sd_event_source *source, uint64_t usec)
{
	sd_event_source_set_time_relative(source, usec);
	sd_event_source_set_enabled(source, SD_EVENT_ONESHOT);
}

/**
 * kernel_recheck() - find out what others have changed, and tell of it
 *
 * When that is not possible now, it is done later.
 */
void kernel_recheck(struct region *region)
{
	struct vmem_nl_error err;

	region->recheck = true;
	if (region->blocks.out)
		return;
	if (verify(region, &err) < 0) {
		log_limited(&region->limit, LOG_LEVEL_WARNING, region->label,
			    "reading the region: %s", err.text);
		arm(region->recheck_source, RECHECK_USEC);
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

static int ask(struct region_request *request, struct vmem_nl_error *err)
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

/* The answer is an event of the loop, and may be lost. */
static void await_answer(struct region_request *request)
{
	arm(request->again_source, request->wait_usec);
	request->wait_usec *= 2;
	if (request->wait_usec > AGAIN_MAX_USEC)
		request->wait_usec = AGAIN_MAX_USEC;
}

static int on_again(sd_event_source *source __attribute__((unused)),
		    uint64_t usec __attribute__((unused)), void *arg)
{
	struct region_request *request = arg;
	struct vmem_nl_error err;

	log_limited(&request->region->limit, LOG_LEVEL_WARNING,
		    request->region->label,
		    "the kernel has not answered for long: asked again");
	ask(request, &err);
	await_answer(request);
	return 0;
}

/* Ask for request->change. Return: 0, or an errno with a reason. */
static int ask_kernel(struct region_request *request, bool repeat)
{
	struct backing *backing = &request->region->backing;
	struct vmem_nl_error err;
	int ret;

	if (request->out) {
		snprintf(backing->reason, sizeof(backing->reason),
			 "the kernel has not answered the request before");
		return -EBUSY;
	}
	request->asked = 0;
	request->repeat = repeat;
	request->wait_usec = AGAIN_USEC;
	ret = ask(request, &err);
	if (!ret)
		return 0;
	snprintf(backing->reason, sizeof(backing->reason), "%.150s", err.text);
	return ret == -EAGAIN || ret == -EINVAL ? -EBUSY : ret;
}

/* What the turn of the event loop is called that we are in; not 0. */
static uint64_t loop_turn(const struct region *region)
{
	uint64_t turn = 0;

	sd_event_get_iteration(region->allocate.event, &turn);
	return turn + 1;
}

/* Can this be the answer to the change that was asked for? */
static bool is_answer(const struct region *region,
		      const struct vmem_nl_answer *answer)
{
	const struct vmem_nl_region *state = &region->state;

	return answer->request_id == region->blocks.change.request_id &&
	       answer->plugged_size <= state->size &&
	       answer->plugged_size % state->block_size == 0 &&
	       answer->populated_slots <= state->nr_slots;
}

/* A change of ours was carried out. */
static void carried_out(struct region *region,
			const struct vmem_nl_answer *answer)
{
	const struct vmem_nl_change *change = &region->blocks.change;

	if (!is_answer(region, answer)) {
		/* Nothing of it is used: all is read anew. */
		log_warning_of(region->label,
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

/* Are the blocks as the request wants them? */
static bool as_wanted(const struct region *region)
{
	const struct vmem_nl_change *change = &region->blocks.change;
	const struct backing *backing = &region->backing;
	uint64_t first =
		(change->range.gpa - backing->gpa) / backing->block_size;
	uint64_t nr = change->range.size / backing->block_size;

	return blocks_count(&backing->plugged, first, nr) ==
	       (change->type == VMEM_NL_PLUG ? nr : 0);
}

/* What the device is told of a request that was refused. */
static int refused(struct region *region, int error,
		   const struct vmem_nl_error *err)
{
	static const char *const names[] = {
		[VMEM_NL_PLUG] = "plug",
		[VMEM_NL_UNPLUG] = "unplug",
		[VMEM_NL_UNPLUG_ALL] = "unplug all",
	};
	struct region_request *request = &region->blocks;
	struct backing *backing = &region->backing;
	struct vmem_nl_error again;
	int ret;

	snprintf(backing->reason, sizeof(backing->reason), "%s: %.100s (%s)",
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
	 * The kernel does not see blocks or request ids as we do. If they have
	 * changed behind our back, the request is to be judged again. If not,
	 * it is something else of the VM's that is in the way.
	 */
	ret = verify(region, &again);
	if (ret < 0)
		return -EBUSY;
	/*
	 * Asked more than once, the kernel may have carried it out at first and
	 * a request of somebody else's since, which it remembers instead.
	 */
	if (ret && request->asked > 1 && as_wanted(region))
		return 0;
	return ret ? -EAGAIN : -EBUSY;
}

static void end_request(struct region_request *request)
{
	request->out = false;
	sd_event_source_set_enabled(request->again_source, SD_EVENT_OFF);
}

/* Return: what the device is told. */
static int end_blocks(struct region *region, int ret,
		      const struct vmem_nl_changed *changed,
		      const struct vmem_nl_error *err)
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
			    "request %" PRIu64 " was carried out before and is "
			    "answered now",
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

static void report_setting(struct region *region, unsigned int setting, int ret,
			   const char *text)
{
	if (setting & VMEM_NL_SET_DIRTY_LOG) {
		if (region->log_set)
			region->log_set(region->arg, ret, ret ? text : "");
	} else if (region->size_set) {
		region->size_set(region->arg, ret, ret ? text : "");
	}
}

/*
 * Send the next setting that waits. The two kinds take turns.
 *
 * Return: 0, or an errno with a reason; the setting does not wait any more then.
 */
static int begin_setting(struct region *region)
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

static void begin_settings(struct region *region)
{
	while (region->wanted && !region->size.out) {
		int ret = begin_setting(region);

		if (ret)
			report_setting(region, region->size.change.set, ret,
				       region->backing.reason);
	}
}

static void end_size(struct region *region, int ret,
		     const struct vmem_nl_changed *changed,
		     const struct vmem_nl_error *err)
{
	const struct vmem_nl_region *state = &changed->region;
	unsigned int setting = region->size.change.set;

	end_request(&region->size);
	if (!ret && is_sane(state) && is_same(state, &region->state)) {
		region->state.requested_size = state->requested_size;
		region->state.dirty_log = state->dirty_log;
		/* If others have changed something too, the counts differ. */
		if (state->changes == region->changes + 1)
			region->changes = state->changes;
	}
	/* The answer to a later value of the setting counts for both. */
	if (!(region->wanted & setting))
		report_setting(region, setting, ret, err->text);
	begin_settings(region);
}

/**
 * take_answer() - the answer to a request, if it has come
 * @wait: for ANSWER_SOON_USEC at most
 * @result: 0, or the kernel's errno with @err
 *
 * Return: whether it has.
 */
static bool take_answer(struct region_request *request, bool wait, int *result,
			struct vmem_nl_changed *changed,
			struct vmem_nl_error *err)
{
	int ret = vmem_nl_receive(request->nl, wait, changed, err);

	if (ret == -EINPROGRESS || !request->out)
		return false;
	if (ret && err->unknown) {
		log_limited(&request->region->limit, LOG_LEVEL_WARNING,
			    request->region->label,
			    "an answer of the kernel's was lost: %s",
			    err->text);
		/* Once at once, then when the time has come. */
		if (request->asked == 1) {
			ask(request, err);
			await_answer(request);
		}
		return false;
	}
	/* Too many requests wait: the first of ours may be among them. */
	if (ret == -EBUSY && request->asked > 1)
		return false;
	*result = ret;
	return true;
}

static int on_answer(sd_event_source *source __attribute__((unused)),
		     int fd __attribute__((unused)),
		     uint32_t revents __attribute__((unused)), void *arg)
{
	struct region_request *request = arg;
	struct region *region = request->region;
	struct backing *backing = &region->backing;
	struct vmem_nl_changed changed;
	struct vmem_nl_error err;
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

/* Return: the result, if the answer comes soon; -EINPROGRESS; an errno. */
static int begin_blocks(struct region *region, bool repeat)
{
	struct vmem_nl_changed changed;
	struct vmem_nl_error err;
	bool others;
	int ret;

	ret = ask_kernel(&region->blocks, repeat);
	if (ret)
		return ret;
	if (take_answer(&region->blocks, true, &ret, &changed, &err)) {
		/*
		 * It is a change to poll for, too: do not wake up for it. Where
		 * memory will be discarded that reads it, later.
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
	struct region *region = to_region(backing);

	if (!region->blocks.out)
		region->blocks.change = (struct vmem_nl_change){
			.type = type,
			.request_id = region->state.request_id + 1,
			.range = {.gpa = gpa, .size = size},
		};
	return begin_blocks(region, false);
}

static int region_plug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct region *region = to_region(backing);

	if (!region->prealloc || region->blocks.out)
		return begin_change(backing, VMEM_NL_PLUG, gpa, size);
	region->allocating = (struct vmem_nl_range){.gpa = gpa, .size = size};
	region->allocated = 0;
	turn_take(&region->allocate);
	return -EINPROGRESS;
}

/* The next part. Return: 0 all is there; -EINPROGRESS; an errno. */
static int allocate_more(struct region *region)
{
	struct backing *backing = &region->backing;
	uint64_t left = region->allocating.size - region->allocated;
	uint64_t part = MEMORY_ALLOCATE_MAX;
	struct error err;
	int ret;

	if (part < region->memory.page_size)
		part = region->memory.page_size;
	if (part > left)
		part = left;
	ret = memory_allocate(&region->memory,
			      region->allocating.gpa - backing->gpa +
				      region->allocated,
			      part, &err);
	if (ret) {
		snprintf(backing->reason, sizeof(backing->reason), "plug: %s",
			 err.text);
		return ret;
	}
	region->allocated += part;
	return part < left ? -EINPROGRESS : 0;
}

static int on_allocate(sd_event_source *source __attribute__((unused)),
		       void *arg)
{
	struct region *region = arg;
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

static int region_unplug(struct backing *backing, uint64_t gpa, uint64_t size)
{
	return begin_change(backing, VMEM_NL_UNPLUG, gpa, size);
}

static int region_unplug_all(struct backing *backing)
{
	return begin_change(backing, VMEM_NL_UNPLUG_ALL, backing->gpa,
			    backing->size);
}

/* The device has had us verified: the last request's id is known. */
static int region_repeat(struct backing *backing, bool plug, uint64_t gpa,
			 uint64_t size)
{
	struct region *region = to_region(backing);

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

static void region_answer_lost(struct backing *backing)
{
	to_region(backing)->may_repeat = true;
}

/*
 * Is what the kernel has just answered still so? The count of changes alone does
 * not tell for long: it is read once, and who else has the region's descriptor,
 * as its VMM, may have read it before us. So this holds for one turn of the
 * loop.
 */
static bool is_fresh(struct region *region)
{
	bool others;

	return region->fresh && region->fresh == loop_turn(region) &&
	       !kernel_read_changes(region, &others) && !others;
}

static int region_verify(struct backing *backing)
{
	struct vmem_nl_error err;
	int ret;

	ret = verify(to_region(backing), &err);
	if (ret < 0)
		snprintf(backing->reason, sizeof(backing->reason), "%.150s",
			 err.text);
	return ret == -EAGAIN ? -EBUSY : ret;
}

/*
 * What we know to be unplugged may have been plugged since by somebody else,
 * with contents. So ask before each part. Just after an answer that said how
 * much is plugged it is enough to ask for the count of changes, which comes
 * without a message.
 */
static int region_discard(struct backing *backing, uint64_t gpa, uint64_t size)
{
	struct region *region = to_region(backing);
	struct error err;
	int changed = 0, ret;

	if (!is_fresh(region))
		changed = region_verify(backing);
	region->fresh = 0;
	if (changed)
		return changed < 0 ? changed : -EAGAIN;
	ret = memory_punch(&region->memory, gpa - backing->gpa, size, &err);
	if (ret)
		snprintf(backing->reason, sizeof(backing->reason), "%s",
			 err.text);
	return ret;
}

/* So that a large region of which little was used is not gone through. */
static uint64_t region_next_memory(struct backing *backing, uint64_t from)
{
	return memory_next_data(&to_region(backing)->memory,
				from * backing->block_size, backing->size) /
	       backing->block_size;
}

static int region_keep_requested(struct backing *backing, uint64_t size,
				 struct error *err)
{
	struct vmem_nl_error nl_err;
	int ret;

	ret = kernel_set_requested(to_region(backing), size, &nl_err);
	if (ret && ret != -EINPROGRESS)
		error_set(err, ret, "%s", nl_err.text);
	return ret;
}

static uint64_t region_populated_slots(const struct backing *backing)
{
	return to_region((struct backing *)backing)->state.populated_slots;
}

static void region_drop(struct backing *backing)
{
	kernel_detach(to_region(backing));
}

static const struct backing_ops region_ops = {
	.plug = region_plug,
	.unplug = region_unplug,
	.unplug_all = region_unplug_all,
	.repeat = region_repeat,
	.verify = region_verify,
	.discard = region_discard,
	.answer_lost = region_answer_lost,
	.next_memory = region_next_memory,
	.set_requested = region_keep_requested,
	.populated_slots = region_populated_slots,
	.detach = region_drop,
};

/* Open the handles. Return: 0, or an errno with @err filled. */
int kernel_nl_open(struct region_nl *nl, struct vmem_nl_error *err)
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

void kernel_nl_close(struct region_nl *nl)
{
	vmem_nl_close(nl->read);
	vmem_nl_close(nl->blocks);
	vmem_nl_close(nl->size);
	memset(nl, 0, sizeof(*nl));
}

static int add_request(struct region *region, sd_event *event,
		       struct region_request *request, struct vmem_nl *nl)
{
	int ret;

	request->region = region;
	request->nl = nl;
	ret = sd_event_add_io(event, &request->answer_source, vmem_nl_fd(nl),
			      EPOLLIN, on_answer, request);
	if (ret >= 0)
		ret = sd_event_add_time_relative(event, &request->again_source,
						 CLOCK_MONOTONIC, 0, 0,
						 on_again, request);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(request->again_source,
						  SD_EVENT_OFF);
	return ret;
}

static int add_sources(struct region *region, sd_event *event,
		       const struct region_nl *nl)
{
	int ret;

	ret = add_request(region, event, &region->blocks, nl->blocks);
	if (ret >= 0)
		ret = add_request(region, event, &region->size, nl->size);
	if (ret >= 0)
		ret = sd_event_add_time_relative(event, &region->recheck_source,
						 CLOCK_MONOTONIC, 0, 0,
						 on_recheck, region);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(region->recheck_source,
						  SD_EVENT_OFF);
	if (ret >= 0)
		ret = turn_init(&region->allocate, event, on_allocate, region);
	return ret;
}

static void drop_request(struct region_request *request)
{
	request->answer_source =
		sd_event_source_disable_unref(request->answer_source);
	request->again_source =
		sd_event_source_disable_unref(request->again_source);
}

static void drop_sources(struct region *region)
{
	drop_request(&region->blocks);
	drop_request(&region->size);
	region->recheck_source =
		sd_event_source_disable_unref(region->recheck_source);
	turn_end(&region->allocate);
}

/**
 * kernel_attach() - take over a region
 * @region: filled on success, but for @prealloc, @news, @size_set, @log_set and @arg;
 *	owns @fd and @memory_fd then
 * @event: where the kernel's answers come
 * @nl: stays the caller's, as open as long as the region is attached
 * @err: why not, on error
 *
 * O_NONBLOCK is set on @fd, for all who share it.
 *
 * Return: 0; -ENODEV the VM is gone; an errno of netlink's; -EINVAL, -EPERM,
 * -EOPNOTSUPP memory that does not fit.
 */
int kernel_attach(struct region *region, sd_event *event,
		  const struct region_nl *nl, int fd, int memory_fd,
		  struct vmem_nl_error *err)
{
	struct vmem_nl_region *state = &region->state;
	struct vmem_nl_region found;
	struct error error;
	int ret;

	memset(region, 0, sizeof(*region));
	region->nl = nl->read;
	region->fd = fd;
	ret = get_state(region, &found, err);
	if (ret)
		return ret;
	if (!found.alive) {
		set_text(err, "the region's VM is gone");
		return -ENODEV;
	}
	*state = found;
	ret = memory_init(&region->memory, memory_fd, state->size,
			  state->block_size, &error);
	if (ret) {
		set_text(err, "%s", error.text);
		return ret;
	}
	ret = fd_set_nonblock(fd);
	if (ret) {
		set_text(err, "region descriptor: %s", strerror(-ret));
		return ret;
	}

	ret = backing_init(&region->backing, &region_ops, state->gpa,
			   state->size, state->block_size);
	if (ret) {
		set_text(err, "out of memory");
		return ret;
	}
	region->backing.nr_slots = state->nr_slots;
	region->backing.memory = &region->memory;
	ret = backing_note_file(&region->backing, memory_fd);
	if (ret) {
		set_text(err, "memory descriptor: %s", strerror(-ret));
		goto free_backing;
	}
	ret = add_sources(region, event, nl);
	if (ret < 0) {
		set_text(err, "the event loop: %s", strerror(-ret));
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

void kernel_detach(struct region *region)
{
	drop_sources(region);
	backing_free(&region->backing);
	close(region->fd);
	close(region->memory.fd);
}

/* A setting has a new value: send it now, or once the one before is answered. */
static int want_setting(struct region *region, unsigned int setting,
			struct vmem_nl_error *err)
{
	int ret;

	region->wanted |= setting;
	if (region->size.out)
		return -EINPROGRESS;
	ret = begin_setting(region);
	if (ret) {
		set_text(err, "%s", region->backing.reason);
		return ret;
	}
	return -EINPROGRESS;
}

/**
 * kernel_set_requested() - record the requested size in the kernel
 * @size: bytes
 *
 * A size that is set before the kernel has answered an earlier one replaces it:
 * one call of region->size_set() reports the result of the last one.
 *
 * Return: -EINPROGRESS, and region->size_set() will be called; an errno.
 */
int kernel_set_requested(struct region *region, uint64_t size,
			 struct vmem_nl_error *err)
{
	region->wanted_size = size;
	return want_setting(region, VMEM_NL_SET_REQUESTED_SIZE, err);
}

/**
 * kernel_set_dirty_log() - turn dirty logging of all populated slots on or off
 *
 * The kernel does it in one batch. Slots that are populated later have what was
 * set last.
 *
 * Return: as of kernel_set_requested(), with region->log_set().
 */
int kernel_set_dirty_log(struct region *region, bool on,
			 struct vmem_nl_error *err)
{
	region->wanted_log = on;
	return want_setting(region, VMEM_NL_SET_DIRTY_LOG, err);
}

/**
 * kernel_read_changes() - consume the kernel's change count
 * @others: somebody else has changed the region; only then need it be read
 *
 * After this the descriptor polls for the next change.
 *
 * Return: 0; -ENODEV the VM is gone; an errno of read(2).
 */
int kernel_read_changes(struct region *region, bool *others)
{
	uint64_t changes;
	ssize_t got;

	*others = false;
	got = read(region->fd, &changes, sizeof(changes));
	if (got == 0)
		return -ENODEV;
	if (got < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -errno;
	/* With a change on its way it cannot be told yet whose it was. */
	if (region->blocks.out)
		region->seen = changes;
	else
		*others = changes != region->changes;
	return 0;
}
