// SPDX-License-Identifier: GPL-2.0-only
/*
 * The generic netlink family. This file translates messages, region.c carries out
 * the requests. Policies and operations are in genl.c, which is generated from
 * uapi/kvm_vmem.yaml.
 *
 * A request names its region by a file descriptor of the sender. The descriptor is
 * looked up in the context of the sender, in which handlers and the start of dumps
 * run. Later rounds of a dump may run in another process. They use the reference
 * taken at the start.
 *
 * Permission to read:
 *
 *   by descriptor	everything, from any namespace: the descriptor is the
 *			authority.
 *   by id, and all	CAP_NET_ADMIN in the initial user namespace, and a socket
 *			of the initial network namespace. Regions belong to the
 *			host and to no network namespace. A container that shares
 *			the host's user namespace may have CAP_NET_ADMIN for a
 *			network of its own, which is not enough.
 *   events		the same. Generic netlink checks the permission to join
 *			the group. A socket of another namespace may subscribe to
 *			the multicasts of all namespaces; may_not_hear() excludes
 *			it.
 *   addresses of the	the descriptor, or CAP_SYS_PTRACE in addition to the
 *   VMM (hva)		above: they help an attacker of the VMM, and monitoring
 *			does not need them. Events never contain them.
 *
 * Handlers run under a lock of all of generic netlink (cb_lock), and a change may
 * wait for KVM for a long time. The handler of a change therefore only checks the
 * message, allocates the reply and queues a job. The job makes the change and sends
 * the reply or the error, then the acknowledgment if one was requested. The sender
 * sees no difference, and other senders do not wait. Readers do not wait either,
 * see region.c.
 */
#include <linux/capability.h>
#include <linux/pid.h>
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "compat.h"
#include "genl.h"
#include "netlink.h"
#include "region.h"
#include "region_change.h"
#include "region_dump.h"
#include "region_fd.h"
#include "region_job.h"

/* The generator does not know of flags of groups. */
static const struct genl_multicast_group multicast_groups[] = {
	[KVM_VMEM_NLGRP_EVENTS] = {
		.name = KVM_VMEM_MCGRP_EVENTS,
		.flags = GENL_MCAST_CAP_NET_ADMIN,
	},
};

VMEM_DEFINE_OLD_FAMILY();

/* Where a message may name its region. */
struct region_attrs {
	int id;
	int fd;
};

static const struct region_attrs region_attrs = {
	KVM_VMEM_A_REGION_ID, KVM_VMEM_A_REGION_FD,
};

static const struct region_attrs block_attrs = {
	KVM_VMEM_A_BLOCK_REGION_ID, KVM_VMEM_A_BLOCK_REGION_FD,
};

static const struct region_attrs slot_attrs = {
	KVM_VMEM_A_SLOT_REGION_ID, KVM_VMEM_A_SLOT_REGION_FD,
};

static bool is_host_socket(const struct sock *sk)
{
	return net_eq(sock_net(sk), &init_net);
}

/* May the sender read regions that it has no descriptor of? */
static bool may_read_all(const struct sk_buff *request)
{
	return is_host_socket(NETLINK_CB(request).sk) &&
	       netlink_capable(request, CAP_NET_ADMIN);
}

/* May the sender, who may read a region, see where the VMM has mapped it? */
static bool may_see_hva(const struct sk_buff *request,
			const struct nlattr *region_fd)
{
	return region_fd || netlink_capable(request, CAP_SYS_PTRACE);
}

/* The region that a request names, with a reference. */
static struct vmem_region *get_region(struct sk_buff *request,
				      struct nlattr **attrs,
				      const struct region_attrs *names,
				      bool to_change,
				      struct netlink_ext_ack *extack)
{
	const struct nlattr *id = attrs[names->id];
	const struct nlattr *fd = attrs[names->fd];
	struct vmem_region *region;

	if (id && fd) {
		vmem_set_extack(extack, id, "name the region by fd or by id, not both");
		return ERR_PTR(-EINVAL);
	}
	if (fd) {
		region = vmem_region_get_by_fd(nla_get_s32(fd));
		if (region)
			return region;
		vmem_set_extack(extack, fd, "not the descriptor of a region");
		return ERR_PTR(-EBADF);
	}
	if (!id) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, names->fd);
		vmem_set_extack(extack, NULL, "the region's fd is missing");
		return ERR_PTR(-EINVAL);
	}
	if (to_change) {
		vmem_set_extack(extack, id, "a change takes the region's fd");
		return ERR_PTR(-EPERM);
	}
	if (!may_read_all(request)) {
		vmem_set_extack(extack, id,
				"a region by id takes the host's CAP_NET_ADMIN");
		return ERR_PTR(-EPERM);
	}
	region = vmem_region_get_by_id(nla_get_u32(id));
	if (!region) {
		vmem_set_extack(extack, id, "no region has this id");
		return ERR_PTR(-ENOENT);
	}
	return region;
}

