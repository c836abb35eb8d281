// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Number and size of a region's memslots. The functions here only compute.
 *
 * Many small memslots need the least metadata, because only populated ones
 * exist. KVM allows 32,764 memslots, and a batch creates thousands at once. So
 * memslots have BUDGET_SLOT_SIZE unless a consumer has a limit: a vhost device
 * has its own table of the VM's memslots, which is often short. With such a
 * consumer, the rules are QEMU's:
 *
 * - memslots that are in use or reserved elsewhere are subtracted first;
 * - with a limit below 509, there is one memslot;
 * - there are at most 256 over all devices, and one if these are used up;
 * - several regions share the memslots by size.
 *
 * The operator can set a maximum number, which replaces these rules. The limits
 * of KVM and of consumers always apply.
 *
 * Mappings. A consumer that maps each block by itself, for VFIO for example,
 * needs one mapping per plugged block. A VFIO type1 container allows 65,535 of
 * them (dma_entry_limit). Memslots have no influence on that number, only the
 * block size has.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "common/min_max.h"
#include "device/budget.h"

/* struct kvm_memory_slot has 264 to 280 bytes; kmalloc() rounds up to 512. */
#define MEMSLOT_BYTES 512

#define PAGE_BYTES 4096ULL
#define LARGE_PAGE (2ULL << 20)
#define HUGE_PAGE  (1ULL << 30)

static void __attribute__((format(printf, 2, 3)))
say(struct budget *budget, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(budget->reason, sizeof(budget->reason), format, ap);
	va_end(ap);
}

static uint64_t slots_of(uint64_t region_size, uint64_t slot_size)
{
	return (region_size - 1) / slot_size + 1;
}

/* --- Metadata --- */

/* Number of pages of size @page that a memslot overlaps. */
static uint64_t pages_touched(uint64_t gpa, uint64_t size, uint64_t page)
{
	return (gpa + size - 1) / page - gpa / page + 1;
}

/* Round up to whole pages, since KVM allocates arrays with vmalloc(). */
static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/*
 * lpage_info has 4 bytes per large page, gfn_track has 2 per small page. rmaps,
 * which only exist if @nested, have 8 per page of each size.
 */
static uint64_t slot_cost(uint64_t gpa, uint64_t size, bool nested)
{
	uint64_t nr_large = pages_touched(gpa, size, LARGE_PAGE);
	uint64_t nr_huge = pages_touched(gpa, size, HUGE_PAGE);
	uint64_t cost = MEMSLOT_BYTES;

	cost += whole_pages(nr_large * 4) + whole_pages(nr_huge * 4);
	cost += whole_pages(size / PAGE_BYTES * 2);
	if (nested)
		cost += whole_pages(size / PAGE_BYTES * 8) +
			whole_pages(nr_large * 8) + whole_pages(nr_huge * 8);
	return cost;
}

/**
 * budget_predict() - compute the metadata of a fully plugged region
 * @gpa: guest address of the region
 * @region_size: bytes
 * @budget: slot_size, a power of two, and nr_slots are input; metadata and
 *	metadata_nested are set
 *
 * All memslots except the last need the same amount. If a memslot is larger
 * than a page size, its offset to pages of this size is the same for each
 * memslot. If it is smaller, it overlaps one or two pages, and the arrays for
 * either need one page.
 */
void budget_predict(uint64_t gpa, uint64_t region_size, struct budget *budget)
{
	uint64_t size = budget->slot_size, full = budget->nr_slots - 1;
	uint64_t last = gpa + full * size;
	uint64_t left = gpa + region_size - last;

	budget->metadata = 0;
	budget->metadata_nested = 0;
	if (!budget->nr_slots)
		return;
	if (left > size)
		left = size;
	budget->metadata = full * slot_cost(gpa, size, false) +
			   slot_cost(last, left, false);
	budget->metadata_nested =
		full * slot_cost(gpa, size, true) + slot_cost(last, left, true);
}

/* --- Number of memslots --- */

/**
 * budget_check_consumer() - check a consumer's limit
 * @name: name of the consumer for @err
 * @limit: maximum number of memslots; 0: no limit
 * @used: memslots in use in the VM
 * @reserved: memslots that may be added, for regions and others
 * @err: set on error
 *
 * Return: 0; -ENOSPC: the limit is too low.
 */
