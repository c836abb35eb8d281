// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Records the actions of KVM when memslots change, and shows the state that KVM
 * then keeps of them. For tests only: the module is never installed, and it can
 * break VMs.
 *
 * Kprobes on KVM's functions record the calls for a VM that a descriptor of
 * /dev/memslot-probe watches, if the watching thread makes them. The functions
 * are those that virt/kvm/kvm_main.c and arch/x86/kvm call while a memslot is
 * created, deleted or has its flags changed; probes[] lists them. Each of them
 * is called from another file than its own, so the compiler cannot have inlined
 * it. The module refuses to load if the kernel lacks one of them: a test that
 * misses some events would pass.
 *
 * Memslots are read under slots_lock and slots_arch_lock. A kprobe's handler
 * reads them in the thread that it interrupts, which holds slots_lock.
 *
 * watches_lock protects the list of descriptors and the events of each.
 * Handlers take it with interrupts off.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cgroup.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hashtable.h>
#include <linux/interval_tree.h>
#include <linux/jhash.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/kvm_host.h>
#include <linux/memcontrol.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>
#include <asm/ibt.h>
#include <asm/kvm_page_track.h>

#include "compat.h"
#include "memslot_probe.h"

/* Intel's PML_ENTITY_NUM. */
#define PML_ENTRIES 512

/**
 * struct watch - an open descriptor
 * @link: in watches
 * @kvm: the watched VM, with a reference; NULL before PROBE_WATCH
 * @task: the thread whose calls are recorded; only compared
 * @events: recorded events
 * @nr: number of @events
 * @lost: number of events that did not fit
 * @fail: the prepare hook to fail; its @error is 0 if none
 * @tracker: a page tracker
 * @tracks: @tracker is registered
 * @assigned: KVM counts an assigned device on behalf of this descriptor
 * @pml: KVM assumes PML for the VM
 * @invalidates: KVM counts an invalidation on behalf of this descriptor
 * @mm: the mm that is kept, or NULL
 * @mm_work: lets go of @mm
 */
struct watch {
	struct list_head link;
	struct kvm *kvm;
	struct task_struct *task;
	struct probe_event *events;
	u32 nr;
	u32 lost;
	struct probe_fail fail;
	struct kvm_page_track_notifier_node tracker;
	bool tracks;
	bool assigned;
	bool pml;
	bool invalidates;
	struct mm_struct *mm;
	struct work_struct mm_work;
};

static LIST_HEAD(watches);
static DEFINE_RAW_SPINLOCK(watches_lock);

/* Descriptors that pretend PML, and the log size before the first of them. */
static unsigned int nr_pml;
static int real_log_size;

static struct watch *find_watch(const struct kvm *kvm)
{
	struct watch *w;

	list_for_each_entry(w, &watches, link)
		if (w->kvm == kvm && w->task == current)
			return w;
	return NULL;
}

static void record(const struct kvm *kvm, const struct probe_event *event)
{
	unsigned long flags;
	struct watch *w;

	raw_spin_lock_irqsave(&watches_lock, flags);
	w = find_watch(kvm);
	if (w && w->nr < PROBE_MAX_EVENTS)
		w->events[w->nr++] = *event;
	else if (w)
		w->lost++;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
}

static u32 slot_number(const struct kvm_memory_slot *slot)
{
	return slot ? (u32)slot->as_id << 16 | (u16)slot->id : PROBE_NO_SLOT;
}

static void record_slot(struct pt_regs *regs, enum probe_kind kind, u64 value)
{
	const struct probe_event event = {
		.kind = kind,
		.slot = slot_number((const void *)regs->si),
		.a = value,
	};

	record((const struct kvm *)regs->di, &event);
}

static void record_value(struct pt_regs *regs, enum probe_kind kind, u64 value)
{
	const struct probe_event event = {
		.kind = kind,
		.slot = PROBE_NO_SLOT,
		.a = value,
	};

	record((const struct kvm *)regs->di, &event);
}

static void record_change(struct pt_regs *regs, enum probe_kind kind)
{
	const struct kvm *kvm = (const struct kvm *)regs->di;
	const struct kvm_memory_slot *old = (const void *)regs->si;
	const struct kvm_memory_slot *new = (const void *)regs->dx;
	const struct probe_event event = {
		.kind = kind,
		.slot = slot_number(new ?: old),
		.change = regs->cx,
		.old_flags = old ? old->flags : 0,
		.new_flags = new ? new->flags : 0,
		.dirty_logging = dirty_logging_count(kvm),
		.pages = kvm->nr_memslot_pages,
	};

	record(kvm, &event);
}