static int put_u64(struct sk_buff *skb, int attr, u64 value, int pad)
{
	return nla_put_u64_64bit(skb, attr, value, pad);
}

static int put_metadata(struct sk_buff *skb, int attr,
			const struct vmem_metadata *m)
{
	const int pad = KVM_VMEM_A_METADATA_PAD;
	struct nlattr *nest = nla_nest_start(skb, attr);

	if (!nest)
		return -EMSGSIZE;
	if (put_u64(skb, KVM_VMEM_A_METADATA_MEMSLOT, m->memslot, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_RMAP, m->rmap, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_LPAGE_INFO, m->lpage_info, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_GFN_TRACK, m->gfn_track, pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_DIRTY_BITMAP, m->dirty_bitmap,
		    pad) ||
	    put_u64(skb, KVM_VMEM_A_METADATA_TOTAL, vmem_metadata_total(m),
		    pad))
		return -EMSGSIZE;
	nla_nest_end(skb, nest);
	return 0;
}

/* What KVM holds for a region, and would hold. Under region->lock. */
static int put_region_metadata(struct sk_buff *skb, struct vmem_region *region)
{
	struct vmem_metadata metadata;
	int r;

	vmem_region_metadata(region, &metadata);
	r = put_metadata(skb, KVM_VMEM_A_REGION_METADATA, &metadata);
	if (!r && vmem_region_whole_metadata(region, &metadata))
		r = put_metadata(skb, KVM_VMEM_A_REGION_WHOLE_METADATA,
				 &metadata);
	return r;
}

/**
 * struct reader - the recipient of a state
 * @pid_ns: where it sees processes
 * @sees_hva: it may see addresses of the VMM
 */
struct reader {
	struct pid_namespace *pid_ns;
	bool sees_hva;
};

/* The attributes of region-get but for metadata. Under region->lock. */
static int put_region(struct sk_buff *skb, struct vmem_region *region,
		      const struct reader *reader)
{
	const int pad = KVM_VMEM_A_REGION_PAD;
	bool alive = vmem_region_alive(region);

	lockdep_assert_held(&region->lock);
	if (nla_put_u32(skb, KVM_VMEM_A_REGION_ID, region->id) ||
	    put_u64(skb, KVM_VMEM_A_REGION_GPA, region->gpa, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_SIZE, region->size, pad) ||
	    (reader->sees_hva &&
	     put_u64(skb, KVM_VMEM_A_REGION_HVA, region->hva, pad)) ||
	    put_u64(skb, KVM_VMEM_A_REGION_BLOCK_SIZE, region->block_size,
		    pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_SLOT_SIZE, region->slot_size, pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_FIRST_SLOT,
			region->first_slot) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_NR_SLOTS, region->nr_slots) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_ADDRESS_SPACES,
			region->as_mask) ||
	    put_u64(skb, KVM_VMEM_A_REGION_REQUESTED_SIZE,
		    region->requested_size, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_PLUGGED_SIZE,
		    region->plugged_blocks * region->block_size, pad) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_POPULATED_SLOTS,
			region->populated_slots) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_DIRTY_LOG, region->dirty_log) ||
	    nla_put_u32(skb, KVM_VMEM_A_REGION_PID,
			alive ? pid_nr_ns(region->pid, reader->pid_ns) : 0) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_ALIVE, alive) ||
	    put_u64(skb, KVM_VMEM_A_REGION_REQUEST_ID,
		    region->last_request.id, pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_CHANGES,
		    atomic64_read(&region->changes), pad) ||
	    nla_put_u8(skb, KVM_VMEM_A_REGION_ZAP_RANGES, region->zap_ranges) ||
	    put_u64(skb, KVM_VMEM_A_REGION_RANGE_ZAPS, region->range_zaps,
		    pad) ||
	    put_u64(skb, KVM_VMEM_A_REGION_ZAPS_BY_KVM, region->zaps_by_kvm,
		    pad))
		return -EMSGSIZE;
	return 0;
}

