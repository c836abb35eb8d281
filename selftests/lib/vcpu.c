// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * For each access the host sets the vCPU's registers to one of two stubs, a
 * load or a store followed by OUT, and runs the vCPU. With memory at the
 * address the vCPU exits for I/O; without memory it first exits for MMIO. The
 * stubs do not end with HLT: without an in-kernel interrupt controller, 6.12's
 * vcpu_enter_guest() exits to userspace from the fast path of HLT without
 * flushing the PML buffer. Up to 511 dirty pages are then missing in the log.
 * (6.1 has no such path; 7.2 and 7.3 flush the buffer.)
 *
 * The stubs reach any guest-physical address, whatever page sizes the CPU has,
 * through a window: one virtual page per vCPU. The stub writes the window's
 * page table entry before the access, but only when the window moves. Repeated
 * accesses to an address thus use what KVM has cached of it, in particular an
 * entry for "no memory". Under shadow paging KVM must see the write to the page
 * table as the guest's, in the right address space. So each address space has
 * its own window, and the host never writes the entries.
 *
 * The entry is cleared, with INVLPG, before it is written. Otherwise the write
 * may leave it unchanged, and KVM may have cached that the page has no memory.
 * A shadow MMU that synchronizes the entry for INVLPG (6.12 and 7.3, not 6.1)
 * then keeps the cached entry even if a memslot has been created since:
 * sync_mmio_spte() gives it the current memslot generation. KVM does so with or
 * without kvm_vmem.ko.
 *
 * The vCPU is in long mode, with the boot memory mapped at virtual address 0:
 *	0x1000 PML4, 0x2000 PDPT, 0x3000 page directory: one 2 MiB page for the
 *	boot memory, then the table of windows; 0x4000 table of windows; 0x5000
 *	stubs
 * There is no IDT: a fault in the guest is a triple fault and fails the test.
 */
#include "vcpu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tap.h"

#define GPA_PML4    0x1000U
#define GPA_PDPT    0x2000U
#define GPA_PD	    0x3000U
#define GPA_WINDOWS 0x4000U
#define GPA_STUBS   0x5000U

/* Page table entries: present, writable, accessed, dirty, 2 MiB page. */
#define PTE_TABLE 0x023ULL
#define PTE_PAGE  0x063ULL
#define PTE_LARGE 0x0e3ULL

/* The windows follow the boot memory's 2 MiB page. */
#define WINDOW_GVA MIB(2)

#define CR0_PE_ET_NE_WP_PG 0x80010031ULL
#define CR4_PAE		   0x20ULL
#define EFER_LME_LMA	   0x500ULL
#define RFLAGS_FIXED	   0x2ULL

/* The value that the guest reads from an address without memory. */
#define MMIO_PATTERN 0xa5a5a5a5a5a5a5a5ULL

#define MAX_CPUID_ENTRIES 256

/* A stub is entered at its start or, PROLOGUE_LEN bytes on, at the access. */
#define STUB_SIZE    0x20
#define PROLOGUE_LEN 13
#define STUB_LOAD    (GPA_STUBS)
#define STUB_STORE   (GPA_STUBS + STUB_SIZE)

/* Any unused port. */
#define PORT_ENDED 0x80U

static const uint8_t stubs[][STUB_SIZE] = {
	{
		0x48, 0xc7, 0x07, 0, 0, 0, 0, /* movq $0, (%rdi) */
		0x0f, 0x01, 0x3e, /* invlpg (%rsi) */
		0x48, 0x89, 0x17, /* mov %rdx, (%rdi) */
		0x48, 0x8b, 0x06, /* mov (%rsi), %rax */
		0xe6, PORT_ENDED, /* out %al, $PORT_ENDED */
	},
	{
		0x48, 0xc7, 0x07, 0, 0, 0, 0, /* movq $0, (%rdi) */
		0x0f, 0x01, 0x3e, /* invlpg (%rsi) */
		0x48, 0x89, 0x17, /* mov %rdx, (%rdi) */
		0x48, 0x89, 0x06, /* mov %rax, (%rsi) */
		0xe6, PORT_ENDED, /* out %al, $PORT_ENDED */
	},
};

static void write_boot_memory(const struct vm *vm)
{
	uint64_t *pml4 = (uint64_t *)(vm->boot_hva + GPA_PML4);
	uint64_t *pdpt = (uint64_t *)(vm->boot_hva + GPA_PDPT);
	uint64_t *pd = (uint64_t *)(vm->boot_hva + GPA_PD);

	pml4[0] = GPA_PDPT | PTE_TABLE;
	pdpt[0] = GPA_PD | PTE_TABLE;
	pd[0] = PTE_LARGE;
	pd[WINDOW_GVA / MIB(2)] = GPA_WINDOWS | PTE_TABLE;
	memcpy(vm->boot_hva + GPA_STUBS, stubs, sizeof(stubs));
}