/* The error for this prepare hook to fail with, 0 for none. */
static int take_failure(const struct kvm *kvm, u32 change)
{
	unsigned long flags;
	struct watch *w;
	int error = 0;

	raw_spin_lock_irqsave(&watches_lock, flags);
	w = find_watch(kvm);
	if (w && w->fail.error && w->fail.change == change) {
		if (w->fail.skip) {
			w->fail.skip--;
		} else {
			error = w->fail.error;
			w->fail.error = 0;
		}
	}
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	return error;
}

/* Replaces a prepare hook that fails: returns the error, which is in ax. */
asm(".pushsection .text\n"
	".type probe_return, @function\n"
	"probe_return:\n"
	ASM_ENDBR
	ASM_RET
	".size probe_return, .-probe_return\n"
	".popsection\n");

static int on_prepare(struct kprobe *kp, struct pt_regs *regs)
{
	int error;

	record_change(regs, PROBE_PREPARE);
	error = take_failure((const struct kvm *)regs->di, regs->cx);
	if (!error)
		return 0;
	regs->ax = -error;
	regs->ip = (unsigned long)probe_return;
	return 1;
}

static int on_commit(struct kprobe *kp, struct pt_regs *regs)
{
	record_change(regs, PROBE_COMMIT);
	return 0;
}

static int on_flush_shadow(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_FLUSH_SHADOW, 0);
	return 0;
}

static int on_free(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_FREE, 0);
	return 0;
}

static int on_reclaimed(struct kprobe *kp, struct pt_regs *regs)
{
	record_value(regs, PROBE_RECLAIMED, 0);
	return 0;
}

static int on_updated(struct kprobe *kp, struct pt_regs *regs)
{
	record_value(regs, PROBE_UPDATED, regs->si);
	return 0;
}

static int on_request(struct kprobe *kp, struct pt_regs *regs)
{
	const u32 request = regs->si;
	const struct probe_event event = {
		.kind = PROBE_REQUEST,
		.slot = PROBE_NO_SLOT,
		.a = request,
		.b = request == KVM_REQ_UPDATE_CPU_DIRTY_LOGGING,
	};

	record((const struct kvm *)regs->di, &event);
	return 0;
}

static int on_flush(struct kprobe *kp, struct pt_regs *regs)
{
	record_value(regs, PROBE_FLUSH, 0);
	return 0;
}

static int on_flush_memslot(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_FLUSH_MEMSLOT, 0);
	return 0;
}

static int on_kick(struct kprobe *kp, struct pt_regs *regs)
{
	const struct kvm_vcpu *vcpu = (const struct kvm_vcpu *)regs->di;
	const struct probe_event event = {
		.kind = PROBE_KICK,
		.slot = PROBE_NO_SLOT,
		.a = vcpu->vcpu_idx,
	};

	record(vcpu->kvm, &event);
	return 0;
}

static int on_mmu_pages(struct kprobe *kp, struct pt_regs *regs)
{
	record_value(regs, PROBE_MMU_PAGES, regs->si);
	return 0;
}

static int on_write_protect(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_WRITE_PROTECT, (u32)regs->dx);
	return 0;
}

static int on_clear_dirty(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_CLEAR_DIRTY, 0);
	return 0;
}

static int on_split(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_SPLIT, (u32)regs->dx);
	return 0;
}

static int on_recover(struct kprobe *kp, struct pt_regs *regs)
{
	record_slot(regs, PROBE_RECOVER, 0);
	return 0;
}

/* Calls within KVM's own file are not seen: they may be inlined there. */
static int on_unmap(struct kprobe *kp, struct pt_regs *regs)
{
	const struct kvm_gfn_range *range = (const void *)regs->si;
	const struct probe_event event = {
		.kind = PROBE_UNMAP,
		.slot = slot_number(range->slot),
		.a = range->start,
		.b = range->end - range->start,
	};

	record((const struct kvm *)regs->di, &event);
	return 0;
}