int budget_check_consumer(const char *name, uint64_t limit, uint64_t used,
			  uint64_t reserved, struct error *err)
{
	if (!limit || (limit >= used && limit - used >= reserved))
		return 0;
	return error_set(err, -ENOSPC,
			 "%s can have %" PRIu64 " memslots, %" PRIu64
			 " are used and %" PRIu64 " reserved",
			 name, limit, used, reserved);
}

static uint64_t blocks_of(uint64_t size, uint64_t block_size)
{
	return size ? (size - 1) / block_size + 1 : 0;
}

/**
 * budget_check_mappings() - check a consumer's limit of mappings
 * @name: name of the consumer for @err
 * @limit: maximum number of separate mappings; 0: no limit
 * @size: bytes that may be plugged
 * @block_size: bytes, a power of two
 * @err: set on error, with a block size that would fit
 *
 * A guest may plug each block by a request of its own, and no two of them next
 * to each other. So each block counts as a mapping.
 *
 * Return: 0; -ENOSPC: the limit is too low.
 */
int budget_check_mappings(const char *name, uint64_t limit, uint64_t size,
			  uint64_t block_size, struct error *err)
{
	char pretty[SIZE_TEXT_MAX], block[SIZE_TEXT_MAX], fits[SIZE_TEXT_MAX];
	uint64_t larger = block_size;

	if (!limit || blocks_of(size, block_size) <= limit)
		return 0;
	while (blocks_of(size, larger) > limit)
		larger *= 2;
	return error_set(err, -ENOSPC,
			 "%s can have %" PRIu64 " mappings, %s in blocks of %s "
			 "may need %" PRIu64 "; blocks of %s would fit",
			 name, limit, size_format(size, pretty),
			 size_format(block_size, block),
			 blocks_of(size, block_size),
			 size_format(larger, fits));
}

static int check_request(const struct budget_request *request,
			 struct error *err)
{
	uint64_t block = request->block_size, size = request->region_size;

	if (block < PAGE_BYTES || block & (block - 1))
		return error_set(
			err, -EINVAL,
			"block_size is a power of two, at least 4 KiB");
	if (!size || size % block || size > BUDGET_REGION_MAX)
		return error_set(err, -EINVAL,
				 "region_size is a multiple of block_size, at "
				 "most 4 PiB");
	if (request->gpa % block || request->gpa > BUDGET_REGION_MAX)
		return error_set(
			err, -EINVAL,
			"gpa is a multiple of block_size, at most 4 PiB");
	if (request->kvm_limit > BUDGET_KVM_LIMIT_MAX)
		return error_set(
			err, -EINVAL,
			"kvm_limit is what KVM_CAP_NR_MEMSLOTS tells, at "
			"most 65536");
	if (request->total_size && (request->total_size < size ||
				    request->total_size > BUDGET_REGION_MAX))
		return error_set(err, -EINVAL,
				 "total_size is at least region_size, at most "
				 "4 PiB");
	return 0;
}

/* This region's share of @slots, rounded down, but at least one. */
static uint64_t share(const struct budget_request *request, uint64_t slots)
{
	unsigned __int128 part = slots;

	if (!request->total_size)
		return slots;
	part = part * request->region_size / request->total_size;
	return part ? (uint64_t)part : 1;
}

/* Maximum number of memslots by the rules. @free: those not in use. */
static uint64_t most_slots(const struct budget_policy *policy,
			   const struct budget_request *request, uint64_t free,
			   struct budget *budget)
{
	uint64_t limit = request->consumer_limit;
	uint64_t others = request->used + request->reserved, most;

	if (policy->most) {
		say(budget, "at most %" PRIu32 " by --memslots", policy->most);
		return min(policy->most, free);
	}
	if (limit && limit < BUDGET_CONSUMERS_LIMIT) {
		say(budget,
		    "one: a consumer can have %" PRIu64 ", fewer than %d",
		    limit, BUDGET_CONSUMERS_LIMIT);
		return 1;
	}
	if (limit && others >= BUDGET_CONSUMERS_MAX) {
		say(budget,
		    "one: others have %" PRIu64 ", and with consumers there "
		    "are at most %d",
		    others, BUDGET_CONSUMERS_MAX);
		return 1;
	}
	if (limit) {
		most = BUDGET_CONSUMERS_MAX - others;
		most = share(request, most < free ? most : free);
		say(budget,
		    "at most %" PRIu64 ": with consumers there are %d, others "
		    "have %" PRIu64 "%s",
		    most, BUDGET_CONSUMERS_MAX, others,
		    request->total_size ? ", and regions share by size" : "");
		return most;
	}
	most = share(request, free);
	say(budget,
	    "at most %" PRIu64 ": KVM has %" PRIu64 ", others have %" PRIu64
	    "%s",
	    most, request->kvm_limit, others,
	    request->total_size ? ", and regions share by size" : "");
	return most;
}