/* A whole message with the state of a region, metadata included. */
static int put_region_message(struct sk_buff *skb, struct vmem_region *region,
			      const struct reader *reader, u32 portid, u32 seq,
			      int flags, int cmd)
{
	void *header;
	int r;

	header = genlmsg_put(skb, portid, seq, vmem_genl_family, flags, cmd);
	if (!header)
		return -EMSGSIZE;
	mutex_lock(&region->lock);
	r = put_region(skb, region, reader);
	if (!r)
		r = put_region_metadata(skb, region);
	mutex_unlock(&region->lock);
	if (r)
		genlmsg_cancel(skb, header);
	else
		genlmsg_end(skb, header);
	return r;
}

/* Nonzero for a listener that is not to have an event. */
static int may_not_hear(struct sock *listener, struct sk_buff *skb, void *data)
{
	return !is_host_socket(listener);
}

/* Notify the group of a change. @cmd: KVM_VMEM_CMD_REGION_*_NTF. */
static void notify(struct vmem_region *region, int cmd)
{
	static const struct reader anybody = { .pid_ns = &init_pid_ns };
	struct sk_buff *skb;
	void *header;
	int r;

	lockdep_assert_held(&region->vm_lock);
	if (!genl_has_listeners(vmem_genl_family, &init_net,
				KVM_VMEM_NLGRP_EVENTS))
		return;
	skb = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!skb)
		goto lost;
	header = genlmsg_put(skb, 0, 0, vmem_genl_family, 0, cmd);
	mutex_lock(&region->lock);
	r = header ? put_region(skb, region, &anybody) : -EMSGSIZE;
	mutex_unlock(&region->lock);
	if (r) {
		nlmsg_free(skb);
		goto lost;
	}
	genlmsg_end(skb, header);
	vmem_genl_multicast(vmem_genl_family, skb, KVM_VMEM_NLGRP_EVENTS,
			    may_not_hear);
	return;
lost:
	/* Listeners learn that they have missed something. */
	genl_set_err(vmem_genl_family, &init_net, 0, KVM_VMEM_NLGRP_EVENTS,
		     -ENOBUFS);
}

static void notify_published(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_NEW_NTF);
}

static void notify_changed(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_CHANGE_NTF);
}

static void notify_ended(struct vmem_region *region)
{
	notify(region, KVM_VMEM_CMD_REGION_DEL_NTF);
}

static const struct vmem_region_ops region_ops = {
	.published = notify_published,
	.changed = notify_changed,
	.ended = notify_ended,
};

int kvm_vmem_nl_region_get_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct reader reader = { .pid_ns = task_active_pid_ns(current) };
	struct vmem_region *region;
	struct sk_buff *reply;
	int r = -ENOMEM;

	region = get_region(skb, info->attrs, &region_attrs, false,
			    info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	/* The check of a capability may be audited, so only now. */
	reader.sees_hva = may_see_hva(skb, info->attrs[KVM_VMEM_A_REGION_FD]);
	reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	if (!reply)
		goto out;
	r = put_region_message(reply, region, &reader, info->snd_portid,
			       info->snd_seq, 0, info->genlhdr->cmd);
	if (WARN_ON_ONCE(r))
		nlmsg_free(reply);
	else
		r = genlmsg_reply(reply, info);
out:
	vmem_region_put(region);
	return r;
}

/*
 * Longest message that asks for a change: as many ranges as are allowed, and
 * several times what all other attributes take. What is longer repeats itself.
 * The copy takes 32 KiB then, which the allocator does not refuse lightly.
 *
 * Handlers charge nothing: where the sender's cgroup is over memory.high or at
 * its limit, the charge takes long, and all of generic netlink would wait with
 * it. What a job holds as it waits is bounded instead, for each VM, see
 * vmem_queue_add(). The rest is allocated when it is its turn.
 */
#define RANGE_ATTR_SIZE nla_total_size(2 * nla_total_size(sizeof(u64)))
#define OTHER_ATTRS_SIZE 256
#define MAX_MESSAGE (NLMSG_HDRLEN + GENL_HDRLEN + OTHER_ATTRS_SIZE + \
		     KVM_VMEM_MAX_RANGES * RANGE_ATTR_SIZE)

