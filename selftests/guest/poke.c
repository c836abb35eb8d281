// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-poke: act as the driver of a virtio-mem-pci device, in a guest without
 * the kernel's driver.
 *
 * Linux's driver plugs memory from the start of the region, and needs struct
 * pages for it. This one plugs blocks far apart, so that each needs a memslot.
 * It accesses them through /dev/mem, including blocks that are not plugged.
 *
 * The blocks are COUNT blocks at FIRST, FIRST + STRIDE, and so on, in bytes
 * from the start of the region.
 */
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/pci_regs.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mem.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PCI_DEVICES	"/sys/bus/pci/devices"
#define VIRTIO_MEM_PCI	"0x1058"
#define PCI_CONFIG_SIZE 256
/* Mapped part of a BAR, which contains all used registers. */
#define BAR_SIZE   0x4000
#define QUEUE_SIZE 8
#define PAGE_BYTES 4096U
/* Layout of the page that the device reads and writes. */
#define AT_AVAIL    0x100U
#define AT_USED	    0x200U
#define AT_REQUEST  0x400U
#define AT_RESPONSE 0x480U
/* Looks at the queue between two looks at the status. */
#define LOOK_TURNS (1U << 20)
/* Number of words written to a block, evenly distributed. */
#define WORDS 8U

static const char usage[] =
	"Usage: vmem-poke plug|unplug FIRST COUNT STRIDE [BLOCKS]\n"
	"       vmem-poke unplug-all\n"
	"       vmem-poke fill|check FIRST COUNT STRIDE SEED\n"
	"       vmem-poke zero FIRST COUNT STRIDE\n"
	"       vmem-poke answer FIRST COUNT STRIDE\n"
	"Plug or unplug BLOCKS (1) at each place, or unplug everything; print the number\n"
	"of answers of each type. Or write words to each place, check that they are\n"
	"present, or that all are zero; print the number of wrong words. Or have the\n"
	"device itself write to each place.\n"
	"Exit status: 0 all acknowledged or correct, 1 not, 2 wrong usage.\n";

/**
 * struct device - the device
 * @common: its registers
 * @config: configuration of virtio-mem
 * @notify: register that kicks its queue
 * @notify_multiplier: multiplier of the queue's notification offset
 * @page: memory that it reads and writes
 * @page_gpa: the device's address of @page
 * @answer_gpa: where the device writes its answers, usually in @page
 * @avail_idx: number of requests
 */
struct device {
	volatile struct virtio_pci_common_cfg *common;
	const volatile struct virtio_mem_config *config;
	volatile uint16_t *notify;
	uint32_t notify_multiplier;
	uint8_t *page;
	uint64_t page_gpa;
	uint64_t answer_gpa;
	uint16_t avail_idx;
};

static void die(const char *what)
{
	fprintf(stderr, "vmem-poke: %s: %s\n", what, strerror(errno));
	exit(EXIT_FAILURE);
}

/*
 * Have the VM exit once, before an access that KVM emulates.
 *
 * An emulated AMD CPU reports the last exception that the guest has handled by
 * itself in EXITINTINFO of the next exit, without the valid bit.
 * svm_check_emulate_instruction() of newer kernels looks at the type only, and
 * takes it for an event during whose delivery it cannot emulate: KVM stops the
 * VM if a page fault, of any page, comes right before the access. CPUID always
 * exits, and does not fail.
 */
static void exit_once(void)
{
	unsigned int eax, ebx, ecx, edx;

	__cpuid(0, eax, ebx, ecx, edx);
}

static int open_attribute(const char *device, const char *name, int flags)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), PCI_DEVICES "/%s/%s", device, name);
	fd = open(path, flags | O_CLOEXEC);
	if (fd < 0)
		die(path);
	return fd;
}

/* Find the name of the device's folder. */
static void find_device(char *name, size_t size)
{
	char text[16];
	struct dirent *entry;
	DIR *dir = opendir(PCI_DEVICES);
	ssize_t got;
	int fd;

	if (!dir)
		die(PCI_DEVICES);
	while ((entry = readdir(dir))) {
		if (entry->d_name[0] == '.')
			continue;
		fd = open_attribute(entry->d_name, "device", O_RDONLY);
		got = read(fd, text, sizeof(text) - 1);
		close(fd);
		if (got > 0 &&
		    !strncmp(text, VIRTIO_MEM_PCI, strlen(VIRTIO_MEM_PCI))) {
			snprintf(name, size, "%s", entry->d_name);
			closedir(dir);
			return;
		}
	}
	errno = ENODEV;
	die("virtio-mem-pci");
}

