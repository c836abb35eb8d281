// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * A model of the module with one region, for targets that run without the
 * module: the functions of vmem_nl.h, linked instead of the netlink client. It
 * implements uapi/kvm_vmem.yaml without KVM.
 *
 * A region's descriptor is one end of a pair of sockets, which its inode
 * identifies. The number of changes can be read from it, and it hangs up when
 * the VM ends.
 *
 * The input decides when a change is carried out, its result, whether its
 * answer is lost, and what others change meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fuzz.h"
#include "fuzz_module.h"

/* Maximum number of pending changes and answers of a handle. */
#define SENT_MAX 8

/* Handles: three of each device. */
#define HANDLES_MAX 12

/**
 * struct sent - a requested change
 * @done: it was carried out with @changed, or refused with @ret
 */
struct sent {
	struct vmem_nl_change change;
	bool done;
	bool lost;
	int ret;
	struct vmem_nl_changed changed;
};

/* @fd: readable while an answer is available */
struct vmem_nl {
	int fd;
	struct vmem_nl_failure failure;
	struct sent sent[SENT_MAX];
	size_t nr_sent;
};

static struct {
	struct vmem_nl_region state;
	uint8_t plugged[FUZZ_MODULE_NR_BLOCKS];
	struct vmem_nl_change last;
	/* The region's descriptor, which stays open, and the other end. */
	int fd;
	int vm;
	ino_t inode;
	uint8_t how;
	/* The number of requests before the errors of @how begin. */
	unsigned int good;
	const struct vmem_nl_range *shown;
	/* A change of ranges that waits; its answer is lost. */
	struct {
		struct vmem_nl_range *ranges;
		size_t nr;
		bool plug;
		uint64_t request_id;
	} late;
} module;

static struct vmem_nl *handles[HANDLES_MAX];

static int failed(int ret, struct error *err)
{
	return ret ? error_set(err, ret, "the module says %d", ret) : 0;
}

/* The result of a request, from the input. */
static int next_error(void)
{
	static const int errors[] = {0,	      -ENOMEM, -EBUSY,	-EAGAIN,
				     -ENOSPC, -EINTR,  -ESTALE, -EEXIST};
	int ret = errors[module.how & FUZZ_MODULE_ERROR];

	if (module.good) {
		module.good--;
		return 0;
	}
	if (module.how & FUZZ_MODULE_ONCE)
		module.how &= ~(FUZZ_MODULE_ERROR | FUZZ_MODULE_ONCE);
	return ret;
}

static void count(void)
{
	struct vmem_nl_region *state = &module.state;
	uint64_t per_slot = FUZZ_MODULE_SLOT / FUZZ_MODULE_BLOCK;

	state->plugged_size = 0;
	state->populated_slots = 0;
	for (uint64_t slot = 0; slot < state->nr_slots; slot++) {
		uint64_t nr = 0;

		for (uint64_t i = 0; i < per_slot; i++)
			nr += module.plugged[slot * per_slot + i];
		state->plugged_size += nr * FUZZ_MODULE_BLOCK;
		state->populated_slots += nr > 0;
	}
}

/* One count is readable, however many changes there were. */
static void note_change(void)
{
	uint64_t old;

	count();
	module.state.changes++;
	while (recv(module.fd, &old, sizeof(old), MSG_DONTWAIT) > 0)
		;
	if (module.vm >= 0)
		fuzz_require(send(module.vm, &module.state.changes,
				  sizeof(module.state.changes),
				  MSG_DONTWAIT | MSG_NOSIGNAL) ==
			     sizeof(module.state.changes));
}

static void signal_answers(struct vmem_nl *nl)
{
	uint64_t one = 1, none;

	if (nl->nr_sent && nl->sent[0].done)
		fuzz_require(write(nl->fd, &one, sizeof(one)) == sizeof(one));
	else
		(void)!read(nl->fd, &none, sizeof(none));
}

static struct vmem_nl_answer answer_now(void)
{
	return (struct vmem_nl_answer){
		.region_id = module.state.id,
		.request_id = module.state.request_id,
		.plugged_size = module.state.plugged_size,
		.populated_slots = module.state.populated_slots,
	};
}

