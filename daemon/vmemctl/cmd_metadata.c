// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl metadata: the metadata that KVM has allocated for the memslots of any
 * VM. The module reports it; no vmemd is involved, and nothing is changed.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command_line.h"
#include "common/json_member.h"
#include "common/size.h"
#include "common/vm_memslots.h"
#include "host_vm.h"

static const char *const address_space_names[VM_ADDRESS_SPACES] = {
	"normal",
	"SMM",
};

/**
 * struct vm_report - the memslots of a VM and their metadata
 * @vm: the VM
 * @address_spaces: number of KVM address spaces
 * @memslots: memslots of each address space
 * @metadata: metadata of each address space
 * @total: metadata of all address spaces
 */
struct vm_report {
	const struct host_vm *vm;
	unsigned int address_spaces;
	struct vm_memslots memslots[VM_ADDRESS_SPACES];
	struct vm_metadata metadata[VM_ADDRESS_SPACES];
	struct vm_metadata total;
};

/* --- Reading --- */

static void free_report(struct vm_report *report)
{
	for (unsigned int as = 0; as < report->address_spaces; as++)
		vm_memslots_free(&report->memslots[as]);
}

static int make_report(struct vm_report *report, int device,
		       unsigned int address_spaces, const struct host_vm *vm)
{
	*report = (struct vm_report){
		.vm = vm,
		.address_spaces = address_spaces,
	};
	for (unsigned int as = 0; as < report->address_spaces; as++) {
		struct vm_memslots *memslots = &report->memslots[as];
		int ret = vm_memslots_read(device, vm->fd, as, memslots);

		if (ret) {
			free_report(report);
			return ret;
		}
		for (size_t i = 0; i < memslots->nr; i++)
			vm_metadata_add(&report->metadata[as],
					&memslots->memslots[i]);
		vm_metadata_sum(&report->total, &report->metadata[as]);
	}
	return 0;
}

static int by_metadata(const void *a, const void *b)
{
	const struct vm_report *left = a, *right = b;
	uint64_t l = vm_metadata_total(&left->total);
	uint64_t r = vm_metadata_total(&right->total);

	return l != r ? (l < r) - (l > r)
		      : (left->vm->pid > right->vm->pid) -
				(left->vm->pid < right->vm->pid);
}

/* Print an error. Return: @ret. */
static int complain_of_device(int ret)
{
	if (ret == -ENOENT || ret == -ENXIO || ret == -ENODEV)
		ctl_complain("/dev/kvm-vmem is not there: is kvm_vmem loaded?");
	else
		ctl_complain("/dev/kvm-vmem: %s", strerror(-ret));
	return ret;
}

static int complain_of_process(pid_t pid, int ret)
{
	if (ret == -ESRCH)
		ctl_complain("there is no process %d", (int)pid);
	else if (ret == -EPERM || ret == -EACCES)
		ctl_complain("process %d: inspecting it needs the permissions "
			     "of ptrace(2), which root has",
			     (int)pid);
	else
		ctl_complain("process %d: %s", (int)pid, strerror(-ret));
	return ret;
}

static int complain_of_vm(const struct host_vm *vm, int ret)
{
	if (ret == -ENOTTY)
		ctl_complain("the loaded kvm_vmem is too old for this");
	else if (ret == -EBADF || ret == -EINVAL)
		ctl_complain("descriptor %d is not a KVM VM", vm->number);
	else
		ctl_complain("descriptor %d: %s", vm->number, strerror(-ret));
	return ret;
}

/* --- Printing --- */

static json_object *metadata_to_json(const struct vm_metadata *m)
{
	json_object *object = json_object_new_object();

	json_add_size(object, "total", vm_metadata_total(m));
	json_add_size(object, "memslot", m->memslot);
	json_add_size(object, "rmap", m->rmap);
	json_add_size(object, "lpage_info", m->lpage_info);
	json_add_size(object, "gfn_track", m->gfn_track);
	json_add_size(object, "dirty_bitmap", m->dirty_bitmap);
	return object;
}

static json_object *memslot_to_json(const struct kvm_vmem_memslot *memslot)
{
	json_object *object = json_object_new_object();
	struct vm_metadata m = {0};

	vm_metadata_add(&m, memslot);
	json_add_size(object, "id", memslot->slot & 0xffff);
	json_add_size(object, "flags", memslot->flags);
	json_add_size(object, "gpa", memslot->guest_phys_addr);
	json_add_size(object, "size", memslot->memory_size);
	json_object_object_add(object, "metadata", metadata_to_json(&m));
	return object;
}

