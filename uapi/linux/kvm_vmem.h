/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctl interface of /dev/kvm-vmem: four calls.
 *
 * - KVM_VMEM_QUERY returns the limits and features of the module.
 * - KVM_VMEM_MEMSLOT_BATCH applies many changes of KVM memslots in one step.
 * - KVM_VMEM_CREATE_REGION creates a region: the guest-physical range of one
 *   virtio-mem device (virtio 1.3, section 5.15). The kernel keeps the state of
 *   its blocks and creates memslots only for its populated parts. Blocks are
 *   plugged and unplugged over generic netlink, see
 *   linux/kvm_vmem_netlink.h and kvm_vmem.yaml.
 * - KVM_VMEM_GET_MEMSLOTS lists the memslots of a VM and the bytes that KVM has
 *   allocated for each.
 *
 * Units: all sizes and addresses are in bytes.
 *
 * Versions: each structure begins with @size, its size as the caller knows it.
 * A structure from an older program is extended with zeros. A structure from a
 * newer program is accepted if all bytes that this kernel does not know are
 * zero. The kernel never writes more than @size bytes back. The interface stays
 * compatible: additions appear as feature bits, flags, or fields at the end.
 *
 * Errors of every call, in addition to those listed with it:
 *
 *   EINVAL	@size is less than the size of the structure's first version, a
 *		flag bit is unknown, or a reserved field is not 0.
 *   E2BIG	@size is more than a page, or a byte that this kernel does not
 *		know is not 0, also in an entry of a batch. E2BIG has no other
 *		meaning.
 *   EFAULT	An address is invalid.
 *   ENOMEM	Out of memory; nothing was changed.
 *   ENOTTY	The call does not exist.
 *
 * References to the KVM API are sections of Documentation/virt/kvm/api.rst.
 */
#ifndef _LINUX_KVM_VMEM_H
#define _LINUX_KVM_VMEM_H

#include <linux/ioctl.h>
#include <linux/types.h>

/*
 * Version of this interface, returned by KVM_VMEM_QUERY. It is raised only by
 * an incompatible change. A compatible addition gets a feature bit.
 */
#define KVM_VMEM_API_VERSION 3

/* Features of the module on the running kernel, returned by KVM_VMEM_QUERY. */

/*
 * Entries of a batch have @entry_size bytes, so that they may be as long as
 * struct kvm_userspace_memory_region2.
 */
#define KVM_VMEM_FEATURE_ENTRY_SIZE (1ULL << 0)
/* The module was reviewed for KVM of this kernel series. */
#define KVM_VMEM_FEATURE_REVIEWED (1ULL << 1)
/*
 * KVM_VMEM_BATCH_ZAP_RANGES, @zapped of a batch, and KVM_VMEM_REGION_ZAP_RANGES
 * exist.
 */
#define KVM_VMEM_FEATURE_ZAP_RANGES (1ULL << 2)

/*
 * Maximum number of entries of a batch: all user memslots (KVM_USER_MEM_SLOTS,
 * 32764 on x86) of two address spaces.
 */
#define KVM_VMEM_MAX_BATCH 65528

/*
 * Maximum number of entries of a batch of deletes that may temporarily exceed
 * the limit of the caller's memory cgroup, by less than 1 MiB.
 */
#define KVM_VMEM_SPARE_BATCH 4096

/*
 * Maximum number of blocks of a region: 1 TiB in blocks of 4 KiB, which takes a
 * bitmap of 32 MiB. A larger region needs larger blocks.
 */
#define KVM_VMEM_MAX_BLOCKS (1ULL << 28)

/* Maximum number of memslots that one KVM_VMEM_GET_MEMSLOTS returns. */
#define KVM_VMEM_MAX_LIST 4096