static bool is_same(const struct vmem_nl_change *a,
		    const struct vmem_nl_change *b)
{
	return a->type == b->type && a->range.gpa == b->range.gpa &&
	       a->range.size == b->range.size;
}

static int change_blocks(const struct vmem_nl_change *change)
{
	bool plug = change->type == VMEM_NL_PLUG;
	uint64_t offset = change->range.gpa - FUZZ_MODULE_GPA;
	uint64_t first = offset / FUZZ_MODULE_BLOCK;
	uint64_t nr = change->range.size / FUZZ_MODULE_BLOCK;

	/* vmemd must request whole blocks of the region. */
	fuzz_require(change->range.gpa >= FUZZ_MODULE_GPA && nr &&
		     !(offset % FUZZ_MODULE_BLOCK) &&
		     !(change->range.size % FUZZ_MODULE_BLOCK) &&
		     first < FUZZ_MODULE_NR_BLOCKS &&
		     nr <= FUZZ_MODULE_NR_BLOCKS - first);
	fuzz_require(change->request_id);
	if (change->request_id == module.state.request_id)
		return is_same(change, &module.last) ? 0 : -EINVAL;
	for (uint64_t i = first; i < first + nr; i++)
		if (change->type != VMEM_NL_UNPLUG_ALL &&
		    module.plugged[i] == plug)
			return plug ? -EEXIST : -ENXIO;
	memset(module.plugged + first, plug, nr);
	module.state.request_id = change->request_id;
	module.last = *change;
	note_change();
	return 0;
}

static int change_settings(const struct vmem_nl_change *change)
{
	struct vmem_nl_region *state = &module.state;

	fuzz_require(change->requested_size <= FUZZ_MODULE_SIZE &&
		     !(change->requested_size % FUZZ_MODULE_BLOCK));
	if (change->set & VMEM_NL_SET_REQUESTED_SIZE)
		state->requested_size = change->requested_size;
	if (change->set & VMEM_NL_SET_DIRTY_LOG)
		state->dirty_log = change->dirty_log;
	note_change();
	return 0;
}

static void set_ranges(bool plug, uint64_t request_id,
		       const struct vmem_nl_range *ranges, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		memset(module.plugged + (ranges[i].gpa - FUZZ_MODULE_GPA) /
						FUZZ_MODULE_BLOCK,
		       plug, ranges[i].size / FUZZ_MODULE_BLOCK);
	if (request_id)
		module.state.request_id = request_id;
	note_change();
}

/* Changes are carried out in order, reads do not wait for them. */
static bool carry_out_late(void)
{
	if (!module.late.ranges)
		return false;
	set_ranges(module.late.plug, module.late.request_id, module.late.ranges,
		   module.late.nr);
	free(module.late.ranges);
	module.late.ranges = NULL;
	return true;
}

static void carry_out(struct sent *sent)
{
	carry_out_late();
	sent->done = true;
	sent->lost = module.how & FUZZ_MODULE_LOSE;
	module.how &= ~FUZZ_MODULE_LOSE;
	sent->ret = next_error();
	if (!sent->ret && !module.state.alive)
		sent->ret = -ESTALE;
	if (!sent->ret)
		sent->ret = sent->change.type == VMEM_NL_SET
				    ? change_settings(&sent->change)
				    : change_blocks(&sent->change);
	sent->changed.region = module.state;
	sent->changed.blocks = answer_now();
}

static bool finish(struct vmem_nl *nl)
{
	bool any = false;

	for (size_t i = 0; i < nl->nr_sent; i++) {
		if (nl->sent[i].done)
			continue;
		carry_out(&nl->sent[i]);
		any = true;
	}
	signal_answers(nl);
	return any;
}

/* All values of metadata differ. */
static struct vmem_nl_metadata metadata_of(uint64_t value)
{
	return (struct vmem_nl_metadata){
		.memslot = value,
		.rmap = value + 1,
		.lpage_info = value + 2,
		.gfn_track = value + 3,
		.dirty_bitmap = value + 4,
		.total = value + 5,
	};
}

/* --- Interface for targets --- */

