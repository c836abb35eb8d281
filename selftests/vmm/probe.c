// SPDX-License-Identifier: GPL-2.0-or-later
#include "probe.h"

#include <errno.h>
#include <inttypes.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "boot.h"
#include "layout.h"
#include "memory.h"
#include "util.h"

#define PAGE_SIZE    (4 * KIB)
#define PTES	     512
#define PTE_PRESENT  (1U << 0)
#define PTE_WRITABLE (1U << 1)
#define PTE_LARGE    (1U << 7)

/* One page of 1 GiB entries maps this much. */
#define PDPT_BYTES (PTES * GIB)
/*
 * The top table is the first page; the other pages except the code's are lower
 * tables.
 */
#define MAX_PDPTS ((PROBE_CODE_GPA - PROBE_GPA) / PAGE_SIZE - 1)

/* rsi: address, rdx: step, rcx: how many. */
static const uint8_t code[] = {
	0x8a, 0x06, /* next: mov al, [rsi] */
	0x48, 0x01,	  0xd6, /* add rsi, rdx */
	0x48, 0xff,	  0xc9, /* dec rcx */
	0x75, 0xf6, /* jnz next */
	0xe6, PROBE_PORT, /* out port, al */
};

void probe_init(struct probe *probe)
{
	memset(probe, 0, sizeof(*probe));
	probe->vcpu.fd = -1;
	probe->listen_fd = -1;
}

/* Identity map up to the region's end, in pages of 1 GiB. */
static int make_page_tables(const struct memory *memory, uint64_t end_gpa)
{
	const uint64_t flags = PTE_PRESENT | PTE_WRITABLE;
	uint64_t nr = (end_gpa + PDPT_BYTES - 1) / PDPT_BYTES, i;
	uint64_t *pml4, *pdpt;

	if (nr > MAX_PDPTS) {
		error("--probe: the region is beyond %llu GiB",
		      (unsigned long long)(MAX_PDPTS * PDPT_BYTES / GIB));
		return -ERANGE;
	}
	pml4 = memory_hva(memory, PROBE_GPA, (nr + 1) * PAGE_SIZE);
	pdpt = pml4 + PTES;
	for (i = 0; i < nr; i++)
		pml4[i] = (PROBE_GPA + (i + 1) * PAGE_SIZE) | flags;
	for (i = 0; i < nr * PTES; i++)
		pdpt[i] = (i * GIB) | flags | PTE_LARGE;
	memcpy(memory_hva(memory, PROBE_CODE_GPA, sizeof(code)), code,
	       sizeof(code));
	return 0;
}

static int setup_vcpu(struct probe *probe)
{
	/* vCPUs other than the first wait for a start-up interrupt. */
	struct kvm_mp_state state = {.mp_state = KVM_MP_STATE_RUNNABLE};
	int ret = boot_set_long_mode(probe->vcpu.fd, PROBE_GPA);

	if (!ret && ioctl(probe->vcpu.fd, KVM_SET_MP_STATE, &state))
		ret = -errno;
	if (ret)
		error_errno(-ret, "cannot set up the probe's vCPU");
	return ret;
}

static int open_socket(struct probe *probe, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	probe->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (probe->listen_fd < 0)
		return -errno;
	if (bind(probe->listen_fd, (struct sockaddr *)&address,
		 sizeof(address)))
		return -errno;
	probe->path = path;
	if (listen(probe->listen_fd, SOMAXCONN))
		return -errno;
	return 0;
}

int probe_open(struct probe *probe, const char *path, int kvm_fd, int vm_fd,
	       const struct kvm_cpuid2 *cpuid, unsigned int index,
	       const struct memory *memory, const struct region_config *region)
{
	int ret;

	probe->region = *region;
	probe->nr_slots = region_nr_slots(region);
	probe->absent = calloc(probe->nr_slots, sizeof(probe->absent[0]));
	if (!probe->absent) {
		error_errno(errno, "probe");
		return -ENOMEM;
	}
	ret = make_page_tables(memory, region->gpa + region->size);
	if (!ret)
		ret = vcpu_create(&probe->vcpu, NULL, kvm_fd, vm_fd, cpuid,
				  index);
	if (!ret)
		ret = setup_vcpu(probe);
	if (ret)
		return ret;
	ret = open_socket(probe, path);
	if (ret)
		error_errno(-ret, "%s", path);
	return ret;
}