/**
 * struct kvm_vmem_query - limits and features of the module
 * @size: in: sizeof(struct kvm_vmem_query)
 * @flags: in: 0
 * @api_version: out: KVM_VMEM_API_VERSION of the module
 * @address_spaces: out: number of KVM address spaces (2 on x86: normal, SMM)
 * @max_memslots: out: number of KVM's user memslots per address space
 * @max_batch: out: KVM_VMEM_MAX_BATCH of the module
 * @max_ranges: out: maximum number of ranges of one plug or unplug message
 * @regions: out: number of regions on this host if the caller may read all
 *	regions (CAP_NET_ADMIN in the initial user namespace, and a process in
 *	the initial network namespace); otherwise 0
 * @max_blocks: out: KVM_VMEM_MAX_BLOCKS of the module
 * @min_block_size: out: smallest block size, a page
 * @features: out: KVM_VMEM_FEATURE_*
 *
 * Errors: none in addition to those of every call.
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

/* Check the batch completely, change nothing. */
#define KVM_VMEM_BATCH_VALIDATE_ONLY (1U << 0)
/*
 * Zap only the deleted memslots. By default a delete is zapped as KVM does it:
 * KVM drops all mappings of the VM, and the vCPUs fault in again all memory
 * that they use. Since Linux 6.12, KVM drops only the memslot's mappings if the
 * VMM has disabled KVM_X86_QUIRK_SLOT_ZAP_ALL (KVM API,
 * KVM_CAP_DISABLE_QUIRKS2).
 *
 * Available with KVM_VMEM_FEATURE_ZAP_RANGES. @zapped reports what was done.
 * The flag is ignored if:
 *
 * - KVM knows that the VM has an assigned device;
 * - page tables of a nested guest are shadowed;
 * - KVM does not use the TDP MMU;
 * - a module other than KVM uses KVM's page tracking for the VM;
 * - the kernel lacks KVM_VMEM_FEATURE_REVIEWED.
 */
#define KVM_VMEM_BATCH_ZAP_RANGES (1U << 1)

/*
 * Values of @zapped of a batch: how mappings were dropped. @zapped is 0 if
 * nothing was deleted, also with KVM_VMEM_BATCH_VALIDATE_ONLY, and if the
 * caller's structure was no longer writable after the batch.
 */

/* The mappings of the deleted memslots, and no others. */
#define KVM_VMEM_ZAPPED_RANGES (1U << 0)
/* As KVM does it by default: all, unless KVM_X86_QUIRK_SLOT_ZAP_ALL is off. */
#define KVM_VMEM_ZAPPED_BY_KVM (1U << 1)

/* Value of @bad_index if no single entry caused the error. */
#define KVM_VMEM_NO_INDEX 0xffffffffU