/**
 * budget_plan() - plan the memslots of a region
 * @policy: settings of the operator
 * @request: the region, and memslots used elsewhere
 * @budget: set on success
 * @err: set on error
 *
 * Return: 0; -EINVAL: @request is invalid; -ENOSPC: too few memslots.
 */
int budget_plan(const struct budget_policy *policy,
		const struct budget_request *request, struct budget *budget,
		struct error *err)
{
	uint64_t limit = request->kvm_limit, slot, most, others;
	int ret;

	ret = check_request(request, err);
	if (ret)
		return ret;
	ret = budget_check_consumer("a consumer", request->consumer_limit,
				    request->used, request->reserved, err);
	if (!ret)
		ret = budget_check_mappings("a consumer", request->mappings,
					    request->region_size,
					    request->block_size, err);
	if (ret)
		return ret;
	if (request->consumer_limit && request->consumer_limit < limit)
		limit = request->consumer_limit;
	if (__builtin_add_overflow(request->used, request->reserved, &others) ||
	    others >= limit)
		return error_set(err, -ENOSPC,
				 "no memslot is free: of %" PRIu64 ", %" PRIu64
				 " are used and %" PRIu64 " reserved",
				 limit, request->used, request->reserved);
	most = most_slots(policy, request, limit - others, budget);
	slot = policy->isolate || request->block_size > BUDGET_SLOT_SIZE
		       ? request->block_size
		       : BUDGET_SLOT_SIZE;
	if (policy->isolate && slots_of(request->region_size, slot) > most)
		return error_set(
			err, -ENOSPC,
			"--isolate takes %" PRIu64 " memslots; there are "
			"%s",
			slots_of(request->region_size, slot), budget->reason);
	if (policy->isolate)
		say(budget, "a memslot for each block, by --isolate");
	else if (slots_of(request->region_size, slot) <= most)
		say(budget, "memslots of the size that Linux plugs at a time");
	while (slots_of(request->region_size, slot) > most)
		slot *= 2;
	if (slot > BUDGET_SLOT_MAX && request->region_size > BUDGET_SLOT_MAX)
		return error_set(err, -ENOSPC,
				 "a memslot would be larger than KVM's may be; "
				 "there are %s",
				 budget->reason);
	budget->slot_size = slot;
	budget->nr_slots = slots_of(request->region_size, slot);
	budget_predict(request->gpa, request->region_size, budget);
	return 0;
}

/**
 * budget_check() - check a region's memslots against the operator's settings
 * @policy: settings of the operator
 * @slot_size: bytes per memslot
 * @block_size: bytes per block
 * @nr_slots: number of memslots when all blocks are plugged
 * @err: set on error
 *
 * Return: 0; -EINVAL: a memslot has several blocks; -ENOSPC: too many memslots.
 */
int budget_check(const struct budget_policy *policy, uint64_t slot_size,
		 uint64_t block_size, uint64_t nr_slots, struct error *err)
{
	char slot[SIZE_TEXT_MAX], block[SIZE_TEXT_MAX];

	if (policy->most && nr_slots > policy->most)
		return error_set(err, -ENOSPC,
				 "the region has %" PRIu64
				 " memslots, --memslots "
				 "allows %" PRIu32,
				 nr_slots, policy->most);
	if (policy->isolate && slot_size != block_size)
		return error_set(
			err, -EINVAL,
			"the region's memslots are of %s, its blocks of "
			"%s; --isolate needs a memslot for each block",
			size_format(slot_size, slot),
			size_format(block_size, block));
	return 0;
}

/**
 * budget_note() - record the memslots of an attached region
 * @budget: the plan, if any. Its reason stays if the region follows it. A
 *	restarted daemon has no plan.
 * @gpa: guest address of the region
 * @region_size: bytes
 * @slot_size: bytes per memslot
 * @nr_slots: number of memslots when all blocks are plugged
 */
void budget_note(struct budget *budget, uint64_t gpa, uint64_t region_size,
		 uint64_t slot_size, uint64_t nr_slots)
{
	if (budget->slot_size != slot_size || budget->nr_slots != nr_slots)
		say(budget, "as the VMM created the region");
	budget->slot_size = slot_size;
	budget->nr_slots = nr_slots;
	budget_predict(gpa, region_size, budget);
}
