// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Intel: VMX with nested EPT. The guest writes the VMCS itself, from a table of
 * fields, because the layout of a VMCS is specific to the CPU. It runs the
 * whole sequence each time. From the second time on, VMXON fails, which is
 * harmless.
 *
 * Numbers are from Intel's manual, volume 3: appendix A the capability MSRs,
 * appendix B the fields, chapter 26 the requirements on the guest's state.
 */
#include "nested_vendor.h"

#include <linux/kvm.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tap.h"

/* Addresses in the boot memory, behind the pages that vcpu.c uses. */
#define GPA_CODE  0x8000U
#define GPA_VMXON 0x9000U
#define GPA_VMCS  0xa000U
#define GPA_EPT	  0xb000U /* empty */
#define GPA_DATA  0xc000U

#define MSR_FEATURE_CONTROL 0x03aU
#define FEATURE_CONTROL	    0x5U /* locked, VMXON outside of SMX */
#define CR4_VMXE	    0x2000U

#define MSR_VMX_BASIC		0x480U
#define MSR_VMX_PINBASED	0x481U
#define MSR_VMX_PROCBASED	0x482U
#define MSR_VMX_EXIT		0x483U
#define MSR_VMX_ENTRY		0x484U
#define MSR_VMX_PROCBASED2	0x48bU
#define BASIC_REVISION		0x7fffffffU
#define PROCBASED_SECONDARY	(1U << 31)
#define PROCBASED2_EPT		(1U << 1)
#define EXIT_HOST_ADDRESS_SPACE (1U << 9) /* in 64-bit mode */
#define ENTRY_IA32E_MODE	(1U << 9)

enum field {
	GUEST_ES = 0x800, /* then CS, SS, DS, FS, GS, LDTR, TR, by 2 */
	GUEST_CS = 0x802,
	GUEST_TR = 0x80e,
	HOST_CS = 0xc02,
	HOST_SS = 0xc04,
	HOST_DS = 0xc06,
	HOST_TR = 0xc0c,
	EPT_POINTER = 0x201a,
	VMCS_LINK_POINTER = 0x2800,
	PIN_CONTROLS = 0x4000,
	PROC_CONTROLS = 0x4002,
	EXIT_CONTROLS = 0x400c,
	ENTRY_CONTROLS = 0x4012,
	PROC_CONTROLS2 = 0x401e,
	VM_INSTRUCTION_ERROR = 0x4400,
	EXIT_REASON = 0x4402,
	GUEST_CS_LIMIT = 0x4802,
	GUEST_TR_LIMIT = 0x480e,
	GUEST_ES_ACCESS = 0x4814, /* then as the selectors */
	GUEST_CS_ACCESS = 0x4816,
	GUEST_LDTR_ACCESS = 0x4820,
	GUEST_TR_ACCESS = 0x4822,
	GUEST_CR0 = 0x6800,
	GUEST_CR3 = 0x6802,
	GUEST_CR4 = 0x6804,
	GUEST_DR7 = 0x681a,
	GUEST_RFLAGS = 0x6820,
	HOST_CR0 = 0x6c00,
	HOST_CR3 = 0x6c02,
	HOST_CR4 = 0x6c04,
	HOST_RIP = 0x6c16,
};

#define ACCESS_CODE64	0xa09bU
#define ACCESS_TSS	0x008bU
#define ACCESS_UNUSABLE 0x10000U
#define TSS_LIMIT	0x67U
#define SELECTOR_CODE	0x08U
#define SELECTOR_DATA	0x10U
#define SELECTOR_TSS	0x18U
#define EPT_WB_4_LEVELS 0x1eU
#define DR7_RESET	0x400U
#define RFLAGS_FIXED	0x2U

#define REASON_EPT_VIOLATION 48U

/* The guest ends by a write to one of these ports. */
#define PORT_FAILED 0x80U
#define PORT_ENDED  0x81U

#define MAX_FIELDS 48

/*
 * The guest's input, at GPA_DATA; %rdi points to it.
 * @nr: number of @fields
 */
