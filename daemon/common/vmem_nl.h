/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Client of the kvm-vmem generic netlink family (uapi/kvm_vmem.yaml).
 *
 * There is one function per operation. Each blocks until the kernel has
 * answered. Reading is answered at once; a change takes as long as KVM needs.
 * To do something else meanwhile, send a change with vmem_nl_send(), poll
 * vmem_nl_fd() and receive the answer with vmem_nl_receive().
 *
 * All functions return 0 or a negative errno. On failure, @err is set unless it
 * is NULL: to the text of the kernel's extended acknowledgment, or to the
 * operation that failed in this process. vmem_nl_failure() has the details.
 *
 * A handle must not be used concurrently. It has no state of regions.
 */
#ifndef VMEM_NL_H
#define VMEM_NL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm_vmem_netlink.h>
#include <linux/netlink.h>

#include "common/error.h"

struct vmem_nl;

/**
 * struct vmem_nl_failure - details of a failed request, besides its error
 * @from_kernel: the error's text comes from the kernel
 * @has_offset: @offset is set
 * @offset: offset of the bad attribute in the request message, in bytes
 * @attr: type of the bad or missing attribute; 0: unknown
 * @missing: @attr is missing from the request
 * @unknown: the answer was lost, so it is unknown whether the request was
 *	executed
 */
struct vmem_nl_failure {
	bool from_kernel;
	bool has_offset;
	uint32_t offset;
	uint16_t attr;
	bool missing;
	bool unknown;
};

/**
 * struct vmem_nl_name - identifies the region of a request
 * @fd: descriptor of the region in this process; negative: not sent
 * @id: region id; 0: not sent
 *
 * A descriptor permits to read and change a region. An id permits to read it,
 * with CAP_NET_ADMIN on the host.
 */
struct vmem_nl_name {
	int fd;
	uint32_t id;
};

#define VMEM_NL_BY_FD(n) ((struct vmem_nl_name){.fd = (n)})
#define VMEM_NL_BY_ID(n) ((struct vmem_nl_name){.fd = -1, .id = (n)})

/*
 * Bytes of KVM's metadata for memslots, see uapi/kvm_vmem.yaml. Notifications
 * lack them, and so do slots of a VM that is gone: see has_metadata.
 */
struct vmem_nl_metadata {
	uint64_t memslot;
	uint64_t rmap;
	uint64_t lpage_info;
	uint64_t gfn_track;
	uint64_t dirty_bitmap;
	uint64_t total;
};

/*
 * State of a region; the fields are the attributes in uapi/kvm_vmem.yaml. @hva
 * is 0 if this process may not see it. Older modules do not count zaps: see
 * has_zaps.
 */
struct vmem_nl_region {
	uint32_t id;
	uint32_t pid;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t block_size;
	uint64_t slot_size;
	uint32_t first_slot;
	uint32_t nr_slots;
	uint32_t address_spaces;
	uint32_t populated_slots;
	uint64_t requested_size;
	uint64_t plugged_size;
	uint64_t request_id;
	uint64_t changes;
	uint64_t range_zaps;
	uint64_t zaps_by_kvm;
	bool dirty_log;
	bool alive;
	bool has_zaps;
	bool zap_ranges;
	bool has_metadata;
	bool has_whole_metadata;
	struct vmem_nl_metadata metadata;
	struct vmem_nl_metadata whole_metadata;
};

/* A range of blocks: guest address and bytes. */
struct vmem_nl_range {
	uint64_t gpa;
	uint64_t size;
};

/* A populated slot; for @hva, see struct vmem_nl_region. */
struct vmem_nl_slot {
	uint32_t region_id;
	uint32_t id;
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t plugged_size;
	bool stale;
	bool has_metadata;
	struct vmem_nl_metadata metadata;
};

/* Answer to plug, unplug and unplug-all. */
struct vmem_nl_answer {
	uint32_t region_id;
	uint64_t request_id;
	uint64_t plugged_size;
	uint32_t populated_slots;
};

enum vmem_nl_change_type {
	VMEM_NL_PLUG,
	VMEM_NL_UNPLUG,
	VMEM_NL_UNPLUG_ALL,
	VMEM_NL_SET,
};

