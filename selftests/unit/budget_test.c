// SPDX-License-Identifier: GPL-2.0-or-later
/* The number of memslots of a region, and their predicted cost. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/budget_methods.h"
#include "daemon.h"
#include "device/budget.h"
#include "unit.h"

/* KVM_CAP_NR_MEMSLOTS of x86-64. */
#define KVM_LIMIT 32764

/* A VM of a few memslots with a region of 1 TiB. */
#define TYPICAL                                                           \
	{                                                                 \
		.gpa = 4 * GIB, .region_size = 1024 * GIB,                \
		.block_size = 2 * MIB, .used = 6, .kvm_limit = KVM_LIMIT, \
	}

static struct budget plan(const struct budget_policy *policy,
			  const struct budget_request *request)
{
	static const struct budget_policy automatic;
	struct budget budget = {0};
	struct error err;

	assert_int_equal(budget_plan(policy ? policy : &automatic, request,
				     &budget, &err),
			 0);
	return budget;
}

static int refusal(const struct budget_policy *policy,
		   const struct budget_request *request, const char *part)
{
	static const struct budget_policy automatic;
	struct error err = {0};
	struct budget budget;
	int ret;

	ret = budget_plan(policy ? policy : &automatic, request, &budget, &err);
	if (!strstr(err.text, part))
		fail_msg("no \"%s\" in \"%s\"", part, err.text);
	return ret;
}

static void nobody_objects(void **state)
{
	struct budget_request request = TYPICAL;
	struct budget budget = plan(NULL, &request);

	(void)state;
	assert_int_equal(budget.slot_size, 128 * MIB);
	assert_int_equal(budget.nr_slots, 8192);
	/* KVM's limit: more than 4 TiB do not fit. */
	request.region_size = (KVM_LIMIT - 6ULL) * 128 * MIB;
	assert_int_equal(plan(NULL, &request).nr_slots, KVM_LIMIT - 6);
	request.region_size += 2 * MIB;
	budget = plan(NULL, &request);
	assert_int_equal(budget.slot_size, 256 * MIB);
	assert_non_null(strstr(budget.reason, "KVM has 32764"));
	/* Memslots reserved for others are not used. */
	request.region_size -= 2 * MIB;
	request.reserved = 1;
	assert_int_equal(plan(NULL, &request).slot_size, 256 * MIB);
	/* A memslot is not smaller than a block. */
	request.block_size = GIB;
	request.region_size = 1024 * GIB;
	assert_int_equal(plan(NULL, &request).slot_size, GIB);
	/* The last memslot may be shorter. */
	request.block_size = 2 * MIB;
	request.region_size = 130 * MIB;
	assert_int_equal(plan(NULL, &request).nr_slots, 2);
}

static void consumers_follow_qemus_rules(void **state)
{
	struct budget_request request = TYPICAL;
	struct budget budget;

	(void)state;
	request.consumer_limit = 508;
	budget = plan(NULL, &request);
	assert_int_equal(budget.nr_slots, 1);
	assert_int_equal(budget.slot_size, 1024 * GIB);
	assert_non_null(strstr(budget.reason, "fewer than 509"));
	request.consumer_limit = 509;
	/* The limit is 256 - 6; memslots of 4 GiB would be 256. */
	assert_int_equal(plan(NULL, &request).nr_slots, 128);
	request.used = 0;
	assert_int_equal(plan(NULL, &request).nr_slots, 256);
	request.used = 1;
	assert_int_equal(plan(NULL, &request).nr_slots, 128);
	request.used = 255;
	assert_int_equal(plan(NULL, &request).nr_slots, 1);
	request.used = 128;
	request.reserved = 128;
	budget = plan(NULL, &request);
	assert_int_equal(budget.nr_slots, 1);
	assert_non_null(strstr(budget.reason, "others have 256"));
	/* Small regions keep small memslots. */
	request.used = 6;
	request.reserved = 0;
	request.region_size = 16 * GIB;
	assert_int_equal(plan(NULL, &request).slot_size, 128 * MIB);
	/* A consumer with too few memslots. */
	request.consumer_limit = 10;
	request.reserved = 5;
	assert_int_equal(refusal(NULL, &request, "can have 10 memslots"),
			 -ENOSPC);
	request.reserved = 4;
	assert_int_equal(refusal(NULL, &request, "no memslot is free"),
			 -ENOSPC);
	request.reserved = 3;
	assert_int_equal(plan(NULL, &request).nr_slots, 1);
}

