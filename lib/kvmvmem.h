/* SPDX-License-Identifier: MIT */
/*
 * libkvmvmem: the client library of kvm-vmem for VMMs. Manual page: kvmvmem(3).
 *
 * Five parts, each usable without the others:
 *
 *	the module	kvmvmem_open(), kvmvmem_query(), kvmvmem_region_create()
 *	batches		kvmvmem_batch_*(): many memslot changes in one step
 *	vmemd		kvmvmem_vmemd_*(): start vmemd, or call a running vmemd
 *	consumers	kvmvmem_consumer_*(): map plugged memory for a device
 *	views		kvmvmem_view_*(): map memory for emulated devices
 *
 * Rules for all parts:
 *
 * - A function of type int returns 0 or a descriptor on success, and a negative
 *   errno on failure. On failure it writes one line of text to the struct
 *   kvmvmem_error, which may be NULL.
 * - The library has no global state and starts no thread. Objects are
 *   independent of each other. Calls on one object must not overlap.
 * - The caller owns the descriptors that the library returns, and they are
 *   close-on-exec, unless documented otherwise. Descriptors that the caller
 *   passes remain the caller's.
 * - A structure that the caller fills in begins with @size, its size as the
 *   caller knows it. A structure from an older program is extended with zeros.
 *   A structure from a newer program is accepted if all bytes that the library
 *   does not know are zero; otherwise the call returns -E2BIG. A size below
 *   that of the first version returns -EINVAL.
 * - The functions whose name ends in _free accept NULL.
 * - Sizes and addresses are in bytes.
 * - "KVM API" means Documentation/virt/kvm/api.rst of the kernel, "virtio" the
 *   virtio specification, version 1.3.
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
 * struct kvmvmem_error - reason of a failure
 * @text: one line of ASCII without control characters
 */
struct kvmvmem_error {
	char text[256];
};

/**
 * kvmvmem_version() - version of the library, for example "0.1.0"
 *
 * Return: a static string.
 */
const char *kvmvmem_version(void);

/* --- The module --- */

/**
 * kvmvmem_open() - open /dev/kvm-vmem
 *
 * Return: a descriptor, which the functions below take as @device_fd. -ENOENT:
 * the module is not loaded; -EPROTONOSUPPORT: KVM_VMEM_API_VERSION of the
 * module differs from the library's; other errnos of open(2).
 */
int kvmvmem_open(struct kvmvmem_error *error);

/**
 * kvmvmem_query() - limits and features of the module
 * @device_fd: from kvmvmem_open()
 * @query: in: @query->size, the other fields 0; out: see linux/kvm_vmem.h
 *
 * Return: 0; errors of KVM_VMEM_QUERY.
 */
int kvmvmem_query(int device_fd, struct kvm_vmem_query *query,
		  struct kvmvmem_error *error);

/**
 * kvmvmem_region_create() - create the region of one virtio-mem device
 * @device_fd: from kvmvmem_open()
 * @create: see struct kvm_vmem_create_region in linux/kvm_vmem.h
 *
 * The region is removed when the last copy of its descriptor is closed.
 *
 * Return: the descriptor of the region; errors of KVM_VMEM_CREATE_REGION, see
 * linux/kvm_vmem.h.
 */
int kvmvmem_region_create(int device_fd, struct kvm_vmem_create_region *create,
			  struct kvmvmem_error *error);

/* --- Batches --- */

/**
 * struct kvmvmem_batch - memslot changes that are applied in one step
 *
 * An entry has the meaning that it has for KVM_SET_USER_MEMORY_REGION (KVM API,
 * 4.35). All entries are applied or none.
 */
struct kvmvmem_batch;

/**
 * kvmvmem_batch_new() - allocate an empty batch
 *
 * Return: the batch; NULL: out of memory.
 */
struct kvmvmem_batch *kvmvmem_batch_new(void);

/** kvmvmem_batch_free() - free a batch */
void kvmvmem_batch_free(struct kvmvmem_batch *batch);

/** kvmvmem_batch_clear() - remove all entries and any recorded error */
void kvmvmem_batch_clear(struct kvmvmem_batch *batch);