static void set_cpuid(const struct vcpu *vcpu)
{
	struct kvm_cpuid2 *cpuid;

	cpuid = calloc(1, sizeof(*cpuid) +
				  MAX_CPUID_ENTRIES * sizeof(*cpuid->entries));
	ASSERT_TRUE(cpuid);
	cpuid->nent = MAX_CPUID_ENTRIES;
	ASSERT_EQ(ioctl(vcpu->vm->kvm_fd, KVM_GET_SUPPORTED_CPUID, cpuid), 0);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_CPUID2, cpuid), 0);
	free(cpuid);
}

static void set_long_mode(const struct vcpu *vcpu)
{
	const struct kvm_segment code = {
		.limit = 0xffffffff,
		.selector = 0x8,
		.type = 0xb,
		.present = 1,
		.s = 1,
		.l = 1,
		.g = 1,
	};
	const struct kvm_segment data = {
		.limit = 0xffffffff,
		.selector = 0x10,
		.type = 0x3,
		.present = 1,
		.s = 1,
		.db = 1,
		.g = 1,
	};
	struct kvm_sregs sregs;

	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cr0 = CR0_PE_ET_NE_WP_PG;
	sregs.cr3 = GPA_PML4;
	sregs.cr4 = CR4_PAE;
	sregs.efer = EFER_LME_LMA;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.idt.limit = 0;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_SREGS, &sregs), 0);
}

/** vcpu_create() - Make the next vCPU of a VM that is not bare. */
void vcpu_create(struct vcpu *vcpu, struct vm *vm)
{
	int run_size = ioctl(vm->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);

	ASSERT_GT(run_size, 0);
	ASSERT_TRUE(vm->boot_hva && vm->nr_vcpus < VM_MAX_VCPUS);
	memset(vcpu, 0, sizeof(*vcpu));
	vcpu->vm = vm;
	vcpu->index = vm->nr_vcpus++;
	vcpu->window_gpa[AS_NORMAL] = UINT64_MAX;
	vcpu->window_gpa[AS_SMM] = UINT64_MAX;
	vcpu->fd = ioctl(vm->fd, KVM_CREATE_VCPU, vcpu->index);
	ASSERT_GE(vcpu->fd, 0);
	vcpu->run_size = (size_t)run_size;
	vcpu->run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE,
			 MAP_SHARED, vcpu->fd, 0);
	ASSERT_NE((void *)vcpu->run, MAP_FAILED);

	write_boot_memory(vm);
	set_cpuid(vcpu);
	set_long_mode(vcpu);
}

/** vcpu_destroy() - Close the vCPU. */
void vcpu_destroy(struct vcpu *vcpu)
{
	munmap(vcpu->run, vcpu->run_size);
	close(vcpu->fd);
}

/**
 * vcpu_set_smm() - Put the vCPU in system management mode or take it out, as a
 * migration does. Its accesses then go to AS_SMM's memslots.
 */
void vcpu_set_smm(struct vcpu *vcpu, bool smm)
{
	struct kvm_vcpu_events events;

	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_VCPU_EVENTS, &events), 0);
	events.flags |= KVM_VCPUEVENT_VALID_SMM;
	events.smi.smm = smm;
	events.smi.pending = 0;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_VCPU_EVENTS, &events), 0);
	vcpu->as = smm ? AS_SMM : AS_NORMAL;
	/* A CPU that enters or leaves the mode flushes its TLB. */
	vcpu->window_gpa[vcpu->as] = UINT64_MAX;
}

static enum guest_access run_stub(struct vcpu *vcpu, uint64_t stub,
				  uint64_t gpa, uint64_t *value)
{
	const unsigned int window = vcpu->index * 2 + vcpu->as;
	const uint64_t page = gpa & -GUEST_PAGE;
	enum guest_access found = GUEST_MEMORY;
	struct kvm_regs regs = {.rflags = RFLAGS_FIXED};

	regs.rip = stub;
	if (vcpu->window_gpa[vcpu->as] == page)
		regs.rip += PROLOGUE_LEN;
	vcpu->window_gpa[vcpu->as] = page;
	regs.rdi = GPA_WINDOWS + window * sizeof(uint64_t);
	regs.rdx = page | PTE_PAGE;
	regs.rsi = WINDOW_GVA + window * GUEST_PAGE + gpa % GUEST_PAGE;
	regs.rax = *value;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_REGS, &regs), 0);

	for (;;) {
		if (ioctl(vcpu->fd, KVM_RUN, NULL) < 0) {
			ASSERT_EQ(errno, EINTR);
			continue;
		}
		if (vcpu->run->exit_reason != KVM_EXIT_MMIO)
			break;
		/*
		 * KVM completes the access with this data on the next KVM_RUN.
		 */
		EXPECT_EQ(vcpu->run->mmio.phys_addr, gpa);
		EXPECT_EQ(vcpu->run->mmio.is_write, stub == STUB_STORE);
		if (!vcpu->run->mmio.is_write)
			memset(vcpu->run->mmio.data, (uint8_t)MMIO_PATTERN,
			       sizeof(vcpu->run->mmio.data));
		found = GUEST_MMIO;
	}
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_REGS, &regs), 0);
	*value = regs.rax;
	return found;
}