static void regions_share_by_size(void **state)
{
	struct budget_request request = TYPICAL;

	(void)state;
	request.consumer_limit = 509;
	request.used = 0;
	request.region_size = 256 * GIB;
	assert_int_equal(plan(NULL, &request).slot_size, GIB);
	request.total_size = 1024 * GIB;
	assert_int_equal(plan(NULL, &request).slot_size, 4 * GIB);
	request.region_size = 768 * GIB;
	assert_int_equal(plan(NULL, &request).nr_slots, 192);
	/* Every region has at least one memslot. */
	request.region_size = 128 * MIB;
	assert_int_equal(plan(NULL, &request).nr_slots, 1);
	/* The largest sizes do not overflow. */
	request.consumer_limit = 0;
	request.region_size = BUDGET_REGION_MAX;
	request.total_size = BUDGET_REGION_MAX;
	request.gpa = 0;
	assert_int_equal(plan(NULL, &request).nr_slots, 16384);
	/* KVM limits a memslot to less than 8 TiB. */
	request.total_size = 0;
	request.consumer_limit = 32;
	assert_int_equal(refusal(NULL, &request, "larger than KVM's"), -ENOSPC);
	request.region_size = 4096 * GIB;
	assert_int_equal(plan(NULL, &request).nr_slots, 1);
	request.total_size = BUDGET_REGION_MAX + 1;
	assert_int_equal(refusal(NULL, &request, "total_size"), -EINVAL);
}

static void the_operator_may_say(void **state)
{
	const struct budget_policy three = {.most = 3};
	const struct budget_policy thousand = {.most = 1000};
	struct budget_request request = TYPICAL;
	struct error err = {0};
	struct budget budget;

	(void)state;
	budget = plan(&three, &request);
	assert_int_equal(budget.nr_slots, 2);
	assert_non_null(strstr(budget.reason, "at most 3 by --memslots"));
	/* More than QEMU's limit, but not more than a consumer supports. */
	request.consumer_limit = 2000;
	assert_int_equal(plan(&thousand, &request).nr_slots, 512);
	request.consumer_limit = 300;
	assert_int_equal(plan(&thousand, &request).nr_slots, 256);
	assert_int_equal(budget_check(&three, 128 * MIB, 2 * MIB, 3, &err), 0);
	assert_int_equal(budget_check(&three, 128 * MIB, 2 * MIB, 4, &err),
			 -ENOSPC);
	assert_non_null(
		strstr(err.text, "has 4 memslots, --memslots allows 3"));
}

static void isolated_blocks_have_a_memslot_each(void **state)
{
	const struct budget_policy isolate = {.isolate = true};
	struct budget_request request = TYPICAL;
	struct error err = {0};

	(void)state;
	request.region_size = 8 * GIB;
	assert_int_equal(plan(&isolate, &request).slot_size, 2 * MIB);
	assert_int_equal(plan(&isolate, &request).nr_slots, 4096);
	/* Larger memslots are no fallback. */
	request.region_size = 1024 * GIB;
	assert_int_equal(refusal(&isolate, &request, "takes 524288 memslots"),
			 -ENOSPC);
	assert_int_equal(budget_check(&isolate, 2 * MIB, 2 * MIB, 4096, &err),
			 0);
	assert_int_equal(budget_check(&isolate, 4 * MIB, 2 * MIB, 2048, &err),
			 -EINVAL);
	assert_non_null(strstr(err.text, "of 4 MiB, its blocks of 2 MiB"));
}

/* The reason stays only if the VMM followed the plan. */
static void a_region_is_noted(void **state)
{
	struct budget plan = {.slot_size = 128 * MIB, .nr_slots = 8}, budget;

	(void)state;
	strcpy(plan.reason, "as planned");
	budget_predict(4 * GIB, GIB, &plan);
	budget = (struct budget){.slot_size = 128 * MIB, .nr_slots = 8};
	strcpy(budget.reason, "as planned");
	budget_note(&budget, 4 * GIB, GIB, 128 * MIB, 8);
	assert_memory_equal(&budget, &plan, sizeof(plan));
	budget_note(&budget, 4 * GIB, GIB, 128 * MIB, 9);
	assert_string_equal(budget.reason, "as the VMM created the region");
	strcpy(budget.reason, "as planned");
	budget_note(&budget, 4 * GIB, GIB, 64 * MIB, 9);
	assert_string_equal(budget.reason, "as the VMM created the region");
	assert_int_equal(budget.slot_size, 64 * MIB);
	assert_int_equal(budget.nr_slots, 9);
}