/**
 * struct kvm_vmem_memslot_batch - many memslot changes in one step
 * @size: in: sizeof(struct kvm_vmem_memslot_batch)
 * @vm_fd: in: fd of a KVM VM that the caller's mm has created
 * @flags: in: KVM_VMEM_BATCH_*
 * @nr: in: number of entries at @regions, 0 to KVM_VMEM_MAX_BATCH
 * @regions: in: user address of the entries
 * @bad_index: out, on error: index of the first entry that was refused, or
 *	KVM_VMEM_NO_INDEX
 * @entry_size: in: bytes from one entry to the next: a multiple of 8, from
 *	sizeof(struct kvm_userspace_memory_region) to a page
 * @zapped: in: 0; out, on success: KVM_VMEM_ZAPPED_*, or both if a batch that
 *	was short of memory was applied in parts. A module without
 *	KVM_VMEM_FEATURE_ZAP_RANGES does not have this field.
 * @reserved: in: 0
 *
 * An entry begins with struct kvm_userspace_memory_region. If @entry_size is
 * larger, the entry continues as struct kvm_userspace_memory_region2. Its
 * guest_memfd and guest_memfd_offset are ignored without KVM_MEM_GUEST_MEMFD,
 * as in KVM. All bytes after them are reserved and must be 0.
 *
 * An entry has the meaning that it has for KVM_SET_USER_MEMORY_REGION (KVM API,
 * 4.35): memory_size 0 deletes the memslot, an unused id creates a memslot, and
 * for a used id KVM_MEM_LOG_DIRTY_PAGES is set or cleared. An entry that
 * changes nothing is accepted. First, each entry is checked in order, by itself
 * and against the existing memslots. Then the creates are checked in order
 * against the resulting layout. A create may therefore replace memslots that
 * the same batch deletes.
 *
 * A batch is applied completely or not at all. On any error the memslots of the
 * VM, their dirty bitmaps and their metadata are as before. A batch that fails
 * its checks has no effect at all. A batch with deletes that runs out of memory
 * later may have dropped mappings, which the vCPUs fault in again, and may have
 * advanced the memslot generation, as a delete that fails in KVM does. A batch
 * is not atomic for vCPUs: a vCPU that accesses a memslot while it is replaced
 * faults and retries, and the changes do not become visible to all vCPUs at one
 * point in time.
 *
 * Memory for the batch is charged to the caller's memory cgroup. It is
 * allocated after the batch has got exclusive access to the memslots of the VM,
 * so that waiting callers hold none. A batch of at most KVM_VMEM_SPARE_BATCH
 * entries that are all deletes does not fail because of the limit of that
 * cgroup. A caller that waits can be killed.
 *
 * Errors:
 *
 *   EBADF	@vm_fd is not an open file.
 *   EINVAL	@vm_fd is not a KVM VM; @entry_size is out of range; KVM would
 *		refuse an entry; a memslot to delete does not exist; two entries
 *		have the same id; an entry would move a memslot (change its
 *		guest address) or change KVM_MEM_READONLY.
 *   EEXIST	Memory of a create overlaps another memslot.
 *   EIO	The VM belongs to another mm, or is dead.
 *   EMSGSIZE	@nr is above KVM_VMEM_MAX_BATCH.
 *   E2BIG	A reserved byte of the entry at @bad_index is not 0.
 *   EOPNOTSUPP	An entry has KVM_MEM_GUEST_MEMFD, or the VM has private memory.
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
 * Delete the memslots of the region as a batch with KVM_VMEM_BATCH_ZAP_RANGES
 * does. Netlink's range-zaps and zaps-by-kvm count how mappings were dropped.
 */
#define KVM_VMEM_REGION_ZAP_RANGES (1U << 0)

