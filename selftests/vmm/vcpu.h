/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vCPUs: one thread each, which runs the guest and passes its port and MMIO
 * accesses to the machine. The boot CPU starts where boot.c says; the others
 * wait in KVM for the guest's start-up interrupt.
 */
#ifndef VCPU_H
#define VCPU_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct kvm_cpuid2;
struct kvm_run;

/* Why the guest does not run any more. */
enum guest_end {
	GUEST_RUNS,
	GUEST_POWERED_OFF,
	GUEST_RESET, /* also after a panic or triple fault */
	GUEST_FAILED,
};

/**
 * struct vcpu_machine - the machine of the vCPUs
 * @pio: a port access of one element; must fill in @data of a read
 * @mmio: a memory access outside all memslots; the same
 * @end: the guest has ended; called once or more, from any vCPU's thread
 * @opaque: argument of the callbacks
 */
struct vcpu_machine {
	void (*pio)(void *opaque, uint16_t port, bool is_write, void *data,
		    unsigned int size);
	void (*mmio)(void *opaque, uint64_t gpa, bool is_write, void *data,
		     unsigned int size);
	void (*end)(void *opaque, enum guest_end end);
	void *opaque;
};

struct vcpu {
	const struct vcpu_machine *machine;
	unsigned int index;
	int fd;
	struct kvm_run *run;
	size_t run_size;
	pthread_t thread;
	bool started;
};

/**
 * vcpu_get_cpuid() - CPUID of this host's guests
 * @kvm_fd: /dev/kvm
 * @phys_bits: out: width of guest-physical addresses
 *
 * Return: CPUID, which the caller frees; NULL on error, with a message.
 */
struct kvm_cpuid2 *vcpu_get_cpuid(int kvm_fd, unsigned int *phys_bits);

/**
 * vcpu_create() - create a vCPU, not running
 * @vcpu: the vCPU
 * @machine: its machine
 * @kvm_fd: /dev/kvm
 * @vm_fd: the VM, with its interrupt controllers
 * @cpuid: from vcpu_get_cpuid()
 * @index: its number and APIC id
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_create(struct vcpu *vcpu, const struct vcpu_machine *machine,
		int kvm_fd, int vm_fd, const struct kvm_cpuid2 *cpuid,
		unsigned int index);

/**
 * vcpu_start() - start its thread
 * @vcpu: the vCPU
 *
 * Return: 0 or a negative errno, with a message.
 */
int vcpu_start(struct vcpu *vcpu);

/**
 * vcpu_stop() - stop its thread, if it runs
 * @vcpu: the vCPU; its state may be changed, and it may be started again
 */
void vcpu_stop(struct vcpu *vcpu);

/**
 * vcpu_destroy() - stop its thread, and free it
 * @vcpu: a vCPU passed to vcpu_create(), whatever that returned
 */
void vcpu_destroy(struct vcpu *vcpu);

#endif /* VCPU_H */
