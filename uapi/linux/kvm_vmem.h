/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctl interface of /dev/kvm-vmem.
 *
 * Four calls. KVM_VMEM_QUERY tells what the module is and can do.
 * KVM_VMEM_MEMSLOT_BATCH applies many KVM memslot changes in one step.
 * KVM_VMEM_CREATE_REGION makes a region: the guest-physical range of one
 * virtio-mem device, whose block state the kernel keeps and whose populated
 * memslots it maintains. What happens to a region after that goes over
 * generic netlink (linux/kvm_vmem_netlink.h). KVM_VMEM_GET_MEMSLOTS tells the
 * memslots of any VM, and what KVM holds for each.
 *
 * Every structure begins with its size as the caller knows it: at least that of
 * its first version, EINVAL otherwise. What an older program's lacks is taken
 * as zero; a newer program's is taken if what this kernel does not know is
 * zero and the structure is no longer than a page, E2BIG otherwise; E2BIG means
 * nothing else. On return no more than the caller's size is written. Unknown
 * flag bits and non-zero reserved fields are EINVAL. All sizes and addresses are
 * in bytes.
 *
 * What is here stays: a program goes on working with later modules. What is
 * added shows as a feature bit, a flag, or a field behind the others.
 *
 * Errors of every call, beside those that are listed with it: EFAULT an address
 * is bad; ENOMEM memory is short, and nothing was changed; ENOTTY there is no
 * such call.
 */
#ifndef _LINUX_KVM_VMEM_H
#define _LINUX_KVM_VMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Shown by KVM_VMEM_QUERY. Raised only if a program for the version before would
 * not work any more; what is added has a bit of its own in features.
 */
#define KVM_VMEM_API_VERSION 3

/* Features of the module on the running kernel, shown by KVM_VMEM_QUERY. */

/* Entries of a batch may be as long as struct kvm_userspace_memory_region2. */
#define KVM_VMEM_FEATURE_ENTRY_SIZE (1ULL << 0)
/* The module was reviewed for the KVM of this kernel's series. */
#define KVM_VMEM_FEATURE_REVIEWED (1ULL << 1)
/* KVM_VMEM_BATCH_ZAP_RANGES, @zapped of a batch, KVM_VMEM_REGION_ZAP_RANGES. */
#define KVM_VMEM_FEATURE_ZAP_RANGES (1ULL << 2)

/*
 * Most entries of one batch: two address spaces of KVM_USER_MEM_SLOTS (32764
 * on x86) memslots, the most that can differ between two layouts of a VM.
 */
#define KVM_VMEM_MAX_BATCH 65528

/*
 * Most entries of a batch of deletes that may exceed the limit of the caller's
 * memory cgroup for a moment, by less than 1 MiB.
 */
#define KVM_VMEM_SPARE_BATCH 4096

/*
 * Most blocks of one region: 1 TiB in 4 KiB blocks, a 32 MiB bitmap. A larger
 * region takes larger blocks.
 */
#define KVM_VMEM_MAX_BLOCKS (1ULL << 28)

/* Most memslots that one KVM_VMEM_GET_MEMSLOTS tells: 256 KiB of them. */
#define KVM_VMEM_MAX_LIST 4096

/**
 * struct kvm_vmem_query - what the module is and can do
 * @size: in: sizeof(struct kvm_vmem_query)
 * @flags: in: 0
 * @api_version: out: KVM_VMEM_API_VERSION of the module
 * @address_spaces: out: number of KVM address spaces (2 on x86: normal, SMM)
 * @max_memslots: out: KVM's user memslots per address space
 * @max_batch: out: most entries of one batch
 * @max_ranges: out: most ranges of one plug or unplug message
 * @regions: out: regions that exist on this host now, for a caller with
 *	CAP_NET_ADMIN in the initial user namespace that is in the initial network
 *	namespace, as netlink's readers of all regions are; else 0
 * @max_blocks: out: most blocks of one region
 * @min_block_size: out: smallest block size
 * @features: out: KVM_VMEM_FEATURE_*
 *
 * Errors: EINVAL @flags is not 0, or @size is too small; E2BIG.
 */
