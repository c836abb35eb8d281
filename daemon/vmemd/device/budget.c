// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * How many memslots a region is cut into. This is arithmetic: it asks nobody
 * and changes nothing.
 *
 * Many small memslots save most metadata, as only populated ones exist. KVM has
 * room for 32,764, and a batch makes thousands at once, so as long as nobody
 * objects there are as many as give memslots of BUDGET_SLOT_SIZE. Those who
 * object are consumers: a vhost device has a table of its own for the memslots
 * of the VM, often a short one. With them the rules are QEMU's:
 *
 * - what the VM uses and what others have reserved is theirs;
 * - with a limit below 509, one memslot;
 * - at most 256 over all devices, and one if others have taken these;
 * - of several regions each gets its share by size.
 *
 * The operator may name a number, which is then the most, whatever the rules
 * say; but there is no way past the limits of KVM and of consumers.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "device/budget.h"

/* struct kvm_memory_slot has 264 to 280 bytes; kmalloc() serves that by 512. */
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

/* --- What it costs --- */

/* Pages of a size that a memslot touches. */
static uint64_t pages_touched(uint64_t gpa, uint64_t size, uint64_t page)
{
	return (gpa + size - 1) / page - gpa / page + 1;
}

/* Arrays are vmalloc'ed. */
static uint64_t whole_pages(uint64_t bytes)
{
	return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

/*
 * lpage_info has 4 bytes for each large page, gfn_track 2 for each small one,
 * and rmaps, which are @nested, 8 for each page of any size.
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
 * budget_predict() - what a region costs when all of it is plugged
 * @gpa, @region_size: of the region, bytes
 * @budget: its slot_size, a power of two, and nr_slots are used, both costs are
 *	filled in
 *
 * All memslots but the last cost the same. A memslot that is larger than a page
 * size has whole pages of it, in each the same place. One that is smaller
 * touches one page or two, and the arrays for either take one page.
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

/* --- How many --- */

/**
 * budget_check_consumer() - can a consumer of this limit take part at all?
 * @name: of whom the text tells
 * @limit: memslots that it can have; 0: any number
 * @used: memslots of the VM
 * @reserved: memslots that may come, of regions and others
 *
 * Return: 0; -ENOSPC with a text.
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

/* The part of @slots that this region gets, rounded down; at least one. */
static uint64_t share(const struct budget_request *request, uint64_t slots)
{
	unsigned __int128 part = slots;

	if (!request->total_size)
		return slots;
	part = part * request->region_size / request->total_size;
	return part ? (uint64_t)part : 1;
}

/* How many there may be, by the rules, and why, of the @free that there are. */
static uint64_t most_slots(const struct budget_policy *policy,
			   const struct budget_request *request, uint64_t free,
			   struct budget *budget)
{
	uint64_t limit = request->consumer_limit;
	uint64_t others = request->used + request->reserved, most;

	if (policy->most) {
		say(budget, "at most %" PRIu32 " by --memslots", policy->most);
		return policy->most < free ? policy->most : free;
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
 * budget_plan() - cut a region into memslots
 * @budget: how, on success
 * @err: what is wrong, on error
 *
 * Return: 0; -EINVAL the request is wrong; -ENOSPC there is no room for what
 * is wanted.
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
		say(budget, "memslots of what a guest plugs at a time");
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
 * budget_check() - is a region cut as the operator wants?
 * @slot_size, @block_size: bytes
 * @nr_slots: when all is plugged
 * @err: what is wrong, on error
 *
 * Return: 0; -EINVAL; -ENOSPC.
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
 * budget_note() - a region came, cut like this
 * @budget: of the plan, if there was one; its reason stays if it was followed
 *
 * A plan is forgotten by a daemon that is started again; the region is there.
 */
void budget_note(struct budget *budget, uint64_t gpa, uint64_t region_size,
		 uint64_t slot_size, uint64_t nr_slots)
{
	if (budget->slot_size != slot_size || budget->nr_slots != nr_slots)
		say(budget, "as the VMM has made the region");
	budget->slot_size = slot_size;
	budget->nr_slots = nr_slots;
	budget_predict(gpa, region_size, budget);
}
