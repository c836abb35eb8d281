// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-vmm: a small VMM, and the example of how a VMM takes part in kvm-vmem.
 *
 * For a VMM author
 * ----------------
 * Your VMM has a vhost-user front end. To give a guest a virtio-mem device
 * whose KVM memslots exist only where memory is plugged, add three calls of
 * libkvmvmem (kvmvmem(3)):
 *
 * 1. kvmvmem_open()			[region_create() in region.c]
 *    opens /dev/kvm-vmem. As with /dev/kvm, the group kvm may.
 *
 * 2. kvmvmem_region_create()		[region_create() in region.c]
 *    in the process that created the VM, with
 *    - the VM's fd,
 *    - the guest-physical range of the device. Create NO memslot there; if the
 *      guest can enter SMM, name that address space too,
 *    - the address of a mapping of that range's size. Back it by a memfd,
 *      MAP_SHARED | MAP_NORESERVE [memory.c]: your own devices DMA through the
 *      mapping, vmemd maps the memfd too and punches holes for what is unplugged,
 *    - as many memslot ids as the range has slots. The module uses these ids
 *      from now on.
 *    It returns the region's fd.
 *
 * 3. kvmvmem_vmemd_spawn() or kvmvmem_vmemd_attach()	[spawn() and attach() in device.c]
 *    hands the region's fd and the memfd to a vmemd that is started, or to a
 *    running one. Connect a generic vhost-user front end to it: virtio device id
 *    24, one queue, 56 bytes of configuration space [device.c; nothing else in
 *    this program knows what device it is]. Share all guest memory with it, the
 *    region's memfd whole.
 *
 * Plugging and unplugging goes from the guest's driver to vmemd to the kernel,
 * without the VMM, except for its consumers: the view of its own devices, and
 * assigned devices. vmemctl resize asks vmemd to grow the guest. Keep your copy
 * of the region's fd: if vmemd dies, hand it to the next one, and continue the
 * rings where they are [reconnect.c]; the state of the region is in the kernel.
 * When the process ends, the kernel removes the memslots and vmemd ends too.
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
#include "device.h"
#include "irqchip.h"
#include "layout.h"
#include "memory.h"
#include "options.h"
#include "passthrough.h"
#include "reboot.h"
#include "serial.h"
#include "util.h"
#include "vcpu.h"

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
	POLL_REBOOT,
	POLL_SERIAL,
	POLL_PASSTHROUGH = POLL_SERIAL + SERIAL_NR_POLL,
	POLL_DEVICES = POLL_PASSTHROUGH + MAX_DEVICES,
	POLL_COUNT = POLL_DEVICES + MAX_DEVICES * DEVICE_NR_POLL,
};

struct vmm {
	struct options options;
	int kvm_fd;
	int vm_fd;
	int signal_fd;
	int end_fd;
	enum guest_end end;
	struct memory memory;
	struct device devices[MAX_DEVICES];
	unsigned int nr_devices;
	struct passthrough passthrough;
	bool has_serial;
	struct serial serial;
	struct vcpu_machine machine;
	unsigned int nr_vcpus;
	struct vcpu vcpus[MAX_VCPUS];
	struct irqchip irqchip;
	struct reboot reboot;
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

	/* Unused ports read as all ones, as on a PC's bus. */
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
	unsigned int i;

	for (i = 0; i < vmm->nr_devices; i++) {
		uint64_t start = device_mmio_gpa(&vmm->devices[i]);

		if (gpa < start || gpa - start > VIRTIO_MMIO_SIZE - size)
			continue;
		virtio_mmio_access(&vmm->devices[i].virtio, gpa - start,
				   is_write, data, size);
		return;
	}
	if (!is_write)
		memset(data, 0xff, size);
}

/*
 * With dirty logging KVM then neither write-protects memslots nor flushes TLBs
 * when it begins. An old KVM refuses, which costs time only.
 */