struct kvm_vmem_query {
	__u32 size;
	__u32 flags;
	__u32 api_version;
	__u32 address_spaces;
	__u32 max_memslots;
	__u32 max_batch;
	__u32 max_ranges;
	__u32 regions;
	__u64 max_blocks;
	__u64 min_block_size;
	__u64 features;
};

/* Make every check of the batch, change nothing. */
#define KVM_VMEM_BATCH_VALIDATE_ONLY (1U << 0)
/*
 * Of what the VM has mapped, drop no more than the deleted memslots. By itself
 * KVM drops all mappings of the VM, so that its vCPUs fault all of its memory in
 * again; before Linux 6.12 always, then unless the VMM has switched
 * KVM_X86_QUIRK_SLOT_ZAP_ALL off.
 *
 * KVM_VMEM_FEATURE_ZAP_RANGES says whether the module knows this flag. The flag is
 * ignored for a VM that KVM knows to have an assigned device, while page tables of
 * a nested guest are shadowed, without the TDP MMU, where somebody else than KVM
 * tracks the VM's pages, and on kernels without KVM_VMEM_FEATURE_REVIEWED. @zapped
 * reports what was done.
 */
#define KVM_VMEM_BATCH_ZAP_RANGES (1U << 1)

/*
 * How mappings were dropped, in @zapped of a batch; 0 if nothing was deleted, as
 * with KVM_VMEM_BATCH_VALIDATE_ONLY, or if the caller's structure could not be
 * written any more after the batch was carried out.
 */

/* Those of the deleted memslots, and no others. */
#define KVM_VMEM_ZAPPED_RANGES (1U << 0)
/* As KVM does it by itself: all, unless KVM_X86_QUIRK_SLOT_ZAP_ALL is off. */
#define KVM_VMEM_ZAPPED_BY_KVM (1U << 1)

/* @bad_index when no single entry is to blame. */
#define KVM_VMEM_NO_INDEX 0xffffffffU

/**
 * struct kvm_vmem_memslot_batch - many memslot changes as one step
 * @size: in: sizeof(struct kvm_vmem_memslot_batch)
 * @vm_fd: in: a KVM VM's fd; the caller's mm must be the VM's
 * @flags: in: KVM_VMEM_BATCH_*
 * @nr: in: entries at @regions, 0 to KVM_VMEM_MAX_BATCH
 * @regions: in: user address of @nr entries
 * @bad_index: out, on error: first entry that was refused, or
 *	KVM_VMEM_NO_INDEX
 * @entry_size: in: from one entry to the next: a multiple of 8, at least
 *	sizeof(struct kvm_userspace_memory_region), at most a page
 * @zapped: in: 0, or modules without KVM_VMEM_FEATURE_ZAP_RANGES return E2BIG;
 *	out, on success: KVM_VMEM_ZAPPED_*; both, if a batch that lacked memory
 *	was carried out in parts
 * @reserved: in: 0
 *
 * An entry begins as struct kvm_userspace_memory_region. It may go on as struct
 * kvm_userspace_memory_region2, whose guest_memfd and guest_memfd_offset count
 * only with KVM_MEM_GUEST_MEMFD, as in KVM. All else of it is reserved for later
 * and 0.
 *
 * Each entry means what it means to KVM_SET_USER_MEMORY_REGION (KVM API,
 * section 4.35): memory_size 0 deletes slot, an unused slot is created, a used
 * one has KVM_MEM_LOG_DIRTY_PAGES set or cleared; an entry that changes
 * nothing is taken. Entries are judged in order, each by itself and against
 * the slots there are; then the creates, in order, against the layout that
 * results: a create may take the place of slots that the same batch deletes.
 *
 * All or nothing: on any error the VM's memslots, their dirty bitmaps and their
 * metadata are as before. What is refused leaves no trace. A batch with deletes
 * that runs out of memory late may have gone further: vCPUs then fault in again
 * what they had mapped, and the generation has advanced, as it does when KVM
 * itself gives up a delete. A vCPU that touches a slot while it is replaced
 * faults and retries; there is no point in time at which all changes appear to
 * all vCPUs.
 *
 * Memory for the batch is charged to the caller's memory cgroup, and allocated
 * when nobody else changes the VM's memslots any more. A batch of at most
 * KVM_VMEM_SPARE_BATCH entries that only deletes does not fail for the limit of
 * that cgroup. A caller that waits for others can be killed.
 *
 * Errors: EBADF @vm_fd is no open file; EINVAL it is no KVM VM, @flags or
 * @entry_size is out of its range, an entry that KVM would refuse, a slot to
 * delete that is not there, the same slot twice, MOVE (another guest address
 * for a used slot), a change of KVM_MEM_READONLY; EEXIST memory that overlaps;
 * EIO the caller's mm is not the VM's, or the VM is dead; EMSGSIZE @nr above
 * the limit; E2BIG something in an entry that this kernel does not know (see
 * @bad_index); EOPNOTSUPP KVM_MEM_GUEST_MEMFD, or a VM with private memory,
 * whose memslots are not the user's to batch.
 */