/**
 * struct job - a change that was asked for
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
struct job {
	struct vmem_region_job base;
	struct sock *sender;
	struct sk_buff *request;
	struct nlmsghdr *nlh;
	struct sk_buff *reply;
	struct pid_namespace *pid_ns;
	int (*run)(struct job *job);
	const struct nlattr *bad_attr;
	const char *reason;
	struct vmem_request change;
	const struct nlattr *size_attr;
	const struct nlattr *log_attr;
};

static u32 job_portid(const struct job *job)
{
	return NETLINK_CB(job->request).portid;
}

static void free_job(struct job *job)
{
	kvfree(job->change.ranges);
	nlmsg_free(job->reply);
	consume_skb(job->request);
	put_pid_ns(job->pid_ns);
	sock_put(job->sender);
	vmem_region_put(job->base.region);
	kfree(job);
}

/*
 * A message on its own. The skb it came in may be as long as the sender likes.
 */
static struct sk_buff *copy_message(const struct sk_buff *skb,
				    const struct nlmsghdr *nlh)
{
	struct sk_buff *copy = alloc_skb(nlh->nlmsg_len, GFP_KERNEL);

	if (!copy)
		return NULL;
	skb_put_data(copy, nlh, nlh->nlmsg_len);
	/* The sender, for netlink_ack(). */
	NETLINK_CB(copy).sk = NETLINK_CB(skb).sk;
	NETLINK_CB(copy).portid = NETLINK_CB(skb).portid;
	return copy;
}

/* A job for a message; takes the caller's reference to the region if made. */
static struct job *new_job(struct sk_buff *skb, struct genl_info *info,
			   struct vmem_region *region,
			   int (*run)(struct job *job))
{
	struct job *job;

	if (info->nlhdr->nlmsg_len > MAX_MESSAGE) {
		vmem_set_extack(info->extack, NULL, "the message is too long");
		return ERR_PTR(-E2BIG);
	}
	job = kzalloc(sizeof(*job), GFP_KERNEL);
	if (!job)
		return ERR_PTR(-ENOMEM);
	job->request = copy_message(skb, info->nlhdr);
	if (!job->request) {
		kfree(job);
		return ERR_PTR(-ENOMEM);
	}
	job->base.work.size = sizeof(*job) + job->request->truesize;
	job->base.region = region;
	job->nlh = nlmsg_hdr(job->request);
	/* It is sending, so it is there. */
	job->sender = NETLINK_CB(skb).sk;
	sock_hold(job->sender);
	job->pid_ns = get_pid_ns(task_active_pid_ns(current));
	job->run = run;
	return job;
}

/* The attribute of a job's copy that is @attr of the message. */
static const struct nlattr *copied_attr(const struct job *job,
					const struct genl_info *info,
					const struct nlattr *attr)
{
	if (!attr)
		return NULL;
	return (void *)job->nlh + ((void *)attr - (void *)info->nlhdr);
}

/*
 * An acknowledgment or an error, in the form that the sender's socket asks for,
 * which netlink alone knows.
 */
static void send_ack(struct job *job, int err)
{
	struct netlink_ext_ack extack = {};

	if (err)
		vmem_set_extack(&extack, job->bad_attr, job->reason);
	/* Where the message came in, and the answer comes from. */
	job->request->sk = sock_net(job->sender)->genl_sock;
	netlink_ack(job->request, job->nlh, err, &extack);
	job->request->sk = NULL;
}

/*
 * Answers go to the sender's port, which is anybody's once its socket is closed:
 * a sender that has left gets none. (What is left is the moment in which it
 * leaves. Receivers go by the sequence number in any case.) One that does not
 * read loses it, and is told so.
 */
static void send_answer(struct job *job, int err)
{
	if (sock_flag(job->sender, SOCK_DEAD))
		return;
	if (!err) {
		genlmsg_unicast(sock_net(job->sender), job->reply,
				job_portid(job));
		job->reply = NULL;
	}
	if (err || job->nlh->nlmsg_flags & NLM_F_ACK)
		send_ack(job, err);
}

static int run_job(struct vmem_region_job *base)
{
	struct job *job = container_of(base, struct job, base);

	/* Before the change, which must not be made if no reply can be sent. */
	job->reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	return job->reply ? job->run(job) : -ENOMEM;
}

static void end_job(struct vmem_region_job *base, int err)
{
	struct job *job = container_of(base, struct job, base);

	send_answer(job, err);
	free_job(job);
}

/* Hand a job over; what a handler returns. */
static int queue_job(struct job *job, struct netlink_ext_ack *extack)
{
	const char *reason;
	int r;

	job->base.run = run_job;
	job->base.done = end_job;
	r = vmem_region_queue(&job->base, &reason);
	if (r) {
		vmem_set_extack(extack, NULL, reason);
		free_job(job);
		return r;
	}
	/* To netlink: no acknowledgment now. */
	return -EINTR;
}

