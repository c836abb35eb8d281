/* SPDX-License-Identifier: MIT */
/*
 * libkvmvmem: what a VMM needs of kvm-vmem. kvmvmem(3) is its manual page.
 *
 * Four parts, each usable without the others:
 *
 *	the module	kvmvmem_open(), kvmvmem_query(), kvmvmem_region_create()
 *	batches		kvmvmem_batch_*(): many memslot changes as one step
 *	vmemd		kvmvmem_vmemd_*(): start it, or use one that runs
 *	consumers	kvmvmem_consumer_*(): map what is plugged for a device
 *
 * Rules for all of them:
 *
 * - Functions that return int return 0 or a descriptor, or a negative errno. The
 *   text for people is in the struct kvmvmem_error that was passed, which may be
 *   NULL. It is written on an error only.
 * - There is no global state and no thread. Objects are independent of each
 *   other; calls on one object must not overlap.
 * - Descriptors that the library returns are close-on-exec and the caller's,
 *   unless it says otherwise. Those that are passed stay the caller's.
 * - A structure that the caller fills in begins with its size as the caller knows
 *   it. What an older program's lacks is taken as zero. A newer program's is taken
 *   if what this library does not know is zero, -E2BIG otherwise.
 * - The functions "_free" take NULL.
 * - Sizes and addresses are in bytes.
 */
#ifndef KVMVMEM_H
#define KVMVMEM_H

#include <stdbool.h>
#include <stdint.h>

#include <linux/kvm_vmem.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct kvmvmem_error - why a call has failed
 * @text: one line of ASCII without control characters
 */
struct kvmvmem_error {
	char text[256];
};

/** kvmvmem_version() - version of the library, as "0.1.0" */
const char *kvmvmem_version(void);

/* --- The module --- */

/**
 * kvmvmem_open() - open /dev/kvm-vmem
 *
 * Return: a descriptor for the calls below. -ENOENT the module is not loaded;
 * -EPROTONOSUPPORT its interface is of another version than this library's.
 */
int kvmvmem_open(struct kvmvmem_error *error);

/**
 * kvmvmem_query() - limits and features of the module
 * @device_fd: from kvmvmem_open()
 * @query: with its size set
 */
int kvmvmem_query(int device_fd, struct kvm_vmem_query *query,
		  struct kvmvmem_error *error);

/**
 * kvmvmem_region_create() - make the region of one virtio-mem device
 * @device_fd: from kvmvmem_open()
 * @create: with its size set; see linux/kvm_vmem.h
 *
 * Return: the region's descriptor. The region is removed when its last copy is
 * closed.
 */
int kvmvmem_region_create(int device_fd, struct kvm_vmem_create_region *create,
			  struct kvmvmem_error *error);

/* --- Batches --- */

/**
 * struct kvmvmem_batch - memslot changes that are made as one step
 *
 * Entries mean what they mean to KVM_SET_USER_MEMORY_REGION. All of them are
 * made, or none.
 */
struct kvmvmem_batch;

/** kvmvmem_batch_new() - Return: an empty batch, or NULL without memory. */
struct kvmvmem_batch *kvmvmem_batch_new(void);
void kvmvmem_batch_free(struct kvmvmem_batch *batch);

/** kvmvmem_batch_clear() - take all entries out, for another use */
void kvmvmem_batch_clear(struct kvmvmem_batch *batch);

/**
 * kvmvmem_batch_set() - add an entry that creates a memslot or sets its flags
 * @slot: id, with the address space in bits 16 and up
 * @flags: KVM_MEM_*
 * @hva: where the memory is mapped
 *
 * Return: 0; -ENOMEM; -EMSGSIZE: there are KVM_VMEM_MAX_BATCH entries. Nothing
 * is lost if this is not looked at: kvmvmem_batch_submit() returns it again.
 */
int kvmvmem_batch_set(struct kvmvmem_batch *batch, uint32_t slot,
		      uint32_t flags, uint64_t gpa, uint64_t size,
		      const void *hva);

/** kvmvmem_batch_delete() - add an entry that deletes a memslot; as the above */
int kvmvmem_batch_delete(struct kvmvmem_batch *batch, uint32_t slot);

/** kvmvmem_batch_count() - number of entries */
uint32_t kvmvmem_batch_count(const struct kvmvmem_batch *batch);