static uint8_t *map_bar(const char *name, uint8_t bar)
{
	char resource[16];
	void *memory;
	int fd;

	snprintf(resource, sizeof(resource), "resource%u", bar);
	fd = open_attribute(name, resource, O_RDWR);
	memory =
		mmap(NULL, BAR_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (memory == MAP_FAILED)
		die("mmap");
	return memory;
}

static void map_registers(struct device *device, const char *name, int fd)
{
	uint8_t config[PCI_CONFIG_SIZE];
	struct virtio_pci_notify_cap cap;
	uint8_t *at;
	unsigned int next;

	if (pread(fd, config, sizeof(config), 0) != sizeof(config))
		die("config");
	for (next = config[PCI_CAPABILITY_LIST]; next;
	     next = config[next + PCI_CAP_LIST_NEXT]) {
		if (next + sizeof(cap) > sizeof(config))
			break;
		memcpy(&cap, config + next, sizeof(cap));
		if (cap.cap.cap_vndr != PCI_CAP_ID_VNDR ||
		    (cap.cap.cfg_type != VIRTIO_PCI_CAP_COMMON_CFG &&
		     cap.cap.cfg_type != VIRTIO_PCI_CAP_NOTIFY_CFG &&
		     cap.cap.cfg_type != VIRTIO_PCI_CAP_DEVICE_CFG))
			continue;
		at = map_bar(name, cap.cap.bar) + cap.cap.offset;
		switch (cap.cap.cfg_type) {
		case VIRTIO_PCI_CAP_COMMON_CFG:
			device->common = (void *)at;
			break;
		case VIRTIO_PCI_CAP_NOTIFY_CFG:
			device->notify = (void *)at;
			device->notify_multiplier = cap.notify_off_multiplier;
			break;
		default:
			device->config = (void *)at;
		}
	}
	if (!device->common || !device->notify || !device->config) {
		errno = ENXIO;
		die("capabilities");
	}
}

static void open_device(struct device *device)
{
	char name[256];
	uint16_t command;
	int fd;

	find_device(name, sizeof(name));
	fd = open_attribute(name, "enable", O_WRONLY);
	if (write(fd, "1", 1) != 1)
		die("enable");
	close(fd);
	fd = open_attribute(name, "config", O_RDWR);
	if (pread(fd, &command, sizeof(command), PCI_COMMAND) !=
	    sizeof(command))
		die("command");
	command |= PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER;
	if (pwrite(fd, &command, sizeof(command), PCI_COMMAND) !=
	    sizeof(command))
		die("command");
	map_registers(device, name, fd);
	close(fd);
}

static void allocate_page(struct device *device)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	device->page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED, -1, 0);
	if (device->page == MAP_FAILED)
		die("mmap");
	memset(device->page, 0, PAGE_BYTES);
	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    (off_t)((uintptr_t)device->page / PAGE_BYTES *
				    sizeof(entry))) != sizeof(entry))
		die("pagemap");
	close(fd);
	device->page_gpa = (entry & ((1ULL << 55) - 1)) * PAGE_BYTES;
	device->answer_gpa = device->page_gpa + AT_RESPONSE;
}

static void start_device(struct device *device)
{
	volatile struct virtio_pci_common_cfg *common = device->common;
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;

	allocate_page(device);
	exit_once();
	common->device_status = 0;
	while (common->device_status)
		;
	common->device_status = status;
	common->guest_feature_select = 0;
	common->guest_feature = 1U << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	common->guest_feature_select = 1;
	common->guest_feature = 1U << (VIRTIO_F_VERSION_1 - 32);
	status |= VIRTIO_CONFIG_S_FEATURES_OK;
	common->device_status = status;
	if (!(common->device_status & VIRTIO_CONFIG_S_FEATURES_OK)) {
		errno = EPROTO;
		die("features");
	}
	common->msix_config = VIRTIO_MSI_NO_VECTOR;
	common->queue_select = 0;
	common->queue_size = QUEUE_SIZE;
	common->queue_msix_vector = VIRTIO_MSI_NO_VECTOR;
	common->queue_desc_lo = (uint32_t)device->page_gpa;
	common->queue_desc_hi = (uint32_t)(device->page_gpa >> 32);
	common->queue_avail_lo = (uint32_t)(device->page_gpa + AT_AVAIL);
	common->queue_avail_hi = (uint32_t)(device->page_gpa >> 32);
	common->queue_used_lo = (uint32_t)(device->page_gpa + AT_USED);
	common->queue_used_hi = (uint32_t)(device->page_gpa >> 32);
	common->queue_enable = 1;
	common->device_status = status | VIRTIO_CONFIG_S_DRIVER_OK;
	device->notify += common->queue_notify_off * device->notify_multiplier /
			  sizeof(*device->notify);
}

/* Return: the type of the response, if it is in the page. */
static uint16_t request(struct device *device, uint16_t type, uint64_t gpa,
			uint16_t blocks)
{
	struct vring_desc *desc = (void *)device->page;
	volatile struct vring_avail *avail = (void *)(device->page + AT_AVAIL);
	const volatile struct vring_used *used =
		(void *)(device->page + AT_USED);
	struct virtio_mem_req *req = (void *)(device->page + AT_REQUEST);
	struct virtio_mem_resp *resp = (void *)(device->page + AT_RESPONSE);
	unsigned int turns = 0;

	memset(req, 0, sizeof(*req));
	memset(resp, 0xff, sizeof(*resp));
	req->type = type;
	req->u.plug.addr = gpa;
	req->u.plug.nb_blocks = blocks;
	desc[0] = (struct vring_desc){.addr = device->page_gpa + AT_REQUEST,
				      .len = sizeof(*req),
				      .flags = VRING_DESC_F_NEXT,
				      .next = 1};
	desc[1] = (struct vring_desc){.addr = device->answer_gpa,
				      .len = sizeof(*resp),
				      .flags = VRING_DESC_F_WRITE};
	avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	avail->ring[device->avail_idx % QUEUE_SIZE] = 0;
	__sync_synchronize();
	avail->idx = ++device->avail_idx;
	__sync_synchronize();
	exit_once();
	*device->notify = 0;
	while (used->idx != device->avail_idx) {
		/* Do not read a register, which is slow, each time. */
		if (++turns % LOOK_TURNS == 0 &&
		    device->common->device_status &
			    VIRTIO_CONFIG_S_NEEDS_RESET) {
			errno = EFAULT;
			die("request");
		}
	}
	__sync_synchronize();
	return resp->type;
}