/**
 * struct vmem_nl_change - a change for vmem_nl_send()
 * @type: type of the change
 * @request_id: see vmem_nl_plug(); not for VMEM_NL_SET
 * @range: range to plug or unplug
 * @set: for VMEM_NL_SET: VMEM_NL_SET_* flags of the values to send
 * @requested_size: value for VMEM_NL_SET_REQUESTED_SIZE
 * @dirty_log: value for VMEM_NL_SET_DIRTY_LOG
 */
struct vmem_nl_change {
	enum vmem_nl_change_type type;
	uint64_t request_id;
	struct vmem_nl_range range;
	unsigned int set;
	uint64_t requested_size;
	bool dirty_log;
};

/* Answer to a change: @region for VMEM_NL_SET, @blocks for others. */
struct vmem_nl_changed {
	struct vmem_nl_answer blocks;
	struct vmem_nl_region region;
};

/* Flags of the values that a region-set sends. */
#define VMEM_NL_SET_REQUESTED_SIZE (1U << 0)
#define VMEM_NL_SET_DIRTY_LOG	   (1U << 1)

/* A notification: KVM_VMEM_CMD_REGION_{NEW,DEL,CHANGE}_NTF and the state. */
struct vmem_nl_event {
	uint8_t cmd;
	struct vmem_nl_region region;
};

/*
 * Called for each element of a dump. A negative return value ends the dump, and
 * the dump function returns it.
 */
typedef int (*vmem_nl_region_fn)(const struct vmem_nl_region *region,
				 void *arg);
typedef int (*vmem_nl_range_fn)(const struct vmem_nl_range *run, void *arg);
typedef int (*vmem_nl_slot_fn)(const struct vmem_nl_slot *slot, void *arg);

int vmem_nl_open(struct vmem_nl **nlp, struct error *err);
void vmem_nl_close(struct vmem_nl *nl);
int vmem_nl_fd(const struct vmem_nl *nl);
uint16_t vmem_nl_family(const struct vmem_nl *nl);
const struct vmem_nl_failure *vmem_nl_failure(const struct vmem_nl *nl);

int vmem_nl_region_get(struct vmem_nl *nl, struct vmem_nl_name name,
		       struct vmem_nl_region *region, struct error *err);
int vmem_nl_region_dump(struct vmem_nl *nl, vmem_nl_region_fn fn, void *arg,
			struct error *err);
int vmem_nl_region_set(struct vmem_nl *nl, struct vmem_nl_name name,
		       unsigned int what, uint64_t requested_size,
		       bool dirty_log, struct vmem_nl_region *region,
		       struct error *err);
int vmem_nl_plug(struct vmem_nl *nl, struct vmem_nl_name name,
		 uint64_t request_id, const struct vmem_nl_range *ranges,
		 size_t nr, struct vmem_nl_answer *answer, struct error *err);
int vmem_nl_unplug(struct vmem_nl *nl, struct vmem_nl_name name,
		   uint64_t request_id, const struct vmem_nl_range *ranges,
		   size_t nr, struct vmem_nl_answer *answer, struct error *err);
int vmem_nl_unplug_all(struct vmem_nl *nl, struct vmem_nl_name name,
		       uint64_t request_id, struct vmem_nl_answer *answer,
		       struct error *err);
int vmem_nl_block_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		       vmem_nl_range_fn fn, void *arg, struct error *err);
int vmem_nl_slot_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		      vmem_nl_slot_fn fn, void *arg, struct error *err);

int vmem_nl_send(struct vmem_nl *nl, struct vmem_nl_name name,
		 const struct vmem_nl_change *change, struct error *err);
int vmem_nl_set_patience(struct vmem_nl *nl, unsigned int usec,
			 struct error *err);
int vmem_nl_receive(struct vmem_nl *nl, bool wait,
		    struct vmem_nl_changed *changed, struct error *err);

int vmem_nl_subscribe(struct vmem_nl *nl, struct error *err);
int vmem_nl_next_event(struct vmem_nl *nl, int timeout_ms,
		       struct vmem_nl_event *event, struct error *err);

/* For tests of the family, and for requests without a function here. */
typedef int (*vmem_nl_message_fn)(const struct nlmsghdr *nlh, void *arg);
int vmem_nl_transact(struct vmem_nl *nl, struct nlmsghdr *nlh,
		     vmem_nl_message_fn fn, void *arg, struct error *err);

#endif /* VMEM_NL_H */