static int on_grace(struct kprobe *kp, struct pt_regs *regs)
{
	const struct srcu_struct *srcu = (const struct srcu_struct *)regs->di;
	const struct probe_event event = {
		.kind = PROBE_GRACE,
		.slot = PROBE_NO_SLOT,
	};
	const struct kvm *kvm = NULL;
	unsigned long flags;
	struct watch *w;

	raw_spin_lock_irqsave(&watches_lock, flags);
	list_for_each_entry(w, &watches, link)
		if (w->kvm && srcu == &w->kvm->srcu)
			kvm = w->kvm;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	if (kvm)
		record(kvm, &event);
	return 0;
}

/* @names: names of the function, newest first; the first that exists is used */
static struct {
	const char *names[2];
	kprobe_pre_handler_t handler;
	struct kprobe kp;
} probes[] = {
	{ { "kvm:kvm_arch_prepare_memory_region" }, on_prepare },
	{ { "kvm:kvm_arch_commit_memory_region" }, on_commit },
	{ { "kvm:kvm_arch_flush_shadow_memslot" }, on_flush_shadow },
	{ { "kvm:kvm_arch_free_memslot" }, on_free },
	{ { "kvm:kvm_arch_guest_memory_reclaimed" }, on_reclaimed },
	{ { "kvm:kvm_arch_memslots_updated" }, on_updated },
	{ { "kvm:kvm_make_all_cpus_request" }, on_request },
	{ { "kvm:kvm_flush_remote_tlbs" }, on_flush },
	{ { "kvm:kvm_flush_remote_tlbs_memslot",
	    "kvm:kvm_arch_flush_remote_tlbs_memslot" }, on_flush_memslot },
	{ { "kvm:__kvm_vcpu_kick",
	    "kvm:kvm_vcpu_kick" }, on_kick },
	{ { "kvm:kvm_mmu_change_mmu_pages" }, on_mmu_pages },
	{ { "kvm:kvm_mmu_slot_remove_write_access" }, on_write_protect },
	{ { "kvm:kvm_mmu_slot_leaf_clear_dirty" }, on_clear_dirty },
	{ { "kvm:kvm_mmu_slot_try_split_huge_pages" }, on_split },
	{ { "kvm:kvm_mmu_recover_huge_pages",
	    "kvm:kvm_mmu_zap_collapsible_sptes" }, on_recover },
	{ { "synchronize_srcu_expedited" }, on_grace },
	{ { "kvm:kvm_unmap_gfn_range" }, on_unmap },
};

static void unregister_probes(unsigned int nr)
{
	while (nr--)
		unregister_kprobe(&probes[nr].kp);
}

static int register_one(unsigned int i)
{
	unsigned int n;
	int r = -ENOENT;

	for (n = 0; n < ARRAY_SIZE(probes[i].names); n++) {
		if (!probes[i].names[n])
			continue;
		probes[i].kp = (struct kprobe) {
			.symbol_name = probes[i].names[n],
			.pre_handler = probes[i].handler,
		};
		r = register_kprobe(&probes[i].kp);
		if (!r)
			return 0;
	}
	pr_err("cannot place a kprobe on %s: %pe\n", probes[i].names[0],
	       ERR_PTR(r));
	return r;
}

static int register_probes(void)
{
	unsigned int i;
	int r;

	for (i = 0; i < ARRAY_SIZE(probes); i++) {
		r = register_one(i);
		if (r) {
			unregister_probes(i);
			return r;
		}
	}
	return 0;
}

void probe_tracked(struct kvm_page_track_notifier_node *node, gfn_t gfn,
		   u64 pages)
{
	const struct watch *w = container_of(node, struct watch, tracker);
	const struct probe_event event = {
		.kind = PROBE_TRACKER,
		.slot = PROBE_NO_SLOT,
		.a = gfn,
		.b = pages,
	};

	record(w->kvm, &event);
}

DEFINE_STATIC_CALL_NULL(probe_lookup, probe_lookup_type);

/* Find kallsyms_lookup_name() as kmod/symbols.c does. */
static int find_lookup(void)
{
	struct kprobe kp = { .symbol_name = "kallsyms_lookup_name" };
	unsigned long addr, offset = 0;
	char name[KSYM_SYMBOL_LEN];
	char *plus;
	int r;

	r = register_kprobe(&kp);
	if (r)
		return r;
	addr = (unsigned long)kp.addr;
	unregister_kprobe(&kp);
	sprint_symbol(name, addr);
	plus = strchr(name, '+');
	if (!plus || sscanf(plus, "+0x%lx/", &offset) != 1)
		return -ENOENT;
	static_call_update(probe_lookup,
			   (typeof(probe_lookup_type) *)(addr - offset));
	return 0;
}