/* The values measured in README, on 6.1. */
static void the_predicted_cost_is_kvms(void **state)
{
	struct budget budget = {.slot_size = 1024 * GIB, .nr_slots = 1};

	(void)state;
	budget_predict(4 * GIB, 1024 * GIB, &budget);
	assert_int_equal(budget.metadata, 512 + 2 * MIB + 4 * KIB + 512 * MIB);
	assert_int_equal(budget.metadata_nested - budget.metadata,
			 2048 * MIB + 4 * MIB + 8 * KIB);
	budget = (struct budget){.slot_size = 128 * MIB, .nr_slots = 8};
	budget_predict(4 * GIB, GIB, &budget);
	assert_int_equal(budget.metadata, 8 * (512 + 2 * 4 * KIB + 64 * KIB));
	/* A shorter last memslot costs less. */
	budget.nr_slots = 2;
	budget_predict(4 * GIB, 130 * MIB, &budget);
	assert_int_equal(budget.metadata,
			 2 * (512 + 2 * 4 * KIB) + 64 * KIB + 4 * KIB);
}

/* With a limit of VFIO type 1, and without a limit. */
static void each_block_may_be_a_mapping(void **state)
{
	struct budget_request request = TYPICAL;
	struct error err = {0};

	(void)state;
	request.mappings = 65535;
	assert_int_equal(refusal(NULL, &request,
				 "a consumer can have 65535 mappings, 1 TiB in "
				 "blocks of 2 MiB may need 524288; blocks of "
				 "32 MiB would fit"),
			 -ENOSPC);
	request.block_size = 16 * MIB;
	assert_int_equal(refusal(NULL, &request, "blocks of 32 MiB would fit"),
			 -ENOSPC);
	request.block_size = 32 * MIB;
	assert_int_equal(plan(NULL, &request).nr_slots, 8192);
	request.block_size = 2 * MIB;
	request.mappings = 524287;
	assert_int_equal(refusal(NULL, &request, "blocks of 4 MiB would fit"),
			 -ENOSPC);
	request.mappings = 524288;
	assert_int_equal(plan(NULL, &request).nr_slots, 8192);
	request.mappings = 1;
	assert_int_equal(refusal(NULL, &request, "blocks of 1 TiB would fit"),
			 -ENOSPC);
	request.mappings = 0;
	assert_int_equal(plan(NULL, &request).nr_slots, 8192);
	/* A part of a larger block is a block. */
	assert_int_equal(budget_check_mappings("x", 2, 6 * MIB, 2 * MIB, &err),
			 -ENOSPC);
	assert_string_equal(err.text, "x can have 2 mappings, 6 MiB in blocks "
				      "of 2 MiB may need 3; blocks of 4 MiB "
				      "would fit");
	assert_int_equal(budget_check_mappings("x", 1, 0, 2 * MIB, &err), 0);
	assert_int_equal(
		budget_check_mappings("x", 1, BUDGET_REGION_MAX, 4 * KIB, &err),
		-ENOSPC);
}

static void nonsense_is_refused(void **state)
{
	struct budget_request request = TYPICAL;

	(void)state;
	request.block_size = 3 * MIB;
	assert_int_equal(refusal(NULL, &request, "block_size"), -EINVAL);
	request.block_size = 0;
	assert_int_equal(refusal(NULL, &request, "block_size"), -EINVAL);
	request.block_size = 2 * MIB;
	request.region_size = 0;
	assert_int_equal(refusal(NULL, &request, "region_size"), -EINVAL);
	request.region_size = 3 * MIB;
	assert_int_equal(refusal(NULL, &request, "region_size"), -EINVAL);
	request.region_size = 4 * MIB;
	request.gpa = MIB;
	assert_int_equal(refusal(NULL, &request, "gpa"), -EINVAL);
	request.gpa = 0;
	request.kvm_limit = 0;
	assert_int_equal(refusal(NULL, &request, "no memslot"), -ENOSPC);
	request.kvm_limit = KVM_LIMIT;
	request.used = UINT64_MAX;
	request.reserved = 10;
	assert_int_equal(refusal(NULL, &request, "no memslot"), -ENOSPC);
}