/**
 * kvmvmem_batch_submit() - apply the batch to a VM
 * @device_fd: from kvmvmem_open()
 * @vm_fd: of KVM; the VM must be this process's
 * @flags: KVM_VMEM_BATCH_*
 *
 * The batch keeps its entries. On an error nothing has changed, and
 * kvmvmem_batch_bad_index() is the first entry that was refused.
 */
int kvmvmem_batch_submit(struct kvmvmem_batch *batch, int device_fd, int vm_fd,
			 uint32_t flags, struct kvmvmem_error *error);

/**
 * kvmvmem_batch_bad_index() - first bad entry of the last submit
 *
 * Return: its index, or KVM_VMEM_NO_INDEX if no single entry is to blame.
 */
uint32_t kvmvmem_batch_bad_index(const struct kvmvmem_batch *batch);

/* --- vmemd --- */

/**
 * struct kvmvmem_vmemd - the vmemd of one VM
 *
 * Each call that asks vmemd something makes a connection of its own, so a vmemd
 * that was restarted is no special case. Such a call blocks until it is answered,
 * or for the timeout. -EPIPE: vmemd has closed the connection; -ETIMEDOUT: it has
 * not answered; -EBADMSG: the answer is not a vmemd's; -EOPNOTSUPP: it is too old
 * for the call. What vmemd refuses has the errno and the text of its answer;
 * -EREMOTEIO where the library does not know the errno.
 *
 * @device names one of several devices. NULL: there is only one.
 */
struct kvmvmem_vmemd;

/**
 * kvmvmem_vmemd_new() - an object for a vmemd that runs or is to be started
 * @control_path: its control socket; NULL: it has none, and can only be started
 *	and stopped. The path is not looked at yet.
 */
int kvmvmem_vmemd_new(struct kvmvmem_vmemd **vmemd, const char *control_path,
		      struct kvmvmem_error *error);

/** kvmvmem_vmemd_free() - free the object; a vmemd started by it is stopped */
void kvmvmem_vmemd_free(struct kvmvmem_vmemd *vmemd);

/** kvmvmem_vmemd_set_timeout() - how long an answer may take; 30 s at first */
void kvmvmem_vmemd_set_timeout(struct kvmvmem_vmemd *vmemd, uint32_t ms);

/**
 * kvmvmem_vmemd_add_device() - hand a device over to the vmemd to be started
 * @device: its name for --device; NULL: the only device
 * @region_fd: from kvmvmem_region_create()
 * @memory_fd: of the region's memory
 *
 * Both descriptors must stay open until the last kvmvmem_vmemd_spawn(). Both are
 * -1 for a device whose region is attached later.
 */