/* KVM of 7.x exports kvm_x86_ops only to its vendor modules. */
static unsigned long kvm_x86_ops_addr;

static int find_kvm_x86_ops(void)
{
	kvm_x86_ops_addr = static_call(probe_lookup)("kvm:kvm_x86_ops");
	return kvm_x86_ops_addr ? 0 : -ENOENT;
}

#ifdef CONFIG_MEMCG
/*
 * mem_cgroup_from_virt() of 7.x. Earlier kernels have a function of another
 * name, which also handles slab objects and other pages.
 */
DEFINE_STATIC_CALL_NULL(probe_memcg_of, probe_memcg_type);

static int find_memcg_of(void)
{
	static const char * const names[] = {
		"mem_cgroup_from_virt",
		"mem_cgroup_from_obj",
		"mem_cgroup_from_slab_obj",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(names); i++) {
		unsigned long addr = static_call(probe_lookup)(names[i]);

		if (!addr)
			continue;
		static_call_update(probe_memcg_of,
				   (typeof(probe_memcg_type) *)addr);
		return 0;
	}
	pr_err("this kernel has no %s\n", names[0]);
	return -ENOENT;
}

static u64 cgroup_of(void *addr)
{
	struct mem_cgroup *memcg;
	u64 ino = 0;

	if (is_vmalloc_addr(addr))
		addr = page_address(vmalloc_to_page(addr));
	rcu_read_lock();
	memcg = static_call(probe_memcg_of)(addr);
	if (memcg)
		ino = cgroup_ino(memcg->css.cgroup);
	rcu_read_unlock();
	return ino;
}
#else
static int find_memcg_of(void)
{
	return 0;
}

static u64 cgroup_of(void *addr)
{
	return 0;
}
#endif

static void describe_memory(struct probe_memory *m, const void *addr, u64 bytes,
			    bool hash)
{
	if (!addr)
		return;
	m->bytes = is_vmalloc_addr(addr) ? PAGE_ALIGN(bytes) : bytes;
	m->cgroup = cgroup_of((void *)addr);
	if (hash)
		m->hash = jhash(addr, bytes, 0);
}

static u64 pages_at(const struct kvm_memory_slot *slot, int level)
{
	gfn_t last = slot->base_gfn + slot->npages - 1;
	int shift = KVM_HPAGE_GFN_SHIFT(level);

	return (last >> shift) - (slot->base_gfn >> shift) + 1;
}

static void describe_arrays(const struct kvm_memory_slot *slot,
			    struct probe_slot *to)
{
	const struct kvm_arch_memory_slot *arch = &slot->arch;
	int i;

	describe_memory(&to->memory[PROBE_STRUCT], slot, sizeof(*slot), false);
	/* The second half is scratch memory of KVM_GET_DIRTY_LOG. */
	describe_memory(&to->memory[PROBE_BITMAP], slot->dirty_bitmap,
			ALIGN(slot->npages, BITS_PER_LONG) / BITS_PER_BYTE,
			true);
	for (i = 0; i < KVM_NR_PAGE_SIZES; i++)
		describe_memory(&to->memory[PROBE_RMAP_4K + i], arch->rmap[i],
				pages_at(slot, PG_LEVEL_4K + i) *
					sizeof(*arch->rmap[i]),
				false);
	for (i = 0; i < KVM_NR_PAGE_SIZES - 1; i++)
		describe_memory(&to->memory[PROBE_LPAGE_2M + i],
				arch->lpage_info[i],
				pages_at(slot, PG_LEVEL_2M + i) *
					sizeof(*arch->lpage_info[i]),
				true);
	describe_memory(&to->memory[PROBE_GFN_TRACK], gfn_track_of(slot),
			slot->npages * sizeof(unsigned short), true);
}

/*
 * Check the links, colours and black heights of a red-black tree.
 * Return: the number of black nodes on each path, 0 if they are wrong.
 */