/* The prediction for all memslots is the sum of each one's. */
static void assert_sum(uint64_t gpa, uint64_t size, uint64_t slot)
{
	struct budget all = {.slot_size = slot,
			     .nr_slots = (size - 1) / slot + 1};
	uint64_t metadata = 0, nested = 0;

	budget_predict(gpa, size, &all);
	for (uint64_t at = 0; at < size; at += slot) {
		struct budget one = {.slot_size = slot, .nr_slots = 1};

		budget_predict(gpa + at, size - at < slot ? size - at : slot,
			       &one);
		metadata += one.metadata;
		nested += one.metadata_nested;
	}
	assert_int_equal(all.metadata, metadata);
	assert_int_equal(all.metadata_nested, nested);
}

static void a_sum_is_told_without_adding(void **state)
{
	static const uint64_t slots[] = {4 * KIB,   64 * KIB, MIB,    2 * MIB,
					 128 * MIB, GIB,      4 * GIB};

	(void)state;
	for (size_t i = 0; i < sizeof(slots) / sizeof(slots[0]); i++) {
		uint64_t slot = slots[i];

		assert_sum(4 * GIB, 1000 * slot, slot);
		assert_sum(slot, 1000 * slot, slot);
		/*
		 * Blocks smaller than memslots: an unaligned start and a
		 * shorter last memslot.
		 */
		assert_sum(GIB + 12 * KIB, 33 * slot + 4 * KIB, slot);
		assert_sum(3 * MIB, 7 * slot + 4 * KIB, slot);
		assert_sum(4 * KIB, 4 * KIB, slot);
	}
}

/* The time for a plan does not depend on the sizes requested. */
static void the_largest_plan_takes_no_longer(void **state)
{
	static const struct budget_policy isolate = {.isolate = true};
	struct budget_request request = {
		.region_size = BUDGET_REGION_MAX,
		.block_size = 4 * KIB,
		.kvm_limit = 1ULL << 62,
	};
	struct budget budget = {
		.slot_size = 4 * KIB,
		.nr_slots = BUDGET_REGION_MAX / (4 * KIB),
	};

	(void)state;
	assert_int_equal(refusal(NULL, &request, "KVM_CAP_NR_MEMSLOTS"),
			 -EINVAL);
	assert_int_equal(refusal(&isolate, &request, "KVM_CAP_NR_MEMSLOTS"),
			 -EINVAL);
	request.kvm_limit = BUDGET_KVM_LIMIT_MAX;
	assert_int_equal(refusal(&isolate, &request, "--isolate takes"),
			 -ENOSPC);
	assert_true(plan(NULL, &request).nr_slots <= BUDGET_KVM_LIMIT_MAX);
	/* The prediction for one memslot per block. */
	budget_predict(0, BUDGET_REGION_MAX, &budget);
	assert_true(budget.metadata > BUDGET_REGION_MAX / (4 * KIB));
}

/* An attached device counts by its region's memslots, others by their plan. */
static void all_other_devices_count(void **state)
{
	struct vmem *vmem = calloc(1, sizeof(*vmem));
	struct vmem_device *devices;

	(void)state;
	assert_non_null(vmem);
	devices = vmem->devices;
	vmem->nr_devices = 3;
	devices[0].budget.nr_slots = 1;
	devices[1].attached = true;
	devices[1].budget.nr_slots = 1000;
	devices[1].dev.backing = &devices[1].region.backing;
	devices[1].dev.backing->nr_slots = 20;
	devices[2].attached = true;
	devices[2].dev.backing = &devices[2].vmm_backing.backing;
	devices[2].dev.backing->nr_slots = 6;
	assert_int_equal(budget_methods_others(vmem, &devices[0]), 26);
	assert_int_equal(budget_methods_others(vmem, &devices[1]), 7);
	assert_int_equal(budget_methods_others(vmem, &devices[2]), 21);
	assert_int_equal(budget_methods_others(vmem, NULL), 27);
	/* The sum saturates instead of overflowing. */
	devices[0].budget.nr_slots = UINT64_MAX;
	assert_int_equal(budget_methods_others(vmem, &devices[1]), UINT64_MAX);
	free(vmem);
}

