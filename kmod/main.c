// SPDX-License-Identifier: GPL-2.0-only
/*
 * kvm_vmem: KVM metadata only for memslots that are populated.
 *
 * series.c	refuses kernel series that were not reviewed
 * symbols.c	finds the KVM functions that are not exported
 * layout.c	checks the layout of KVM's structures
 * memslot.c	all access to the internals of KVM's memslots
 * batch*.c	many memslot changes in one step: judged, then applied
 * zap.c	drops the mappings of single memslots
 * queue.c	order of the works of a VM, and their share of a CPU
 * region*.c	block state of a virtio-mem device, and its memslots
 * netlink*.c	the generic netlink family, which controls regions
 * trace.h	tracepoints
 * device.c	/dev/kvm-vmem and its ioctls
 */
#include <linux/init.h>
#include <linux/module.h>

#include "device.h"
#include "layout.h"
#include "netlink.h"
#include "queue.h"
#include "region.h"
#include "series.h"
#include "symbols.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

static int __init kvm_vmem_init(void)
{
	int r;

	r = vmem_series_check();
	if (r)
		return r;
	r = vmem_symbols_init();
	if (r)
		return r;
	r = vmem_layout_check();
	if (r)
		return r;
	r = vmem_queue_init();
	if (r)
		return r;
	r = vmem_netlink_init();
	if (r)
		goto out_queue;
	/* Register the device last, because it can create regions. */
	r = vmem_device_init();
	if (r)
		goto out_netlink;
	return 0;

out_netlink:
	vmem_netlink_exit();
out_queue:
	vmem_queue_exit();
	return r;
}

static void __exit kvm_vmem_exit(void)
{
	vmem_device_exit();
	vmem_netlink_exit();
	vmem_region_exit();
	vmem_queue_exit();
}

module_init(kvm_vmem_init);
module_exit(kvm_vmem_exit);

MODULE_DESCRIPTION("KVM metadata only for populated virtio-mem memory");
MODULE_VERSION("0.1.0");
MODULE_LICENSE("GPL");
