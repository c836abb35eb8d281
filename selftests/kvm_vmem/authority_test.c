// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Permissions: the region's descriptor gives any process that has it control of
 * the region, and of nothing else.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "batch.h"
#include "process.h"
#include "region.h"
#include "tap.h"

/* More descriptors than any process here has. */
#define MAX_FD 256

/* Blocks that the other process plugs and unplugs. */
#define THEIRS_FIRST 2U
#define THEIRS_NR    7U
#define THEIRS_LESS  3U

/* Credentials of the other process. */
enum other {
	OTHER_ROOT,
	OTHER_NOBODY,
	OTHER_NAMESPACE,
};

static void become(enum other other)
{
	if (other == OTHER_NOBODY)
		become_nobody(NOBODY);
	else if (other == OTHER_NAMESPACE &&
		 unshare(CLONE_NEWUSER | CLONE_NEWNET))
		tap_skip("no user namespaces: %s", strerror(errno));
}

/* Runs in a process older than the region, which receives its descriptor. */
static void use_received_fd(int socket, enum other other)
{
	struct vmem_nl_range theirs, less;
	struct vmem_nl_region s;
	struct vmem_nl_name name;
	struct vmem_nl *nl;

	become(other);
	nl = netlink_open();
	name = VMEM_NL_BY_FD(receive_fd(socket));
	EXPECT_OK(vmem_nl_region_get(nl, name, &s, NULL));
	theirs.gpa = s.gpa + THEIRS_FIRST * s.block_size;
	theirs.size = THEIRS_NR * s.block_size;
	less.gpa = theirs.gpa;
	less.size = THEIRS_LESS * s.block_size;
	EXPECT_OK(vmem_nl_plug(nl, name, 1, &theirs, 1, NULL, NULL));
	send_byte(socket);
	receive_byte(socket);
	EXPECT_OK(vmem_nl_unplug(nl, name, 2, &less, 1, NULL, NULL));
	EXPECT_OK(vmem_nl_region_set(nl, name, VMEM_NL_SET_REQUESTED_SIZE,
				     s.block_size, false, NULL, NULL));
	send_byte(socket);
	receive_byte(socket);
	EXPECT_OK(vmem_nl_unplug_all(nl, name, 3, NULL, NULL));
	_exit(0);
}

static void holder_may(const void *arg)
{
	const enum other *other = arg;
	struct region r;
	int pair[2];
	pid_t pid;

	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid)
		use_received_fd(pair[1], *other);
	close(pair[1]);

	region_init(&r, AS_MASK_BOTH);
	send_fd(pair[0], r.fd);
	receive_byte(pair[0]);
	region_model_set(&r, THEIRS_FIRST, THEIRS_NR, true);
	EXPECT_AS_MODEL(&r);
	send_byte(pair[0]);
	receive_byte(pair[0]);
	region_model_set(&r, THEIRS_FIRST, THEIRS_LESS, false);
	EXPECT_AS_MODEL(&r);
	send_byte(pair[0]);
	expect_exit(pid);
	memset(r.plugged, 0, sizeof(r.plugged));
	EXPECT_AS_MODEL(&r);
}

static int ignore_region(const struct vmem_nl_region *region, void *arg)
{
	(void)region;
	(void)arg;
	return 0;
}

/*
 * Runs in a process that knows the region's id and address, but has no
 * descriptor.
 */
static void use_no_fd(const struct kvm_vmem_create_region *args,
		      struct vmem_nl *nl, bool may_read)
{
	const struct vmem_nl_range range = {.gpa = args->guest_phys_addr,
					    .size = args->block_size};
	const struct vmem_nl_name by_id = VMEM_NL_BY_ID(args->region_id);
	const int read_err = may_read ? 0 : EPERM;
	struct vmem_nl_region s;
	int fd;

	EXPECT_ERR(vmem_nl_plug(nl, by_id, 0, &range, 1, NULL, NULL), EPERM);
	EXPECT_ERR(vmem_nl_unplug(nl, by_id, 0, &range, 1, NULL, NULL), EPERM);
	EXPECT_ERR(vmem_nl_unplug_all(nl, by_id, 0, NULL, NULL), EPERM);
	EXPECT_ERR(vmem_nl_region_set(nl, by_id, VMEM_NL_SET_DIRTY_LOG, 0, true,
				      NULL, NULL),
		   EPERM);
	for (fd = 0; fd < MAX_FD; fd++) {
		tap_context("descriptor %d", fd);
		EXPECT_ERR(vmem_nl_plug(nl, VMEM_NL_BY_FD(fd), 0, &range, 1,
					NULL, NULL),
			   EBADF);
	}
	tap_context("read by id");
	EXPECT_ERR(vmem_nl_region_get(nl, by_id, &s, NULL), read_err);
	EXPECT_ERR(vmem_nl_block_dump(nl, by_id, NULL, NULL, NULL), read_err);
	EXPECT_ERR(vmem_nl_slot_dump(nl, by_id, NULL, NULL, NULL), read_err);
	EXPECT_ERR(vmem_nl_region_dump(nl, ignore_region, NULL, NULL),
		   read_err);
	tap_context("%s", "");
}