static json_object *address_space_to_json(const struct vm_report *report,
					  unsigned int as, bool memslots)
{
	const struct vm_memslots *list = &report->memslots[as];
	json_object *object = json_object_new_object(), *array;

	json_add_size(object, "address_space", as);
	json_add_size(object, "nr_memslots", list->nr);
	json_add_size(object, "memory", report->metadata[as].memory);
	json_add_bool(object, "changing", list->changing);
	json_object_object_add(object, "metadata",
			       metadata_to_json(&report->metadata[as]));
	if (!memslots)
		return object;
	array = json_object_new_array();
	for (size_t i = 0; i < list->nr; i++)
		json_object_array_add(array,
				      memslot_to_json(&list->memslots[i]));
	json_object_object_add(object, "memslots", array);
	return object;
}

static json_object *report_to_json(const struct vm_report *report,
				   bool memslots)
{
	json_object *object = json_object_new_object();
	json_object *array = json_object_new_array();

	json_object_object_add(object, "pid",
			       json_object_new_int(report->vm->pid));
	json_add_text(object, "command", report->vm->command);
	json_object_object_add(object, "fd",
			       json_object_new_int(report->vm->number));
	for (unsigned int as = 0; as < report->address_spaces; as++)
		json_object_array_add(
			array, address_space_to_json(report, as, memslots));
	json_object_object_add(object, "address_spaces", array);
	json_object_object_add(object, "metadata",
			       metadata_to_json(&report->total));
	return object;
}

/* Print sizes in one row, each as wide as its heading. */
static void print_kinds(const struct vm_metadata *m)
{
	const uint64_t sizes[] = {
		vm_metadata_total(m), m->memslot,   m->rmap,
		m->lpage_info,	      m->gfn_track, m->dirty_bitmap,
	};
	char text[SIZE_TEXT_MAX];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		printf(" %12s", size_format(sizes[i], text));
	putchar('\n');
}

static const char kinds_head[] = "     metadata      memslot         rmap   "
				 "lpage_info    gfn_track dirty_bitmap";

static void print_sum(const char *name, const struct vm_metadata *m)
{
	char text[SIZE_TEXT_MAX];

	printf("%-14s %8" PRIu64 " %12s", name, m->nr,
	       size_format(m->memory, text));
	print_kinds(m);
}

static void print_memslots(const struct vm_report *report)
{
	char size[SIZE_TEXT_MAX];

	printf("\n%-14s %8s  %-18s %12s%s\n", "address space", "id",
	       "guest address", "size", kinds_head);
	for (unsigned int as = 0; as < report->address_spaces; as++) {
		const struct vm_memslots *list = &report->memslots[as];

		for (size_t i = 0; i < list->nr; i++) {
			const struct kvm_vmem_memslot *s = &list->memslots[i];
			struct vm_metadata m = {0};

			vm_metadata_add(&m, s);
			printf("%-14s %8u  0x%-16" PRIx64 " %12s",
			       address_space_names[as], s->slot & 0xffff,
			       (uint64_t)s->guest_phys_addr,
			       size_format(s->memory_size, size));
			print_kinds(&m);
		}
	}
}

static void print_report(const struct vm_report *report, bool memslots)
{
	if (report->vm->pid)
		printf("process %d (%s), descriptor %d\n", (int)report->vm->pid,
		       report->vm->command, report->vm->number);
	printf("%-14s %8s %12s%s\n", "address space", "memslots", "memory",
	       kinds_head);
	for (unsigned int as = 0; as < report->address_spaces; as++) {
		print_sum(address_space_names[as], &report->metadata[as]);
		if (report->memslots[as].changing)
			ctl_complain(
				"memslots change all the time: the list may be "
				"inconsistent");
	}
	print_sum("both", &report->total);
	if (memslots)
		print_memslots(report);
}

static void print_top(const struct vm_report *reports, size_t nr)
{
	struct vm_metadata all = {0};
	char memory[SIZE_TEXT_MAX], metadata[SIZE_TEXT_MAX];

	printf("%8s  %-16s %5s %9s %12s %12s\n", "process", "command", "fd",
	       "memslots", "memory", "metadata");
	for (size_t i = 0; i < nr; i++) {
		const struct vm_report *r = &reports[i];

		printf("%8d  %-16s %5d %9" PRIu64 " %12s %12s\n",
		       (int)r->vm->pid, r->vm->command, r->vm->number,
		       r->total.nr, size_format(r->total.memory, memory),
		       size_format(vm_metadata_total(&r->total), metadata));
		vm_metadata_sum(&all, &r->total);
	}
	printf("%8zu  %-16s %5s %9" PRIu64 " %12s %12s\n", nr, "in all", "",
	       all.nr, size_format(all.memory, memory),
	       size_format(vm_metadata_total(&all), metadata));
}

