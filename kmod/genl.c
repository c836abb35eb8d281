// SPDX-License-Identifier: ((GPL-2.0 WITH Linux-syscall-note) OR BSD-3-Clause)
/* Do not edit directly, auto-generated from: */
/*	Documentation/netlink/specs/kvm_vmem.yaml */
/* YNL-GEN kernel source */

#include <net/netlink.h>
#include <net/genetlink.h>

#include "genl.h"

#include <uapi/linux/kvm_vmem_netlink.h>

/* Common nested types */
const struct nla_policy kvm_vmem_range_nl_policy[KVM_VMEM_A_RANGE_SIZE + 1] = {
	[KVM_VMEM_A_RANGE_GPA] = { .type = NLA_U64, },
	[KVM_VMEM_A_RANGE_SIZE] = { .type = NLA_U64, },
};

/* KVM_VMEM_CMD_REGION_GET - do */
static const struct nla_policy kvm_vmem_region_get_do_nl_policy[KVM_VMEM_A_REGION_FD + 1] = {
	[KVM_VMEM_A_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
};

/* KVM_VMEM_CMD_REGION_GET - dump */
static const struct nla_policy kvm_vmem_region_get_dump_nl_policy[KVM_VMEM_A_REGION_FD + 1] = {
	[KVM_VMEM_A_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
};

/* KVM_VMEM_CMD_REGION_SET - do */
static const struct nla_policy kvm_vmem_region_set_nl_policy[KVM_VMEM_A_REGION_DIRTY_LOG + 1] = {
	[KVM_VMEM_A_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[KVM_VMEM_A_REGION_REQUESTED_SIZE] = { .type = NLA_U64, },
	[KVM_VMEM_A_REGION_DIRTY_LOG] = NLA_POLICY_MAX(NLA_U8, 1),
};

/* KVM_VMEM_CMD_BLOCK_PLUG - do */
static const struct nla_policy kvm_vmem_block_plug_nl_policy[KVM_VMEM_A_BLOCK_RANGE + 1] = {
	[KVM_VMEM_A_BLOCK_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_BLOCK_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[KVM_VMEM_A_BLOCK_REQUEST_ID] = { .type = NLA_U64, },
	[KVM_VMEM_A_BLOCK_RANGE] = NLA_POLICY_NESTED(kvm_vmem_range_nl_policy),
};

/* KVM_VMEM_CMD_BLOCK_UNPLUG - do */
static const struct nla_policy kvm_vmem_block_unplug_nl_policy[KVM_VMEM_A_BLOCK_RANGE + 1] = {
	[KVM_VMEM_A_BLOCK_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_BLOCK_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[KVM_VMEM_A_BLOCK_REQUEST_ID] = { .type = NLA_U64, },
	[KVM_VMEM_A_BLOCK_RANGE] = NLA_POLICY_NESTED(kvm_vmem_range_nl_policy),
};

/* KVM_VMEM_CMD_BLOCK_UNPLUG_ALL - do */
static const struct nla_policy kvm_vmem_block_unplug_all_nl_policy[KVM_VMEM_A_BLOCK_REQUEST_ID + 1] = {
	[KVM_VMEM_A_BLOCK_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_BLOCK_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
	[KVM_VMEM_A_BLOCK_REQUEST_ID] = { .type = NLA_U64, },
};

/* KVM_VMEM_CMD_BLOCK_GET - dump */
static const struct nla_policy kvm_vmem_block_get_nl_policy[KVM_VMEM_A_BLOCK_REGION_FD + 1] = {
	[KVM_VMEM_A_BLOCK_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_BLOCK_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
};

/* KVM_VMEM_CMD_SLOT_GET - dump */
static const struct nla_policy kvm_vmem_slot_get_nl_policy[KVM_VMEM_A_SLOT_REGION_FD + 1] = {
	[KVM_VMEM_A_SLOT_REGION_ID] = NLA_POLICY_MIN(NLA_U32, 1),
	[KVM_VMEM_A_SLOT_REGION_FD] = NLA_POLICY_MIN(NLA_S32, 0),
};

/* Ops table for kvm_vmem */
static const struct genl_split_ops kvm_vmem_nl_ops[] = {
	{
		.cmd		= KVM_VMEM_CMD_REGION_GET,
		.doit		= kvm_vmem_nl_region_get_doit,
		.policy		= kvm_vmem_region_get_do_nl_policy,
		.maxattr	= KVM_VMEM_A_REGION_FD,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KVM_VMEM_CMD_REGION_GET,
		.start		= kvm_vmem_nl_region_start,
		.dumpit		= kvm_vmem_nl_region_get_dumpit,
		.done		= kvm_vmem_nl_dump_done,
		.policy		= kvm_vmem_region_get_dump_nl_policy,
		.maxattr	= KVM_VMEM_A_REGION_FD,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KVM_VMEM_CMD_REGION_SET,
		.doit		= kvm_vmem_nl_region_set_doit,
		.policy		= kvm_vmem_region_set_nl_policy,
		.maxattr	= KVM_VMEM_A_REGION_DIRTY_LOG,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KVM_VMEM_CMD_BLOCK_PLUG,
		.doit		= kvm_vmem_nl_block_plug_doit,
		.policy		= kvm_vmem_block_plug_nl_policy,
		.maxattr	= KVM_VMEM_A_BLOCK_RANGE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KVM_VMEM_CMD_BLOCK_UNPLUG,
		.doit		= kvm_vmem_nl_block_unplug_doit,
		.policy		= kvm_vmem_block_unplug_nl_policy,
		.maxattr	= KVM_VMEM_A_BLOCK_RANGE,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KVM_VMEM_CMD_BLOCK_UNPLUG_ALL,
		.doit		= kvm_vmem_nl_block_unplug_all_doit,
		.policy		= kvm_vmem_block_unplug_all_nl_policy,
		.maxattr	= KVM_VMEM_A_BLOCK_REQUEST_ID,
		.flags		= GENL_CMD_CAP_DO,
	},
	{
		.cmd		= KVM_VMEM_CMD_BLOCK_GET,
		.start		= kvm_vmem_nl_block_start,
		.dumpit		= kvm_vmem_nl_block_get_dumpit,
		.done		= kvm_vmem_nl_dump_done,
		.policy		= kvm_vmem_block_get_nl_policy,
		.maxattr	= KVM_VMEM_A_BLOCK_REGION_FD,
		.flags		= GENL_CMD_CAP_DUMP,
	},
	{
		.cmd		= KVM_VMEM_CMD_SLOT_GET,
		.start		= kvm_vmem_nl_slot_start,
		.dumpit		= kvm_vmem_nl_slot_get_dumpit,
		.done		= kvm_vmem_nl_dump_done,
		.policy		= kvm_vmem_slot_get_nl_policy,
		.maxattr	= KVM_VMEM_A_SLOT_REGION_FD,
		.flags		= GENL_CMD_CAP_DUMP,
	},
};

static const struct genl_multicast_group kvm_vmem_nl_mcgrps[] = {
	[KVM_VMEM_NLGRP_EVENTS] = { "events", },
};

struct genl_family kvm_vmem_nl_family __ro_after_init = {
	.name		= KVM_VMEM_FAMILY_NAME,
	.version	= KVM_VMEM_FAMILY_VERSION,
	.netnsok	= true,
	.parallel_ops	= true,
	.module		= THIS_MODULE,
	.split_ops	= kvm_vmem_nl_ops,
	.n_split_ops	= ARRAY_SIZE(kvm_vmem_nl_ops),
	.mcgrps		= kvm_vmem_nl_mcgrps,
	.n_mcgrps	= ARRAY_SIZE(kvm_vmem_nl_mcgrps),
};