static unsigned int black_height(const struct rb_node *node,
				 const struct rb_node *parent)
{
	const bool red = !(node->__rb_parent_color & 1);
	unsigned int left = 1, right = 1;

	if (rb_parent(node) != parent)
		return 0;
	if (red && (!parent || !(parent->__rb_parent_color & 1)))
		return 0;
	if (node->rb_left)
		left = black_height(node->rb_left, node);
	if (node->rb_right)
		right = black_height(node->rb_right, node);
	if (!left || left != right)
		return 0;
	return left + !red;
}

static bool is_rb_tree(const struct rb_root *root)
{
	return !root->rb_node || black_height(root->rb_node, NULL);
}

#define gfn_entry(node, idx) \
	container_of(node, struct kvm_memory_slot, gfn_node[idx])
#define hva_entry(node, idx) \
	container_of(node, struct kvm_memory_slot, hva_node[idx].rb)

/* The greatest interval end at and below a node. */
static unsigned long greatest_last(const struct rb_node *rb)
{
	const struct interval_tree_node *node =
		rb_entry(rb, struct interval_tree_node, rb);
	unsigned long last = node->last;

	if (rb->rb_left)
		last = max(last, greatest_last(rb->rb_left));
	if (rb->rb_right)
		last = max(last, greatest_last(rb->rb_right));
	return last;
}

/*
 * Check the tree, and find the position of @slot in it.
 * Return: number of memslots in the tree.
 */
static u32 walk_hva_tree(const struct kvm_memslots *slots, u32 *bad,
			 const struct kvm_memory_slot *slot, u32 *rank)
{
	int idx = slots->node_idx;
	unsigned long start = 0;
	struct rb_node *rb;
	u32 n = 0;

	if (!is_rb_tree(&slots->hva_tree.rb_root) ||
	    rb_first(&slots->hva_tree.rb_root) != slots->hva_tree.rb_leftmost)
		*bad |= PROBE_BAD_HVA_TREE;
	for (rb = rb_first(&slots->hva_tree.rb_root); rb; rb = rb_next(rb)) {
		const struct interval_tree_node *node =
			rb_entry(rb, struct interval_tree_node, rb);

		if (node->start < start ||
		    node->__subtree_last != greatest_last(rb))
			*bad |= PROBE_BAD_HVA_TREE;
		start = node->start;
		if (slot && hva_entry(rb, idx) == slot)
			*rank = n;
		n++;
	}
	return n;
}

static u32 walk_hash(const struct kvm_memslots *slots, u32 *bad)
{
	int idx = slots->node_idx;
	u32 bkt, n = 0;

	for (bkt = 0; bkt < HASH_SIZE(slots->id_hash); bkt++) {
		struct hlist_node *const *pprev = &slots->id_hash[bkt].first;
		const struct hlist_node *node;

		hlist_for_each(node, &slots->id_hash[bkt]) {
			const struct kvm_memory_slot *slot =
				container_of(node, struct kvm_memory_slot,
					     id_node[idx]);

			if (node->pprev != pprev ||
			    bkt != hash_min(slot->id,
					    HASH_BITS(slots->id_hash)))
				*bad |= PROBE_BAD_HASH;
			pprev = (struct hlist_node *const *)&node->next;
			n++;
		}
	}
	return n;
}

static void find_in_hash(const struct kvm_memslots *slots,
			 const struct kvm_memory_slot *slot,
			 struct probe_slot *to)
{
	const struct hlist_node *node;
	u32 bkt, n;

	to->hash_bucket = PROBE_NO_SLOT;
	for (bkt = 0; bkt < HASH_SIZE(slots->id_hash); bkt++) {
		n = 0;
		hlist_for_each(node, &slots->id_hash[bkt]) {
			if (node == &slot->id_node[slots->node_idx]) {
				to->hash_bucket = bkt;
				to->hash_rank = n;
			}
			n++;
		}
	}
}

static bool set_has(const struct kvm_memslots *slots,
		    const struct kvm_memory_slot *slot)
{
	struct rb_node *rb;

	for (rb = rb_first(&slots->gfn_tree); rb; rb = rb_next(rb))
		if (gfn_entry(rb, slots->node_idx) == slot)
			return true;
	return false;
}

static void describe_slot(const struct kvm_memslots *slots,
			  const struct kvm_memslots *other,
			  const struct kvm_memory_slot *slot,
			  struct probe_slot *to, u32 *bad)
{
	const int idx = slots->node_idx;