static void begin_logs_all_dirty(int vm_fd)
{
	struct kvm_enable_cap cap = {
		.cap = KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		.args = {KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			 KVM_DIRTY_LOG_INITIALLY_SET},
	};

	ioctl(vm_fd, KVM_ENABLE_CAP, &cap);
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
	begin_logs_all_dirty(vmm->vm_fd);
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

/* All regions are placed before the first backend is connected. */
static int create_devices(struct vmm *vmm, unsigned int phys_bits)
{
	uint32_t slot = FIRST_REGION_SLOT, used = FIRST_REGION_SLOT, nr;
	uint64_t gpa = REGION_GPA_MIN;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < vmm->options.nr_devices && !ret; i++) {
		struct device *device = &vmm->devices[i];

		device_init(device);
		device->options = &vmm->options;
		device->config = &vmm->options.devices[i];
		device->index = i;
		vmm->nr_devices++;
		ret = device_place(device, vmm->vm_fd, &vmm->memory, phys_bits,
				   gpa, slot, used);
		if (ret)
			break;
		gpa = device->range->gpa + device->range->size;
		nr = (uint32_t)region_nr_slots(&device->config->region);
		slot += nr;
		if (!device->config->plan)
			used += nr;
	}
	for (i = 0; i < vmm->nr_devices && !ret; i++)
		ret = device_connect(&vmm->devices[i], vmm->vm_fd,
				     &vmm->memory);
	return ret;
}

/* The regions are vmemd's by now. */
static int open_passthrough(struct vmm *vmm)
{
	const char *address = vmm->options.vfio;
	int ret = 0;

	if (address)
		ret = passthrough_open(&vmm->passthrough, address, vmm->vm_fd,
				       &vmm->memory);
	if (address && !ret)
		ret = passthrough_follow(&vmm->passthrough,
					 options_control(&vmm->options),
					 vmm->devices, vmm->nr_devices);
	return ret;
}

/* Each probe has a vCPU that the guest's tables do not list. */
static int open_probes(struct vmm *vmm, const struct kvm_cpuid2 *cpuid)
{
	unsigned int i;
	int ret = 0;

	for (i = 0; i < vmm->nr_devices && !ret; i++) {
		const struct device_options *config = &vmm->options.devices[i];

		if (config->probe)
			ret = probe_open(&vmm->devices[i].probe, config->probe,
					 vmm->kvm_fd, vmm->vm_fd, cpuid,
					 vmm->options.nr_vcpus + i,
					 &vmm->memory, &config->region);
	}
	return ret;
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

/* The machine is complete; a reset restores this state. */
static int prepare_reboot(struct vmm *vmm)
{
	vmm->reboot.options = &vmm->options;
	vmm->reboot.vm_fd = vmm->vm_fd;
	vmm->reboot.memory = &vmm->memory;
	vmm->reboot.irqchip = &vmm->irqchip;
	vmm->reboot.serial = &vmm->serial;
	vmm->reboot.devices = vmm->devices;
	vmm->reboot.nr_devices = vmm->nr_devices;
	vmm->reboot.control = options_control(&vmm->options);
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
	ret = create_devices(vmm, phys_bits);
	if (!ret)
		ret = open_passthrough(vmm);
	if (ret)
		goto out;
	ret = boot_load(&vmm->memory, options->kernel, options->initrd,
			options->cmdline, &entry_gpa);
	if (ret)
		goto out;
	acpi_build(&vmm->memory, options->nr_vcpus, vmm->nr_devices);
	ret = create_vcpus(vmm, cpuid, entry_gpa);
	if (!ret && options->reboot)
		ret = prepare_reboot(vmm);
	if (!ret)
		ret = open_probes(vmm, cpuid);
out:
	free(cpuid);
	return ret;
}

/*
 * All threads inherit the mask, so that only the main loop gets these signals.
 */
static int catch_signals(struct vmm *vmm)
{
	sigset_t mask;

	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&mask);
	sigaddset(&mask, SIGINT);
	sigaddset(&mask, SIGTERM);
	sigaddset(&mask, SIGHUP);
	/* The vCPUs' own signal, which is unblocked only in their threads. */
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
	vmm->signal_fd = -1;
	vmm->end_fd = -1;
	memory_init(&vmm->memory);
	passthrough_init(&vmm->passthrough);
	reboot_init(&vmm->reboot);
	ret = catch_signals(vmm);
	if (ret)
		return ret;
	return create_machine(vmm);
}

/* A device's part of the poll array. */
static struct pollfd *poll_of(struct pollfd fds[POLL_COUNT],
			      unsigned int device)
{
	return &fds[POLL_DEVICES + device * DEVICE_NR_POLL];
}

/*
 * Wait for a running reset. It waits for vmemd, which waits for the consumers
 * here.
 */
