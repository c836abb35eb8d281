// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's loop writes to eight pages of the boot memory, counts the round,
 * reads the TSC, and keeps the longest time between two rounds. Counters live
 * in the boot memory, where the host reads them.
 */
#include "spinner.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "tap.h"

#define GPA_LOOP	  0x6000U
#define GPA_ROUNDS	  0x8000U
#define GPA_LAST_TSC	  0x8008U
#define GPA_LONGEST_PAUSE 0x8010U

extern const uint8_t spinner_loop[], spinner_loop_end[];

/* Addresses are absolute: the boot memory is mapped at 0. */
asm(".pushsection .rodata\n"
    ".globl spinner_loop, spinner_loop_end\n"
    "spinner_loop:\n"
    "	rdtsc\n"
    "	shl $32, %rdx\n"
    "	or %rdx, %rax\n"
    "	mov %rax, %rbx\n"
    "	sub 0x8008, %rbx\n"
    "	mov %rax, 0x8008\n"
    "	cmp 0x8010, %rbx\n"
    "	jbe 1f\n"
    "	mov %rbx, 0x8010\n"
    "1:	incq 0x9000\n"
    "	incq 0xa000\n"
    "	incq 0xb000\n"
    "	incq 0xc000\n"
    "	incq 0xd000\n"
    "	incq 0xe000\n"
    "	incq 0xf000\n"
    "	incq 0x8000\n"
    "	jmp spinner_loop\n"
    "spinner_loop_end:\n"
    ".popsection\n");

static volatile uint64_t *counter(const struct spinner *s, uint32_t gpa)
{
	return (volatile uint64_t *)(s->vcpu.vm->boot_hva + gpa);
}

static void *spin(void *arg)
{
	struct spinner *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		if (ioctl(s->vcpu.fd, KVM_RUN, 0) && errno != EINTR)
			break;
		if (!s->vcpu.run->immediate_exit &&
		    s->vcpu.run->exit_reason != KVM_EXIT_INTR)
			break;
	}
	return NULL;
}

static void ignore(int sig __attribute__((unused)))
{
}

/**
 * spinner_start - let a new vCPU of a VM run; one per VM
 *
 * Returns when it runs.
 */
void spinner_start(struct spinner *s, struct vm *vm)
{
	struct kvm_regs regs = {.rip = GPA_LOOP, .rflags = 2};
	struct sigaction sa = {.sa_handler = ignore};

	memset(s, 0, sizeof(*s));
	sigaction(SIGUSR1, &sa, NULL);
	vcpu_create(&s->vcpu, vm);
	memcpy(vm->boot_hva + GPA_LOOP, spinner_loop,
	       (size_t)(spinner_loop_end - spinner_loop));
	ASSERT_EQ(ioctl(s->vcpu.fd, KVM_SET_REGS, &regs), 0);
	ASSERT_EQ(pthread_create(&s->thread, NULL, spin, s), 0);
	while (spinner_rounds(s) < 2)
		ASSERT_EQ(s->vcpu.run->exit_reason != KVM_EXIT_SHUTDOWN, true);
	spinner_take_longest_pause(s);
}

void spinner_stop(struct spinner *s)
{
	__atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
	s->vcpu.run->immediate_exit = 1;
	pthread_kill(s->thread, SIGUSR1);
	pthread_join(s->thread, NULL);
	vcpu_destroy(&s->vcpu);
}

uint64_t spinner_rounds(const struct spinner *s)
{
	return *counter(s, GPA_ROUNDS);
}

/**
 * spinner_take_longest_pause - longest time between two rounds, begun anew
 *
 * Waits for the pause that there may be just now to end.
 *
 * Return: guest TSC ticks.
 */
uint64_t spinner_take_longest_pause(struct spinner *s)
{
	uint64_t rounds = spinner_rounds(s);
	uint64_t ticks;

	while (spinner_rounds(s) < rounds + 2)
		sched_yield();
	ticks = *counter(s, GPA_LONGEST_PAUSE);
	*counter(s, GPA_LONGEST_PAUSE) = 0;
	return ticks;
}
