// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The guest's loop writes to eight pages of the boot memory, increments a
 * counter of rounds, reads the TSC, counts the time since the previous round,
 * and keeps the longest. The counters are in the boot memory, where the host
 * reads them.
 *
 * The class of a pause depends on its highest bit and the next three bits:
 * pauses of [m << e, (m + 1) << e) ticks, with m from 8 to 15, have class 8 * e
 * + m.
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
#define GPA_PAUSES	  0x7000U
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
    "1:	or $8, %rbx\n"
    "	bsr %rbx, %rcx\n"
    "	sub $3, %rcx\n"
    "	shr %cl, %rbx\n"
    "	lea (%rbx, %rcx, 8), %rbx\n"
    "	incq 0x7000(, %rbx, 8)\n"
    "	incq 0x9000\n"
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
	__atomic_store_n(&s->ended, true, __ATOMIC_RELEASE);
	return NULL;
}

static void ignore(int sig __attribute__((unused)))
{
}

/* Two more rounds complete any pause that was in progress at the call. */
static void wait_for_rounds(const struct spinner *s)
{
	uint64_t rounds = spinner_rounds(s);

	while (spinner_rounds(s) < rounds + 2) {
		ASSERT_TRUE(!__atomic_load_n(&s->ended, __ATOMIC_ACQUIRE));
		sched_yield();
	}
}

/**
 * spinner_start() - run a new vCPU of a VM; one per VM
 * @s: the spinner
 * @vm: the VM
 * @cpu: CPU of this machine to run it on
 *
 * Returns once the vCPU runs.
 */
void spinner_start(struct spinner *s, struct vm *vm, unsigned int cpu)
{
	struct kvm_regs regs = {.rip = GPA_LOOP, .rflags = 2};
	struct sigaction sa = {.sa_handler = ignore};
	pthread_attr_t attr;
	cpu_set_t cpus;
	int tsc_khz;

	memset(s, 0, sizeof(*s));
	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	ASSERT_EQ(pthread_attr_init(&attr), 0);
	ASSERT_EQ(pthread_attr_setaffinity_np(&attr, sizeof(cpus), &cpus), 0);
	sigaction(SIGUSR1, &sa, NULL);
	vcpu_create(&s->vcpu, vm);
	memcpy(vm->boot_hva + GPA_LOOP, spinner_loop,
	       (size_t)(spinner_loop_end - spinner_loop));
	memset(vm->boot_hva + GPA_PAUSES, 0,
	       SPINNER_CLASSES * sizeof(uint64_t));
	tsc_khz = ioctl(s->vcpu.fd, KVM_GET_TSC_KHZ, 0);
	ASSERT_GT(tsc_khz, 0);
	s->tsc_khz = (uint64_t)tsc_khz;
	ASSERT_EQ(ioctl(s->vcpu.fd, KVM_SET_REGS, &regs), 0);
	ASSERT_EQ(pthread_create(&s->thread, &attr, spin, s), 0);
	pthread_attr_destroy(&attr);
	wait_for_rounds(s);
	spinner_take_longest_ns(s);
}

/** spinner_stop() - End the vCPU. */
void spinner_stop(struct spinner *s)
{
	__atomic_store_n(&s->stop, true, __ATOMIC_RELEASE);
	s->vcpu.run->immediate_exit = 1;
	pthread_kill(s->thread, SIGUSR1);
	pthread_join(s->thread, NULL);
	vcpu_destroy(&s->vcpu);
}

/** spinner_rounds() - Return: rounds since the start. */
uint64_t spinner_rounds(const struct spinner *s)
{
	return *counter(s, GPA_ROUNDS);
}

/** spinner_read() - Read the current counters. */
void spinner_read(const struct spinner *s, struct spinner_state *state)
{
	state->rounds = spinner_rounds(s);
	for (uint32_t i = 0; i < SPINNER_CLASSES; i++)
		state->pauses[i] = *counter(
			s, GPA_PAUSES + i * (uint32_t)sizeof(uint64_t));
}

static uint64_t ticks_to_ns(const struct spinner *s, uint64_t ticks)
{
	return (uint64_t)((double)ticks * 1e6 / (double)s->tsc_khz);
}

/* The middle of the range of a class. */
static uint64_t class_ns(const struct spinner *s, uint32_t class)
{
	uint32_t shift = (class - 8) / 8;
	uint64_t first = (uint64_t)(class - 8 * shift) << shift;

	return ticks_to_ns(s, first + ((1ULL << shift) - 1) / 2);
}

/**
 * spinner_quantile_ns() - a quantile of the pauses in a period
 * @s: the spinner
 * @from: counters at the start of the period
 * @to: counters at its end
 * @per_mille: the quantile
 *
 * Return: nanoseconds, to within 7 %; 0 without rounds.
 */
uint64_t spinner_quantile_ns(const struct spinner *s,
			     const struct spinner_state *from,
			     const struct spinner_state *to,
			     unsigned int per_mille)
{
	uint64_t sum = 0, below = 0;

	for (uint32_t i = 0; i < SPINNER_CLASSES; i++)
		sum += to->pauses[i] - from->pauses[i];
	for (uint32_t i = 8; i < SPINNER_CLASSES; i++) {
		below += to->pauses[i] - from->pauses[i];
		if (sum && below * 1000 >= sum * per_mille)
			return class_ns(s, i);
	}
	return 0;
}

/**
 * spinner_take_longest_ns() - read and reset the longest time between rounds
 * @s: the spinner
 *
 * Waits for the end of a pause in progress.
 *
 * Return: nanoseconds.
 */
uint64_t spinner_take_longest_ns(struct spinner *s)
{
	uint64_t ticks;

	wait_for_rounds(s);
	ticks = *counter(s, GPA_LONGEST_PAUSE);
	*counter(s, GPA_LONGEST_PAUSE) = 0;
	return ticks_to_ns(s, ticks);
}