static int ask_plan(const struct vmem *vmem, struct vmem_device *device,
		    const char *params, struct control_call *call)
{
	int ret;

	*call = (struct control_call){.params = json_tokener_parse(params)};
	assert_non_null(call->params);
	ret = budget_methods_plan(call, vmem, device);
	json_object_put(call->params);
	return ret;
}

static uint64_t number(const struct control_call *call, const char *name)
{
	json_object *member;

	assert_true(json_object_object_get_ex(call->result, name, &member));
	return json_object_get_uint64(member);
}

#define REGION_OF_16_GIB                                  \
	"\"gpa\":4294967296,\"region_size\":17179869184," \
	"\"block_size\":2097152"

/* The method that a VMM calls before it creates its region. */
static void a_plan_counts_the_other_devices(void **state)
{
	struct vmem *vmem = calloc(1, sizeof(*vmem));
	struct device_options options = {0};
	struct vmem_device *device;
	struct control_call call;

	(void)state;
	assert_non_null(vmem);
	vmem->nr_devices = 2;
	vmem->devices[0].attached = true;
	vmem->devices[0].dev.backing = &vmem->devices[0].region.backing;
	vmem->devices[0].dev.backing->nr_slots = 200;
	device = &vmem->devices[1];
	device->options = &options;
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB ",\"kvm_limit\":400}",
				  &call),
			 0);
	assert_int_equal(number(&call, "slot_size"), 128 * MIB);
	assert_int_equal(number(&call, "nr_slots"), 128);
	assert_int_equal(device->budget.nr_slots, 128);
	json_object_put(call.result);
	/* The other device's memslots are taken. */
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB ",\"kvm_limit\":300}",
				  &call),
			 0);
	assert_int_equal(number(&call, "slot_size"), 256 * MIB);
	assert_int_equal(device->budget.nr_slots, 64);
	json_object_put(call.result);
	/* A refused plan changes nothing. */
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB ",\"kvm_limit\":200}",
				  &call),
			 -ENOSPC);
	assert_null(call.result);
	assert_int_equal(
		ask_plan(vmem, device, "{" REGION_OF_16_GIB "}", &call),
		-EINVAL);
	assert_string_equal(call.error.text,
			    "\"kvm_limit\" is a number, and needed");
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB
				  ",\"kvm_limit\":400,\"used\":\"six\"}",
				  &call),
			 -EINVAL);
	assert_string_equal(call.error.text, "\"used\" is a number");
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB
				  ",\"kvm_limit\":400,\"mappings\":8191}",
				  &call),
			 -ENOSPC);
	assert_non_null(strstr(call.error.text, "blocks of 4 MiB would fit"));
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB
				  ",\"kvm_limit\":300,\"mappings\":8192}",
				  &call),
			 0);
	json_object_put(call.result);
	device->attached = true;
	assert_int_equal(ask_plan(vmem, device,
				  "{" REGION_OF_16_GIB ",\"kvm_limit\":400}",
				  &call),
			 -EBUSY);
	assert_int_equal(device->budget.nr_slots, 64);
	free(vmem);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nobody_objects),
		cmocka_unit_test(consumers_follow_qemus_rules),
		cmocka_unit_test(regions_share_by_size),
		cmocka_unit_test(the_operator_may_say),
		cmocka_unit_test(isolated_blocks_have_a_memslot_each),
		cmocka_unit_test(a_region_is_noted),
		cmocka_unit_test(the_predicted_cost_is_kvms),
		cmocka_unit_test(each_block_may_be_a_mapping),
		cmocka_unit_test(nonsense_is_refused),
		cmocka_unit_test(a_sum_is_told_without_adding),
		cmocka_unit_test(the_largest_plan_takes_no_longer),
		cmocka_unit_test(all_other_devices_count),
		cmocka_unit_test(a_plan_counts_the_other_devices),
	};

	return unit_run(tests, NULL, NULL);
}
