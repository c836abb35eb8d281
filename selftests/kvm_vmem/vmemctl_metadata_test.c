// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * "vmemctl metadata" finds the VMs of other processes, and reports the metadata
 * that KVM holds for them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kcmp.h>

#include "batch.h"
#include "metadata.h"
#include "process.h"
#include "region.h"
#include "tap.h"
#include "vm.h"
#include "vmemctl_run.h"

#define SMALL_GPA  GIB(1)
#define SMALL_SIZE MIB(2)
#define LARGE_GPA  GIB(4)
#define LARGE_SIZE GIB(8)

static json_object *printed_vms(void)
{
	return printed("vms");
}

static void expect_metadata(json_object *object,
			    const struct vmem_nl_metadata *want)
{
	json_object *metadata = member(object, "metadata");

	EXPECT_EQ(get(metadata, "total"), want->total);
	EXPECT_EQ(get(metadata, "memslot"), want->memslot);
	EXPECT_EQ(get(metadata, "rmap"), want->rmap);
	EXPECT_EQ(get(metadata, "lpage_info"), want->lpage_info);
	EXPECT_EQ(get(metadata, "gfn_track"), want->gfn_track);
	EXPECT_EQ(get(metadata, "dirty_bitmap"), want->dirty_bitmap);
}

/* A VM with a small memslot in both address spaces. */
static void small_vm(struct vm *vm)
{
	struct backing mem;

	backing_create(&mem, SMALL_SIZE);
	vm_create(vm, VM_BARE);
	ASSERT_OK(vm_set_region(vm, SLOT(AS_NORMAL, 5), 0, SMALL_GPA,
				SMALL_SIZE, mem.hva));
	ASSERT_OK(vm_set_region(vm, SLOT(AS_SMM, 6), 0, SMALL_GPA, SMALL_SIZE,
				mem.hva));
}

/* A VM with a large memslot and dirty logging. */
static void large_vm(struct vm *vm)
{
	struct backing mem;

	backing_create(&mem, LARGE_SIZE);
	vm_create(vm, VM_BARE);
	ASSERT_OK(vm_set_region(vm, SLOT(AS_NORMAL, 1), KVM_MEM_LOG_DIRTY_PAGES,
				LARGE_GPA, LARGE_SIZE, mem.hva));
}

/* The printed VM has @nr_as address spaces with this memslot. */
static void expect_vm(json_object *vm, pid_t pid, uint64_t gpa, uint64_t size,
		      bool logs, unsigned int nr_as)
{
	const struct vmem_nl_metadata one =
		metadata_cost(gpa, size, logs, false);
	json_object *spaces = member(vm, "address_spaces"), *space, *list;
	struct vmem_nl_metadata all = one;

	EXPECT_EQ(get(vm, "pid"), pid);
	ASSERT_EQ(json_object_array_length(spaces), 2);
	for (size_t as = 0; as < 2; as++) {
		tap_context("address space %zu", as);
		space = json_object_array_get_idx(spaces, as);
		EXPECT_EQ(get(space, "address_space"), as);
		EXPECT_EQ(get(space, "nr_memslots"), as < nr_as);
		if (as >= nr_as)
			continue;
		EXPECT_EQ(get(space, "memory"), size);
		expect_metadata(space, &one);
		if (!json_object_object_get_ex(space, "memslots", &list))
			continue;
		ASSERT_EQ(json_object_array_length(list), 1);
		list = json_object_array_get_idx(list, 0);
		EXPECT_EQ(get(list, "gpa"), gpa);
		EXPECT_EQ(get(list, "size"), size);
		EXPECT_EQ(get(list, "flags"),
			  logs ? KVM_MEM_LOG_DIRTY_PAGES : 0);
		expect_metadata(list, &one);
	}
	tap_context("%s", "");
	if (nr_as == 2) {
		all.total *= 2;
		all.memslot *= 2;
		all.rmap *= 2;
		all.lpage_info *= 2;
		all.gfn_track *= 2;
	}
	expect_metadata(vm, &all);
}

/* Only kcmp(2) shows which descriptors are of one VM. */
static void need_kcmp(void)
{
	const pid_t self = getpid();

	if (syscall(SYS_kcmp, self, self, KCMP_FILE, 0, 0))
		tap_skip("kcmp(2): %s", strerror(errno));
}

/*
 * Start a VMM with VMs, one of which has two descriptors. It ends with the
 * case.
 */
static pid_t start_vmm(bool small, bool large)
{
	struct vm vm;
	int pair[2];
	pid_t pid;

	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (pid) {
		close(pair[1]);
		receive_byte(pair[0]);
		return pid;
	}
	close(pair[0]);
	if (small) {
		small_vm(&vm);
		ASSERT_GE(dup(vm.fd), 0);
	}
	if (large)
		large_vm(&vm);
	send_byte(pair[1]);
	for (;;)
		pause();
}

