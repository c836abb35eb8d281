/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A VM for tests, through KVM's own interface only.
 *
 * Functions without a return value end the test case if KVM refuses a call,
 * since no case tests that. The other functions return 0 or a negative errno.
 */
#ifndef SELFTESTS_VM_H
#define SELFTESTS_VM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KIB(n) ((uint64_t)(n) << 10)
#define MIB(n) ((uint64_t)(n) << 20)
#define GIB(n) ((uint64_t)(n) << 30)
#define TIB(n) ((uint64_t)(n) << 40)

#define GUEST_PAGE KIB(4)

/* KVM's address spaces on x86. */
#define AS_NORMAL 0U
#define AS_SMM	  1U

/* KVM's number for memslot @id of address space @as. */
#define SLOT(as, id) ((uint32_t)(as) << 16 | (uint32_t)(id))

/*
 * The memslot of the vCPUs' code and page tables, at guest address 0. It has
 * the first id; all other ids are free for tests.
 */
#define VM_BOOT_SLOT 0U
#define VM_BOOT_SIZE KIB(64)

/*
 * Flag: create the boot memslot in the SMM address space too, for
 * vcpu_set_smm().
 */
#define VM_SMM (1U << 0)
/* Flag: no boot memslot, hence no vCPUs; all memslot ids are free. */
#define VM_BARE (1U << 1)
/* Flag: deleting a memslot zaps only its own mappings. */
#define VM_ZAP_SLOTS (1U << 2)
/* Flag: dirty logging uses a ring for each vCPU. */
#define VM_DIRTY_RING (1U << 3)

/* Entries of a dirty ring, more than any test fills. */
#define VM_DIRTY_RING_ENTRIES 1024U

/**
 * struct vm - a KVM VM
 * @kvm_fd: /dev/kvm
 * @fd: the VM
 * @boot_hva: mapping of the boot memory, NULL with VM_BARE
 * @nr_vcpus: vCPUs created so far
 */
struct vm {
	int kvm_fd;
	int fd;
	uint8_t *boot_hva;
	unsigned int nr_vcpus;
};

/**
 * struct backing - memory of the VMM for memslots
 * @fd: memfd
 * @hva: its shared mapping, 2 MiB aligned
 * @size: bytes; pages are allocated when touched
 */
struct backing {
	int fd;
	uint8_t *hva;
	uint64_t size;
};

void vm_create(struct vm *vm, unsigned int flags);
void vm_destroy(struct vm *vm);
int vm_check_extension(const struct vm *vm, long cap);
bool vm_can_zap_slots(const struct vm *vm);
uint64_t vm_max_gpa(const struct vm *vm);
void vm_need_gpa(const struct vm *vm, uint64_t end);

int vm_set_region(const struct vm *vm, uint32_t slot, uint32_t flags,
		  uint64_t gpa, uint64_t size, const void *hva);
int vm_delete_slot(const struct vm *vm, uint32_t slot);
int vm_dirty_log(const struct vm *vm, uint32_t slot, uint64_t *bitmap);
bool vm_slot_exists(const struct vm *vm, uint32_t slot);
uint64_t vm_stat(const struct vm *vm, const char *name);

void backing_create(struct backing *b, uint64_t size);
void backing_destroy(struct backing *b);

#endif /* SELFTESTS_VM_H */