static void others_may_not(const void *arg)
{
	const enum other *other = arg;
	struct kvm_vmem_create_region args;
	struct vmem_nl *opened_before;
	struct region r;
	int pair[2];
	pid_t pid;

	process_pair(pair);
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		opened_before = netlink_open();
		become(*other);
		ASSERT_EQ(read(pair[1], &args, sizeof(args)), sizeof(args));
		use_no_fd(&args, netlink_open(), *other == OTHER_ROOT);
		/*
		 * Permissions are checked when a request is sent, not when the
		 * socket is opened.
		 */
		use_no_fd(&args, opened_before, *other == OTHER_ROOT);
		_exit(0);
	}
	close(pair[1]);
	region_init(&r, AS_MASK_NORMAL);
	ASSERT_EQ(write(pair[0], &r.args, sizeof(r.args)), sizeof(r.args));
	expect_exit(pid);
	EXPECT_AS_MODEL(&r);
}

static void closed_is_gone(const void *arg)
{
	struct region r;
	int fd;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	fd = dup(r.fd);
	ASSERT_GE(fd, 0);
	close(r.fd);
	/* The region still exists, but this descriptor is closed. */
	EXPECT_ERR(region_plug(&r, 0, 1), EBADF);
	r.fd = fd;
	EXPECT_OK(region_plug(&r, 0, 1));
	EXPECT_AS_MODEL(&r);
}

static void only_its_own_range(const void *arg)
{
	struct vmem_nl_range outside[5];
	struct region r;
	struct backing boot;
	unsigned int i;
	int second;
	struct kvm_vmem_create_region args;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	backing_create(&boot, GUEST_PAGE);
	/* A second region after it, with a block plugged. */
	args = r.args;
	args.guest_phys_addr += args.region_size;
	args.first_slot += r.nr_slots;
	second = region_call_create(r.dev, &args);
	ASSERT_OK(second);
	outside[0] = (struct vmem_nl_range){.gpa = args.guest_phys_addr,
					    .size = REGION_BLOCK};
	ASSERT_OK(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(second), 0, outside, 1, NULL,
			       NULL));
	ASSERT_OK(vm_set_region(&r.vm, 1, 0, REGION_GPA - REGION_BLOCK,
				GUEST_PAGE, boot.hva));

	outside[1] = (struct vmem_nl_range){.gpa = REGION_GPA - REGION_BLOCK,
					    .size = REGION_BLOCK};
	outside[2] = (struct vmem_nl_range){.gpa = 0, .size = REGION_BLOCK};
	outside[3] = (struct vmem_nl_range){.gpa = REGION_GPA - REGION_BLOCK,
					    .size = 2 * REGION_BLOCK};
	outside[4] = (struct vmem_nl_range){.gpa = args.guest_phys_addr -
						   REGION_BLOCK,
					    .size = 2 * REGION_BLOCK};
	for (i = 0; i < ARRAY_SIZE(outside); i++) {
		tap_context("range %u", i);
		EXPECT_ERR(vmem_nl_unplug(r.nl, VMEM_NL_BY_FD(r.fd), 0,
					  &outside[i], 1, NULL, NULL),
			   ERANGE);
		EXPECT_ERR(vmem_nl_plug(r.nl, VMEM_NL_BY_FD(r.fd), 0,
					&outside[i], 1, NULL, NULL),
			   ERANGE);
	}
	tap_context("%s", "");
	EXPECT_OK(region_unplug_all(&r));
	EXPECT_OK(vmem_nl_region_set(r.nl, VMEM_NL_BY_FD(r.fd),
				     VMEM_NL_SET_DIRTY_LOG, 0, true, NULL,
				     NULL));
	close(r.fd);
	EXPECT_GUEST_MEMORY(&r.vcpu, 0x8000, r.vm.boot_hva + 0x8000);
	EXPECT_GUEST_MEMORY(&r.vcpu, REGION_GPA - REGION_BLOCK, boot.hva);
	EXPECT_GUEST_MEMORY(&r.vcpu, args.guest_phys_addr, r.mem.hva);
	EXPECT_EQ(vm_slot_exists(&r.vm, 1), true);
	EXPECT_EQ(vm_slot_exists(&r.vm, args.first_slot), true);
}