static int count_answer(struct device *device, uint16_t type, uint64_t gpa,
			uint16_t blocks, unsigned int *answers)
{
	uint16_t answer = request(device, type, gpa, blocks);

	if (answer > VIRTIO_MEM_RESP_ERROR) {
		errno = EPROTO;
		die("response");
	}
	answers[answer]++;
	return answer == VIRTIO_MEM_RESP_ACK ? 0 : 1;
}

static uint64_t word(uint64_t gpa, uint64_t seed)
{
	return (gpa ^ seed) * 0x9e3779b97f4a7c15ULL + seed;
}

/* Write or check words of a block. Return: number of wrong words. */
static unsigned int touch(int fd, char what, uint64_t gpa, uint64_t block,
			  uint64_t seed)
{
	unsigned int i, wrong = 0;
	volatile uint64_t *memory;
	uint64_t at;

	memory = mmap(NULL, block, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
		      (off_t)gpa);
	if (memory == MAP_FAILED)
		die("/dev/mem");
	exit_once();
	for (i = 0; i < WORDS; i++) {
		at = i * (block / WORDS) / sizeof(*memory);
		if (what == 'f')
			memory[at] = word(gpa + at, seed);
		else if (memory[at] != (what == 'z' ? 0 : word(gpa + at, seed)))
			wrong++;
	}
	munmap((void *)memory, block);
	return wrong;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 0);
	if (*end || end == text || errno) {
		fputs(usage, stderr);
		exit(2);
	}
	return value;
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	const bool all = !strcmp(what, "unplug-all");
	const bool plug = !strcmp(what, "plug");
	const bool memory = !strcmp(what, "fill") || !strcmp(what, "check");
	const bool zero = !strcmp(what, "zero");
	const bool answer = !strcmp(what, "answer");
	unsigned int answers[VIRTIO_MEM_RESP_ERROR + 1] = {0};
	uint64_t i, gpa, block, count = 0, last = 1, wrong = 0;
	struct device device = {0};
	int fd;

	if (!(all				? argc == 2
	      : memory				? argc == 6
	      : zero || answer			? argc == 5
	      : plug || !strcmp(what, "unplug") ? argc == 5 || argc == 6
						: false)) {
		fputs(usage, stderr);
		return 2;
	}
	if (!all)
		count = number(argv[3]);
	if (argc == 6)
		last = number(argv[5]);
	/* A request has 16 bits for the number of blocks. */
	if (!memory && last > UINT16_MAX) {
		fputs(usage, stderr);
		return 2;
	}
	open_device(&device);
	exit_once();
	gpa = device.config->addr;
	block = device.config->block_size;
	gpa += all ? 0 : number(argv[2]);
	if (memory || zero) {
		fd = open("/dev/mem", O_RDWR | O_CLOEXEC);
		if (fd < 0)
			die("/dev/mem");
		for (i = 0; i < count; i++)
			wrong += touch(fd, what[0], gpa + i * number(argv[4]),
				       block, last);
		close(fd);
		printf("wrong %llu\n", (unsigned long long)wrong);
		return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
	}
	start_device(&device);
	if (all)
		wrong = (uint64_t)count_answer(
			&device, VIRTIO_MEM_REQ_UNPLUG_ALL, 0, 0, answers);
	/* The answer to a request that is wrong is not zero. */
	for (i = 0; answer && i < count; i++) {
		device.answer_gpa = gpa + i * number(argv[4]);
		request(&device, VIRTIO_MEM_REQ_STATE, gpa + 1, 1);
	}
	for (i = 0; !answer && i < count; i++)
		wrong += (uint64_t)count_answer(
			&device,
			plug ? VIRTIO_MEM_REQ_PLUG : VIRTIO_MEM_REQ_UNPLUG,
			gpa + i * number(argv[4]), (uint16_t)last, answers);
	printf("ack %u nack %u busy %u error %u\n",
	       answers[VIRTIO_MEM_RESP_ACK], answers[VIRTIO_MEM_RESP_NACK],
	       answers[VIRTIO_MEM_RESP_BUSY], answers[VIRTIO_MEM_RESP_ERROR]);
	exit_once();
	device.common->device_status = 0;
	return wrong ? EXIT_FAILURE : EXIT_SUCCESS;
}