static void await_reboot(struct vmm *vmm)
{
	struct pollfd fds[POLL_COUNT];
	unsigned int i;

	while (vmm->reboot.running) {
		for (i = 0; i < POLL_COUNT; i++)
			fds[i] = (struct pollfd){.fd = -1};
		fds[POLL_REBOOT] =
			(struct pollfd){vmm->reboot.done_fd, POLLIN, 0};
		for (i = 0; i < vmm->nr_devices; i++)
			device_prepare_view(&vmm->devices[i], poll_of(fds, i));
		passthrough_prepare_poll(&vmm->passthrough,
					 &fds[POLL_PASSTHROUGH]);
		if (poll(fds, POLL_COUNT, -1) < 0) {
			if (errno == EINTR)
				continue;
			return;
		}
		if (fds[POLL_REBOOT].revents)
			return;
		for (i = 0; i < vmm->nr_devices; i++)
			device_handle_poll(&vmm->devices[i], poll_of(fds, i));
		passthrough_handle_poll(&vmm->passthrough,
					&fds[POLL_PASSTHROUGH]);
	}
}

static void vmm_destroy(struct vmm *vmm)
{
	unsigned int i;

	/* No thread may still be waiting for an answer. */
	for (i = 0; i < vmm->nr_devices; i++)
		device_give_up(&vmm->devices[i]);
	for (i = 0; i < vmm->nr_devices; i++)
		device_join(&vmm->devices[i]);
	await_reboot(vmm);
	reboot_close(&vmm->reboot);
	for (i = 0; i < vmm->nr_vcpus; i++)
		vcpu_destroy(&vmm->vcpus[i]);
	passthrough_close(&vmm->passthrough);
	for (i = 0; i < vmm->nr_devices; i++)
		device_destroy(&vmm->devices[i]);
	if (vmm->has_serial)
		serial_close(&vmm->serial);
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

static enum guest_end guest_end(const struct vmm *vmm)
{
	return __atomic_load_n(&vmm->end, __ATOMIC_ACQUIRE);
}

/* Return: false if a vCPU cannot be started. */
static bool start_vcpus(struct vmm *vmm)
{
	unsigned int i;

	for (i = 0; i < vmm->nr_vcpus; i++)
		if (vcpu_start(&vmm->vcpus[i]))
			return false;
	return true;
}

/* The machine was reset. Return: false if the guest cannot continue. */
static bool begin_again(struct vmm *vmm)
{
	eventfd_t count;

	if (reboot_finish(&vmm->reboot))
		return false;
	error("the guest has reset the machine, and begins again");
	/* Ignore further ends that other vCPUs have reported. */
	__atomic_store_n(&vmm->end, GUEST_RUNS, __ATOMIC_RELEASE);
	eventfd_read(vmm->end_fd, &count);
	return start_vcpus(vmm);
}

static enum exit_status main_loop(struct vmm *vmm)
{
	nfds_t nr_fds = POLL_DEVICES + vmm->nr_devices * DEVICE_NR_POLL;
	struct pollfd fds[POLL_COUNT];
	bool rebooting = false;
	unsigned int i;

	for (;;) {
		fds[POLL_SIGNAL] = (struct pollfd){vmm->signal_fd, POLLIN, 0};
		fds[POLL_END] = (struct pollfd){rebooting ? -1 : vmm->end_fd,
						POLLIN, 0};
		fds[POLL_REBOOT] =
			(struct pollfd){vmm->reboot.done_fd, POLLIN, 0};
		serial_prepare_poll(&vmm->serial, &fds[POLL_SERIAL]);
		for (i = 0; i < vmm->nr_devices; i++)
			device_prepare_poll(&vmm->devices[i], poll_of(fds, i));
		passthrough_prepare_poll(&vmm->passthrough,
					 &fds[POLL_PASSTHROUGH]);
		if (poll(fds, nr_fds, -1) < 0) {
			if (errno == EINTR)
				continue;
			error_errno(errno, "poll");
			return STATUS_ERROR;
		}
		if (fds[POLL_SIGNAL].revents)
			return STATUS_SIGNAL;
		/*
		 * Before the end, so that the guest's last output is written.
		 */
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
		for (i = 0; i < vmm->nr_devices; i++)
			device_handle_poll(&vmm->devices[i], poll_of(fds, i));
		passthrough_handle_poll(&vmm->passthrough,
					&fds[POLL_PASSTHROUGH]);
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
	unsigned int i;

	if (!start_vcpus(vmm))
		return STATUS_ERROR;
	for (i = 0; i < vmm->nr_devices; i++)
		if (vmm->options.devices[i].probe &&
		    probe_start(&vmm->devices[i].probe))
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