struct kvm_vmem_memslot_batch {
	__u32 size;
	__s32 vm_fd;
	__u32 flags;
	__u32 nr;
	__u64 regions;
	__u32 bad_index;
	__u32 entry_size;
	__u32 zapped;
	__u32 reserved;
};

/*
 * Whenever the region deletes memslots, do so as a batch does with
 * KVM_VMEM_BATCH_ZAP_RANGES. Netlink tells how often that was so.
 */
#define KVM_VMEM_REGION_ZAP_RANGES (1U << 0)

/**
 * struct kvm_vmem_create_region - make a region, get its fd
 * @size: in: sizeof(struct kvm_vmem_create_region)
 * @vm_fd: in: a KVM VM's fd; the caller's mm must be the VM's
 * @flags: in: KVM_VMEM_REGION_*
 * @address_spaces: in: mask of KVM address spaces that get the memslots
 *	(bit 0: normal, bit 1: SMM); not 0
 * @first_slot: in: id, within each address space, of the memslot at
 *	@guest_phys_addr; the memslots that follow have the ids that follow
 * @region_id: out: the region's number in netlink messages, never 0
 * @guest_phys_addr: in: multiple of @block_size
 * @region_size: in: multiple of @block_size, not 0
 * @userspace_addr: in: where the caller has mapped the region's memory, page
 *	aligned; @region_size bytes from here must stay mapped as the guest's
 * @block_size: in: virtio-mem's block: a power of two, at least a page
 * @slot_size: in: bytes of one memslot: multiple of @block_size; the last
 *	memslot of the region may be shorter
 *
 * Returns a file descriptor, close-on-exec. It is the authority over the
 * region: a process that holds it may plug and unplug blocks inside the
 * region, whichever its mm, and nothing else. The region lives until the last
 * copy of the descriptor is closed, which removes its memslots, or until the
 * VMM (the process whose mm the VM has) is gone. If it is closed by the VMM, the
 * memslots are gone when close() returns. If by another process, or by the
 * kernel (a descriptor in flight that nobody can receive any more), close()
 * does not wait for the VM: the memslots go soon after, and until then the
 * region's range and ids are in use. A notification of netlink's tells when.
 *
 * A new region has no block plugged and no memslot.
 *
 * Signals do not fail the call, whether their handlers have SA_RESTART or not:
 * their handlers run when it is done, or before it begins anew. One that kills
 * the process does so.
 *
 * The descriptor polls: EPOLLIN when the region has changed since the
 * descriptor was last read, EPOLLHUP when the VM is gone. read() takes 8 bytes
 * or more and returns the region's change count as a __u64, blocking for a
 * change unless O_NONBLOCK (EAGAIN); 0 when the VM is gone; EINVAL for fewer
 * bytes; EINTR a signal came while it waited. The count belongs to the open file
 * description: all who share it share what was read. /proc/PID/fdinfo/FD shows
 * the region's state.
 *
 * Errors: EBADF, EINVAL, EIO, EOPNOTSUPP as for a batch; EINVAL any field out of
 * its range, or the guest range reaches beyond what KVM can map; EFBIG more than
 * KVM_VMEM_MAX_BLOCKS blocks; ENOSPC the memslot ids needed go beyond KVM's;
 * EEXIST the guest range or an id is in use by a memslot or another region of
 * the VM; EBUSY the host has no region number left; EMFILE the process, ENFILE
 * the host has too many open files.
 */