void fuzz_module_start(void)
{
	struct stat st;
	int pair[2];

	fuzz_require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	memset(&module, 0, sizeof(module));
	module.fd = pair[0];
	module.vm = pair[1];
	fuzz_require(!fstat(module.fd, &st));
	module.inode = st.st_ino;
	module.state = (struct vmem_nl_region){
		.id = 1,
		.gpa = FUZZ_MODULE_GPA,
		.size = FUZZ_MODULE_SIZE,
		.hva = FUZZ_MODULE_GPA,
		.block_size = FUZZ_MODULE_BLOCK,
		.slot_size = FUZZ_MODULE_SLOT,
		.first_slot = 10,
		.nr_slots = FUZZ_MODULE_SIZE / FUZZ_MODULE_SLOT,
		.address_spaces = 1,
		.pid = 77,
		.alive = true,
		.has_metadata = true,
		.metadata = metadata_of(100),
		.has_whole_metadata = true,
		.whole_metadata = metadata_of(200),
		.has_zaps = true,
		.zap_ranges = true,
		.range_zaps = 3,
		.zaps_by_kvm = 4,
	};
}

/* All daemons have ended. */
void fuzz_module_stop(void)
{
	for (size_t i = 0; i < HANDLES_MAX; i++)
		fuzz_require(!handles[i]);
	free(module.late.ranges);
	close(module.fd);
	if (module.vm >= 0)
		close(module.vm);
}

/* The caller must not close it; other copies exist. */
int fuzz_module_region(void)
{
	return module.fd;
}

void fuzz_module_set(uint8_t how)
{
	module.how = how;
}

/* The next @nr requests do not fail. */
void fuzz_module_delay(unsigned int nr)
{
	module.good = nr;
}

/* Carry out pending changes. Return: false if there was none. */
bool fuzz_module_finish(void)
{
	bool any = carry_out_late();

	for (size_t i = 0; i < HANDLES_MAX; i++)
		any |= handles[i] && finish(handles[i]);
	return any;
}

/* Another process plugs or unplugs. */
void fuzz_module_others(uint8_t first, uint8_t nr, bool plug)
{
	first %= FUZZ_MODULE_NR_BLOCKS;
	nr %= FUZZ_MODULE_NR_BLOCKS - first + 1;
	memset(module.plugged + first, plug, nr);
	note_change();
}

/* Dumps show this run of plugged blocks only; NULL: what is plugged. */
void fuzz_module_show(const struct vmem_nl_range *run)
{
	module.shown = run;
}

void fuzz_module_end_vm(void)
{
	module.state.alive = false;
	if (module.vm >= 0)
		close(module.vm);
	module.vm = -1;
}

bool fuzz_module_alive(void)
{
	return module.state.alive;
}

const struct vmem_nl_region *fuzz_module_state(void)
{
	return &module.state;
}

bool fuzz_module_plugged(uint64_t block)
{
	return module.plugged[block];
}

/* --- vmem_nl.h --- */

int vmem_nl_open(struct vmem_nl **nlp, struct error *err)
{
	struct vmem_nl *nl = calloc(1, sizeof(*nl));
	size_t i = 0;

	(void)err;
	fuzz_require(nl);
	nl->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	fuzz_require(nl->fd >= 0);
	while (i < HANDLES_MAX && handles[i])
		i++;
	fuzz_require(i < HANDLES_MAX);
	handles[i] = nl;
	*nlp = nl;
	return 0;
}

void vmem_nl_close(struct vmem_nl *nl)
{
	if (!nl)
		return;
	for (size_t i = 0; i < HANDLES_MAX; i++)
		if (handles[i] == nl)
			handles[i] = NULL;
	close(nl->fd);
	free(nl);
}

int vmem_nl_fd(const struct vmem_nl *nl)
{
	return nl->fd;
}

const struct vmem_nl_failure *vmem_nl_failure(const struct vmem_nl *nl)
{
	return &nl->failure;
}

int vmem_nl_set_patience(struct vmem_nl *nl, unsigned int usec,
			 struct error *err)
{
	(void)nl;
	(void)usec;
	(void)err;
	return 0;
}

/* Is it the region's descriptor? */
static int find(struct vmem_nl_name name, struct error *err)
{
	struct stat st;

	if (name.fd < 0 || fstat(name.fd, &st) < 0 || !S_ISSOCK(st.st_mode) ||
	    st.st_ino != module.inode)
		return failed(-EBADF, err);
	return 0;
}