	*to = (struct probe_slot) {
		.slot = slot_number(slot),
		.flags = slot->flags,
		.base_gfn = slot->base_gfn,
		.npages = slot->npages,
		.hva = slot->userspace_addr,
		.hva_start = slot->hva_node[idx].start,
		.hva_last = slot->hva_node[idx].last,
		.hva_rank = PROBE_NO_SLOT,
		.other = set_has(other, slot),
	};
	walk_hva_tree(slots, bad, slot, &to->hva_rank);
	find_in_hash(slots, slot, to);
	describe_arrays(slot, to);
}

static u32 describe_set(struct kvm *kvm, struct probe_set *set,
			struct probe_slot *to)
{
	struct kvm_memslots *active = __kvm_memslots(kvm, set->as);
	struct kvm_memslots *inactive =
		&kvm->__memslots[set->as][active->node_idx ^ 1];
	struct kvm_memslots *slots = set->inactive ? inactive : active;
	const struct kvm_memory_slot *last, *before = NULL;
	struct rb_node *rb;
	u32 n = 0;

	set->bad = 0;
	set->generation = slots->generation;
	if (slots != &kvm->__memslots[set->as][slots->node_idx])
		set->bad |= PROBE_BAD_INDEX;
	if (!is_rb_tree(&slots->gfn_tree))
		set->bad |= PROBE_BAD_GFN_TREE;
	for (rb = rb_first(&slots->gfn_tree); rb; rb = rb_next(rb)) {
		const struct kvm_memory_slot *slot =
			gfn_entry(rb, slots->node_idx);

		if (before &&
		    before->base_gfn + before->npages > slot->base_gfn)
			set->bad |= PROBE_BAD_GFN_TREE;
		before = slot;
		if (n < set->capacity)
			describe_slot(slots, set->inactive ? active : inactive,
				      slot, &to[n], &set->bad);
		n++;
	}
	if (walk_hva_tree(slots, &set->bad, NULL, NULL) != n ||
	    walk_hash(slots, &set->bad) != n)
		set->bad |= PROBE_BAD_COUNT;

	last = (void *)atomic_long_read(&slots->last_used_slot);
	set->last_used = PROBE_NO_SLOT;
	if (last && set_has(slots, last))
		set->last_used = slot_number(last);
	else if (last)
		set->bad |= PROBE_BAD_LAST_USED;
	return n;
}

static int ioctl_set(struct watch *w, void __user *arg)
{
	struct probe_slot *slots;
	struct probe_set set;
	int r = 0;

	if (copy_from_user(&set, arg, sizeof(set)))
		return -EFAULT;
	if (set.as >= nr_as_of(w->kvm) || set.capacity > KVM_USER_MEM_SLOTS)
		return -EINVAL;
	slots = kvcalloc(set.capacity, sizeof(*slots), GFP_KERNEL);
	if (!slots)
		return -ENOMEM;
	mutex_lock(&w->kvm->slots_lock);
	mutex_lock(&w->kvm->slots_arch_lock);
	set.nr = describe_set(w->kvm, &set, slots);
	mutex_unlock(&w->kvm->slots_arch_lock);
	mutex_unlock(&w->kvm->slots_lock);
	if (copy_to_user(u64_to_user_ptr(set.slots), slots,
			 min(set.nr, set.capacity) * sizeof(*slots)) ||
	    copy_to_user(arg, &set, sizeof(set)))
		r = -EFAULT;
	kvfree(slots);
	return r;
}

static int ioctl_vm(struct watch *w, void __user *arg)
{
	struct kvm *kvm = w->kvm;
	struct probe_vm vm = {};
	u32 as;

	mutex_lock(&kvm->slots_lock);
	vm.nr_memslot_pages = kvm->nr_memslot_pages;
	vm.max_mmu_pages = kvm->arch.n_max_mmu_pages;
	vm.used_mmu_pages = used_mmu_pages(kvm);
	vm.dirty_logging = dirty_logging_count(kvm);
	vm.nr_as = nr_as_of(kvm);
	for (as = 0; as < vm.nr_as && as < PROBE_NR_AS; as++)
		vm.generation[as] = __kvm_memslots(kvm, as)->generation;
	mutex_unlock(&kvm->slots_lock);
	return copy_to_user(arg, &vm, sizeof(vm)) ? -EFAULT : 0;
}

