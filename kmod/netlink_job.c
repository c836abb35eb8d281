// SPDX-License-Identifier: GPL-2.0-only
/*
 * Jobs: requests that change a region, from the message to its answer.
 *
 * Handlers run under a lock of all of generic netlink (cb_lock), and a change may
 * wait for KVM for a long time. The handler of a change therefore only checks the
 * message and queues a job, with a copy of the message. The job allocates the
 * reply, makes the change, and sends the reply or the error, then the
 * acknowledgment if one was requested. The sender sees no difference, and other
 * senders do not wait.
 */
#include <linux/pid_namespace.h>
#include <linux/slab.h>
#include <net/genetlink.h>
#include <net/sock.h>

#include "compat.h"
#include "netlink_job.h"
#include "region.h"
#include "region_job.h"
#include "uapi/linux/kvm_vmem_netlink.h"

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

u32 vmem_netlink_job_portid(const struct vmem_netlink_job *job)
{
	return NETLINK_CB(job->request).portid;
}

void vmem_netlink_free_job(struct vmem_netlink_job *job)
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
struct vmem_netlink_job *
vmem_netlink_new_job(struct sk_buff *skb, struct genl_info *info,
		     struct vmem_region *region,
		     int (*run)(struct vmem_netlink_job *job))
{
	struct vmem_netlink_job *job;

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
const struct nlattr *
vmem_netlink_copied_attr(const struct vmem_netlink_job *job,
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
static void send_ack(struct vmem_netlink_job *job, int err)
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
static void send_answer(struct vmem_netlink_job *job, int err)
{
	if (sock_flag(job->sender, SOCK_DEAD))
		return;
	if (!err) {
		genlmsg_unicast(sock_net(job->sender), job->reply,
				vmem_netlink_job_portid(job));
		job->reply = NULL;
	}
	if (err || job->nlh->nlmsg_flags & NLM_F_ACK)
		send_ack(job, err);
}

static int run_job(struct vmem_region_job *base)
{
	struct vmem_netlink_job *job =
		container_of(base, struct vmem_netlink_job, base);

	/* Before the change, which must not be made if no reply can be sent. */
	job->reply = genlmsg_new(GENLMSG_DEFAULT_SIZE, GFP_KERNEL);
	return job->reply ? job->run(job) : -ENOMEM;
}

static void end_job(struct vmem_region_job *base, int err)
{
	struct vmem_netlink_job *job =
		container_of(base, struct vmem_netlink_job, base);

	send_answer(job, err);
	vmem_netlink_free_job(job);
}

/* Hand a job over; what a handler returns. */
int vmem_netlink_queue_job(struct vmem_netlink_job *job,
			   struct netlink_ext_ack *extack)
{
	const char *reason;
	int r;

	job->base.run = run_job;
	job->base.done = end_job;
	r = vmem_region_queue(&job->base, &reason);
	if (r) {
		vmem_set_extack(extack, NULL, reason);
		vmem_netlink_free_job(job);
		return r;
	}
	/* To netlink: no acknowledgment now. */
	return -EINTR;
}
