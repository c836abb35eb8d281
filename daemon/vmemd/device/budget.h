/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Number and size of a region's memslots; see budget.c. */
#ifndef BUDGET_H
#define BUDGET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/size.h"

/*
 * If a consumer has a limit: the maximum number of memslots over all devices,
 * and the smallest limit that allows more than one memslot per device. The
 * values are QEMU's, so that a consumer which works with QEMU's devices works
 * with these. 509 is the limit of kernel vhost and of capable vhost-user back
 * ends; others have 8 or 32.
 */
#define BUDGET_CONSUMERS_MAX   256
#define BUDGET_CONSUMERS_LIMIT 509

/* Smallest memslot without --isolate: the size that Linux plugs at a time. */
#define BUDGET_SLOT_SIZE (128ULL << 20)

/* Largest memslot: KVM's page count has 31 bits. */
#define BUDGET_SLOT_MAX (((1ULL << 31) - 1) * 4096)

/* Largest KVM_CAP_NR_MEMSLOTS: a memslot's id has 16 bits. */
#define BUDGET_KVM_LIMIT_MAX (1ULL << 16)

/* Largest region: guest addresses have up to 52 bits. */
#define BUDGET_REGION_MAX (1ULL << 52)

/* Size of a reason, including the NUL. */
#define BUDGET_REASON_MAX 160

/**
 * struct budget_policy - settings of the operator
 * @most: maximum number of memslots of this device; 0: by the rules
 * @isolate: one memslot per block, so that unplugged blocks are inaccessible
 */
struct budget_policy {
	uint32_t most;
	bool isolate;
};

/**
 * struct budget_request - input of budget_plan()
 * @gpa: guest address of the region
 * @region_size: bytes
 * @block_size: bytes, a power of two; @region_size is a multiple of it
 * @total_size: bytes in all regions that are still to be planned, including
 *	this one, which share the memslots by size; 0: only this one
 * @used: memslots in use in the VM, except those of regions
 * @reserved: memslots that will be needed elsewhere, e.g. for other regions
 * @kvm_limit: KVM_CAP_NR_MEMSLOTS
 * @consumer_limit: lowest limit of any consumer; 0: no consumer has a limit
 * @mappings: the same for separate mappings of this region
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
	uint64_t mappings;
};

/**
 * struct budget - the memslots of a region
 * @slot_size: bytes per memslot, a power of two
 * @nr_slots: number of memslots when all blocks are plugged
 * @metadata: bytes of KVM's metadata for them: Linux 6.1, TDP MMU, one address
 *	space, no dirty logging
 * @metadata_nested: the same once a nested guest has run, or without the TDP
 *	MMU
 * @reason: explanation, as text
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
int budget_check_mappings(const char *name, uint64_t limit, uint64_t size,
			  uint64_t block_size, struct error *err);
void budget_note(struct budget *budget, uint64_t gpa, uint64_t region_size,
		 uint64_t slot_size, uint64_t nr_slots);
void budget_predict(uint64_t gpa, uint64_t region_size, struct budget *budget);

#endif /* BUDGET_H */