struct kvm_vmem_create_region {
	__u32 size;
	__s32 vm_fd;
	__u32 flags;
	__u32 address_spaces;
	__u32 first_slot;
	__u32 region_id;
	__u64 guest_phys_addr;
	__u64 region_size;
	__u64 userspace_addr;
	__u64 block_size;
	__u64 slot_size;
};

/**
 * struct kvm_vmem_memslot - a memslot of a VM, and what KVM holds for it
 * @slot: id, with the address space in bits 16 and up; ids from max_memslots of
 *	KVM_VMEM_QUERY on are KVM's own
 * @flags: KVM_MEM_*. That a memslot is being deleted does not show: what KVM
 *	holds for it is held until it is gone
 * @guest_phys_addr: where it begins
 * @memory_size: its size
 * @memslot: bytes of its own structure
 * @rmap: bytes of the reverse maps, for pages of all sizes
 * @lpage_info: bytes of what says where large pages may be used
 * @gfn_track: bytes of write tracking
 * @dirty_bitmap: bytes of both dirty bitmaps
 *
 * Bytes are those allocated, not only those asked for. Where KVM allocates
 * something later (rmaps under the TDP MMU, when a nested guest first runs), it
 * counts from then on. KVM's own calls do not tell any of this but @flags.
 */
struct kvm_vmem_memslot {
	__u32 slot;
	__u32 flags;
	__u64 guest_phys_addr;
	__u64 memory_size;
	__u64 memslot;
	__u64 rmap;
	__u64 lpage_info;
	__u64 gfn_track;
	__u64 dirty_bitmap;
};

/**
 * struct kvm_vmem_get_memslots - the memslots of one address space, by address
 * @size: in: sizeof(struct kvm_vmem_get_memslots)
 * @vm_fd: in: a KVM VM's fd; the VM may be another process's
 * @flags: in: 0
 * @address_space: in: below address_spaces of KVM_VMEM_QUERY
 * @nr: in: room at @memslots, 1 to KVM_VMEM_MAX_LIST; out: memslots told. Fewer
 *	than there was room for: there are no more
 * @memslot_size: in: sizeof(struct kvm_vmem_memslot) as the caller knows it,
 *	at least that of its first version, a multiple of 8; what this kernel does
 *	not know of it is set to zero
 * @memslots: in: user address of struct kvm_vmem_memslot[@nr]
 * @next_gpa: in: leave out memslots that end here or before; out: where the
 *	last one told ends, to go on from
 * @generation: out: two calls for one VM and address space that return the same
 *	told of the same memslots, though not of the same bytes, as KVM may have
 *	allocated more; if it changes between the pages of a list, begin anew for
 *	a whole one
 *
 * Changes nothing, waits for nobody who changes memslots, and takes no more
 * than the descriptor: to get that of another process's VM, by pidfd_getfd(2),
 * takes the rights of ptrace(2).
 *
 * Errors: EBADF @vm_fd is no open file; EINVAL it is no KVM VM, or a field is
 * out of its range; EMSGSIZE @nr above the limit.
 */
struct kvm_vmem_get_memslots {
	__u32 size;
	__s32 vm_fd;
	__u32 flags;
	__u32 address_space;
	__u32 nr;
	__u32 memslot_size;
	__u64 memslots;
	__u64 next_gpa;
	__u64 generation;
};

#define KVM_VMEM_IOC 0xBC

#define KVM_VMEM_QUERY \
	_IOWR(KVM_VMEM_IOC, 0x00, struct kvm_vmem_query)
#define KVM_VMEM_MEMSLOT_BATCH \
	_IOWR(KVM_VMEM_IOC, 0x01, struct kvm_vmem_memslot_batch)
#define KVM_VMEM_CREATE_REGION \
	_IOWR(KVM_VMEM_IOC, 0x02, struct kvm_vmem_create_region)
#define KVM_VMEM_GET_MEMSLOTS \
	_IOWR(KVM_VMEM_IOC, 0x03, struct kvm_vmem_get_memslots)

#endif /* _LINUX_KVM_VMEM_H */