int kvmvmem_vmemd_add_device(struct kvmvmem_vmemd *vmemd, const char *device,
			     int region_fd, int memory_fd,
			     struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_add_option() - add a word to the command line; see vmemd(8)
 *
 * Before the first device it is an option of vmemd, after a device that
 * device's.
 */
int kvmvmem_vmemd_add_option(struct kvmvmem_vmemd *vmemd, const char *option,
			     struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_spawn() - start vmemd
 * @program: path of vmemd
 *
 * It gets the descriptors of its devices, a new vhost-user socket for each, the
 * control socket, and no other descriptor but 0 to 2. It may be called by a
 * process with threads, and again once vmemd has ended.
 *
 * Return: 0; -EBUSY: it runs; the errno of execve(2).
 */
int kvmvmem_vmemd_spawn(struct kvmvmem_vmemd *vmemd, const char *program,
			struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_front_end() - socket to be the vhost-user front end of
 *
 * Return: a connected socket, once for each device and start; -ENOENT.
 */
int kvmvmem_vmemd_front_end(struct kvmvmem_vmemd *vmemd, const char *device,
			    struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_pidfd() - the process that was started
 *
 * Return: a descriptor that polls readable when it has ended; it stays the
 * library's. -1: none was started.
 */
int kvmvmem_vmemd_pidfd(const struct kvmvmem_vmemd *vmemd);

/**
 * kvmvmem_vmemd_stop() - end a vmemd that was started, and wait for its end
 *
 * One that does not end within 10 s is killed.
 */
void kvmvmem_vmemd_stop(struct kvmvmem_vmemd *vmemd);

/**
 * kvmvmem_vmemd_attach() - hand a region to a vmemd that runs
 * @memory_fd: of the region's memory
 *
 * To attach the same region again is no error.
 */
int kvmvmem_vmemd_attach(struct kvmvmem_vmemd *vmemd, const char *device,
			 int region_fd, int memory_fd,
			 struct kvmvmem_error *error);

/**
 * struct kvmvmem_plan - how a region is to be cut into memslots
 * @size: in: sizeof(struct kvmvmem_plan)
 * @region_size, @block_size, @gpa: in: of the region that will be made
 * @used: in: memslots of the VMM's own
 * @reserved: in: memslots that will be needed besides
 * @kvm_limit: in: KVM_CAP_NR_MEMSLOTS
 * @consumer_limit: in: fewest memslots that a device of the VMM can have; 0: no
 *	device has a limit
 * @total_size: in: of all regions still to be made; 0: only this one
 * @slot_size, @nr_slots: out: for kvmvmem_region_create()
 * @metadata: out: bytes that KVM 6.1 holds when all is plugged
 * @metadata_nested: out: the same once a nested guest runs
 * @reason: out: why, for people
 */
struct kvmvmem_plan {
	uint32_t size;
	uint32_t reserved_for_later;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t gpa;
	uint64_t used;
	uint64_t reserved;
	uint64_t kvm_limit;
	uint64_t consumer_limit;
	uint64_t total_size;
	uint64_t slot_size;
	uint64_t nr_slots;
	uint64_t metadata;
	uint64_t metadata_nested;
	char reason[256];
};

/** kvmvmem_vmemd_plan() - ask how a region is to be cut, before it is made */
int kvmvmem_vmemd_plan(struct kvmvmem_vmemd *vmemd, const char *device,
		       struct kvmvmem_plan *plan, struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_system_reset() - the guest's system is reset
 * @force: also if the driver is still in use
 *
 * Call it when vCPUs are stopped and the device is reset. When it returns 0 all
 * blocks are unplugged and their memory is given back. On an error nothing has
 * changed, and the new system's driver will ask for it.
 */
int kvmvmem_vmemd_system_reset(struct kvmvmem_vmemd *vmemd, const char *device,
			       bool force, struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_hold() - answer the guest's requests busy, for a migration
 *
 * When it returns 0 with @on, no request is being carried out any more.
 */
int kvmvmem_vmemd_hold(struct kvmvmem_vmemd *vmemd, const char *device, bool on,
		       struct kvmvmem_error *error);

/** kvmvmem_vmemd_dirty_log() - dirty logging of all populated memslots */
int kvmvmem_vmemd_dirty_log(struct kvmvmem_vmemd *vmemd, const char *device,
			    bool on, struct kvmvmem_error *error);

/** kvmvmem_vmemd_resize() - ask the guest to have @size bytes plugged */
int kvmvmem_vmemd_resize(struct kvmvmem_vmemd *vmemd, const char *device,
			 uint64_t size, struct kvmvmem_error *error);

/* --- Consumers --- */

/**
 * struct kvmvmem_consumer - somebody who maps what is plugged
 *
 * A VFIO or vhost device must have memory before the guest uses it, and must let
 * go of it before it is unplugged. vmemd asks each consumer, and answers the
 * guest when all have done it. The library knows what is mapped, calls map() and
 * unmap() for the difference, and answers.
 *
 * Poll kvmvmem_consumer_fd() for reading and call kvmvmem_consumer_dispatch(),
 * which does not block but in map() and unmap(). vmemd waits 10 s for an answer.
 */
struct kvmvmem_consumer;

/**
 * enum kvmvmem_unit - what map() and unmap() are called for
 * @KVMVMEM_EACH_BLOCK: one block. unmap() is called for exactly what map() was
 *	called for, as VFIO needs: it cannot unmap a part of a mapping.
 * @KVMVMEM_BLOCK_RUNS: adjacent blocks. unmap() may be called for a part of what
 *	map() was called for, and for several of those at once.
 * @KVMVMEM_MEMSLOT_RUNS: adjacent memslots, as vhost needs, which come with
 *	their first block and go with their last. Runs are as of blocks.
 */
enum kvmvmem_unit {
	KVMVMEM_EACH_BLOCK = 0,
	KVMVMEM_BLOCK_RUNS = 1,
	KVMVMEM_MEMSLOT_RUNS = 2,
};

/**
 * struct kvmvmem_range - what to map or unmap
 * @gpa: guest address
 * @offset: in the region's memory
 * @first_slot, @nr_slots: memslots that it covers whole, by their ids; 0 unless
 *	these are asked for
 */
struct kvmvmem_range {
	uint64_t gpa;
	uint64_t size;
	uint64_t offset;
	uint32_t first_slot;
	uint32_t nr_slots;
};

/**
 * struct kvmvmem_consumer_config - what a consumer is
 * @size: sizeof(struct kvmvmem_consumer_config)
 * @unit: enum kvmvmem_unit
 * @control_path: control socket of vmemd
 * @device: name of the virtio-mem device; NULL: the only one
 * @name: of the consumer: 1 to 63 letters without spaces. Each consumer of a process
 *	has another: it comes back by its name, and takes the place of one that
 *	seems to be connected
 * @memslots: how many memslots it can have; 0: any number
 * @used: how many of them the VMM has for itself
 * @reserved: how many the VMM will need besides
 * @map: map a range. Return: 0, or a negative errno; then nothing of the range
 *	is mapped, the library unmaps what else it has mapped for the same request,
 *	and the guest is told to try again later.
 * @unmap: unmap a range. Return: as of @map; what fails is still mapped.
 * @arg: first argument of both
 *
 * Neither may call a function on the same consumer. Strings are copied.
 */
struct kvmvmem_consumer_config {
	uint32_t size;
	uint32_t unit;
	const char *control_path;
	const char *device;
	const char *name;
	uint64_t memslots;
	uint64_t used;
	uint64_t reserved;
	int (*map)(void *arg, const struct kvmvmem_range *range);
	int (*unmap)(void *arg, const struct kvmvmem_range *range);
	void *arg;
};

/**
 * enum kvmvmem_consumer_state - where a consumer is
 * @KVMVMEM_CONNECTING: vmemd has gone; the library connects as soon as it is
 *	back. What is mapped stays so.
 * @KVMVMEM_POPULATING: what was plugged before is being mapped
 * @KVMVMEM_SUBSCRIBED: all that is plugged is mapped
 * @KVMVMEM_CLOSED: it is a consumer no more; see kvmvmem_consumer_dispatch()
 */
enum kvmvmem_consumer_state {
	KVMVMEM_CONNECTING = 0,
	KVMVMEM_POPULATING = 1,
	KVMVMEM_SUBSCRIBED = 2,
	KVMVMEM_CLOSED = 3,
};

/**
 * kvmvmem_consumer_new() - subscribe
 *
 * Blocks until vmemd has answered, at most 30 s. Nothing is mapped yet: dispatch
 * until the state is KVMVMEM_SUBSCRIBED.
 *
 * Return: 0; -ENOSPC it could not have all memslots that may come; others as of
 * struct kvmvmem_vmemd.
 */
int kvmvmem_consumer_new(struct kvmvmem_consumer **consumer,
			 const struct kvmvmem_consumer_config *config,
			 struct kvmvmem_error *error);

/**
 * kvmvmem_consumer_free() - unmap all that is mapped, then end the subscription
 *
 * In this order: vmemd takes the end of the subscription for the end of what is
 * mapped. It may block for 2 s, if vmemd does not answer. If something cannot be
 * unmapped, or vmemd cannot be told, vmemd keeps the memory until this process
 * ends, and answers the guest busy.
 */
void kvmvmem_consumer_free(struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_fd() - Return: a descriptor to poll for reading. It stays the
 * library's and the same for the object's life.
 */
int kvmvmem_consumer_fd(const struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_dispatch() - do what there is to do
 *
 * Call it whenever the descriptor can be read; for nothing it is harmless.
 *
 * Return: 0. -ECONNABORTED: vmemd has closed it, for the reason in the text.
 * -EIO: neither could a request be done nor what was done of it be undone.
 * -ESTALE: vmemd has another region now. -EBADMSG: it is not a vmemd that
 * speaks. After an error the state is KVMVMEM_CLOSED: the device can have stale
 * maps and must not do DMA, until kvmvmem_consumer_resume() or its end.
 */
int kvmvmem_consumer_dispatch(struct kvmvmem_consumer *consumer,
			      struct kvmvmem_error *error);

/** kvmvmem_consumer_state() - Return: enum kvmvmem_consumer_state. */
int kvmvmem_consumer_state(const struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_resume() - subscribe again, after an error of dispatch
 *
 * All that is mapped is unmapped first: nobody knows what became of the memory.
 *
 * Return: as of kvmvmem_consumer_new(); -EIO: something cannot be unmapped.
 */
int kvmvmem_consumer_resume(struct kvmvmem_consumer *consumer,
			    struct kvmvmem_error *error);

/** kvmvmem_consumer_mapped_size() - bytes that are mapped now */
uint64_t kvmvmem_consumer_mapped_size(const struct kvmvmem_consumer *consumer);

#ifdef __cplusplus
}
#endif

#endif /* KVMVMEM_H */