struct vmx_data {
	uint64_t vmxon_gpa;
	uint64_t vmcs_gpa;
	uint64_t nr;
	struct {
		uint64_t field;
		uint64_t value;
	} fields[MAX_FIELDS];
};
_Static_assert(offsetof(struct vmx_data, fields) == 0x18, "the code has it");

static const uint8_t code[] = {
	0xf3, 0x0f, 0xc7, 0x37, /* vmxon (%rdi) */
	0x66, 0x0f, 0xc7, 0x77, 0x08, /* vmclear 8(%rdi) */
	0x0f, 0xc7, 0x77, 0x08, /* vmptrld 8(%rdi) */
	0x48, 0x8b, 0x4f, 0x10, /* mov 0x10(%rdi), %rcx */
	0x48, 0x8d, 0x77, 0x18, /* lea 0x18(%rdi), %rsi */
	/* next: */
	0x48, 0x8b, 0x06, /* mov (%rsi), %rax */
	0x0f, 0x79, 0x46, 0x08, /* vmwrite 8(%rsi), %rax */
	0x76, 0x09, /* jbe failed */
	0x48, 0x83, 0xc6, 0x10, /* add $0x10, %rsi */
	0xe2, 0xf1, /* loop next */
	0x0f, 0x01, 0xc2, /* vmlaunch */
	/* failed: */
	0x0f, 0x78, 0xd3, /* vmread %rdx, %rbx */
	0xe6, PORT_FAILED, /* out %al, $PORT_FAILED */
	/* ended: */
	0x41, 0x0f, 0x78, 0xd8, /* vmread %rbx, %r8 */
	0xe6, PORT_ENDED, /* out %al, $PORT_ENDED */
};
/* The nested guest's exit continues at "ended". */
#define RIP_ENDED (GPA_CODE + sizeof(code) - 6)

/* Return: whether the vCPU has this MSR. */
static bool get_msr(const struct vcpu *vcpu, uint32_t index, uint64_t *value)
{
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head = {.nmsrs = 1},
		.entry = {.index = index},
	};

	if (ioctl(vcpu->fd, KVM_GET_MSRS, &msrs) != 1)
		return false;
	*value = msrs.entry.data;
	return true;
}

/*
 * In a capability MSR, the low half is the mask of controls that must be 1, the
 * high half the mask of controls that may be 1.
 *
 * Return: whether all of @wanted may be 1.
 */
static bool get_controls(const struct vcpu *vcpu, uint32_t msr, uint32_t wanted,
			 uint64_t *controls)
{
	uint64_t can;

	if (!get_msr(vcpu, msr, &can) || wanted & ~(can >> 32))
		return false;
	*controls = wanted | (uint32_t)can;
	return true;
}

static void add(struct vmx_data *data, unsigned int field, uint64_t value)
{
	ASSERT_LE(data->nr + 1, MAX_FIELDS);
	data->fields[data->nr].field = field;
	data->fields[data->nr].value = value;
	data->nr++;
}

/* Return: false if nested guests cannot use EPT. */
static bool add_controls(struct vmx_data *data, const struct vcpu *vcpu)
{
	uint64_t pin, proc, proc2, entry, exit;

	if (!get_controls(vcpu, MSR_VMX_PINBASED, 0, &pin) ||
	    !get_controls(vcpu, MSR_VMX_PROCBASED, PROCBASED_SECONDARY,
			  &proc) ||
	    !get_controls(vcpu, MSR_VMX_PROCBASED2, PROCBASED2_EPT, &proc2) ||
	    !get_controls(vcpu, MSR_VMX_EXIT, EXIT_HOST_ADDRESS_SPACE, &exit) ||
	    !get_controls(vcpu, MSR_VMX_ENTRY, ENTRY_IA32E_MODE, &entry))
		return false;
	add(data, PIN_CONTROLS, pin);
	add(data, PROC_CONTROLS, proc);
	add(data, PROC_CONTROLS2, proc2);
	add(data, EXIT_CONTROLS, exit);
	add(data, ENTRY_CONTROLS, entry);
	add(data, EPT_POINTER, GPA_EPT | EPT_WB_4_LEVELS);
	add(data, VMCS_LINK_POINTER, UINT64_MAX);
	return true;
}