/**
 * kvmvmem_batch_set() - add an entry that creates a memslot or sets its flags
 * @batch: the batch
 * @slot: memslot id, with the address space in bits 16 and up
 * @flags: KVM_MEM_*
 * @gpa: guest address, a multiple of the page size
 * @size: size of the memslot, a multiple of the page size
 * @hva: page-aligned address at which the memory is mapped in this process
 *
 * The values are checked by kvmvmem_batch_submit(). The return value may be
 * ignored, because kvmvmem_batch_submit() returns the same error.
 *
 * Return: 0; -ENOMEM; -EMSGSIZE: the batch has KVM_VMEM_MAX_BATCH entries.
 */
int kvmvmem_batch_set(struct kvmvmem_batch *batch, uint32_t slot,
		      uint32_t flags, uint64_t gpa, uint64_t size,
		      const void *hva);

/**
 * kvmvmem_batch_delete() - add an entry that deletes a memslot
 * @batch: the batch
 * @slot: memslot id, with the address space in bits 16 and up
 *
 * Return: as kvmvmem_batch_set().
 */
int kvmvmem_batch_delete(struct kvmvmem_batch *batch, uint32_t slot);

/** kvmvmem_batch_count() - number of entries */
uint32_t kvmvmem_batch_count(const struct kvmvmem_batch *batch);

/**
 * kvmvmem_batch_submit() - apply the batch to a VM
 * @batch: the batch, which keeps its entries
 * @device_fd: from kvmvmem_open()
 * @vm_fd: fd of a KVM VM that this process has created
 * @flags: KVM_VMEM_BATCH_*
 *
 * On an error nothing has changed, and kvmvmem_batch_bad_index() returns the
 * first entry that was refused.
 *
 * Return: 0; errors of KVM_VMEM_MEMSLOT_BATCH, see linux/kvm_vmem.h; the error
 * of a kvmvmem_batch_set() or kvmvmem_batch_delete() that failed.
 */
int kvmvmem_batch_submit(struct kvmvmem_batch *batch, int device_fd, int vm_fd,
			 uint32_t flags, struct kvmvmem_error *error);

/**
 * kvmvmem_batch_bad_index() - index of the entry that the last submit refused
 *
 * Return: the index, from 0; KVM_VMEM_NO_INDEX if no single entry caused the
 * error.
 */
uint32_t kvmvmem_batch_bad_index(const struct kvmvmem_batch *batch);

/* --- vmemd --- */

/**
 * struct kvmvmem_vmemd - the vmemd of one VM
 *
 * The functions from kvmvmem_vmemd_attach() to kvmvmem_vmemd_resize() send a
 * request to vmemd and block until the answer arrives or the timeout expires.
 * Each opens its own connection, so a restart of vmemd needs no special
 * handling. In these functions @device is the name of one of several devices,
 * or NULL for the only device. All of them can return these errors:
 *
 *   -EPIPE		vmemd has closed the connection.
 *   -ETIMEDOUT		vmemd has not answered within the timeout.
 *   -EBADMSG		The answer does not follow the protocol of vmemd.
 *   -EOPNOTSUPP	vmemd does not know the method; it is too old.
 *   -ENOTCONN		The object has no control socket.
 *   -ENAMETOOLONG	The path of the control socket is too long.
 *   -E2BIG		The request is too long.
 *   -EREMOTEIO		vmemd has refused with an errno that the library does
 *			not know.
 *   others		Errors of connect(2), or the errno with which vmemd has
 *			refused. The text is that of vmemd, see vmemd(8).
 */
struct kvmvmem_vmemd;

/**
 * kvmvmem_vmemd_new() - create an object for a vmemd
 * @vmemd: out: the object
 * @control_path: control socket of vmemd, which runs already or is started
 *	later; NULL: vmemd has no control socket, and only the functions that
 *	start and stop it can be used. The function does not access the path.
 *
 * Return: 0; -ENOMEM.
 */