static void of_a_process(const void *arg)
{
	json_object *vms;
	pid_t pid;

	(void)arg;
	need_kcmp();
	close(kvm_vmem_open());
	pid = start_vmm(true, true);
	EXPECT_EQ(RUN("--json", "metadata", "--pid", number(pid), "--memslots"),
		  0);
	vms = printed_vms();
	ASSERT_EQ(json_object_array_length(vms), 2);
	expect_vm(json_object_array_get_idx(vms, 0), pid, SMALL_GPA, SMALL_SIZE,
		  false, 2);
	expect_vm(json_object_array_get_idx(vms, 1), pid, LARGE_GPA, LARGE_SIZE,
		  true, 1);

	/* The table shows both address spaces and the memslots' ids. */
	EXPECT_EQ(RUN("metadata", "--pid", number(pid), "--memslots"), 0);
	EXPECT_TRUE(strstr(output, "\nSMM "));
	EXPECT_TRUE(strstr(output, "\nSMM                   6  0x40000000 "));
	EXPECT_TRUE(strstr(output, "8 GiB"));
}

static void of_a_descriptor(const void *arg)
{
	json_object *vms;
	struct vm vm;
	int fd;

	(void)arg;
	close(kvm_vmem_open());
	large_vm(&vm);
	/* vmemctl inherits the duplicate. */
	fd = dup(vm.fd);
	EXPECT_EQ(RUN("--json", "metadata", "--fd", number(fd)), 0);
	vms = printed_vms();
	ASSERT_EQ(json_object_array_length(vms), 1);
	expect_vm(json_object_array_get_idx(vms, 0), 0, LARGE_GPA, LARGE_SIZE,
		  true, 1);
	EXPECT_EQ(RUN("metadata", "--fd", "1"), 1);
	EXPECT_TRUE(strstr(output, "descriptor 1 is not a KVM VM"));
	EXPECT_EQ(RUN("metadata", "--fd", "1000"), 1);
	EXPECT_TRUE(strstr(output, "descriptor 1000: Bad file descriptor"));
}

static void of_the_host(const void *arg)
{
	json_object *vms;
	pid_t small, large;

	(void)arg;
	need_kcmp();
	close(kvm_vmem_open());
	await_no_vm();
	EXPECT_EQ(RUN("--json", "metadata", "--top"), 0);
	EXPECT_EQ(json_object_array_length(printed_vms()), 0);
	small = start_vmm(true, false);
	large = start_vmm(false, true);
	EXPECT_EQ(RUN("--json", "metadata", "--top"), 0);
	vms = printed_vms();
	ASSERT_EQ(json_object_array_length(vms), 2);
	expect_vm(json_object_array_get_idx(vms, 0), large, LARGE_GPA,
		  LARGE_SIZE, true, 1);
	expect_vm(json_object_array_get_idx(vms, 1), small, SMALL_GPA,
		  SMALL_SIZE, false, 2);
	EXPECT_EQ(RUN("metadata", "--top"), 0);
	EXPECT_TRUE(strstr(output, "\n       2  in all "));
}

static void of_who_may_not_be_asked(const void *arg)
{
	struct stat device;
	pid_t pid, none;

	(void)arg;
	close(kvm_vmem_open());
	ASSERT_EQ(stat("/dev/kvm-vmem", &device), 0);
	/* Neither this process nor one that has ended has a VM. */
	EXPECT_EQ(RUN("metadata", "--pid", number(getpid())), 1);
	EXPECT_TRUE(strstr(output, "has no KVM VM"));
	none = fork();
	ASSERT_GE(none, 0);
	if (!none)
		_exit(0);
	expect_exit(none);
	EXPECT_EQ(RUN("metadata", "--pid", number(none)), 1);
	EXPECT_TRUE(strstr(output, "there is no process"));

	pid = start_vmm(false, true);
	none = fork();
	ASSERT_GE(none, 0);
	if (!none) {
		become_nobody(device.st_gid);
		EXPECT_EQ(RUN("metadata", "--pid", number(pid)), 1);
		EXPECT_TRUE(strstr(output, "permissions of ptrace(2)"));
		EXPECT_EQ(RUN("metadata", "--top"), 0);
		EXPECT_TRUE(strstr(output, "were not inspected"));
		EXPECT_TRUE(strstr(output, "\n       0  in all "));
		_exit(0);
	}
	expect_exit(none);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "the VMs of a process, each once",
		 .run = of_a_process},
		{.name = "the VM of a descriptor", .run = of_a_descriptor},
		{.name = "all VMs of the host, by their cost",
		 .run = of_the_host},
		{.name = "no VM is found without VMs or without permission",
		 .run = of_who_may_not_be_asked},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