static int begin_read(struct vmem_nl_name name, struct error *err)
{
	int ret = find(name, err);

	if (!ret && module.how & FUZZ_MODULE_READS)
		ret = failed(next_error(), err);
	return ret;
}

int vmem_nl_region_get(struct vmem_nl *nl, struct vmem_nl_name name,
		       struct vmem_nl_region *region, struct error *err)
{
	int ret = begin_read(name, err);

	(void)nl;
	if (!ret)
		*region = module.state;
	return ret;
}

int vmem_nl_block_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		       vmem_nl_range_fn fn, void *arg, struct error *err)
{
	uint64_t at = 0, end;
	int ret = begin_read(name, err);

	(void)nl;
	if (!ret && module.shown)
		return fn(module.shown, arg);
	for (; !ret && at < FUZZ_MODULE_NR_BLOCKS; at = end) {
		end = at + 1;
		if (!module.plugged[at])
			continue;
		while (end < FUZZ_MODULE_NR_BLOCKS && module.plugged[end])
			end++;
		ret = fn(
			&(struct vmem_nl_range){
				.gpa = FUZZ_MODULE_GPA + at * FUZZ_MODULE_BLOCK,
				.size = (end - at) * FUZZ_MODULE_BLOCK,
			},
			arg);
	}
	return ret;
}

int vmem_nl_slot_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		      vmem_nl_slot_fn fn, void *arg, struct error *err)
{
	uint64_t per_slot = FUZZ_MODULE_SLOT / FUZZ_MODULE_BLOCK;
	int ret = begin_read(name, err);

	(void)nl;
	for (uint32_t slot = 0; !ret && slot < module.state.nr_slots; slot++) {
		uint64_t nr = 0;

		for (uint64_t i = 0; i < per_slot; i++)
			nr += module.plugged[slot * per_slot + i];
		if (!nr)
			continue;
		ret = fn(
			&(struct vmem_nl_slot){
				.region_id = module.state.id,
				.id = module.state.first_slot + slot,
				.gpa = FUZZ_MODULE_GPA +
				       slot * FUZZ_MODULE_SLOT,
				.size = FUZZ_MODULE_SLOT,
				.hva = FUZZ_MODULE_GPA +
				       slot * FUZZ_MODULE_SLOT,
				.plugged_size = nr * FUZZ_MODULE_BLOCK,
				/* As if a VMM has meddled with the first. */
				.stale = !slot,
				.has_metadata = slot,
				.metadata = metadata_of(slot),
			},
			arg);
	}
	return ret;
}

static int send_change(struct vmem_nl *nl, struct vmem_nl_name name,
		       const struct vmem_nl_change *change, struct error *err)
{
	int ret = find(name, err);

	if (ret)
		return ret;
	if (nl->nr_sent >= SENT_MAX)
		return failed(-EAGAIN, err);
	nl->sent[nl->nr_sent++] = (struct sent){.change = *change};
	if (!(module.how & FUZZ_MODULE_LATER))
		finish(nl);
	return 0;
}

int vmem_nl_send(struct vmem_nl *nl, struct vmem_nl_name name,
		 const struct vmem_nl_change *change, struct error *err)
{
	return send_change(nl, name, change, err);
}

int vmem_nl_receive(struct vmem_nl *nl, bool wait,
		    struct vmem_nl_changed *changed, struct error *err)
{
	struct sent sent;
	bool last = false;

	(void)wait;
	memset(changed, 0, sizeof(*changed));
	/* Answers to all but the last request are dropped. */
	while (!last) {
		if (!nl->nr_sent || !nl->sent[0].done) {
			signal_answers(nl);
			return -EINPROGRESS;
		}
		sent = nl->sent[0];
		nl->nr_sent--;
		last = !nl->nr_sent;
		memmove(nl->sent, nl->sent + 1,
			nl->nr_sent * sizeof(*nl->sent));
	}
	signal_answers(nl);
	nl->failure.unknown = sent.lost;
	if (sent.lost)
		return failed(-ENOBUFS, err);
	*changed = sent.changed;
	return failed(sent.ret, err);
}

/* --- Changes of several ranges, for --restore --- */