/**
 * guest_read() - Let the guest read 8 bytes.
 * @gpa: multiple of 8
 * @value: the value read; a fixed pattern if there is no memory
 */
enum guest_access guest_read(struct vcpu *vcpu, uint64_t gpa, uint64_t *value)
{
	*value = 0;
	return run_stub(vcpu, STUB_LOAD, gpa, value);
}

/** guest_write() - Let the guest write 8 bytes. @gpa: multiple of 8 */
enum guest_access guest_write(struct vcpu *vcpu, uint64_t gpa, uint64_t value)
{
	return run_stub(vcpu, STUB_STORE, gpa, &value);
}

void guest_expect_memory(const char *file, int line, struct vcpu *vcpu,
			 uint64_t gpa, void *hva)
{
	volatile uint64_t *host = hva;
	const uint64_t before = *host;
	/*
	 * The values differ from each other, from zero and between addresses.
	 */
	const uint64_t from_host = ~gpa ^ (uintptr_t)hva;
	const uint64_t from_guest = ~from_host;
	uint64_t value;

	*host = from_host;
	if (guest_read(vcpu, gpa, &value) != GUEST_MEMORY)
		tap_fail(file, line, "read of gpa %#llx: MMIO, not memory",
			 (unsigned long long)gpa);
	else if (value != from_host)
		tap_fail(
			file, line,
			"gpa %#llx shows other memory than hva %p: %#llx, not %#llx",
			(unsigned long long)gpa, hva, (unsigned long long)value,
			(unsigned long long)from_host);
	else if (guest_write(vcpu, gpa, from_guest) != GUEST_MEMORY)
		tap_fail(file, line, "write to gpa %#llx: MMIO, not memory",
			 (unsigned long long)gpa);
	else if (*host != from_guest)
		tap_fail(file, line,
			 "guest's write to gpa %#llx is not at hva %p",
			 (unsigned long long)gpa, hva);
	*host = before;
}

void guest_expect_mmio(const char *file, int line, struct vcpu *vcpu,
		       uint64_t gpa)
{
	uint64_t value;

	if (guest_read(vcpu, gpa, &value) != GUEST_MMIO)
		tap_fail(file, line, "read of gpa %#llx: memory, not MMIO",
			 (unsigned long long)gpa);
	else if (value != MMIO_PATTERN)
		tap_fail(file, line, "MMIO read of gpa %#llx gave %#llx",
			 (unsigned long long)gpa, (unsigned long long)value);
	if (guest_write(vcpu, gpa, ~gpa) != GUEST_MMIO)
		tap_fail(file, line, "write to gpa %#llx: memory, not MMIO",
			 (unsigned long long)gpa);
}

/** dirty_ring_map() - Map the ring of a vCPU. */
void dirty_ring_map(struct dirty_ring *ring, const struct vcpu *vcpu)
{
	ring->next = 0;
	ring->gfns = mmap(NULL, VM_DIRTY_RING_ENTRIES * sizeof(*ring->gfns),
			  PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd,
			  KVM_DIRTY_LOG_PAGE_OFFSET * GUEST_PAGE);
	ASSERT_TRUE(ring->gfns != MAP_FAILED);
}

/**
 * dirty_ring_unmap() - Unmap the ring, if mapped; required before the VM can
 * end.
 */
void dirty_ring_unmap(struct dirty_ring *ring)
{
	if (ring->gfns)
		munmap(ring->gfns, VM_DIRTY_RING_ENTRIES * sizeof(*ring->gfns));
}

/**
 * dirty_ring_harvest() - Take the next entry.
 *
 * Return: memslot << 32 | page, or DIRTY_RING_EMPTY.
 */
uint64_t dirty_ring_harvest(struct dirty_ring *ring)
{
	struct kvm_dirty_gfn *gfn =
		&ring->gfns[ring->next % VM_DIRTY_RING_ENTRIES];
	uint64_t entry;

	if (!(__atomic_load_n(&gfn->flags, __ATOMIC_ACQUIRE) &
	      KVM_DIRTY_GFN_F_DIRTY))
		return DIRTY_RING_EMPTY;
	entry = (uint64_t)gfn->slot << 32 | gfn->offset;
	__atomic_store_n(&gfn->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	ring->next++;
	return entry;
}

/** dirty_ring_reset() - Re-arm the harvested entries. Return: their number. */
int dirty_ring_reset(const struct vm *vm)
{
	return ioctl(vm->fd, KVM_RESET_DIRTY_RINGS, 0);
}