static int ioctl_look(struct watch *w, void __user *arg)
{
	struct probe_look look;
	int idx;

	if (copy_from_user(&look, arg, sizeof(look)))
		return -EFAULT;
	if (look.as >= nr_as_of(w->kvm))
		return -EINVAL;
	idx = srcu_read_lock(&w->kvm->srcu);
	__gfn_to_memslot(__kvm_memslots(w->kvm, look.as), look.gfn);
	srcu_read_unlock(&w->kvm->srcu, idx);
	return 0;
}

static int ioctl_read(struct watch *w, void __user *arg)
{
	struct probe_read read;
	unsigned long flags;

	if (copy_from_user(&read, arg, sizeof(read)))
		return -EFAULT;
	/*
	 * Events are added only by this thread, so w->nr does not change here.
	 */
	read.nr = w->nr;
	read.lost = w->lost;
	if (copy_to_user(u64_to_user_ptr(read.events), w->events,
			 min(read.nr, read.capacity) * sizeof(*w->events)) ||
	    copy_to_user(arg, &read, sizeof(read)))
		return -EFAULT;
	raw_spin_lock_irqsave(&watches_lock, flags);
	w->nr = 0;
	w->lost = 0;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	return 0;
}

static int ioctl_fail(struct watch *w, void __user *arg)
{
	struct probe_fail fail;
	unsigned long flags;

	if (copy_from_user(&fail, arg, sizeof(fail)))
		return -EFAULT;
	if (fail.error >= MAX_ERRNO)
		return -EINVAL;
	raw_spin_lock_irqsave(&watches_lock, flags);
	w->fail = fail;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	return 0;
}

/*
 * Until 6.15 all VMs share the size of the CPU's log. The last descriptor that
 * pretends PML restores the size when it is closed.
 */
static int ioctl_pml(struct watch *w)
{
	int *size = probe_cpu_dirty_log_size(w->kvm, kvm_x86_ops_addr);
	unsigned long flags;

	if (w->pml)
		return -EBUSY;
	raw_spin_lock_irqsave(&watches_lock, flags);
	if (!nr_pml++)
		real_log_size = *size;
	*size = PML_ENTRIES;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	w->pml = true;
	return 0;
}

static void end_pml(struct watch *w)
{
	unsigned long flags;

	if (!w->pml)
		return;
	raw_spin_lock_irqsave(&watches_lock, flags);
	if (!--nr_pml)
		*probe_cpu_dirty_log_size(w->kvm, kvm_x86_ops_addr) =
			real_log_size;
	raw_spin_unlock_irqrestore(&watches_lock, flags);
}

static int ioctl_watch(struct watch *w, void __user *arg)
{
	unsigned long flags;
	struct kvm *kvm;
	struct file *file;
	int vm_fd, r = 0;

	if (copy_from_user(&vm_fd, arg, sizeof(vm_fd)))
		return -EFAULT;
	file = fget(vm_fd);
	if (!file)
		return -EBADF;
	kvm = file->private_data;
	/* A sufficient approximation of kvm.ko's file_is_kvm(). */
	if (strcmp(file->f_path.dentry->d_name.name, "kvm-vm"))
		r = -EINVAL;
	else if (w->kvm)
		r = -EBUSY;
	if (!r) {
		kvm_get_kvm(kvm);
		raw_spin_lock_irqsave(&watches_lock, flags);
		w->task = current;
		w->kvm = kvm;
		raw_spin_unlock_irqrestore(&watches_lock, flags);
	}
	fput(file);
	return r;
}

static int ioctl_track(struct watch *w)
{
	int r;

	if (w->tracks)
		return -EBUSY;
	r = probe_register_tracker(w->kvm, &w->tracker);
	w->tracks = !r;
	return r;
}

static int ioctl_assign(struct watch *w)
{
	int r;

	if (w->assigned)
		return -EBUSY;
	r = probe_start_assignment(w->kvm);
	w->assigned = !r;
	return r;
}

/* As in kvm_mmu_notifier_invalidate_range_start(). */
static int ioctl_invalidate(struct watch *w)
{
	struct kvm *kvm = w->kvm;

	if (w->invalidates)
		return -EBUSY;
	spin_lock(&kvm->mn_invalidate_lock);
	kvm->mn_active_invalidate_count++;
	spin_unlock(&kvm->mn_invalidate_lock);
	w->invalidates = true;
	return 0;
}

