// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file descriptor of a region. Its holder has the authority over the
 * region, and the region exists until the last reference to the file is
 * dropped. linux/kvm_vmem.h describes poll() and read().
 */
#include <linux/anon_inodes.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/uaccess.h>

#include "region.h"
#include "region_dump.h"
#include "region_fd.h"

static bool has_news(struct vmem_region *region)
{
	return atomic64_read(&region->changes) !=
	       atomic64_read(&region->changes_read);
}

static __poll_t region_poll(struct file *file, poll_table *wait)
{
	struct vmem_region *region = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &region->wait, wait);
	if (has_news(region))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (!vmem_region_alive(region))
		mask |= EPOLLHUP;
	return mask;
}

static ssize_t region_read(struct file *file, char __user *buf, size_t size,
			   loff_t *pos)
{
	struct vmem_region *region = file->private_data;
	u64 changes, read;
	int r;

	if (size < sizeof(changes))
		return -EINVAL;
	if (!has_news(region) && vmem_region_alive(region)) {
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		r = wait_event_interruptible(region->wait,
					     has_news(region) ||
					     !vmem_region_alive(region));
		if (r)
			return r;
	}
	if (!has_news(region))
		return 0;

	changes = atomic64_read(&region->changes);
	if (copy_to_user(buf, &changes, sizeof(changes)))
		return -EFAULT;
	/* Another reader may have read a later count. */
	read = atomic64_read(&region->changes_read);
	while (read < changes &&
	       !atomic64_try_cmpxchg(&region->changes_read, &read, changes))
		;
	return sizeof(changes);
}

static int region_flush(struct file *file, fl_owner_t id)
{
	vmem_region_flush(file->private_data);
	return 0;
}

static int region_release(struct inode *inode, struct file *file)
{
	vmem_region_end(file->private_data);
	return 0;
}

#ifdef CONFIG_PROC_FS
static void region_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct vmem_region *region = file->private_data;
	struct vmem_metadata metadata;

	mutex_lock(&region->lock);
	seq_printf(m, "region-id:\t%u\n", region->id);
	seq_printf(m, "gpa:\t%#llx\n", region->gpa);
	seq_printf(m, "size:\t%llu\n", region->size);
	seq_printf(m, "hva:\t%#llx\n", region->hva);
	seq_printf(m, "block-size:\t%llu\n", region->block_size);
	seq_printf(m, "slot-size:\t%llu\n", region->slot_size);
	seq_printf(m, "first-slot:\t%u\n", region->first_slot);
	seq_printf(m, "nr-slots:\t%u\n", region->nr_slots);
	seq_printf(m, "address-spaces:\t%#lx\n", region->as_mask);
	seq_printf(m, "requested-size:\t%llu\n", region->requested_size);
	seq_printf(m, "plugged-size:\t%llu\n",
		   region->plugged_blocks * region->block_size);
	seq_printf(m, "populated-slots:\t%u\n", region->populated_slots);
	seq_printf(m, "dirty-log:\t%d\n", region->dirty_log);
	seq_printf(m, "zap-ranges:\t%d\n", region->zap_ranges);
	seq_printf(m, "range-zaps:\t%llu\n", region->range_zaps);
	seq_printf(m, "zaps-by-kvm:\t%llu\n", region->zaps_by_kvm);
	seq_printf(m, "alive:\t%d\n", vmem_region_alive(region));
	seq_printf(m, "request-id:\t%llu\n", region->last_request.id);
	vmem_region_metadata(region, &metadata);
	seq_printf(m, "metadata:\t%llu\n", vmem_metadata_total(&metadata));
	mutex_unlock(&region->lock);
}
#endif

static const struct file_operations region_fops = {
	.owner = THIS_MODULE,
	.flush = region_flush,
	.release = region_release,
	.read = region_read,
	.poll = region_poll,
	.llseek = noop_llseek,
#ifdef CONFIG_PROC_FS
	.show_fdinfo = region_show_fdinfo,
#endif
};

/*
 * vmem_region_file() - a file that owns a region
 *
 * Return: the file, whose release ends the region; an ERR_PTR, after which the
 * region still belongs to the caller.
 */
struct file *vmem_region_file(struct vmem_region *region)
{
	return anon_inode_getfile("[kvm-vmem-region]", &region_fops, region,
				  O_RDWR);
}

/*
 * vmem_region_get_by_fd() - get the region of a descriptor of the current
 * process
 *
 * Return: the region with a reference; NULL: not the descriptor of a region.
 */
struct vmem_region *vmem_region_get_by_fd(int fd)
{
	struct vmem_region *region = NULL;
	struct file *file = fget(fd);

	if (!file)
		return NULL;
	if (file->f_op == &region_fops)
		region = vmem_region_get(file->private_data);
	fput(file);
	return region;
}