static bool is_possible(bool plug, const struct vmem_nl_range *range)
{
	uint64_t first = (range->gpa - FUZZ_MODULE_GPA) / FUZZ_MODULE_BLOCK;
	uint64_t nr = range->size / FUZZ_MODULE_BLOCK;

	/* vmemd must request whole blocks of the region. */
	fuzz_require(range->gpa >= FUZZ_MODULE_GPA && nr &&
		     !(range->gpa % FUZZ_MODULE_BLOCK) &&
		     !(range->size % FUZZ_MODULE_BLOCK) &&
		     first < FUZZ_MODULE_NR_BLOCKS &&
		     nr <= FUZZ_MODULE_NR_BLOCKS - first);
	for (uint64_t i = first; i < first + nr; i++)
		if (module.plugged[i] == plug)
			return false;
	return true;
}

/* The change waits, and its answer will be lost. */
static int lose(struct vmem_nl *nl, bool plug, uint64_t request_id,
		const struct vmem_nl_range *ranges, size_t nr,
		struct error *err)
{
	module.how &= ~FUZZ_MODULE_LOSE;
	/* There are no ranges to unplug all. */
	module.late.ranges = calloc(nr + 1, sizeof(*ranges));
	fuzz_require(module.late.ranges);
	memcpy(module.late.ranges, ranges, nr * sizeof(*ranges));
	module.late.nr = nr;
	module.late.plug = plug;
	module.late.request_id = request_id;
	nl->failure.unknown = true;
	return failed(-ENOBUFS, err);
}

/* All ranges are changed or none. @request_id: 0: the last one stays */
static int change_ranges(struct vmem_nl *nl, struct vmem_nl_name name,
			 bool plug, uint64_t request_id,
			 const struct vmem_nl_range *ranges, size_t nr,
			 struct vmem_nl_answer *answer, struct error *err)
{
	int ret = find(name, err);

	carry_out_late();
	nl->failure.unknown = false;
	if (!ret)
		ret = failed(next_error(), err);
	for (size_t i = 0; !ret && i < nr; i++)
		if (!is_possible(plug, &ranges[i]))
			ret = failed(plug ? -EEXIST : -ENXIO, err);
	if (ret)
		return ret;
	if (module.how & FUZZ_MODULE_LOSE)
		return lose(nl, plug, request_id, ranges, nr, err);
	set_ranges(plug, request_id, ranges, nr);
	if (answer)
		*answer = answer_now();
	return 0;
}

int vmem_nl_region_set(struct vmem_nl *nl, struct vmem_nl_name name,
		       unsigned int what, uint64_t requested_size,
		       bool dirty_log, struct vmem_nl_region *region,
		       struct error *err)
{
	const struct vmem_nl_change change = {
		.type = VMEM_NL_SET,
		.set = what,
		.requested_size = requested_size,
		.dirty_log = dirty_log,
	};
	int ret = find(name, err);

	(void)nl;
	if (!ret)
		ret = failed(next_error(), err);
	if (!ret)
		ret = change_settings(&change);
	if (!ret && region)
		*region = module.state;
	return ret;
}

int vmem_nl_plug(struct vmem_nl *nl, struct vmem_nl_name name,
		 uint64_t request_id, const struct vmem_nl_range *ranges,
		 size_t nr, struct vmem_nl_answer *answer, struct error *err)
{
	return change_ranges(nl, name, true, request_id, ranges, nr, answer,
			     err);
}

int vmem_nl_unplug(struct vmem_nl *nl, struct vmem_nl_name name,
		   uint64_t request_id, const struct vmem_nl_range *ranges,
		   size_t nr, struct vmem_nl_answer *answer, struct error *err)
{
	return change_ranges(nl, name, false, request_id, ranges, nr, answer,
			     err);
}

int vmem_nl_unplug_all(struct vmem_nl *nl, struct vmem_nl_name name,
		       uint64_t request_id, struct vmem_nl_answer *answer,
		       struct error *err)
{
	int ret = find(name, err);

	carry_out_late();
	nl->failure.unknown = false;
	if (!ret)
		ret = failed(next_error(), err);
	if (ret)
		return ret;
	memset(module.plugged, 0, sizeof(module.plugged));
	if (request_id)
		module.state.request_id = request_id;
	note_change();
	if (answer)
		*answer = answer_now();
	return 0;
}
