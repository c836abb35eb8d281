// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-vmm: a small VMM, and the example of how a VMM takes part in kvm-vmem.
 *
 * For a VMM author
 * ----------------
 * Your VMM has a vhost-user front end. To give a guest a virtio-mem device
 * whose KVM memslots exist only where memory is plugged, add three calls:
 *
 * 1. open("/dev/kvm-vmem")
 *    As with /dev/kvm, group kvm may.
 *
 * 2. ioctl(KVM_VMEM_CREATE_REGION)	[region_create() in region.c]
 *    in the process that made the VM, with
 *    - the VM's fd,
 *    - the guest-physical range of the device. Make NO memslot there; if the
 *      guest can go into SMM, name that address space too,
 *    - the address of a mapping of that range's size. Back it by a memfd,
 *      MAP_SHARED | MAP_NORESERVE [memory.c]: your own devices DMA through the
 *      mapping, vmemd maps the memfd too and punches out what is unplugged,
 *    - as many memslot ids as the range has slots, which are the module's
 *      from now on.
 *    It returns the region's fd.
 *
 * 3. Hand region fd and memfd to vmemd	[vmemd.c]
 *    and connect a generic vhost-user front end to it: virtio device id 24,
 *    one queue, 56 bytes of configuration space [the enum below; nothing else
 *    in this program knows what device it is].
 *    - Either start it: descriptors 3, 4, ... named region, memory,
 *      vhost-user (a connected socket) and control (a listening one) in
 *      LISTEN_FDNAMES, sd_listen_fds(3); vmemd_spawn(),
 *    - or connect to a running one: its control socket takes the method
 *      "attach" with the two descriptors, vmemd_attach().
 *    Share all guest memory with it, the region's memfd whole.
 *
 * That is all: plugging and unplugging goes from the guest's driver to vmemd
 * to the kernel, without the VMM. Whoever wants the guest to grow asks vmemd
 * (vmemctl resize). Keep your copy of the region's fd: if vmemd dies, hand it
 * to the next, and go on with the rings where they are [reconnect.c]; the state
 * of the region is in the kernel. When the process ends, the kernel cleans up
 * and vmemd ends too.
 *
 * How this program runs
 * ---------------------
 * One thread per vCPU serves the guest's accesses to the console and the
 * virtio-mmio registers. The main thread waits for everything else: signals,
 * the console's other end, the backend channel, the end of the guest. Each
 * device has its own lock; the main thread never takes the virtio device's,
 * whose holder may be waiting for vmemd while vmemd waits for the main thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "acpi.h"
#include "boot.h"
#include "irqchip.h"
#include "layout.h"
#include "memory.h"
#include "options.h"
#include "probe.h"
#include "reboot.h"
#include "reconnect.h"
#include "region.h"
#include "serial.h"
#include "util.h"
#include "vcpu.h"
#include "vhost_user.h"
#include "virtio_mmio.h"
#include "vmemd.h"

/* All that a front end knows of virtio-mem (virtio 1.2, 5.15). */
enum {
	VIRTIO_MEM_ID = 24,
	VIRTIO_MEM_QUEUES = 1,
	VIRTIO_MEM_CONFIG_SIZE = 56,
};

enum exit_status {
	STATUS_POWERED_OFF = 0,
	STATUS_ERROR = 1,
	STATUS_RESET = 3,
	STATUS_SIGNAL = 4,
};

/* Slots of the main loop's poll array. */
enum {
	POLL_SIGNAL,
	POLL_END,
	POLL_VMEMD,
	POLL_BACKEND,
	POLL_CHANNEL,
	POLL_BACK,
	POLL_REBOOT,
	POLL_SERIAL,
	POLL_COUNT = POLL_SERIAL + SERIAL_NR_POLL,
};

struct vmm {
	struct options options;
	int kvm_fd;
	int vm_fd;
	int region_fd;
	int signal_fd;
	int end_fd;
	enum guest_end end;
	struct memory memory;
	struct vmemd vmemd;
	struct vhost_user vu;
	bool has_virtio;
	struct virtio_mmio virtio;
	struct reconnect reconnect;
	bool has_serial;
	struct serial serial;
	struct vcpu_machine machine;
	unsigned int nr_vcpus;
	struct vcpu vcpus[MAX_VCPUS];
	struct irqchip irqchip;
	struct reboot reboot;
	struct probe probe;
};

