// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <linux/pci_regs.h>
#include <linux/vfio.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel.h"
#include "tap.h"
#include "vfio_edu.h"

/* See docs/specs/edu.rst of QEMU. */
#define EDU_PCI_ID   "0x11e8"
#define EDU_IDENTITY 0x010000edu
#define EDU_DMA_FROM 0x80
#define EDU_DMA_TO   0x88
#define EDU_DMA_SIZE 0x90
#define EDU_DMA_DO   0x98
#define EDU_DMA_RUN  1U
#define EDU_TO_RAM   2U
#define EDU_BUFFER   0x40000U

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

/* Bind the device to vfio-pci. Return: its group. */
static int bind_to_vfio(const char *name)
{
	char path[64], link[128];
	ssize_t length;

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
	length = readlink(path, link, sizeof(link) - 1);
	if (length < 0)
		tap_skip("the machine has no IOMMU");
	link[length] = '\0';
	return atoi(strrchr(link, '/') + 1);
}

static uint64_t region_offset(struct vfio_edu *edu, uint32_t index)
{
	struct vfio_region_info info = {.argsz = sizeof(info), .index = index};

	ASSERT_EQ(ioctl(edu->device, VFIO_DEVICE_GET_REGION_INFO, &info), 0);
	return info.offset;
}

/** vfio_edu_open() - open the device, which cannot access any memory yet */
void vfio_edu_open(struct vfio_edu *edu)
{
	struct vfio_group_status status = {.argsz = sizeof(status)};
	const uint16_t command = PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	char name[16], path[32];
	uint64_t config;
	int group;

	find(name);
	group = bind_to_vfio(name);
	snprintf(path, sizeof(path), "/dev/vfio/%d", group);
	edu->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	ASSERT_GE(edu->container, 0);
	edu->group = open(path, O_RDWR | O_CLOEXEC);
	ASSERT_GE(edu->group, 0);
	ASSERT_EQ(ioctl(edu->group, VFIO_GROUP_GET_STATUS, &status), 0);
	ASSERT_TRUE(status.flags & VFIO_GROUP_FLAGS_VIABLE);
	ASSERT_EQ(ioctl(edu->group, VFIO_GROUP_SET_CONTAINER, &edu->container),
		  0);
	ASSERT_EQ(ioctl(edu->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU), 0);
	edu->device = ioctl(edu->group, VFIO_GROUP_GET_DEVICE_FD, name);
	ASSERT_GE(edu->device, 0);
	config = region_offset(edu, VFIO_PCI_CONFIG_REGION_INDEX);
	ASSERT_EQ(pwrite(edu->device, &command, sizeof(command),
			 (off_t)(config + PCI_COMMAND)),
		  sizeof(command));
	edu->registers = mmap(
		NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_SHARED, edu->device,
		(off_t)region_offset(edu, VFIO_PCI_BAR0_REGION_INDEX));
	ASSERT_TRUE(edu->registers != MAP_FAILED);
	ASSERT_EQ(*(volatile uint32_t *)edu->registers, EDU_IDENTITY);
}

int vfio_edu_map(struct vfio_edu *edu, uint64_t iova, void *hva, uint64_t size)
{
	struct vfio_iommu_type1_dma_map map = {
		.argsz = sizeof(map),
		.flags = VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE,
		.vaddr = (uintptr_t)hva,
		.iova = iova,
		.size = size,
	};

	return ioctl(edu->container, VFIO_IOMMU_MAP_DMA, &map) ? -errno : 0;
}

int vfio_edu_unmap(struct vfio_edu *edu, uint64_t iova, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap unmap = {
		.argsz = sizeof(unmap),
		.iova = iova,
		.size = size,
	};

	if (ioctl(edu->container, VFIO_IOMMU_UNMAP_DMA, &unmap))
		return -errno;
	return unmap.size == size ? 0 : -ENOENT;
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