static void print_reports(const struct ctl_options *options,
			  const struct vm_report *reports, size_t nr)
{
	json_object *object, *array;

	if (!options->json && options->top) {
		print_top(reports, nr);
		return;
	}
	if (!options->json) {
		for (size_t i = 0; i < nr; i++) {
			if (i)
				putchar('\n');
			print_report(&reports[i], options->memslots);
		}
		return;
	}
	object = json_object_new_object();
	array = json_object_new_array();
	for (size_t i = 0; i < nr; i++)
		json_object_array_add(
			array, report_to_json(&reports[i], options->memslots));
	json_object_object_add(object, "vms", array);
	ctl_print_json(object);
	json_object_put(object);
}

/* --- The command --- */

/* Make a list with the VM of an inherited descriptor. */
static int take_fd(struct host_vms *vms, int fd)
{
	*vms = (struct host_vms){.vms = calloc(1, sizeof(*vms->vms))};
	if (!vms->vms) {
		ctl_complain("out of memory");
		return -ENOMEM;
	}
	vms->vms[0] = (struct host_vm){
		.number = fd,
		.fd = dup(fd),
	};
	if (vms->vms[0].fd < 0) {
		ctl_complain("descriptor %d: %s", fd, strerror(errno));
		return -EBADF;
	}
	vms->nr = 1;
	return 0;
}

static int find_vms(const struct ctl_options *options, struct host_vms *vms)
{
	int ret;

	if (options->fd >= 0)
		return take_fd(vms, options->fd);
	if (options->pid) {
		ret = host_vm_of(vms, options->pid);
		if (ret)
			return complain_of_process(options->pid, ret);
		if (!vms->nr) {
			ctl_complain("process %d has no KVM VM",
				     (int)options->pid);
			return -ENOENT;
		}
		return 0;
	}
	ret = host_vm_all(vms);
	if (ret)
		ctl_complain("looking for VMs: %s", strerror(-ret));
	if (vms->refused)
		ctl_complain("%zu processes were not inspected: that needs the "
			     "permissions of ptrace(2)",
			     vms->refused);
	return ret;
}

static int ctl_metadata(const struct ctl_options *options)
{
	struct vm_report *reports = NULL;
	struct host_vms vms = {0};
	unsigned int address_spaces;
	size_t nr = 0;
	int device, ret;

	device = vm_memslots_open(&address_spaces);
	if (device < 0)
		return complain_of_device(device);
	ret = find_vms(options, &vms);
	if (ret)
		goto out;
	reports = calloc(vms.nr + 1, sizeof(*reports));
	if (!reports) {
		ctl_complain("out of memory");
		ret = -ENOMEM;
		goto out;
	}
	for (size_t i = 0; i < vms.nr; i++) {
		ret = make_report(&reports[nr], device, address_spaces,
				  &vms.vms[i]);
		/* The process has replaced the descriptor in the meantime. */
		if (ret == -EINVAL && options->fd < 0)
			continue;
		if (ret) {
			complain_of_vm(&vms.vms[i], ret);
			goto out;
		}
		nr++;
	}
	ret = 0;
	/* Do not keep VMs alive while a pager delays the output. */
	host_vm_close(&vms);
	if (options->top)
		qsort(reports, nr, sizeof(*reports), by_metadata);
	print_reports(options, reports, nr);
out:
	while (nr)
		free_report(&reports[--nr]);
	free(reports);
	host_vm_free(&vms);
	close(device);
	return ret;
}

static int check_metadata(const struct ctl_options *options)
{
	if (!!options->pid + (options->fd >= 0) + options->top != 1) {
		ctl_complain("metadata takes one of --pid, --fd and --top");
		return -EINVAL;
	}
	if (options->top && options->memslots) {
		ctl_complain("--memslots is for metadata of one VM");
		return -EINVAL;
	}
	return 0;
}

static const struct ctl_option metadata_options[] = {
	{.name = "pid",
	 .value = "PID",
	 .complete = "process",
	 .parse = ctl_parse_number,
	 .offset = offsetof(struct ctl_options, pid),
	 .least = 1,
	 .help = "of the VMs of this process"},
	{.name = "fd",
	 .value = "N",
	 .parse = ctl_parse_number,
	 .offset = offsetof(struct ctl_options, fd),
	 .help = "of the VM of this inherited descriptor"},
	{.name = "top",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, top),
	 .help = "of all VMs of this host, the most costly first"},
	{.name = "memslots",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, memslots),
	 .help = "with --pid or --fd: also of each memslot"},
	{},
};

const struct ctl_command metadata_commands[] = {
	{.name = "metadata",
	 .help = "show the memslot metadata of any VM; without vmemd",
	 .options = metadata_options,
	 .check = check_metadata,
	 .run = ctl_metadata},
	{},
};
