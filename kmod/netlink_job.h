/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef KVM_VMEM_NETLINK_JOB_H
#define KVM_VMEM_NETLINK_JOB_H

#include <linux/types.h>

#include "region_change.h"
#include "region_job.h"

struct genl_info;
struct netlink_ext_ack;
struct nlattr;
struct nlmsghdr;
struct pid_namespace;
struct sk_buff;
struct sock;

/**
 * struct vmem_netlink_job - a change that was asked for
 * @base: as the region knows it
 * @sender: the sender's socket, with a reference
 * @request: a copy of the message
 * @nlh: its header
 * @reply: what the answer goes into, from when it runs until it is sent
 * @pid_ns: the sender's, with a reference
 * @run: makes the change and fills @reply; says what was wrong with @bad_attr
 *	and @reason
 * @bad_attr: attribute to blame, in @request
 * @reason: static text
 * @change: for block-plug, -unplug and -unplug-all
 * @size_attr: for region-set, in @request
 * @log_attr: for region-set, in @request
 */
struct vmem_netlink_job {
	struct vmem_region_job base;
	struct sock *sender;
	struct sk_buff *request;
	struct nlmsghdr *nlh;
	struct sk_buff *reply;
	struct pid_namespace *pid_ns;
	int (*run)(struct vmem_netlink_job *job);
	const struct nlattr *bad_attr;
	const char *reason;
	struct vmem_request change;
	const struct nlattr *size_attr;
	const struct nlattr *log_attr;
};

struct vmem_netlink_job *
vmem_netlink_new_job(struct sk_buff *skb, struct genl_info *info,
		     struct vmem_region *region,
		     int (*run)(struct vmem_netlink_job *job));
void vmem_netlink_free_job(struct vmem_netlink_job *job);
int vmem_netlink_queue_job(struct vmem_netlink_job *job,
			   struct netlink_ext_ack *extack);

u32 vmem_netlink_job_portid(const struct vmem_netlink_job *job);
const struct nlattr *
vmem_netlink_copied_attr(const struct vmem_netlink_job *job,
			 const struct genl_info *info,
			 const struct nlattr *attr);

#endif /* KVM_VMEM_NETLINK_JOB_H */
