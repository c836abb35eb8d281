// SPDX-License-Identifier: GPL-2.0-or-later
#include "reboot.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "acpi.h"
#include "boot.h"
#include "device.h"
#include "kvmvmem.h"
#include "memory.h"
#include "options.h"
#include "serial.h"
#include "util.h"
#include "vcpu.h"

void reboot_init(struct reboot *reboot)
{
	memset(reboot, 0, sizeof(*reboot));
	reboot->done_fd = -1;
}

int reboot_open(struct reboot *reboot, int kvm_fd)
{
	unsigned int i;
	int ret;

	if (reboot->control) {
		struct kvmvmem_error reason;

		ret = kvmvmem_vmemd_new(&reboot->vmemd, reboot->control,
					&reason);
		if (ret) {
			error("%s", reason.text);
			return ret;
		}
		kvmvmem_vmemd_set_timeout(reboot->vmemd, VMEMD_ANSWER_MS);
	}
	reboot->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (reboot->done_fd < 0) {
		ret = -errno;
		error_errno(errno, "cannot prepare to reboot");
		return ret;
	}
	for (i = 0; i < reboot->nr_vcpus; i++) {
		ret = vcpu_state_save(&reboot->states[i], kvm_fd,
				      reboot->vcpus[i].fd);
		if (ret)
			return ret;
	}
	return 0;
}

static int load(const struct reboot *reboot)
{
	const struct options *options = reboot->options;
	uint64_t entry_gpa;
	int ret;

	ret = memory_clear_boot(reboot->memory);
	if (ret) {
		error_errno(-ret, "cannot empty boot memory");
		return ret;
	}
	/* The kernel has the same entry address each time. */
	ret = boot_load(reboot->memory, options->kernel, options->initrd,
			options->cmdline, &entry_gpa);
	if (!ret)
		acpi_build(reboot->memory, reboot->nr_vcpus,
			   reboot->nr_devices);
	return ret;
}

static int reset(struct reboot *reboot)
{
	struct kvmvmem_error reason;
	unsigned int i;
	int ret;

	for (i = 0; i < reboot->nr_vcpus; i++)
		vcpu_stop(&reboot->vcpus[i]);
	for (i = 0; i < reboot->nr_devices; i++) {
		const struct device *device = &reboot->devices[i];

		virtio_mmio_reset(&reboot->devices[i].virtio);
		/* If vmemd cannot do it now, the next system's driver can. */
		if (reboot->vmemd &&
		    kvmvmem_vmemd_system_reset(reboot->vmemd,
					       device->config->name, false,
					       &reason))
			error("no system reset by vmemd: %s", reason.text);
	}
	serial_reset(reboot->serial);
	ret = irqchip_reset(reboot->irqchip, reboot->vm_fd);
	if (ret) {
		error_errno(-ret, "cannot reset the interrupt controllers");
		return ret;
	}
	ret = load(reboot);
	for (i = 0; !ret && i < reboot->nr_vcpus; i++)
		ret = vcpu_state_restore(&reboot->states[i],
					 reboot->vcpus[i].fd);
	return ret;
}

static void *run(void *opaque)
{
	struct reboot *reboot = opaque;

	reboot->result = reset(reboot);
	eventfd_write(reboot->done_fd, 1);
	return NULL;
}

int reboot_start(struct reboot *reboot)
{
	int ret = pthread_create(&reboot->thread, NULL, run, reboot);

	if (ret) {
		error_errno(ret, "cannot start a thread to reboot");
		return -ret;
	}
	reboot->running = true;
	return 0;
}

static void join(struct reboot *reboot)
{
	if (reboot->running)
		pthread_join(reboot->thread, NULL);
	reboot->running = false;
}

int reboot_finish(struct reboot *reboot)
{
	eventfd_t count;

	join(reboot);
	eventfd_read(reboot->done_fd, &count);
	return reboot->result;
}

void reboot_close(struct reboot *reboot)
{
	unsigned int i;

	join(reboot);
	for (i = 0; i < reboot->nr_vcpus; i++)
		vcpu_state_free(&reboot->states[i]);
	kvmvmem_vmemd_free(reboot->vmemd);
	if (reboot->done_fd >= 0)
		close(reboot->done_fd);
	reboot_init(reboot);
}