static void is_not_the_vm(const void *arg)
{
	struct kvm_vmem_create_region args;
	struct batch batch;
	struct region r;
	int copy;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	batch_init(&batch);
	batch_set(&batch, 1, 0, GIB(1), GUEST_PAGE, r.mem.hva);
	EXPECT_ERR(batch_call(r.dev, r.fd, &batch, 0), EINVAL);
	args = r.args;
	args.vm_fd = r.fd;
	EXPECT_ERR(region_call_create(r.dev, &args), EINVAL);
	/* It is not accepted as the device or as a VM either. */
	EXPECT_ERR(batch_call(r.fd, r.vm.fd, &batch, 0), ENOTTY);
	copy = r.vm.fd;
	r.vm.fd = r.fd;
	EXPECT_ERR(vm_delete_slot(&r.vm, VM_BOOT_SLOT), ENOTTY);
	r.vm.fd = copy;
	EXPECT_AS_MODEL(&r);
}

static int open_as(gid_t gid)
{
	int status;
	pid_t pid = fork();

	ASSERT_GE(pid, 0);
	if (!pid) {
		become_nobody(gid);
		_exit(open("/dev/kvm-vmem", O_RDWR) < 0 ? errno : 0);
	}
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	ASSERT_TRUE(WIFEXITED(status));
	return -WEXITSTATUS(status);
}

static void device_mode(const void *arg)
{
	struct stat st;

	(void)arg;
	close(kvm_vmem_open());
	ASSERT_EQ(stat("/dev/kvm-vmem", &st), 0);
	EXPECT_EQ(st.st_mode, S_IFCHR | 0660);
	EXPECT_ERR(open_as(NOBODY), EACCES);
	EXPECT_OK(open_as(st.st_gid));
}

static void pid_is_the_vmm(const void *arg)
{
	struct vmem_nl_region s;
	struct region r;
	pid_t pid, vmm;

	(void)arg;
	region_init(&r, AS_MASK_NORMAL);
	vmm = getpid();
	pid = fork();
	ASSERT_GE(pid, 0);
	if (!pid) {
		EXPECT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd), &s,
					     NULL));
		EXPECT_EQ(s.pid, vmm);
		/*
		 * In a process of another pid namespace, which does not contain
		 * the VMM.
		 */
		if (unshare(CLONE_NEWPID))
			_exit(0);
		pid = fork();
		ASSERT_GE(pid, 0);
		if (!pid) {
			EXPECT_OK(vmem_nl_region_get(r.nl, VMEM_NL_BY_FD(r.fd),
						     &s, NULL));
			EXPECT_EQ(s.pid, 0);
			_exit(0);
		}
		expect_exit(pid);
		_exit(0);
	}
	expect_exit(pid);
}

int main(void)
{
	static const enum other root = OTHER_ROOT, nobody = OTHER_NOBODY,
				ns = OTHER_NAMESPACE;
	static const struct tap_case cases[] = {
		{.name = "another process may use the descriptor",
		 .run = holder_may,
		 .arg = &root},
		{.name = "an unprivileged process may use the descriptor",
		 .run = holder_may,
		 .arg = &nobody},
		{.name = "a process in other namespaces may use the descriptor",
		 .run = holder_may,
		 .arg = &ns},
		{.name = "without the descriptor even root may only read",
		 .run = others_may_not,
		 .arg = &root},
		{.name = "without the descriptor an unprivileged process may not read",
		 .run = others_may_not,
		 .arg = &nobody},
		{.name = "without the descriptor root of a user namespace may not read",
		 .run = others_may_not,
		 .arg = &ns},
		{.name = "a closed descriptor gives no control",
		 .run = closed_is_gone},
		{.name = "the descriptor gives no control outside its range",
		 .run = only_its_own_range},
		{.name = "the descriptor is neither the VM nor the device",
		 .run = is_not_the_vm},
		{.name = "the device's mode decides which users may open it",
		 .run = device_mode},
		{.name = "the region shows the VMM's pid in the reader's namespace",
		 .run = pid_is_the_vmm},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