static int run_set(struct job *job)
{
	/* A change comes by descriptor. */
	const struct reader reader = { .pid_ns = job->pid_ns, .sees_hva = true };
	const struct nlattr *size_attr = job->size_attr;
	const struct nlattr *log_attr = job->log_attr;
	struct vmem_fault fault;
	bool dirty_log = false;
	u64 size = 0;
	int r;

	if (size_attr)
		size = nla_get_u64(size_attr);
	if (log_attr)
		dirty_log = nla_get_u8(log_attr);
	r = vmem_region_set(job->base.region, size_attr ? &size : NULL,
			    log_attr ? &dirty_log : NULL, &fault);
	if (r) {
		if (fault.range == VMEM_SET_REQUESTED_SIZE)
			job->bad_attr = size_attr;
		else if (fault.range == VMEM_SET_DIRTY_LOG)
			job->bad_attr = log_attr;
		job->reason = fault.reason;
		return r;
	}
	r = put_region_message(job->reply, job->base.region, &reader,
			       job_portid(job), job->nlh->nlmsg_seq, 0,
			       KVM_VMEM_CMD_REGION_SET);
	WARN_ON_ONCE(r);
	return r;
}

int kvm_vmem_nl_region_set_doit(struct sk_buff *skb, struct genl_info *info)
{
	struct vmem_region *region;
	struct job *job;

	region = get_region(skb, info->attrs, &region_attrs, true,
			    info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	if (!info->attrs[KVM_VMEM_A_REGION_REQUESTED_SIZE] &&
	    !info->attrs[KVM_VMEM_A_REGION_DIRTY_LOG]) {
		vmem_set_extack(info->extack, NULL, "nothing to set");
		vmem_region_put(region);
		return -EINVAL;
	}
	job = new_job(skb, info, region, run_set);
	if (IS_ERR(job)) {
		vmem_region_put(region);
		return PTR_ERR(job);
	}
	job->size_attr = copied_attr(job, info,
				     info->attrs[KVM_VMEM_A_REGION_REQUESTED_SIZE]);
	job->log_attr = copied_attr(job, info,
				    info->attrs[KVM_VMEM_A_REGION_DIRTY_LOG]);
	return queue_job(job, info->extack);
}

/* The range attribute after @attr, or the first; NULL if there is none. */
static const struct nlattr *next_range(const struct nlmsghdr *nlh,
				       const struct nlattr *attr)
{
	const struct nlattr *head = nlmsg_attrdata(nlh, GENL_HDRLEN);
	int rem = nlmsg_attrlen(nlh, GENL_HDRLEN);

	if (attr) {
		rem -= (const char *)attr - (const char *)head;
		head = nla_next(attr, &rem);
	}
	return nla_find(head, rem, KVM_VMEM_A_BLOCK_RANGE);
}

/* One range attribute as blocks of the region. */
static int parse_range(const struct vmem_region *region,
		       const struct nlattr *attr, struct vmem_range *range,
		       struct netlink_ext_ack *extack)
{
	struct nlattr *tb[KVM_VMEM_A_RANGE_SIZE + 1];
	u64 gpa, size;
	int r;

	r = nla_parse_nested(tb, KVM_VMEM_A_RANGE_SIZE, attr,
			     kvm_vmem_range_nl_policy, extack);
	if (r)
		return r;
	if (!tb[KVM_VMEM_A_RANGE_GPA] || !tb[KVM_VMEM_A_RANGE_SIZE]) {
		vmem_set_extack(extack, attr, "a range takes gpa and size");
		return -EINVAL;
	}
	gpa = nla_get_u64(tb[KVM_VMEM_A_RANGE_GPA]);
	size = nla_get_u64(tb[KVM_VMEM_A_RANGE_SIZE]);
	if (!IS_ALIGNED(gpa, region->block_size)) {
		vmem_set_extack(extack, tb[KVM_VMEM_A_RANGE_GPA],
				"not a multiple of the block size");
		return -EINVAL;
	}
	if (!size || !IS_ALIGNED(size, region->block_size)) {
		vmem_set_extack(extack, tb[KVM_VMEM_A_RANGE_SIZE],
				"not a multiple of the block size, or 0");
		return -EINVAL;
	}
	if (gpa < region->gpa || gpa - region->gpa >= region->size ||
	    size > region->size - (gpa - region->gpa)) {
		vmem_set_extack(extack, attr, "not inside the region");
		return -ERANGE;
	}
	range->first = (gpa - region->gpa) >> ilog2(region->block_size);
	range->nr = size >> ilog2(region->block_size);
	return 0;
}

static const struct nlattr *range_attr(const struct nlmsghdr *nlh, int index)
{
	const struct nlattr *attr = next_range(nlh, NULL);

	while (attr && index--)
		attr = next_range(nlh, attr);
	return attr;
}

/* Check the ranges of a message, and count them. */
static int check_ranges(const struct vmem_region *region,
			const struct nlmsghdr *nlh, u32 *nr,
			struct netlink_ext_ack *extack)
{
	const struct nlattr *attr;
	struct vmem_range range;
	int r;

	*nr = 0;
	for (attr = next_range(nlh, NULL); attr; attr = next_range(nlh, attr))
		++*nr;
	if (!*nr) {
		NL_SET_ERR_ATTR_MISS(extack, NULL, KVM_VMEM_A_BLOCK_RANGE);
		vmem_set_extack(extack, NULL, "no range");
		return -EINVAL;
	}
	if (*nr > KVM_VMEM_MAX_RANGES) {
		vmem_set_extack(extack, range_attr(nlh, KVM_VMEM_MAX_RANGES),
				"too many ranges");
		return -E2BIG;
	}
	for (attr = next_range(nlh, NULL); attr; attr = next_range(nlh, attr)) {
		r = parse_range(region, attr, &range, extack);
		if (r)
			return r;
	}
	return 0;
}

/* The ranges of a message that was checked. */
static int copy_ranges(struct job *job)
{
	struct vmem_request *req = &job->change;
	const struct nlattr *attr;
	struct vmem_fault fault;
	u32 i = 0;
	int r;

	r = vmem_region_alloc_ranges(job->base.region, req, &fault);
	if (r) {
		job->reason = fault.reason;
		return r;
	}
	for (attr = next_range(job->nlh, NULL); attr;
	     attr = next_range(job->nlh, attr))
		if (WARN_ON_ONCE(parse_range(job->base.region, attr,
					     &req->ranges[i++], NULL)))
			return -EINVAL;
	return 0;
}

static int put_answer(const struct job *job, const struct vmem_answer *answer,
		      u64 request_id)
{
	struct genlmsghdr *genlh = nlmsg_data(job->nlh);
	struct sk_buff *skb = job->reply;
	void *header = genlmsg_put(skb, job_portid(job), job->nlh->nlmsg_seq,
				   vmem_genl_family, 0, genlh->cmd);

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_BLOCK_REGION_ID, job->base.region->id))
		return -EMSGSIZE;
	if (request_id && put_u64(skb, KVM_VMEM_A_BLOCK_REQUEST_ID, request_id,
				  KVM_VMEM_A_BLOCK_PAD))
		return -EMSGSIZE;
	if (put_u64(skb, KVM_VMEM_A_BLOCK_PLUGGED_SIZE, answer->plugged_size,
		    KVM_VMEM_A_BLOCK_PAD) ||
	    nla_put_u32(skb, KVM_VMEM_A_BLOCK_POPULATED_SLOTS,
			answer->populated_slots))
		return -EMSGSIZE;
	genlmsg_end(skb, header);
	return 0;
}

