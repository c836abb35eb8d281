/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many memslots a region is cut into; see budget.c. */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/size.h"

/*
 * Memslots over all devices where a consumer has a limit, and the least limit
 * with which there is more than one: what QEMU uses, so that a consumer that
 * goes with QEMU's devices goes with these. 509 is what vhost and vhost-user
 * offer that can take part at all; others have 8 or 32.
 */
#define BUDGET_CONSUMERS_MAX   256
#define BUDGET_CONSUMERS_LIMIT 509

/* Least memslot, unless more isolation is wanted: what Linux plugs at a time. */
#define BUDGET_SLOT_SIZE (128ULL << 20)

/* Most of a memslot: KVM counts its pages in 31 bits. */
#define BUDGET_SLOT_MAX (((1ULL << 31) - 1) * 4096)

/* Most that KVM_CAP_NR_MEMSLOTS can tell: a memslot's number has 16 bits. */
#define BUDGET_KVM_LIMIT_MAX (1ULL << 16)

/* Regions are not larger: guest addresses have 52 bits. */
#define BUDGET_REGION_MAX (1ULL << 52)

/* Longest reason, with its end. */
#define BUDGET_REASON_MAX 160

/**
 * struct budget_policy - what the operator wants
 * @most: memslots of this device at most; 0: as many as there should be
 * @isolate: a memslot for each block, so that no unplugged one can be touched
 */
struct budget_policy {
	uint32_t most;
	bool isolate;
};

/**
 * struct budget_request - what a region is to be cut for
 * @gpa: where it begins, bytes
 * @region_size: bytes
 * @block_size: bytes, a power of two; @region_size is a multiple of it
 * @total_size: bytes of all regions that are still to be cut, with this one, of
 *	which it gets its share of memslots; 0: it is the only one
 * @used: memslots that there are in the VM, of others than regions
 * @reserved: memslots that others will need, other regions for example
 * @kvm_limit: KVM_CAP_NR_MEMSLOTS
 * @consumer_limit: the least that a consumer can have; 0: none has a limit
 */
struct budget_request {
	uint64_t gpa;
	uint64_t region_size;
	uint64_t block_size;
	uint64_t total_size;
	uint64_t used;
	uint64_t reserved;
	uint64_t kvm_limit;
	uint64_t consumer_limit;
};

/**
 * struct budget - how it is cut
 * @slot_size: bytes, a power of two
 * @nr_slots: when all is plugged
 * @metadata: bytes that KVM 6.1 with the TDP MMU holds then, in one address
 *	space, without dirty logging
 * @metadata_nested: bytes when a nested guest has run, or without the TDP MMU
 * @reason: why so, for people
 */
struct budget {
	uint64_t slot_size;
	uint64_t nr_slots;
	uint64_t metadata;
	uint64_t metadata_nested;
	char reason[BUDGET_REASON_MAX];
};

int budget_plan(const struct budget_policy *policy,
		const struct budget_request *request, struct budget *budget,
		struct error *err);
int budget_check(const struct budget_policy *policy, uint64_t slot_size,
		 uint64_t block_size, uint64_t nr_slots, struct error *err);
int budget_check_consumer(const char *name, uint64_t limit, uint64_t used,
			  uint64_t reserved, struct error *err);
void budget_note(struct budget *budget, uint64_t gpa, uint64_t region_size,
		 uint64_t slot_size, uint64_t nr_slots);
void budget_predict(uint64_t gpa, uint64_t region_size, struct budget *budget);

#endif /* BUDGET_H */
