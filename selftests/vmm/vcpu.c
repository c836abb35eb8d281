// SPDX-License-Identifier: GPL-2.0-or-later
#include "vcpu.h"

#include <errno.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "util.h"

/* KVM returns about 40 on current hosts. */
#define CPUID_ENTRIES 256

#define CPUID_FEATURES	     0x1
#define CPUID_TOPOLOGY	     0xb
#define CPUID_TOPOLOGY_V2    0x1f
#define CPUID_ADDRESS_SIZES  0x80000008
#define CPUID_1_TSC_DEADLINE (1U << 24) /* ecx */
#define CPUID_1_HYPERVISOR   (1U << 31) /* ecx */
/* Width on processors without this leaf. */
#define DEFAULT_PHYS_BITS 36

/* Only interrupts KVM_RUN. */
#define SIGNAL_KICK SIGUSR1

static void on_kick(int signal)
{
	(void)signal;
}

struct kvm_cpuid2 *vcpu_get_cpuid(int kvm_fd, unsigned int *phys_bits)
{
	struct kvm_cpuid2 *cpuid;
	struct kvm_cpuid_entry2 *entry;
	bool deadline;
	uint32_t i;

	cpuid = calloc(1, sizeof(*cpuid) +
				  CPUID_ENTRIES * sizeof(cpuid->entries[0]));
	if (!cpuid) {
		error_errno(errno, "cpuid");
		return NULL;
	}
	cpuid->nent = CPUID_ENTRIES;
	if (ioctl(kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid)) {
		error_errno(errno, "KVM_GET_SUPPORTED_CPUID");
		free(cpuid);
		return NULL;
	}
	/* KVM's local APIC supports it, but the VMM has to set the bit. */
	deadline = ioctl(kvm_fd, KVM_CHECK_EXTENSION,
			 KVM_CAP_TSC_DEADLINE_TIMER) > 0;
	*phys_bits = DEFAULT_PHYS_BITS;
	for (i = 0; i < cpuid->nent; i++) {
		entry = &cpuid->entries[i];
		if (entry->function == CPUID_FEATURES) {
			entry->ecx |= CPUID_1_HYPERVISOR;
			if (deadline)
				entry->ecx |= CPUID_1_TSC_DEADLINE;
		} else if (entry->function == CPUID_ADDRESS_SIZES) {
			*phys_bits = entry->eax & 0xff;
		}
	}
	return cpuid;
}

/* The same for all vCPUs except the APIC id. */
static int set_cpuid(const struct vcpu *vcpu, const struct kvm_cpuid2 *common)
{
	size_t size =
		sizeof(*common) + common->nent * sizeof(common->entries[0]);
	struct kvm_cpuid2 *cpuid = malloc(size);
	struct kvm_cpuid_entry2 *entry;
	int ret = 0;
	uint32_t i;

	if (!cpuid)
		return -ENOMEM;
	memcpy(cpuid, common, size);
	for (i = 0; i < cpuid->nent; i++) {
		entry = &cpuid->entries[i];
		if (entry->function == CPUID_FEATURES)
			entry->ebx = (entry->ebx & 0x00ffffff) | vcpu->index
									 << 24;
		else if (entry->function == CPUID_TOPOLOGY ||
			 entry->function == CPUID_TOPOLOGY_V2)
			entry->edx = vcpu->index;
	}
	if (ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid))
		ret = -errno;
	free(cpuid);
	return ret;
}

int vcpu_create(struct vcpu *vcpu, const struct vcpu_machine *machine,
		int kvm_fd, int vm_fd, const struct kvm_cpuid2 *cpuid,
		unsigned int index)
{
	void *run;
	int ret;

	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->machine = machine;
	vcpu->index = index;
	vcpu->fd = ioctl(vm_fd, KVM_CREATE_VCPU, index);
	if (vcpu->fd < 0) {
		ret = -errno;
		goto err;
	}
	ret = ioctl(kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (ret < 0) {
		ret = -errno;
		goto err;
	}
	vcpu->run_size = (size_t)ret;
	run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED,
		   vcpu->fd, 0);
	if (run == MAP_FAILED) {
		ret = -errno;
		goto err;
	}
	vcpu->run = run;
	ret = set_cpuid(vcpu, cpuid);
	if (ret)
		goto err;
	return 0;

err:
	error_errno(-ret, "cannot make vCPU %u", index);
	return ret;
}