static int run_change(struct job *job)
{
	struct vmem_answer answer;
	struct vmem_fault fault;
	int r;

	if (job->change.nr) {
		r = copy_ranges(job);
		if (r)
			return r;
	}
	r = vmem_region_request(job->base.region, &job->change, &answer, &fault);
	if (r) {
		if (fault.range >= 0)
			job->bad_attr = range_attr(job->nlh, fault.range);
		job->reason = fault.reason;
		return r;
	}
	r = put_answer(job, &answer, job->change.id);
	WARN_ON_ONCE(r);
	return r;
}

/* The request of a message, but for its ranges, of which it has the number. */
static int parse_request(const struct vmem_region *region,
			 struct genl_info *info, struct vmem_request *req)
{
	const struct nlattr *id_attr = info->attrs[KVM_VMEM_A_BLOCK_REQUEST_ID];

	if (id_attr) {
		req->id = nla_get_u64(id_attr);
		if (!req->id) {
			vmem_set_extack(info->extack, id_attr,
					"a request id is not 0");
			return -EINVAL;
		}
	}
	if (req->type == VMEM_REQUEST_UNPLUG_ALL)
		return 0;
	return check_ranges(region, info->nlhdr, &req->nr, info->extack);
}

static int do_change(struct sk_buff *skb, struct genl_info *info,
		     enum vmem_request_type type)
{
	struct vmem_region *region;
	struct job *job;
	int r;

