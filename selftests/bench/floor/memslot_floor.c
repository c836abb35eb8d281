// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Cost of only allocating and freeing the memory that KVM holds for memslots: a
 * lower bound for any way of creating and deleting them. For the bench only.
 *
 * A write of "NR BYTES [BYTES...]" to /sys/kernel/debug/memslot_floor allocates
 * a struct kvm_memory_slot and arrays of these sizes NR times, with KVM's calls
 * and in KVM's order, and frees them again. A read then returns "ALLOC FREE" in
 * nanoseconds.
 */
#include <linux/debugfs.h>
#include <linux/fs.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/kvm_host.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

/* rmaps of three page sizes, lpage_info of two, gfn_track. */
#define FLOOR_MAX_ARRAYS 6

/* Maximum number of memslots of a VM, in all address spaces. */
#define FLOOR_MAX_SLOTS 65528

/* Maximum length of a request. */
#define FLOOR_LINE 128

struct floor_slot {
	struct kvm_memory_slot *slot;
	void *arrays[FLOOR_MAX_ARRAYS];
};

static struct dentry *floor_file;

/* Protects the following variables. */
static DEFINE_MUTEX(floor_lock);
static u64 floor_alloc_ns, floor_free_ns;

static int floor_alloc(struct floor_slot *s, const unsigned long *bytes,
		       unsigned int nr_arrays)
{
	unsigned int i;

	s->slot = kzalloc(sizeof(*s->slot), GFP_KERNEL_ACCOUNT);
	if (!s->slot)
		return -ENOMEM;
	for (i = 0; i < nr_arrays; i++) {
		s->arrays[i] = __vcalloc(1, bytes[i], GFP_KERNEL_ACCOUNT);
		if (!s->arrays[i])
			return -ENOMEM;
	}
	return 0;
}

static void floor_free(struct floor_slot *s)
{
	unsigned int i;

	for (i = 0; i < FLOOR_MAX_ARRAYS; i++)
		vfree(s->arrays[i]);
	kfree(s->slot);
}

static int floor_run(unsigned int nr, const unsigned long *bytes,
		     unsigned int nr_arrays)
{
	struct floor_slot *slots;
	u64 start, allocated;
	unsigned int i;
	int r = 0;

	slots = kvcalloc(nr, sizeof(*slots), GFP_KERNEL);
	if (!slots)
		return -ENOMEM;
	start = ktime_get_ns();
	for (i = 0; i < nr && !r; i++) {
		r = floor_alloc(&slots[i], bytes, nr_arrays);
		cond_resched();
	}
	allocated = ktime_get_ns();
	for (i = 0; i < nr; i++) {
		floor_free(&slots[i]);
		cond_resched();
	}
	floor_alloc_ns = allocated - start;
	floor_free_ns = ktime_get_ns() - allocated;
	kvfree(slots);
	return r;
}

static ssize_t floor_write(struct file *file, const char __user *from,
			   size_t len, loff_t *pos)
{
	unsigned long bytes[FLOOR_MAX_ARRAYS];
	char line[FLOOR_LINE], *rest, *word;
	unsigned int nr, nr_arrays = 0;
	int r;

	if (len >= sizeof(line))
		return -EINVAL;
	if (copy_from_user(line, from, len))
		return -EFAULT;
	line[len] = '\0';
	rest = strim(line);
	word = strsep(&rest, " ");
	r = kstrtouint(word, 0, &nr);
	if (r)
		return r;
	if (!nr || nr > FLOOR_MAX_SLOTS)
		return -EINVAL;
	while ((word = strsep(&rest, " "))) {
		if (nr_arrays == FLOOR_MAX_ARRAYS)
			return -EINVAL;
		r = kstrtoul(word, 0, &bytes[nr_arrays]);
		if (r)
			return r;
		if (!bytes[nr_arrays++])
			return -EINVAL;
	}
	mutex_lock(&floor_lock);
	r = floor_run(nr, bytes, nr_arrays);
	mutex_unlock(&floor_lock);
	return r ?: len;
}

static ssize_t floor_read(struct file *file, char __user *to, size_t len,
			  loff_t *pos)
{
	char line[FLOOR_LINE];
	int n;

	mutex_lock(&floor_lock);
	n = scnprintf(line, sizeof(line), "%llu %llu\n", floor_alloc_ns,
		      floor_free_ns);
	mutex_unlock(&floor_lock);
	return simple_read_from_buffer(to, len, pos, line, n);
}

static const struct file_operations floor_fops = {
	.owner = THIS_MODULE,
	.read = floor_read,
	.write = floor_write,
	.llseek = default_llseek,
};

static int __init floor_init(void)
{
	floor_file = debugfs_create_file("memslot_floor", 0600, NULL, NULL,
					 &floor_fops);
	return PTR_ERR_OR_ZERO(floor_file);
}

static void __exit floor_exit(void)
{
	debugfs_remove(floor_file);
}

module_init(floor_init);
module_exit(floor_exit);

MODULE_DESCRIPTION("Time to allocate and free what KVM holds for memslots");
MODULE_LICENSE("GPL");
