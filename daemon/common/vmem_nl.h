/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Client of the kvm-vmem generic netlink family (uapi/kvm_vmem.yaml).
 *
 * One function per operation. All block until the kernel has answered. For what
 * reads that is soon; a change takes as long as KVM takes. Who has other things
 * to do meanwhile asks for a change with vmem_nl_send(), polls vmem_nl_fd() and
 * takes the answer with vmem_nl_receive().
 *
 * Every function returns 0 or a negative errno. If @err is not NULL, a failure
 * leaves there what the kernel said about it in its extended acknowledgment,
 * or, where the failure is this side's, what was being done.
 *
 * A handle is not for concurrent use. It holds no state about regions.
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

/* Longer than any message of the kernel's (its own limit is one string). */
#define VMEM_NL_TEXT_MAX ERROR_TEXT_MAX

/**
 * struct vmem_nl_error - why a request failed
 * @text: the kernel's words, or ours; a terminated string, never empty
 * @from_kernel: @text is the kernel's
 * @has_offset: @offset is set
 * @offset: where in the request message the bad attribute begins, in bytes
 * @attr: type of the bad attribute, or of the missing one; 0 if not told
 * @missing: @attr is missing from the request
 * @unknown: the kernel's answer was lost: whether the request was carried out
 *	is not known
 */
struct vmem_nl_error {
	char text[VMEM_NL_TEXT_MAX];
	bool from_kernel;
	bool has_offset;
	uint32_t offset;
	uint16_t attr;
	bool missing;
	bool unknown;
};

/**
 * struct vmem_nl_name - which region a request is about
 * @fd: descriptor of the region in this process; negative: not sent
 * @id: region id; 0: not sent
 *
 * By descriptor a region may be read and changed. By id it may be read, with
 * CAP_NET_ADMIN on the host.
 */
struct vmem_nl_name {
	int fd;
	uint32_t id;
};

#define VMEM_NL_BY_FD(n) ((struct vmem_nl_name){.fd = (n)})
#define VMEM_NL_BY_ID(n) ((struct vmem_nl_name){.fd = -1, .id = (n)})

/*
 * Bytes that KVM holds for memslots, see the specification. Notifications do
 * not tell them, nor slots once the VM is gone: see has_metadata.
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
 * State of a region; the fields are the specification's attributes. @hva is 0
 * for who may not see it. An older module does not count zaps: see has_zaps.
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

/* A populated slot; @hva as a region's. */
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
 * struct vmem_nl_change - a change that is asked for without waiting
 * @request_id: see vmem_nl_plug(); not for VMEM_NL_SET
 * @range: for plug and unplug
 * @set: for VMEM_NL_SET: VMEM_NL_SET_* of the values to send
 * @requested_size, @dirty_log: likewise
 */
struct vmem_nl_change {
	enum vmem_nl_change_type type;
	uint64_t request_id;
	struct vmem_nl_range range;
	unsigned int set;
	uint64_t requested_size;
	bool dirty_log;
};

/* What it answers to a change: @region to VMEM_NL_SET, @blocks to others. */
struct vmem_nl_changed {
	struct vmem_nl_answer blocks;
	struct vmem_nl_region region;
};

/* Which fields of a region-set are sent. */
#define VMEM_NL_SET_REQUESTED_SIZE (1U << 0)
#define VMEM_NL_SET_DIRTY_LOG	   (1U << 1)

/* A notification: KVM_VMEM_CMD_REGION_{NEW,DEL,CHANGE}_NTF and the state. */
struct vmem_nl_event {
	uint8_t cmd;
	struct vmem_nl_region region;
};

/*
 * Called for each element of a dump. A negative return ends the dump, and is
 * what the dump function returns.
 */
typedef int (*vmem_nl_region_fn)(const struct vmem_nl_region *region,
				 void *arg);
typedef int (*vmem_nl_range_fn)(const struct vmem_nl_range *run, void *arg);
typedef int (*vmem_nl_slot_fn)(const struct vmem_nl_slot *slot, void *arg);

int vmem_nl_open(struct vmem_nl **nlp, struct vmem_nl_error *err);
void vmem_nl_close(struct vmem_nl *nl);
int vmem_nl_fd(const struct vmem_nl *nl);
uint16_t vmem_nl_family(const struct vmem_nl *nl);

int vmem_nl_region_get(struct vmem_nl *nl, struct vmem_nl_name name,
		       struct vmem_nl_region *region,
		       struct vmem_nl_error *err);
int vmem_nl_region_dump(struct vmem_nl *nl, vmem_nl_region_fn fn, void *arg,
			struct vmem_nl_error *err);
int vmem_nl_region_set(struct vmem_nl *nl, struct vmem_nl_name name,
		       unsigned int what, uint64_t requested_size,
		       bool dirty_log, struct vmem_nl_region *region,
		       struct vmem_nl_error *err);
int vmem_nl_plug(struct vmem_nl *nl, struct vmem_nl_name name,
		 uint64_t request_id, const struct vmem_nl_range *ranges,
		 size_t nr, struct vmem_nl_answer *answer,
		 struct vmem_nl_error *err);
int vmem_nl_unplug(struct vmem_nl *nl, struct vmem_nl_name name,
		   uint64_t request_id, const struct vmem_nl_range *ranges,
		   size_t nr, struct vmem_nl_answer *answer,
		   struct vmem_nl_error *err);
int vmem_nl_unplug_all(struct vmem_nl *nl, struct vmem_nl_name name,
		       uint64_t request_id, struct vmem_nl_answer *answer,
		       struct vmem_nl_error *err);
int vmem_nl_block_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		       vmem_nl_range_fn fn, void *arg,
		       struct vmem_nl_error *err);
int vmem_nl_slot_dump(struct vmem_nl *nl, struct vmem_nl_name name,
		      vmem_nl_slot_fn fn, void *arg, struct vmem_nl_error *err);

int vmem_nl_send(struct vmem_nl *nl, struct vmem_nl_name name,
		 const struct vmem_nl_change *change,
		 struct vmem_nl_error *err);
int vmem_nl_set_patience(struct vmem_nl *nl, unsigned int usec,
			 struct vmem_nl_error *err);
int vmem_nl_receive(struct vmem_nl *nl, bool wait,
		    struct vmem_nl_changed *changed, struct vmem_nl_error *err);

int vmem_nl_subscribe(struct vmem_nl *nl, struct vmem_nl_error *err);
int vmem_nl_next_event(struct vmem_nl *nl, int timeout_ms,
		       struct vmem_nl_event *event, struct vmem_nl_error *err);

/*
 * For tests of the family and for requests this file has no function for:
 * send any message, get the reply. @nlh is complete but for sequence number
 * and NLM_F_ACK, which are set here. @fn is called for each message of the
 * answer that is neither an error nor the end; @fn may be NULL.
 */
typedef int (*vmem_nl_message_fn)(const struct nlmsghdr *nlh, void *arg);
int vmem_nl_transact(struct vmem_nl *nl, struct nlmsghdr *nlh,
		     vmem_nl_message_fn fn, void *arg,
		     struct vmem_nl_error *err);

#endif /* VMEM_NL_H */