/**
 * struct kvm_vmem_create_region - create a region and return its fd
 * @size: in: sizeof(struct kvm_vmem_create_region)
 * @vm_fd: in: fd of a KVM VM that the caller's mm has created
 * @flags: in: KVM_VMEM_REGION_*
 * @address_spaces: in: mask of the KVM address spaces that get the memslots
 *	(bit 0: normal, bit 1: SMM), not 0
 * @first_slot: in: id, in each address space, of the memslot at
 *	@guest_phys_addr; the following memslots have the following ids, all
 *	below max_memslots of KVM_VMEM_QUERY
 * @region_id: out: id of the region in netlink messages, never 0
 * @guest_phys_addr: in: a multiple of @block_size
 * @region_size: in: a multiple of @block_size, not 0
 * @userspace_addr: in: page-aligned address at which the caller has mapped the
 *	memory of the region; the caller keeps @region_size bytes mapped there
 * @block_size: in: block size of the virtio-mem device: a power of two, at
 *	least a page
 * @slot_size: in: size of one memslot: a multiple of @block_size, not 0, below
 *	8 TiB (KVM's limit); the last memslot of the region may be smaller
 *
 * A new region has no plugged block and no memslot.
 *
 * Return: a file descriptor, close-on-exec.
 *
 * The descriptor is the authority over the region. A process that holds it may
 * plug and unplug blocks of the region, whatever its mm, and nothing else.
 *
 * The region exists until the last copy of the descriptor is closed, which
 * deletes its memslots, or until the VMM (the process whose mm created the VM)
 * has ended. If the VMM closes the last copy, the memslots have been deleted
 * when close() returns. If another process or the kernel does (a descriptor in
 * flight that can no longer be received), close() does not wait for the VM. The
 * memslots are deleted soon after, and until then the range and the ids of the
 * region stay in use. The netlink notification region-del-ntf reports the end.
 *
 * A signal does not fail the call, with or without SA_RESTART. Its handler runs
 * after the call, or before the call restarts. A fatal signal ends the process.
 *
 * poll() reports EPOLLIN if the region has changed since the last read(), and
 * EPOLLHUP if the VM is gone. read() needs a buffer of at least 8 bytes and
 * returns the change count of the region, a __u64. It waits for a change,
 * unless the descriptor has O_NONBLOCK. It returns 0 if the VM is gone and
 * the last change has been read. Its errors are EINVAL (less than 8 bytes),
 * EAGAIN (no change, O_NONBLOCK) and EINTR (a signal arrived). The last count
 * that was read is a property of the open file description: all processes that
 * share it share this count.
 * /proc/PID/fdinfo/FD shows the state of the region.
 *
 * Errors:
 *
 *   EBADF	@vm_fd is not an open file.
 *   EINVAL	@vm_fd is not a KVM VM, a field is out of range, or the guest
 *		range is beyond the guest addresses that KVM can map.
 *   EIO	The VM belongs to another mm, or is dead.
 *   EOPNOTSUPP	The VM has private memory.
 *   EFBIG	The region has more than KVM_VMEM_MAX_BLOCKS blocks.
 *   ENOSPC	A memslot id would exceed KVM's limit.
 *   EEXIST	A memslot or another region of the VM uses the range or an id.
 *   EBUSY	The host has no free region id.
 *   EMFILE	The process has too many open files.
 *   ENFILE	The host has too many open files.
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
 * struct kvm_vmem_memslot - a memslot and the size of its metadata
 * @slot: memslot id, with the address space in bits 16 and up; ids from
 *	max_memslots of KVM_VMEM_QUERY on are KVM's internal memslots
 * @flags: KVM_MEM_*; a memslot that is being deleted is listed with its flags
 *	until KVM frees it
 * @guest_phys_addr: guest address
 * @memory_size: size of the guest memory
 * @memslot: bytes of struct kvm_memory_slot
 * @rmap: bytes of the reverse maps for all page sizes
 * @lpage_info: bytes of the large page state
 * @gfn_track: bytes of the write tracking counts
 * @dirty_bitmap: bytes of both dirty bitmaps
 *
 * The byte counts include the rounding of the allocator. Metadata that KVM
 * allocates later is counted from then on: with the TDP MMU, KVM allocates the
 * reverse maps when a nested guest first runs.
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
 * struct kvm_vmem_get_memslots - list the memslots of an address space
 * @size: in: sizeof(struct kvm_vmem_get_memslots)
 * @vm_fd: in: fd of a KVM VM; another process may have created the VM
 * @flags: in: 0
 * @address_space: in: less than address_spaces of KVM_VMEM_QUERY
 * @nr: in: number of entries that @memslots has room for, 1 to
 *	KVM_VMEM_MAX_LIST; out: number of entries written. A smaller number ends
 *	the list.
 * @memslot_size: in: sizeof(struct kvm_vmem_memslot) as the caller knows it: a
 *	multiple of 8, from the size of its first version to a page. Bytes that
 *	this kernel does not know are set to zero.
 * @memslots: in: user address of the entries
 * @next_gpa: in: guest address to start from; memslots that end at or below it
 *	are skipped; out: end of the last memslot in the list, from which the
 *	next call continues
 * @generation: out: changes whenever the memslots change. If it differs between
 *	the calls of one list, start again for a consistent list. KVM may
 *	allocate metadata without changing the generation.
 *
 * The list is sorted by guest address.
 *
 * The call changes nothing and does not wait for changes of memslots. The
 * descriptor is sufficient authority. To get the descriptor of another process
 * with pidfd_getfd(2), the caller needs the permissions of ptrace(2).
 *
 * Errors:
 *
 *   EBADF	@vm_fd is not an open file.
 *   EINVAL	@vm_fd is not a KVM VM, or a field is out of range.
 *   EMSGSIZE	@nr is above KVM_VMEM_MAX_LIST.
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