	region = get_region(skb, info->attrs, &block_attrs, true, info->extack);
	if (IS_ERR(region))
		return PTR_ERR(region);
	job = new_job(skb, info, region, run_change);
	if (IS_ERR(job)) {
		vmem_region_put(region);
		return PTR_ERR(job);
	}
	job->change.type = type;
	r = parse_request(region, info, &job->change);
	if (r) {
		free_job(job);
		return r;
	}
	return queue_job(job, info->extack);
}

int kvm_vmem_nl_block_plug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_PLUG);
}

int kvm_vmem_nl_block_unplug_doit(struct sk_buff *skb, struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_UNPLUG);
}

int kvm_vmem_nl_block_unplug_all_doit(struct sk_buff *skb,
				      struct genl_info *info)
{
	return do_change(skb, info, VMEM_REQUEST_UNPLUG_ALL);
}

/**
 * struct dump - state of a dump between its rounds
 * @region: what is dumped, with a reference; NULL for all regions
 * @pos: the next region id, block or slot
 * @sees_hva: its sender may see addresses of the VMM
 */
struct dump {
	struct vmem_region *region;
	u64 pos;
	bool sees_hva;
};

static struct dump *dump_of(struct netlink_callback *cb)
{
	BUILD_BUG_ON(sizeof(struct dump) > sizeof(cb->ctx));
	return (struct dump *)cb->ctx;
}

static int start_dump(struct netlink_callback *cb,
		      const struct region_attrs *names)
{
	struct vmem_region *region = get_region(cb->skb, vmem_dump_attrs(cb),
						names, false, cb->extack);

	if (IS_ERR(region))
		return PTR_ERR(region);
	dump_of(cb)->region = region;
	dump_of(cb)->sees_hva =
		may_see_hva(cb->skb, vmem_dump_attrs(cb)[names->fd]);
	return 0;
}

int kvm_vmem_nl_region_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = vmem_dump_attrs(cb);

	if (attrs[KVM_VMEM_A_REGION_ID] || attrs[KVM_VMEM_A_REGION_FD])
		return start_dump(cb, &region_attrs);
	if (!may_read_all(cb->skb)) {
		vmem_set_extack(cb->extack, NULL,
				"all regions take the host's CAP_NET_ADMIN");
		return -EPERM;
	}
	dump_of(cb)->sees_hva = may_see_hva(cb->skb, NULL);
	return 0;
}

int kvm_vmem_nl_block_start(struct netlink_callback *cb)
{
	return start_dump(cb, &block_attrs);
}

int kvm_vmem_nl_slot_start(struct netlink_callback *cb)
{
	return start_dump(cb, &slot_attrs);
}

int kvm_vmem_nl_dump_done(struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);

	if (dump->region)
		vmem_region_put(dump->region);
	return 0;
}

static int dump_region(struct sk_buff *skb, struct netlink_callback *cb,
		       struct vmem_region *region)
{
	const struct reader reader = {
		.pid_ns = task_active_pid_ns(current),
		.sees_hva = dump_of(cb)->sees_hva,
	};

	return put_region_message(skb, region, &reader,
				  NETLINK_CB(cb->skb).portid,
				  cb->nlh->nlmsg_seq, NLM_F_MULTI,
				  KVM_VMEM_CMD_REGION_GET);
}

int kvm_vmem_nl_region_get_dumpit(struct sk_buff *skb,
				  struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_region *region;
	unsigned long id;
	int r = 0;

	if (dump->region) {
		if (!dump->pos) {
			r = dump_region(skb, cb, dump->region);
			dump->pos = 1;
		}
		return r ?: skb->len;
	}
	for (;;) {
		id = dump->pos;
		region = vmem_region_get_next(&id);
		if (!region)
			break;
		r = dump_region(skb, cb, region);
		vmem_region_put(region);
		if (r)
			break;
		dump->pos = id + 1;
	}
	return r && !skb->len ? r : skb->len;
}