/* Return: 0, -EAGAIN to continue, or another negative errno. */
static int handle_exit(struct probe *probe)
{
	struct kvm_run *run = probe->vcpu.run;
	uint64_t slot;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		slot = (run->mmio.phys_addr - probe->region.gpa) /
		       probe->region.slot_size;
		if (slot >= probe->nr_slots || run->mmio.is_write)
			return -EIO;
		probe->absent[slot] = true;
		return -EAGAIN;
	case KVM_EXIT_IO:
		return run->io.port == PROBE_PORT ? 0 : -EIO;
	default:
		error("probe: unexpected exit %u", run->exit_reason);
		return -EIO;
	}
}

static int run_probe(struct probe *probe)
{
	struct kvm_regs regs = {
		.rip = PROBE_CODE_GPA,
		.rsi = probe->region.gpa,
		.rdx = probe->region.slot_size,
		.rcx = probe->nr_slots,
		.rflags = 2,
	};
	int ret;

	memset(probe->absent, 0, probe->nr_slots * sizeof(probe->absent[0]));
	/*
	 * The last exit was an OUT: KVM does not skip an instruction after RIP
	 * was set.
	 */
	if (ioctl(probe->vcpu.fd, KVM_SET_REGS, &regs))
		return -errno;
	do {
		if (!ioctl(probe->vcpu.fd, KVM_RUN, 0))
			ret = handle_exit(probe);
		else if (__atomic_load_n(&probe->vcpu.run->immediate_exit,
					 __ATOMIC_ACQUIRE))
			ret = -ECANCELED;
		else
			ret = errno == EINTR ? -EAGAIN : -errno;
	} while (ret == -EAGAIN);
	return ret;
}

static void answer(struct probe *probe, int fd)
{
	FILE *file = fdopen(fd, "w");
	uint64_t gpa, i;
	int ret;

	if (!file) {
		close(fd);
		return;
	}
	ret = run_probe(probe);
	if (ret)
		fprintf(file, "error: %s\n", strerror(-ret));
	gpa = probe->region.gpa;
	for (i = 0; !ret && i < probe->nr_slots; i++) {
		if (!probe->absent[i])
			fprintf(file, "0x%" PRIx64 "\n", gpa);
		gpa += probe->region.slot_size;
	}
	fclose(file);
}

static void *probe_thread(void *opaque)
{
	struct probe *probe = opaque;
	sigset_t kick;
	int fd;

	sigemptyset(&kick);
	sigaddset(&kick, SIGUSR1);
	pthread_sigmask(SIG_UNBLOCK, &kick, NULL);
	for (;;) {
		fd = accept4(probe->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0)
			answer(probe, fd);
		else if (errno != EINTR && errno != ECONNABORTED)
			return NULL; /* shut down by probe_close() */
	}
}

int probe_start(struct probe *probe)
{
	int ret = pthread_create(&probe->thread, NULL, probe_thread, probe);

	if (ret) {
		error_errno(ret, "cannot start the probe");
		return -ret;
	}
	probe->started = true;
	return 0;
}

void probe_close(struct probe *probe)
{
	if (probe->started) {
		__atomic_store_n(&probe->vcpu.run->immediate_exit, 1,
				 __ATOMIC_RELEASE);
		shutdown(probe->listen_fd, SHUT_RDWR);
		pthread_kill(probe->thread, SIGUSR1);
		pthread_join(probe->thread, NULL);
	}
	vcpu_destroy(&probe->vcpu);
	if (probe->listen_fd >= 0)
		close(probe->listen_fd);
	if (probe->path)
		unlink(probe->path);
	free(probe->absent);
	probe_init(probe);
}