static void handle_io(struct vcpu *vcpu)
{
	const struct vcpu_machine *machine = vcpu->machine;
	struct kvm_run *run = vcpu->run;
	char *data = (char *)run + run->io.data_offset;
	uint32_t i;

	for (i = 0; i < run->io.count; i++) {
		machine->pio(machine->opaque, run->io.port,
			     run->io.direction == KVM_EXIT_IO_OUT, data,
			     run->io.size);
		data += run->io.size;
	}
}

/* Return: why the guest ended, GUEST_RUNS if it did not. */
static enum guest_end handle_exit(struct vcpu *vcpu)
{
	const struct vcpu_machine *machine = vcpu->machine;
	struct kvm_run *run = vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		handle_io(vcpu);
		return GUEST_RUNS;
	case KVM_EXIT_MMIO:
		machine->mmio(machine->opaque, run->mmio.phys_addr,
			      run->mmio.is_write, run->mmio.data,
			      run->mmio.len);
		return GUEST_RUNS;
	case KVM_EXIT_INTR:
		return GUEST_RUNS;
	case KVM_EXIT_SHUTDOWN:
		return GUEST_RESET;
	case KVM_EXIT_FAIL_ENTRY:
		error("vCPU %u: the processor refuses to enter the guest, 0x%llx",
		      vcpu->index,
		      (unsigned long long)
			      run->fail_entry.hardware_entry_failure_reason);
		return GUEST_FAILED;
	case KVM_EXIT_INTERNAL_ERROR:
		error("vCPU %u: KVM internal error %u", vcpu->index,
		      run->internal.suberror);
		return GUEST_FAILED;
	default:
		error("vCPU %u: unexpected exit %u", vcpu->index,
		      run->exit_reason);
		return GUEST_FAILED;
	}
}

static void *vcpu_thread(void *opaque)
{
	struct vcpu *vcpu = opaque;
	enum guest_end end = GUEST_RUNS;
	sigset_t kick;

	sigemptyset(&kick);
	sigaddset(&kick, SIGNAL_KICK);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	while (!__atomic_load_n(&vcpu->run->immediate_exit, __ATOMIC_ACQUIRE) &&
	       end == GUEST_RUNS) {
		if (!ioctl(vcpu->fd, KVM_RUN, 0)) {
			end = handle_exit(vcpu);
		} else if (errno != EINTR && errno != EAGAIN) {
			error_errno(errno, "vCPU %u: KVM_RUN", vcpu->index);
			end = GUEST_FAILED;
		}
	}
	if (end != GUEST_RUNS)
		vcpu->machine->end(vcpu->machine->opaque, end);
	return NULL;
}

int vcpu_start(struct vcpu *vcpu)
{
	struct sigaction action = {.sa_handler = on_kick};
	int ret;

	sigaction(SIGNAL_KICK, &action, NULL);
	ret = pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
	if (ret) {
		error_errno(ret, "cannot start vCPU %u", vcpu->index);
		return -ret;
	}
	vcpu->started = true;
	return 0;
}

void vcpu_stop(struct vcpu *vcpu)
{
	if (!vcpu->started)
		return;
	/* KVM_RUN checks it on entry, so a signal before that is not lost. */
	__atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_RELEASE);
	pthread_kill(vcpu->thread, SIGNAL_KICK);
	pthread_join(vcpu->thread, NULL);
	vcpu->started = false;
	/*
	 * An access that has caused an exit is completed by the next KVM_RUN,
	 * which would overwrite a state set meanwhile. Complete it now: KVM_RUN
	 * then ends with EINTR before the guest runs. An access may take
	 * several exits.
	 */
	while (!ioctl(vcpu->fd, KVM_RUN, 0))
		;
	__atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_RELEASE);
}

void vcpu_destroy(struct vcpu *vcpu)
{
	vcpu_stop(vcpu);
	if (vcpu->run)
		munmap(vcpu->run, vcpu->run_size);
	if (vcpu->fd >= 0)
		close(vcpu->fd);
}