/* The head of one message of a dump of a region's parts. */
static void *put_part_header(struct sk_buff *skb, struct netlink_callback *cb,
			     struct vmem_region *region, int cmd)
{
	void *header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid,
				   cb->nlh->nlmsg_seq, vmem_genl_family,
				   NLM_F_MULTI, cmd);

	if (header)
		genl_dump_check_consistent(cb, header);
	return header;
}

/*
 * NLM_F_DUMP_INTR is set if the region changed during the dump:
 * each message is compared with the one before, the last one included, which
 * says that the dump is done.
 */
static void note_dump_seq(struct netlink_callback *cb,
			  struct vmem_region *region)
{
	cb->seq = vmem_region_dump_seq(region, cb->prev_seq);
	/* The first look counts, too. */
	if (!cb->prev_seq)
		cb->prev_seq = cb->seq;
}

static int put_run(struct sk_buff *skb, struct netlink_callback *cb,
		   struct vmem_region *region, const struct vmem_range *run)
{
	void *header = put_part_header(skb, cb, region, KVM_VMEM_CMD_BLOCK_GET);
	struct nlattr *nest;

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_BLOCK_REGION_ID, region->id))
		goto cancel;
	nest = nla_nest_start(skb, KVM_VMEM_A_BLOCK_RANGE);
	if (!nest)
		goto cancel;
	if (put_u64(skb, KVM_VMEM_A_RANGE_GPA,
		    region->gpa + run->first * region->block_size,
		    KVM_VMEM_A_RANGE_PAD) ||
	    put_u64(skb, KVM_VMEM_A_RANGE_SIZE, run->nr * region->block_size,
		    KVM_VMEM_A_RANGE_PAD))
		goto cancel;
	nla_nest_end(skb, nest);
	genlmsg_end(skb, header);
	return 0;

cancel:
	genlmsg_cancel(skb, header);
	return -EMSGSIZE;
}

int kvm_vmem_nl_block_get_dumpit(struct sk_buff *skb,
				 struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_range run;
	u64 block;

	note_dump_seq(cb, dump->region);
	for (;;) {
		block = dump->pos;
		if (!vmem_region_next_run(dump->region, &block, &run))
			break;
		note_dump_seq(cb, dump->region);
		if (put_run(skb, cb, dump->region, &run))
			break;
		dump->pos = block;
	}
	return skb->len;
}

static int put_slot(struct sk_buff *skb, struct netlink_callback *cb,
		    struct vmem_region *region,
		    const struct vmem_region_slot *slot)
{
	void *header = put_part_header(skb, cb, region, KVM_VMEM_CMD_SLOT_GET);
	const int pad = KVM_VMEM_A_SLOT_PAD;

	if (!header)
		return -EMSGSIZE;
	if (nla_put_u32(skb, KVM_VMEM_A_SLOT_REGION_ID, region->id) ||
	    nla_put_u32(skb, KVM_VMEM_A_SLOT_ID, slot->id) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_GPA, slot->gpa, pad) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_SIZE, slot->size, pad) ||
	    (dump_of(cb)->sees_hva &&
	     put_u64(skb, KVM_VMEM_A_SLOT_HVA, slot->hva, pad)) ||
	    put_u64(skb, KVM_VMEM_A_SLOT_PLUGGED_SIZE, slot->plugged_size,
		    pad) ||
	    (slot->stale && nla_put_flag(skb, KVM_VMEM_A_SLOT_STALE)) ||
	    (slot->has_metadata && put_metadata(skb, KVM_VMEM_A_SLOT_METADATA,
						&slot->metadata))) {
		genlmsg_cancel(skb, header);
		return -EMSGSIZE;
	}
	genlmsg_end(skb, header);
	return 0;
}

int kvm_vmem_nl_slot_get_dumpit(struct sk_buff *skb,
				struct netlink_callback *cb)
{
	struct dump *dump = dump_of(cb);
	struct vmem_region_slot slot;
	u32 index;

	note_dump_seq(cb, dump->region);
	for (;;) {
		index = dump->pos;
		if (!vmem_region_next_slot(dump->region, &index, &slot))
			break;
		note_dump_seq(cb, dump->region);
		if (put_slot(skb, cb, dump->region, &slot))
			break;
		dump->pos = index;
	}
	return skb->len;
}

int vmem_netlink_init(void)
{
	vmem_region_init(&region_ops);
	kvm_vmem_nl_family.mcgrps = multicast_groups;
	return vmem_genl_register();
}

void vmem_netlink_exit(void)
{
	genl_unregister_family(vmem_genl_family);
}
