// SPDX-License-Identifier: GPL-2.0-or-later
/* AMD: SVM with nested NPT. The host writes the VMCB. */
#include "nested_vendor.h"

#include <linux/kvm.h>
#include <string.h>
#include <sys/ioctl.h>

#include "tap.h"

/* Addresses in the boot memory, behind the pages that vcpu.c uses. */
#define GPA_VMRUN 0x8000U
#define GPA_VMCB  0x9000U
#define GPA_HSAVE 0xa000U
#define GPA_NPT	  0xb000U

/* AMD's manual, volume 2: the VMCB and the registers that VMRUN uses. */
#define MSR_VM_HSAVE_PA	    0xc0010117U
#define EFER_SVME	    0x1000ULL
#define VMCB_INTERCEPT_MISC 0x010
#define INTERCEPT_VMRUN	    1U
#define VMCB_ASID	    0x058
#define VMCB_EXIT_CODE	    0x070
#define EXIT_NPF	    0x400U
#define VMCB_NP_ENABLE	    0x090
#define VMCB_NCR3	    0x0b0
#define VMCB_CS		    0x410
#define VMCB_EFER	    0x4d0
#define VMCB_CR0	    0x558
#define VMCB_DR7	    0x560
#define VMCB_DR6	    0x568
#define VMCB_RFLAGS	    0x570
#define CS_REAL_MODE	    0x0000ffff009b0000ULL /* limit, attributes, 0 */
#define CR0_ET		    0x10U
#define DR7_RESET	    0x400U
#define DR6_RESET	    0xffff0ff0U
#define RFLAGS_RESET	    2U

/* The guest ends by a write to this port. */
#define PORT_ENDED 0x80U

static void put_vmcb(struct vm *vm, unsigned int offset, uint64_t value)
{
	memcpy(vm->boot_hva + GPA_VMCB + offset, &value, sizeof(value));
}

static bool svm_create(struct vcpu *vcpu)
{
	static const uint8_t code[] = {
		0x0f, 0x01,	  0xd8, /* vmrun */
		0xe6, PORT_ENDED, /* out %al, $PORT_ENDED */
	};
	struct {
		struct kvm_msrs head;
		struct kvm_msr_entry entry;
	} msrs = {
		.head = {.nmsrs = 1},
		.entry = {.index = MSR_VM_HSAVE_PA, .data = GPA_HSAVE},
	};
	struct vm *vm = vcpu->vm;
	struct kvm_sregs sregs;

	ASSERT_EQ(ioctl(vcpu->fd, KVM_GET_SREGS, &sregs), 0);
	sregs.efer |= EFER_SVME;
	if (ioctl(vcpu->fd, KVM_SET_SREGS, &sregs) < 0)
		return false;
	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_MSRS, &msrs), 1);
	memcpy(vm->boot_hva + GPA_VMRUN, code, sizeof(code));
	put_vmcb(vm, VMCB_INTERCEPT_MISC, INTERCEPT_VMRUN);
	put_vmcb(vm, VMCB_ASID, 1);
	put_vmcb(vm, VMCB_NP_ENABLE, 1);
	put_vmcb(vm, VMCB_NCR3, GPA_NPT);
	put_vmcb(vm, VMCB_CS, CS_REAL_MODE);
	put_vmcb(vm, VMCB_EFER, EFER_SVME);
	put_vmcb(vm, VMCB_CR0, CR0_ET);
	put_vmcb(vm, VMCB_DR7, DR7_RESET);
	put_vmcb(vm, VMCB_DR6, DR6_RESET);
	put_vmcb(vm, VMCB_RFLAGS, RFLAGS_RESET);
	return true;
}

static void svm_run(struct vcpu *vcpu)
{
	const struct kvm_regs regs = {
		.rip = GPA_VMRUN,
		.rax = GPA_VMCB,
		.rflags = RFLAGS_RESET,
	};
	uint64_t exit_code;

	ASSERT_EQ(ioctl(vcpu->fd, KVM_SET_REGS, &regs), 0);
	ASSERT_EQ(ioctl(vcpu->fd, KVM_RUN, NULL), 0);
	EXPECT_EQ(vcpu->run->exit_reason, KVM_EXIT_IO);
	memcpy(&exit_code, vcpu->vm->boot_hva + GPA_VMCB + VMCB_EXIT_CODE,
	       sizeof(exit_code));
	EXPECT_EQ(exit_code, EXIT_NPF);
}

const struct nested_vendor nested_svm = {
	.create = svm_create,
	.run = svm_run,
};
