// SPDX-License-Identifier: GPL-2.0-or-later
#include <glob.h>
#include <inttypes.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "edu_registers.h"
#include "kernel.h"
#include "tap.h"
#include "vfio_edu.h"

#define EDU_PCI_ID "0x11e8"

#define PCI_DEVICES "/sys/bus/pci/devices/"

static void load(const char *module)
{
	char *const argv[] = {(char *)"modprobe", (char *)module, NULL};
	pid_t pid;

	if (!posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		waitpid(pid, NULL, 0);
}

/* Find the device's folder; skips the test if the machine has none. */
static void find(char name[16])
{
	char text[16] = "";
	glob_t found;

	name[0] = '\0';
	ASSERT_EQ(glob(PCI_DEVICES "*/device", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc; i++) {
		FILE *f = fopen(found.gl_pathv[i], "re");

		ASSERT_TRUE(f && fgets(text, sizeof(text), f));
		fclose(f);
		if (!strncmp(text, EDU_PCI_ID, strlen(EDU_PCI_ID)))
			snprintf(name, 16, "%.12s",
				 found.gl_pathv[i] + strlen(PCI_DEVICES));
	}
	globfree(&found);
	if (!*name)
		tap_skip("the machine has no device edu");
}

/** vfio_edu_need() - skip the test if the machine has no such device */
void vfio_edu_need(void)
{
	char name[16];

	find(name);
}

/* Bind the device to vfio-pci. */
static void bind_to_vfio(const char *name)
{
	char path[64];

	load("vfio-pci");
	load("vfio_iommu_type1");
	snprintf(path, sizeof(path), PCI_DEVICES "%s/driver", name);
	if (access(path, F_OK)) {
		snprintf(path, sizeof(path), PCI_DEVICES "%s/driver_override",
			 name);
		kernel_write(path, "vfio-pci");
		kernel_write("/sys/bus/pci/drivers_probe", "%s", name);
	}
	snprintf(path, sizeof(path), PCI_DEVICES "%s/iommu_group", name);
	if (access(path, F_OK))
		tap_skip("the machine has no IOMMU");
}

/**
 * vfio_edu_open() - open the device, which cannot access any memory yet
 * @edu: set
 * @iommufd: use iommufd; false: use VFIO type 1
 */
void vfio_edu_open(struct vfio_edu *edu, bool iommufd)
{
	char name[16];
	void *registers;
	size_t size;

	find(name);
	bind_to_vfio(name);
	if (iommufd && !vfio_has_iommufd())
		tap_skip("the kernel has no iommufd");
	ASSERT_OK(vfio_open(&edu->vfio, name, iommufd));
	ASSERT_OK(vfio_enable_dma(&edu->vfio, true));
	ASSERT_OK(vfio_map_bar(&edu->vfio, &registers, &size));
	edu->registers = registers;
	ASSERT_EQ(*(volatile uint32_t *)edu->registers, EDU_IDENTITY);
}

static void do_dma(struct vfio_edu *edu, uint64_t from, uint64_t to,
		   uint64_t flags)
{
	volatile uint8_t *regs = edu->registers;

	*(volatile uint64_t *)(regs + EDU_DMA_FROM) = from;
	*(volatile uint64_t *)(regs + EDU_DMA_TO) = to;
	*(volatile uint64_t *)(regs + EDU_DMA_SIZE) = EDU_BUFFER_SIZE;
	*(volatile uint64_t *)(regs + EDU_DMA_DO) = flags | EDU_DMA_RUN;
	/* Each read takes the emulator some microseconds. */
	while (*(volatile uint64_t *)(regs + EDU_DMA_DO) & EDU_DMA_RUN)
		;
}

/** vfio_edu_read() - the device reads memory into its buffer */
void vfio_edu_read(struct vfio_edu *edu, uint64_t iova)
{
	do_dma(edu, iova, EDU_BUFFER, 0);
}

/** vfio_edu_write() - the device writes its buffer into memory */
void vfio_edu_write(struct vfio_edu *edu, uint64_t iova)
{
	do_dma(edu, EDU_BUFFER, iova, EDU_TO_RAM);
}

/** vfio_pinned_pages() - number of pages of this machine pinned for devices */
uint64_t vfio_pinned_pages(void)
{
	uint64_t acquired = 0, released = 0, value;
	char name[64];
	FILE *f;

	/* CPUs add their counts once a second, or on this write. */
	kernel_write("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "re");
	ASSERT_TRUE(f);
	while (fscanf(f, "%63s %" SCNu64, name, &value) == 2) {
		if (!strcmp(name, "nr_foll_pin_acquired"))
			acquired = value;
		else if (!strcmp(name, "nr_foll_pin_released"))
			released = value;
	}
	fclose(f);
	return acquired - released;
}