int kvmvmem_vmemd_new(struct kvmvmem_vmemd **vmemd, const char *control_path,
		      struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_free() - free the object
 *
 * Stops vmemd if kvmvmem_vmemd_spawn() has started it, see
 * kvmvmem_vmemd_stop().
 */
void kvmvmem_vmemd_free(struct kvmvmem_vmemd *vmemd);

/**
 * kvmvmem_vmemd_set_timeout() - set the timeout of requests
 * @ms: milliseconds; the default is 30000
 */
void kvmvmem_vmemd_set_timeout(struct kvmvmem_vmemd *vmemd, uint32_t ms);

/**
 * kvmvmem_vmemd_add_device() - add a device to the vmemd that will be started
 * @vmemd: the object
 * @device: name of the device, 1 to 31 characters without a colon, see --device
 *	in vmemd(8); NULL: the only device
 * @region_fd: from kvmvmem_region_create()
 * @memory_fd: the file that is the memory of the region
 *
 * The caller keeps both descriptors open until the last kvmvmem_vmemd_spawn().
 * Both are -1 if kvmvmem_vmemd_attach() attaches the region later.
 *
 * Return: 0; -EINVAL: invalid or duplicate name, or only one of the descriptors
 * is negative; -E2BIG: more than 16 devices or 512 words of the command line;
 * -ENOMEM.
 */
int kvmvmem_vmemd_add_device(struct kvmvmem_vmemd *vmemd, const char *device,
			     int region_fd, int memory_fd,
			     struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_add_option() - add a word to the command line of vmemd
 * @vmemd: the object
 * @option: an option of vmemd(8) or the value of one, copied
 *
 * A word that is added before the first device is an option of vmemd itself. A
 * word that is added after a device is an option of that device.
 *
 * Return: 0; -E2BIG: more than 512 words; -ENOMEM.
 */
int kvmvmem_vmemd_add_option(struct kvmvmem_vmemd *vmemd, const char *option,
			     struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_spawn() - start vmemd
 * @vmemd: the object, with at least one device
 * @program: path of vmemd
 *
 * vmemd inherits descriptors 0 to 2, the descriptors of its devices, a new
 * vhost-user socket for each device, and the control socket; no other
 * descriptor. A process with threads may call this function. It may be called
 * again after vmemd has ended.
 *
 * Return: 0; -EINVAL: no device was added; -EBUSY: vmemd runs; -ENAMETOOLONG:
 * the path of the control socket is too long; the errno of execve(2), socket(2)
 * or bind(2).
 */
int kvmvmem_vmemd_spawn(struct kvmvmem_vmemd *vmemd, const char *program,
			struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_front_end() - get the vhost-user socket of a device
 * @vmemd: the object
 * @device: as for kvmvmem_vmemd_add_device()
 *
 * The VMM's vhost-user front end uses this connected socket. Each start of
 * vmemd provides one socket for each device.
 *
 * Return: the socket; -ENOENT: no such device, vmemd was not started, or the
 * socket was returned before.
 */
int kvmvmem_vmemd_front_end(struct kvmvmem_vmemd *vmemd, const char *device,
			    struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_pidfd() - get the pidfd of the vmemd that was started
 *
 * The library owns the descriptor. It polls readable when the process has
 * ended.
 *
 * Return: the descriptor; -1: vmemd was not started.
 */
int kvmvmem_vmemd_pidfd(const struct kvmvmem_vmemd *vmemd);

/**
 * kvmvmem_vmemd_stop() - stop the vmemd that was started
 *
 * Sends SIGTERM, waits for the end of the process, and sends SIGKILL after 10
 * seconds.
 */
void kvmvmem_vmemd_stop(struct kvmvmem_vmemd *vmemd);

/**
 * kvmvmem_vmemd_attach() - attach a region to a running vmemd
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @region_fd: from kvmvmem_region_create()
 * @memory_fd: the file that is the memory of the region; offset 0 is its start
 *
 * Attaching the same region again succeeds.
 *
 * Return: 0; errors as for struct kvmvmem_vmemd.
 */
int kvmvmem_vmemd_attach(struct kvmvmem_vmemd *vmemd, const char *device,
			 int region_fd, int memory_fd,
			 struct kvmvmem_error *error);

/**
 * struct kvmvmem_plan - the memslot size and count recommended for a region
 * @size: in: sizeof(struct kvmvmem_plan)
 * @reserved_for_later: in: 0
 * @region_size: in: size of the region that will be created: a multiple of
 *	@block_size, not 0, at most 4 PiB
 * @block_size: in: its block size: a power of two, at least 4 KiB
 * @gpa: in: its guest address: a multiple of @block_size, at most 4 PiB
 * @used: in: memslots that the VMM uses itself
 * @reserved: in: memslots that the VMM or its devices will need in addition
 * @kvm_limit: in: value of KVM_CAP_NR_MEMSLOTS (KVM API, 4.35), at most 65536
 * @consumer_limit: in: the smallest number of memslots that a device of the
 *	VMM, vhost for example, supports; 0: no limit
 * @total_size: in: size of all regions still to be created, including this one;
 *	at least @region_size and at most 4 PiB; 0: only this one
 * @slot_size: out: memslot size for kvmvmem_region_create()
 * @nr_slots: out: number of memslots of that size in the region
 * @metadata: out: bytes of metadata of KVM of Linux 6.1 if all is plugged
 * @metadata_nested: out: the same after a nested guest has run
 * @reason: out: the reason for the choice, one line of text
 * @mappings: in: the smallest number of separate mappings that a consumer of the
 *	region will be able to have; 0: no limit. The plan fails with -ENOSPC if
 *	the region has more blocks, and the text says which block size would fit.
 *	See struct kvmvmem_consumer_config.
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
	uint64_t mappings;
};

/**
 * kvmvmem_vmemd_plan() - get the memslot size for a region before it is created
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @plan: in and out
 *
 * Return: 0; -EINVAL: a field is out of range; errors as for struct
 * kvmvmem_vmemd, which include -EBUSY: the device has a region already, and
 * -ENOSPC: no memslot size fits, or the region has more blocks than @mappings.
 */
int kvmvmem_vmemd_plan(struct kvmvmem_vmemd *vmemd, const char *device,
		       struct kvmvmem_plan *plan, struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_system_reset() - report a system reset of the guest
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @force: unplug even if the driver of the guest still uses the device
 *
 * vhost-user has no message for a system reset, so the VMM reports it here,
 * after it has stopped the vCPUs and reset the device. On success all blocks
 * are unplugged and their memory has been discarded (virtio, 5.15.6.2). On an
 * error nothing has changed, and the driver of the next system requests the
 * same.
 *
 * Return: 0; errors as for struct kvmvmem_vmemd, which include -EBUSY: the
 * driver still uses the device, or the host could not unplug.
 */
int kvmvmem_vmemd_system_reset(struct kvmvmem_vmemd *vmemd, const char *device,
			       bool force, struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_hold() - hold the requests of the guest during a migration
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @on: true: vmemd answers requests to plug and unplug with BUSY
 *	(VIRTIO_MEM_RESP_BUSY, virtio 5.15.6)
 *
 * If the function returns 0 with @on true, no request is in progress.
 *
 * Return: 0; errors as for struct kvmvmem_vmemd.
 */
int kvmvmem_vmemd_hold(struct kvmvmem_vmemd *vmemd, const char *device, bool on,
		       struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_dirty_log() - switch dirty logging of all populated memslots
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @on: true: log dirty pages (KVM_MEM_LOG_DIRTY_PAGES; KVM API, 4.35)
 *
 * Memslots that become populated later inherit the setting.
 *
 * Return: 0; errors as for struct kvmvmem_vmemd.
 */
int kvmvmem_vmemd_dirty_log(struct kvmvmem_vmemd *vmemd, const char *device,
			    bool on, struct kvmvmem_error *error);

/**
 * kvmvmem_vmemd_resize() - set the requested size of a device
 * @vmemd: the object
 * @device: see struct kvmvmem_vmemd
 * @size: size that the guest is requested to plug (virtio, 5.15.4,
 *	requested_size): a multiple of the block size, at most the region size
 *
 * The function does not wait for the guest.
 *
 * Return: 0; errors as for struct kvmvmem_vmemd, which include -ENOSPC: a
 * consumer could not map as many blocks.
 */
int kvmvmem_vmemd_resize(struct kvmvmem_vmemd *vmemd, const char *device,
			 uint64_t size, struct kvmvmem_error *error);

/* --- Consumers --- */

/**
 * struct kvmvmem_consumer - a user of the plugged memory other than the guest
 *
 * A VFIO or vhost device must map memory before the guest uses it, and must
 * unmap memory before it is unplugged. vmemd notifies each consumer of each
 * change, and answers the guest after all consumers have answered. The library
 * keeps the set of mapped ranges, calls map() and unmap() for the difference,
 * and answers vmemd.
 *
 * Poll kvmvmem_consumer_fd() for reading and call kvmvmem_consumer_dispatch().
 * It blocks only in map() and unmap(). vmemd closes a consumer that does not
 * answer an event, of 128 MiB at most, within 10 seconds. It undoes a plug whose
 * events take more than 60 seconds together.
 */
struct kvmvmem_consumer;

/**
 * enum kvmvmem_unit - the unit of calls of map() and unmap()
 * @KVMVMEM_EACH_BLOCK: one block. unmap() is called for exactly the ranges for
 *	which map() was called, because VFIO cannot unmap a part of a mapping.
 * @KVMVMEM_BLOCK_RUNS: a run of adjacent blocks. unmap() may be called for a
 *	part of a range for which map() was called, or for several of them at
 *	once.
 * @KVMVMEM_MEMSLOT_RUNS: a run of adjacent memslots, for vhost. A memslot is
 *	mapped with its first block and unmapped with its last one. unmap() may
 *	be called for other runs than map(), as for @KVMVMEM_BLOCK_RUNS.
 */
enum kvmvmem_unit {
	KVMVMEM_EACH_BLOCK = 0,
	KVMVMEM_BLOCK_RUNS = 1,
	KVMVMEM_MEMSLOT_RUNS = 2,
};

/**
 * struct kvmvmem_range - a range to map or unmap
 * @gpa: guest address, a multiple of the block size
 * @size: size, a multiple of the block size
 * @offset: offset in the memory of the region
 * @first_slot: id of the first memslot of the range with KVMVMEM_MEMSLOT_RUNS,
 *	else 0
 * @nr_slots: number of memslots of the range with KVMVMEM_MEMSLOT_RUNS, else 0
 */
struct kvmvmem_range {
	uint64_t gpa;
	uint64_t size;
	uint64_t offset;
	uint32_t first_slot;
	uint32_t nr_slots;
};

/**
 * struct kvmvmem_consumer_config - configuration of a consumer
 * @size: sizeof(struct kvmvmem_consumer_config)
 * @unit: enum kvmvmem_unit
 * @control_path: control socket of vmemd
 * @device: name of the virtio-mem device; NULL: the only one
 * @name: name of the consumer, 1 to 63 printable characters without spaces,
 *	unique among the consumers of a process. A consumer that subscribes
 *	again is recognized by its name; it replaces a connection with the same
 *	name.
 * @memslots: maximum number of memslots of the consumer; 0: no limit
 * @used: memslots of @memslots that the VMM uses itself
 * @reserved: memslots of @memslots that the VMM will need in addition
 * @map: map a range. Returns 0 or a negative errno. On failure nothing of the
 *	range may stay mapped. The library then unmaps all other ranges that it
 *	has mapped for the same request, and vmemd answers the guest BUSY.
 * @unmap: unmap a range. Returns 0 or a negative errno. On failure the whole
 *	range must still be mapped.
 * @arg: first argument of @map and @unmap
 * @mappings: maximum number of separate mappings of the consumer; 0: no limit.
 *	A mapping is a range that is mapped by one call and can be unmapped only
 *	as a whole, as by VFIO_IOMMU_MAP_DMA. vmemd counts one mapping for each
 *	block that the guest may plug, because a guest may plug each block
 *	separately. A consumer with KVMVMEM_EACH_BLOCK sets it to the number of
 *	mappings that its container has left for this region. For VFIO type1
 *	that is dma_entry_limit, 65535 unless the module's parameter says
 *	otherwise, less the mappings of other memory and of other regions;
 *	VFIO_IOMMU_TYPE1_INFO_DMA_AVAIL has the number that is left. With
 *	KVMVMEM_BLOCK_RUNS a run may be as short as a block, so the number means
 *	the same. A consumer with KVMVMEM_MEMSLOT_RUNS maps no more ranges than
 *	there are memslots: it sets @memslots, and 0 here.
 *
 * @map and @unmap must not call a function on the same consumer. The library
 *	copies the strings.
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
	uint64_t mappings;
};

/**
 * enum kvmvmem_consumer_state - state of a consumer
 * @KVMVMEM_CONNECTING: no connection to vmemd; the library connects when vmemd
 *	is back. All mapped ranges stay mapped.
 * @KVMVMEM_POPULATING: memory that was plugged before is being mapped
 * @KVMVMEM_SUBSCRIBED: all plugged memory is mapped
 * @KVMVMEM_CLOSED: the subscription has ended by an error, see
 *	kvmvmem_consumer_dispatch()
 */
enum kvmvmem_consumer_state {
	KVMVMEM_CONNECTING = 0,
	KVMVMEM_POPULATING = 1,
	KVMVMEM_SUBSCRIBED = 2,
	KVMVMEM_CLOSED = 3,
};

/**
 * kvmvmem_consumer_new() - create a consumer and subscribe
 * @consumer: out: the consumer
 * @config: configuration, copied
 *
 * Blocks until vmemd has answered, at most 30 seconds. Nothing is mapped when
 * the function returns. Call kvmvmem_consumer_dispatch() until the state is
 * KVMVMEM_SUBSCRIBED.
 *
 * Return: 0; -EINVAL: a field is out of range; -ENOSPC: @memslots is too small
 * for the regions of vmemd, or @mappings for the requested size; -ESTALE and other errors as for
 * kvmvmem_consumer_dispatch() and struct kvmvmem_vmemd.
 */
int kvmvmem_consumer_new(struct kvmvmem_consumer **consumer,
			 const struct kvmvmem_consumer_config *config,
			 struct kvmvmem_error *error);

/**
 * kvmvmem_consumer_free() - unmap all ranges, end the subscription, free the
 * object
 *
 * Blocks for at most 2 seconds if vmemd does not answer, in addition to
 * unmap(). If a range cannot be unmapped, or vmemd cannot be reached, vmemd
 * keeps the memory until this process ends, and answers requests of the guest
 * for it BUSY.
 */
void kvmvmem_consumer_free(struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_fd() - get the descriptor to poll for reading
 *
 * The library owns the descriptor. It stays the same for the life of the
 * object.
 *
 * Return: the descriptor.
 */
int kvmvmem_consumer_fd(const struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_dispatch() - process pending events
 *
 * Call this function when kvmvmem_consumer_fd() is readable. A call without
 * pending events has no effect. The loss of the connection to vmemd is not an
 * error: the library connects again.
 *
 * After an error the state is KVMVMEM_CLOSED. The mappings of the device may be
 * stale, and the device must not do DMA until kvmvmem_consumer_resume() or
 * kvmvmem_consumer_free().
 *
 * Return:
 *
 *   0			Success.
 *   -ECONNABORTED	vmemd has closed the consumer; the text has the reason.
 *   -EIO		A request has failed and its undo has failed as well;
 *			memory that was unplugged cannot be unmapped; or, after
 *			a lost connection, a range that is partly mapped cannot
 *			be mapped as a whole.
 *   -ESTALE		vmemd has a different region now.
 *   -EBADMSG		A message does not follow the protocol of vmemd.
 *   -ENOMEM		Out of memory.
 */
int kvmvmem_consumer_dispatch(struct kvmvmem_consumer *consumer,
			      struct kvmvmem_error *error);

/**
 * kvmvmem_consumer_state() - get the state of a consumer
 *
 * Return: enum kvmvmem_consumer_state.
 */
int kvmvmem_consumer_state(const struct kvmvmem_consumer *consumer);

/**
 * kvmvmem_consumer_resume() - subscribe again after KVMVMEM_CLOSED
 *
 * All ranges are unmapped first, because vmemd may have discarded their memory.
 * In any other state the function has no effect.
 *
 * Return: 0; -EIO: a range cannot be unmapped; errors of
 * kvmvmem_consumer_new().
 */
int kvmvmem_consumer_resume(struct kvmvmem_consumer *consumer,
			    struct kvmvmem_error *error);

/**
 * kvmvmem_consumer_mapped_size() - get the number of mapped bytes
 *
 * Return: bytes.
 */
uint64_t kvmvmem_consumer_mapped_size(const struct kvmvmem_consumer *consumer);

/* --- Views --- */

/**
 * struct kvmvmem_view - a mapping of the memory without unplugged memslots
 *
 * A VMM that emulates devices accesses guest memory through a mapping of its
 * own. In a view, the range of a memslot without a plugged block is
 * inaccessible (PROT_NONE), and an access raises SIGSEGV. A device with a bug
 * then cannot access unplugged memory. The granularity is the memslot:
 * unplugged blocks of a memslot with plugged blocks are accessible.
 *
 * KVM and vhost devices need a second mapping of the same memory that is
 * accessible as a whole, because KVM creates a memslot before its range of the
 * view becomes accessible. Pass this mapping to kvmvmem_region_create().
 *
 * A view is a consumer. Poll and dispatch it, see kvmvmem_view_consumer().
 * Requests of the guest that populate or empty a memslot are answered after the
 * view has followed.
 */
struct kvmvmem_view;

/**
 * struct kvmvmem_view_config - configuration of a view
 * @size: sizeof(struct kvmvmem_view_config)
 * @memory_fd: descriptor of the memory of the region; the view does not use it
 *	after the call
 * @offset: offset of the region in @memory_fd, a multiple of the page size
 * @region_size: size of the region
 * @control_path: control socket of vmemd
 * @device: name of the virtio-mem device; NULL: the only one
 * @name: name of the consumer, as in struct kvmvmem_consumer_config
 */
struct kvmvmem_view_config {
	uint32_t size;
	int32_t memory_fd;
	uint64_t offset;
	uint64_t region_size;
	const char *control_path;
	const char *device;
	const char *name;
};

/**
 * kvmvmem_view_new() - map the memory and subscribe
 * @view: out: the view
 * @config: configuration, copied
 *
 * Nothing is accessible when the function returns. Dispatch the consumer until
 * its state is KVMVMEM_SUBSCRIBED.
 *
 * The view uses up to two mappings of the process for each memslot
 * (vm.max_map_count). A request of the guest that needs more is answered BUSY.
 *
 * Return: 0; -EINVAL: a field is out of range; errors of mmap(2) and of
 * kvmvmem_consumer_new().
 */
int kvmvmem_view_new(struct kvmvmem_view **view,
		     const struct kvmvmem_view_config *config,
		     struct kvmvmem_error *error);

/**
 * kvmvmem_view_free() - end the subscription, unmap the memory, free the object
 *
 * Blocks as kvmvmem_consumer_free() does.
 */
void kvmvmem_view_free(struct kvmvmem_view *view);

/**
 * kvmvmem_view_address() - get the address of the view
 *
 * Return: address of the first byte of the region. It stays the same for the
 * life of the object.
 */
void *kvmvmem_view_address(const struct kvmvmem_view *view);

/**
 * kvmvmem_view_consumer() - get the consumer of a view
 *
 * For kvmvmem_consumer_fd(), kvmvmem_consumer_dispatch(),
 * kvmvmem_consumer_state(), kvmvmem_consumer_resume() and
 * kvmvmem_consumer_mapped_size(). The view owns the consumer.
 *
 * Return: the consumer.
 */
struct kvmvmem_consumer *kvmvmem_view_consumer(const struct kvmvmem_view *view);

#ifdef __cplusplus
}
#endif

#endif /* KVMVMEM_H */