static void end_guest(void *opaque, enum guest_end end)
{
	struct vmm *vmm = opaque;
	enum guest_end runs = GUEST_RUNS;

	/* The first reason counts. */
	__atomic_compare_exchange_n(&vmm->end, &runs, end, false,
				    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
	eventfd_write(vmm->end_fd, 1);
}

static void write_power(struct vmm *vmm, uint16_t port, uint8_t value)
{
	/* SLP_TYPx is bits 2 to 4, SLP_ENx bit 5 (ACPI 6.3, 4.8.3.7.1). */
	if (port == SLEEP_CONTROL_PORT && (value & 0x20) &&
	    ((value >> 2) & 7) == SLEEP_TYPE_S5)
		end_guest(vmm, GUEST_POWERED_OFF);
	else if (port == RESET_PORT && value == RESET_VALUE)
		end_guest(vmm, GUEST_RESET);
}

static void handle_pio(void *opaque, uint16_t port, bool is_write, void *data,
		       unsigned int size)
{
	struct vmm *vmm = opaque;

	/* What is not there reads as all ones, as on a PC's bus. */
	if (!is_write)
		memset(data, 0xff, size);
	if (size != 1)
		return;
	if (port >= SERIAL_PORT && port < SERIAL_PORT + SERIAL_PORT_SIZE) {
		serial_io(&vmm->serial, port - SERIAL_PORT, is_write, data);
	} else if (port >= SLEEP_CONTROL_PORT &&
		   port < SLEEP_CONTROL_PORT + POWER_PORT_SIZE) {
		if (is_write)
			write_power(vmm, port, *(uint8_t *)data);
		else
			*(uint8_t *)data = 0;
	}
}

static void handle_mmio(void *opaque, uint64_t gpa, bool is_write, void *data,
			unsigned int size)
{
	struct vmm *vmm = opaque;

	if (vmm->has_virtio && gpa >= VIRTIO_MMIO_GPA &&
	    gpa - VIRTIO_MMIO_GPA <= VIRTIO_MMIO_SIZE - size)
		virtio_mmio_access(&vmm->virtio, gpa - VIRTIO_MMIO_GPA,
				   is_write, data, size);
	else if (!is_write)
		memset(data, 0xff, size);
}

static int create_vm(struct vmm *vmm)
{
	uint64_t identity_map_gpa = KVM_IDENTITY_MAP_GPA;
	int ret;

	vmm->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (vmm->kvm_fd < 0) {
		ret = -errno;
		error_errno(errno, "/dev/kvm");
		return ret;
	}
	if (ioctl(vmm->kvm_fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION) {
		error("/dev/kvm: unknown API version");
		return -EPROTO;
	}
	vmm->vm_fd = ioctl(vmm->kvm_fd, KVM_CREATE_VM, 0);
	if (vmm->vm_fd < 0 ||
	    ioctl(vmm->vm_fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map_gpa) ||
	    ioctl(vmm->vm_fd, KVM_SET_TSS_ADDR, KVM_TSS_GPA)) {
		ret = -errno;
		error_errno(errno, "cannot make the VM");
		return ret;
	}
	ret = irqchip_create(&vmm->irqchip, vmm->vm_fd);
	if (ret)
		error_errno(-ret, "cannot make the interrupt controllers");
	if (!ret && vmm->options.smm &&
	    ioctl(vmm->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_SMM) <= 0) {
		error("--smm: this KVM has no system management mode");
		ret = -EOPNOTSUPP;
	}
	return ret;
}

/* A vmemd that somebody else runs was lost, and is there again or not. */
static int connect_again(void *opaque)
{
	const struct vmm *vmm = opaque;

	return vmemd_try_attach(vmm->options.vhost_user, vmm->options.control,
				vmm->region_fd, vmm->memory.region.fd);
}

/* The three calls, and the device in front of them. */
static int create_device(struct vmm *vmm)
{
	const struct options *options = &vmm->options;
	struct memory_range *region = &vmm->memory.region;
	int fd, ret;

	ret = memory_add_region(&vmm->memory, options->region.gpa,
				options->region.size,
				options->region.page_size);
	if (ret)
		return ret;
	vmm->region_fd = region_create(&options->region, vmm->vm_fd,
				       region->hva, FIRST_REGION_SLOT);
	if (vmm->region_fd < 0)
		return vmm->region_fd;
	if (options->vmemd)
		fd = vmemd_spawn(&vmm->vmemd, options->vmemd,
				 options->vmemd_args, options->control_listen,
				 vmm->region_fd, region->fd);
	else
		fd = vmemd_attach(options->vhost_user, options->control,
				  vmm->region_fd, region->fd);
	if (fd < 0)
		return fd;
	ret = vhost_user_open(&vmm->vu, fd, VIRTIO_MEM_CONFIG_SIZE);
	if (ret)
		return ret;
	ret = vhost_user_set_memory(&vmm->vu, &vmm->memory);
	if (ret) {
		error_errno(-ret, "cannot share memory with the backend");
		return ret;
	}
	vmm->has_virtio = true;
	ret = virtio_mmio_open(&vmm->virtio, vmm->vm_fd, &vmm->memory, &vmm->vu,
			       VIRTIO_MEM_ID, VIRTIO_MEM_QUEUES,
			       ~options->features_hidden);
	if (ret || options->vmemd)
		return ret;
	vmm->virtio.comes_back = true;
	vmm->reconnect.dev = &vmm->virtio;
	vmm->reconnect.memory = &vmm->memory;
	vmm->reconnect.connect = connect_again;
	vmm->reconnect.opaque = vmm;
	return reconnect_open(&vmm->reconnect);
}

static int create_vcpus(struct vmm *vmm, const struct kvm_cpuid2 *cpuid,
			uint64_t entry_gpa)
{
	int ret = 0;

	vmm->machine = (struct vcpu_machine){
		.pio = handle_pio,
		.mmio = handle_mmio,
		.end = end_guest,
		.opaque = vmm,
	};
	while (!ret && vmm->nr_vcpus < vmm->options.nr_vcpus) {
		ret = vcpu_create(&vmm->vcpus[vmm->nr_vcpus], &vmm->machine,
				  vmm->kvm_fd, vmm->vm_fd, cpuid,
				  vmm->nr_vcpus);
		vmm->nr_vcpus++;
	}
	if (ret)
		return ret;
	return boot_setup_vcpu(vmm->vcpus[0].fd, entry_gpa);
}

/* The machine is whole; a reset will put it back to this. */
static int prepare_reboot(struct vmm *vmm)
{
	vmm->reboot.options = &vmm->options;
	vmm->reboot.vm_fd = vmm->vm_fd;
	vmm->reboot.memory = &vmm->memory;
	vmm->reboot.irqchip = &vmm->irqchip;
	vmm->reboot.serial = &vmm->serial;
	vmm->reboot.virtio = vmm->has_virtio ? &vmm->virtio : NULL;
	vmm->reboot.control = vmm->options.control
				      ? vmm->options.control
				      : vmm->options.control_listen;
	vmm->reboot.vcpus = vmm->vcpus;
	vmm->reboot.nr_vcpus = vmm->nr_vcpus;
	return reboot_open(&vmm->reboot, vmm->kvm_fd);
}

static int create_machine(struct vmm *vmm)
{
	struct options *options = &vmm->options;
	struct kvm_cpuid2 *cpuid;
	unsigned int phys_bits;
	uint64_t entry_gpa;
	int ret;

	ret = create_vm(vmm);
	if (ret)
		return ret;
	cpuid = vcpu_get_cpuid(vmm->kvm_fd, &phys_bits);
	if (!cpuid)
		return -EIO;
	ret = memory_add_boot(&vmm->memory, vmm->vm_fd, options->memory,
			      options->smm);
	if (ret)
		goto out;
	vmm->has_serial = true;
	ret = serial_open(&vmm->serial, vmm->vm_fd, options->serial,
			  options->console_log);
	if (ret)
		goto out;
	if (options->plan) {
		ret = vmemd_plan(
			options->control, &options->region, FIRST_REGION_SLOT,
			(unsigned int)ioctl(vmm->vm_fd, KVM_CHECK_EXTENSION,
					    KVM_CAP_NR_MEMSLOTS));
		if (ret)
			goto out;
	}
	if (options->region.size) {
		ret = region_place(&options->region, phys_bits);
		if (!ret)
			ret = create_device(vmm);
		if (ret)
			goto out;
	}
	ret = boot_load(&vmm->memory, options->kernel, options->initrd,
			options->cmdline, &entry_gpa);
	if (ret)
		goto out;
	acpi_build(&vmm->memory, options->nr_vcpus, vmm->has_virtio);
	ret = create_vcpus(vmm, cpuid, entry_gpa);
	if (!ret && options->reboot)
		ret = prepare_reboot(vmm);
	if (!ret && options->probe)
		ret = probe_open(&vmm->probe, options->probe, vmm->kvm_fd,
				 vmm->vm_fd, cpuid, options->nr_vcpus,
				 &vmm->memory, &options->region);
out:
	free(cpuid);
	return ret;
}

/* All threads inherit the mask: these signals come to the main loop alone. */
static int catch_signals(struct vmm *vmm)
{
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	/* The vCPUs' own, let through in their threads only. */
	sigaddset(&mask, SIGUSR1);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	sigdelset(&mask, SIGUSR1);
	vmm->signal_fd = signalfd(-1, &mask, SFD_CLOEXEC);
	vmm->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (vmm->signal_fd < 0 || vmm->end_fd < 0) {
		error_errno(errno, "cannot catch signals");
		return -errno;
	}
	return 0;
}

static int vmm_create(struct vmm *vmm)
{
	int ret;

	vmm->kvm_fd = -1;
	vmm->vm_fd = -1;
	vmm->region_fd = -1;
	vmm->signal_fd = -1;
	vmm->end_fd = -1;
	memory_init(&vmm->memory);
	vmemd_init(&vmm->vmemd);
	vhost_user_init(&vmm->vu);
	reconnect_init(&vmm->reconnect);
	reboot_init(&vmm->reboot);
	probe_init(&vmm->probe);
	ret = catch_signals(vmm);
	if (ret)
		return ret;
	return create_machine(vmm);
}

static void vmm_destroy(struct vmm *vmm)
{
	unsigned int i;

	/* Nobody may be left waiting for an answer. */
	vhost_user_shutdown(&vmm->vu);
	if (vmm->has_virtio)
		virtio_mmio_give_up(&vmm->virtio);
	reconnect_close(&vmm->reconnect);
	vhost_user_shutdown(&vmm->vu);
	reboot_close(&vmm->reboot);
	probe_close(&vmm->probe);
	for (i = 0; i < vmm->nr_vcpus; i++)
		vcpu_destroy(&vmm->vcpus[i]);
	if (vmm->has_virtio)
		virtio_mmio_close(&vmm->virtio);
	vhost_user_close(&vmm->vu);
	vmemd_stop(&vmm->vmemd);
	if (vmm->has_serial)
		serial_close(&vmm->serial);
	if (vmm->region_fd >= 0)
		close(vmm->region_fd);
	if (vmm->vm_fd >= 0)
		close(vmm->vm_fd);
	memory_destroy(&vmm->memory);
	if (vmm->kvm_fd >= 0)
		close(vmm->kvm_fd);
	if (vmm->end_fd >= 0)
		close(vmm->end_fd);
	if (vmm->signal_fd >= 0)
		close(vmm->signal_fd);
}

/*
 * The guest goes on without its backend, with the memory it has. Resizing is
 * over, unless somebody else starts the backend again.
 */
static void backend_lost(struct vmm *vmm, const char *what)
{
	error("%s; the guest keeps the memory it has", what);
	vhost_user_shutdown(&vmm->vu);
	if (!vmm->virtio.comes_back)
		virtio_mmio_config_changed(&vmm->virtio);
}

/* There is nothing more to be had from the connection. */
static void backend_closed(struct vmm *vmm)
{
	backend_lost(vmm, "the backend has closed");
	if (!vmm->virtio.comes_back)
		return;
	/* Its last words on the channel are of no use, and it has a new one. */
	if (vmm->vu.channel_fd >= 0)
		close(vmm->vu.channel_fd);
	vmm->vu.channel_fd = -1;
	if (reconnect_start(&vmm->reconnect))
		virtio_mmio_give_up(&vmm->virtio);
}

static void handle_channel(struct vmm *vmm)
{
	bool changed;
	int ret;

	ret = vhost_user_handle_channel(&vmm->vu, &changed);
	if (changed)
		virtio_mmio_config_changed(&vmm->virtio);
	if (!ret)
		return;
	close(vmm->vu.channel_fd);
	vmm->vu.channel_fd = -1;
	if (ret != -EPIPE)
		backend_lost(vmm, "the backend channel is out of order");
}

static enum guest_end guest_end(const struct vmm *vmm)
{
	return __atomic_load_n(&vmm->end, __ATOMIC_ACQUIRE);
}

/* Return: whether the guest goes on. */
static bool start_vcpus(struct vmm *vmm)
{
	unsigned int i;

	for (i = 0; i < vmm->nr_vcpus; i++)
		if (vcpu_start(&vmm->vcpus[i]))
			return false;
	return true;
}

/* The machine was reset. Return: whether the guest goes on. */
static bool begin_again(struct vmm *vmm)
{
	eventfd_t count;

	if (reboot_finish(&vmm->reboot))
		return false;
	error("the guest has reset the machine, and begins again");
	/* What other vCPUs made of their last moments is of no interest. */
	__atomic_store_n(&vmm->end, GUEST_RUNS, __ATOMIC_RELEASE);
	eventfd_read(vmm->end_fd, &count);
	return start_vcpus(vmm);
}

static enum exit_status main_loop(struct vmm *vmm)
{
	bool backend = vmm->has_virtio, vmemd = vmm->vmemd.pid;
	bool rebooting = false;
	struct pollfd fds[POLL_COUNT];

	for (;;) {
		fds[POLL_SIGNAL] = (struct pollfd){vmm->signal_fd, POLLIN, 0};
		fds[POLL_END] = (struct pollfd){rebooting ? -1 : vmm->end_fd,
						POLLIN, 0};
		fds[POLL_REBOOT] =
			(struct pollfd){vmm->reboot.done_fd, POLLIN, 0};
		fds[POLL_VMEMD] = (struct pollfd){
			vmemd ? vmm->vmemd.pid_fd : -1, POLLIN, 0};
		fds[POLL_BACKEND] = (struct pollfd){backend ? vmm->vu.fd : -1,
						    POLLRDHUP, 0};
		fds[POLL_CHANNEL] =
			(struct pollfd){vmm->vu.channel_fd, POLLIN, 0};
		fds[POLL_BACK] =
			(struct pollfd){vmm->reconnect.back_fd, POLLIN, 0};
		serial_prepare_poll(&vmm->serial, &fds[POLL_SERIAL]);
		if (poll(fds, POLL_COUNT, -1) < 0) {
			if (errno == EINTR)
				continue;
			error_errno(errno, "poll");
			return STATUS_ERROR;
		}
		if (fds[POLL_SIGNAL].revents)
			return STATUS_SIGNAL;
		/* Before the end, so that the guest's last words get out. */
		serial_handle_poll(&vmm->serial, &fds[POLL_SERIAL]);
		if (fds[POLL_END].revents) {
			if (!vmm->options.reboot ||
			    guest_end(vmm) != GUEST_RESET)
				break;
			if (reboot_start(&vmm->reboot))
				return STATUS_ERROR;
			rebooting = true;
		}
		if (fds[POLL_REBOOT].revents) {
			if (!begin_again(vmm))
				return STATUS_ERROR;
			rebooting = false;
		}
		if (fds[POLL_CHANNEL].revents)
			handle_channel(vmm);
		if (fds[POLL_VMEMD].revents) {
			error("vmemd has ended");
			vmemd = false;
		}
		if (fds[POLL_BACKEND].revents) {
			backend = false;
			backend_closed(vmm);
		}
		if (fds[POLL_BACK].revents) {
			error("the backend is back");
			reconnect_finish(&vmm->reconnect);
			backend = true;
		}
	}
	switch (guest_end(vmm)) {
	case GUEST_POWERED_OFF:
		return STATUS_POWERED_OFF;
	case GUEST_RESET:
		return STATUS_RESET;
	default:
		return STATUS_ERROR;
	}
}

static enum exit_status vmm_run(struct vmm *vmm)
{
	if (!start_vcpus(vmm))
		return STATUS_ERROR;
	if (vmm->options.probe && probe_start(&vmm->probe))
		return STATUS_ERROR;
	return main_loop(vmm);
}

int main(int argc, char **argv)
{
	enum exit_status status = STATUS_ERROR;
	struct vmm *vmm;
	int ret;

	vmm = calloc(1, sizeof(*vmm));
	if (!vmm) {
		error_errno(errno, "out of memory");
		return STATUS_ERROR;
	}
	ret = options_parse(&vmm->options, argc, argv);
	if (ret) {
		free(vmm);
		return ret < 0 ? STATUS_ERROR : 0;
	}
	if (!vmm_create(vmm))
		status = vmm_run(vmm);
	vmm_destroy(vmm);
	free(vmm);
	return (int)status;
}