/*
 * The host state is the guest's current state, except for the segments' limits.
 */
static void add_host(struct vmx_data *data, const struct kvm_sregs *sregs)
{
	add(data, HOST_CR0, sregs->cr0);
	add(data, HOST_CR3, sregs->cr3);
	add(data, HOST_CR4, sregs->cr4);
	add(data, HOST_CS, SELECTOR_CODE);
	add(data, HOST_SS, SELECTOR_DATA);
	add(data, HOST_DS, SELECTOR_DATA);
	add(data, HOST_TR, SELECTOR_TSS);
	add(data, HOST_RIP, RIP_ENDED);
}

/*
 * The nested guest's state: the same mode, only a code segment, no memory
 * mapped.
 */
static void add_guest(struct vmx_data *data, const struct kvm_sregs *sregs)
{
	unsigned int access;

	for (access = GUEST_ES_ACCESS; access <= GUEST_LDTR_ACCESS; access += 2)
		if (access != GUEST_CS_ACCESS)
			add(data, access, ACCESS_UNUSABLE);
	add(data, GUEST_CS, SELECTOR_CODE);
	add(data, GUEST_CS_LIMIT, UINT32_MAX);
	add(data, GUEST_CS_ACCESS, ACCESS_CODE64);
	add(data, GUEST_TR, SELECTOR_TSS);
	add(data, GUEST_TR_LIMIT, TSS_LIMIT);
	add(data, GUEST_TR_ACCESS, ACCESS_TSS);
	add(data, GUEST_CR0, sregs->cr0);
	add(data, GUEST_CR3, sregs->cr3);
	add(data, GUEST_CR4, sregs->cr4);
	add(data, GUEST_DR7, DR7_RESET);
	add(data, GUEST_RFLAGS, RFLAGS_FIXED);
}

static bool vmx_create(struct vcpu *vcpu)
{
	uint8_t *boot_hva = vcpu->vm->boot_hva;
	struct vmx_data data = {
		.vmxon_gpa = GPA_VMXON,
		.vmcs_gpa = GPA_VMCS,
	};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head = {.nmsrs = 1},
		.entry = {.index = MSR_FEATURE_CONTROL,
			  .data = FEATURE_CONTROL},
	};
	struct kvm_sregs sregs;
	uint64_t basic;
	uint32_t revision;

	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	sregs.cr4 |= CR4_VMXE;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0 ||
	    !get_msr(vcpu, MSR_VMX_BASIC, &basic) || !add_controls(&data, vcpu))
		return false;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &msrs), 1);
	add_host(&data, &sregs);
	add_guest(&data, &sregs);
	revision = (uint32_t)basic & BASIC_REVISION;
	memcpy(boot_hva + GPA_VMXON, &revision, sizeof(revision));
	memcpy(boot_hva + GPA_VMCS, &revision, sizeof(revision));
	memcpy(boot_hva + GPA_DATA, &data, sizeof(data));
	memcpy(boot_hva + GPA_CODE, code, sizeof(code));
	return true;
}

static void vmx_run(struct vcpu *vcpu)
{
	struct kvm_regs regs = {
		.rip = GPA_CODE,
		.rdi = GPA_DATA,
		.rdx = VM_INSTRUCTION_ERROR,
		.rbx = EXIT_REASON,
		.rflags = RFLAGS_FIXED,
	};

	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_REGS, &regs), 0);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_RUN, NULL), 0);
	ASSERT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_REGS, &regs), 0);
	if (vcpu->run->io.port != PORT_ENDED)
		tap_fail(
			__FILE__, __LINE__,
			"field %#llx, or none, and then VM-instruction error %llu",
			(unsigned long long)regs.rax,
			(unsigned long long)regs.rbx);
	else
		EXPECT_EQ(regs.r8, REASON_EPT_VIOLATION);
}

const struct nested_vendor nested_vmx = {
	.create = vmx_create,
	.run = vmx_run,
};