/* As in kvm_mmu_notifier_invalidate_range_end(). */
static void end_invalidation(struct watch *w)
{
	struct kvm *kvm = w->kvm;
	bool wake;

	if (!w->invalidates)
		return;
	spin_lock(&kvm->mn_invalidate_lock);
	wake = !--kvm->mn_active_invalidate_count;
	spin_unlock(&kvm->mn_invalidate_lock);
	if (wake)
		rcuwait_wake_up(&kvm->mn_memslots_update_rcuwait);
	w->invalidates = false;
}

static void let_go_of_mm(struct work_struct *work)
{
	mmput(container_of(work, struct watch, mm_work)->mm);
}

static int ioctl_keep_mm(struct watch *w)
{
	if (w->mm)
		return -EBUSY;
	w->mm = current->mm;
	mmget(w->mm);
	INIT_WORK(&w->mm_work, let_go_of_mm);
	return 0;
}

static long probe_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *user = (void __user *)arg;
	struct watch *w = file->private_data;

	if (cmd == PROBE_WATCH)
		return ioctl_watch(w, user);
	if (!w->kvm)
		return -ENXIO;
	switch (cmd) {
	case PROBE_READ:
		return ioctl_read(w, user);
	case PROBE_FAIL:
		return ioctl_fail(w, user);
	case PROBE_LOOK:
		return ioctl_look(w, user);
	case PROBE_VM:
		return ioctl_vm(w, user);
	case PROBE_SET:
		return ioctl_set(w, user);
	case PROBE_PML:
		return ioctl_pml(w);
	case PROBE_TRACK:
		return ioctl_track(w);
	case PROBE_ASSIGN:
		return ioctl_assign(w);
	case PROBE_INVALIDATE:
		return ioctl_invalidate(w);
	case PROBE_INVALIDATED:
		end_invalidation(w);
		return 0;
	case PROBE_KEEP_MM:
		return ioctl_keep_mm(w);
	case PROBE_IS_AWAITED:
		return rcuwait_active(&w->kvm->mn_memslots_update_rcuwait);
	}
	return -ENOTTY;
}

static int probe_open(struct inode *inode, struct file *file)
{
	struct watch *w = kzalloc(sizeof(*w), GFP_KERNEL);
	unsigned long flags;

	if (!w)
		return -ENOMEM;
	w->events = kvcalloc(PROBE_MAX_EVENTS, sizeof(*w->events), GFP_KERNEL);
	if (!w->events) {
		kfree(w);
		return -ENOMEM;
	}
	file->private_data = w;
	raw_spin_lock_irqsave(&watches_lock, flags);
	list_add(&w->link, &watches);
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	return 0;
}

static int probe_release(struct inode *inode, struct file *file)
{
	struct watch *w = file->private_data;
	unsigned long flags;

	raw_spin_lock_irqsave(&watches_lock, flags);
	list_del(&w->link);
	raw_spin_unlock_irqrestore(&watches_lock, flags);
	if (w->tracks)
		probe_unregister_tracker(w->kvm, &w->tracker);
	if (w->assigned)
		probe_end_assignment(w->kvm);
	end_pml(w);
	end_invalidation(w);
	if (w->mm) {
		schedule_work(&w->mm_work);
		flush_work(&w->mm_work);
	}
	if (w->kvm)
		kvm_put_kvm(w->kvm);
	kvfree(w->events);
	kfree(w);
	return 0;
}

static const struct file_operations probe_fops = {
	.owner = THIS_MODULE,
	.open = probe_open,
	.release = probe_release,
	.unlocked_ioctl = probe_ioctl,
};

static struct miscdevice probe_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "memslot-probe",
	.fops = &probe_fops,
};

static int __init probe_init(void)
{
	int r;

	r = find_lookup() ?: find_memcg_of() ?: find_kvm_x86_ops();
	if (r)
		return r;
	r = register_probes();
	if (r)
		return r;
	r = misc_register(&probe_device);
	if (r)
		unregister_probes(ARRAY_SIZE(probes));
	return r;
}
module_init(probe_init);

static void __exit probe_exit(void)
{
	misc_deregister(&probe_device);
	unregister_probes(ARRAY_SIZE(probes));
}
module_exit(probe_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Record what changes of memslots make KVM do, for tests");
