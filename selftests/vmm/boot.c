// SPDX-License-Identifier: GPL-2.0-or-later
#include "boot.h"

#include <asm/bootparam.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "layout.h"
#include "memory.h"
#include "util.h"

#define E820_RAM      1
#define E820_RESERVED 2

#define SECTOR_SIZE	 512
#define BOOT_MAGIC	 0xaa55
#define HEADER_MAGIC	 0x53726448 /* "HdrS" */
#define PROTOCOL_64BIT	 0x020c /* first to have xloadflags */
#define LOADER_UNDEFINED 0xff
/* The 64-bit entry is this far into the protected-mode kernel. */
#define ENTRY_64_OFFSET 0x200

#define PTE_PRESENT  (1U << 0)
#define PTE_WRITABLE (1U << 1)
#define PTE_LARGE    (1U << 7)
#define PTES	     512

#define CR0_PE	 (1U << 0)
#define CR0_ET	 (1U << 4)
#define CR0_PG	 (1U << 31)
#define CR4_PAE	 (1U << 5)
#define EFER_LME (1U << 8)
#define EFER_LMA (1U << 10)

/* __BOOT_CS and __BOOT_DS of the protocol. */
#define BOOT_CS 0x10
#define BOOT_DS 0x18

#define MSR_MTRR_DEF_TYPE     0x2ff
#define MTRR_ENABLE_WRITEBACK ((1U << 11) | 6)

static int open_file(const char *path, uint64_t *size)
{
	struct stat st;
	int fd, ret;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		error_errno(errno, "%s", path);
		return ret;
	}
	if (fstat(fd, &st)) {
		ret = -errno;
		error_errno(errno, "%s", path);
		close(fd);
		return ret;
	}
	*size = (uint64_t)st.st_size;
	return fd;
}

static int read_file(int fd, const char *path, uint64_t offset, void *buffer,
		     uint64_t size)
{
	char *to = buffer;
	ssize_t len;
	int ret;

	while (size) {
		len = pread(fd, to, size, (off_t)offset);
		if (len < 0) {
			ret = -errno;
			error_errno(errno, "%s", path);
			return ret;
		}
		if (!len) {
			error("%s: unexpected end of file", path);
			return -EINVAL;
		}
		to += len;
		offset += (uint64_t)len;
		size -= (uint64_t)len;
	}
	return 0;
}

/*
 * Load the protected-mode part at the kernel's preferred address if the kernel
 * is relocatable. It decompresses itself in place and needs init_size bytes.
 */
static int load_kernel(const struct memory *memory, const char *path,
		       struct boot_params *zero_page, uint64_t *kernel_end_gpa)
{
	struct setup_header *header = &zero_page->hdr;
	uint64_t file_size, code_offset, code_size, needed, setup_sects;
	size_t header_size;
	void *hva;
	int fd, ret;

	fd = open_file(path, &file_size);
	if (fd < 0)
		return fd;
	ret = read_file(fd, path, offsetof(struct boot_params, hdr), header,
			sizeof(*header));
	if (ret)
		goto out;
	/* The jump over the header gives its length; code follows. */
	header_size =
		offsetof(struct setup_header, header) + (header->jump >> 8);
	if (header_size < sizeof(*header))
		memset((char *)header + header_size, 0,
		       sizeof(*header) - header_size);
	ret = -EINVAL;
	if (header->boot_flag != BOOT_MAGIC || header->header != HEADER_MAGIC) {
		error("%s: not a bzImage", path);
		goto out;
	}
	if (header->version < PROTOCOL_64BIT ||
	    !(header->xloadflags & XLF_KERNEL_64) ||
	    !(header->loadflags & LOADED_HIGH)) {
		error("%s: a kernel without the 64-bit boot protocol", path);
		goto out;
	}
	setup_sects = header->setup_sects ? header->setup_sects : 4;
	code_offset = (setup_sects + 1) * SECTOR_SIZE;
	if (file_size <= code_offset + ENTRY_64_OFFSET) {
		error("%s: truncated", path);
		goto out;
	}
	code_size = file_size - code_offset;
	needed = header->init_size > code_size ? header->init_size : code_size;
	if (!header->relocatable_kernel && header->pref_address != KERNEL_GPA) {
		error("%s: must be loaded at 0x%llx", path,
		      (unsigned long long)header->pref_address);
		goto out;
	}
	hva = memory_hva(memory, KERNEL_GPA, needed);
	if (!hva) {
		error("%s: needs %llu MiB of boot memory to unpack itself",
		      path,
		      (unsigned long long)((KERNEL_GPA + needed) / MIB + 1));
		ret = -ENOMEM;
		goto out;
	}
	ret = read_file(fd, path, code_offset, hva, code_size);
	if (ret)
		goto out;
	header->code32_start = KERNEL_GPA;
	header->type_of_loader = LOADER_UNDEFINED;
	*kernel_end_gpa = KERNEL_GPA + needed;
out:
	close(fd);
	return ret;
}

/* The initrd goes as high as boot memory and the kernel's own limit allow. */
static int load_initrd(const struct memory *memory, const char *path,
		       struct setup_header *header, uint64_t kernel_end_gpa)
{
	uint64_t size, end_gpa, gpa;
	int fd, ret;

	fd = open_file(path, &size);
	if (fd < 0)
		return fd;
	end_gpa = memory->boot.size;
	if (end_gpa > (uint64_t)header->initrd_addr_max + 1)
		end_gpa = (uint64_t)header->initrd_addr_max + 1;
	if (!size || size > end_gpa ||
	    ((end_gpa - size) & ~0xfffULL) < kernel_end_gpa) {
		error("%s: %s", path,
		      size ? "does not fit into boot memory" : "is empty");
		ret = -EINVAL;
		goto out;
	}
	gpa = (end_gpa - size) & ~0xfffULL;
	ret = read_file(fd, path, 0, memory_hva(memory, gpa, size), size);
	if (ret)
		goto out;
	header->ramdisk_image = (uint32_t)gpa;
	header->ramdisk_size = (uint32_t)size;
out:
	close(fd);
	return ret;
}

static void add_e820(struct boot_params *zero_page, uint64_t gpa,
		     uint64_t end_gpa, uint32_t type)
{
	struct boot_e820_entry *entry =
		&zero_page->e820_table[zero_page->e820_entries++];

	entry->addr = gpa;
	entry->size = end_gpa - gpa;
	entry->type = type;
}

/* Identity map of the first 4 GiB with 2 MiB pages, for the kernel's entry. */
static void make_page_tables(const struct memory *memory)
{
	uint64_t *pml4 = memory_hva(memory, PAGE_TABLES_GPA, 6 * 4 * KIB);
	uint64_t *pdpt = pml4 + PTES, *pd = pdpt + PTES;
	const uint64_t flags = PTE_PRESENT | PTE_WRITABLE;
	uint64_t i;

	pml4[0] = (PAGE_TABLES_GPA + 4 * KIB) | flags;
	for (i = 0; i < 4; i++)
		pdpt[i] = (PAGE_TABLES_GPA + (2 + i) * 4 * KIB) | flags;
	for (i = 0; i < 4ULL * PTES; i++)
		pd[i] = (i * 2 * MIB) | flags | PTE_LARGE;
}

static void make_gdt(const struct memory *memory)
{
	static const uint64_t gdt[] = {
		0, 0, 0x00af9b000000ffff, /* BOOT_CS: flat 64-bit code */
		0x00cf93000000ffff, /* BOOT_DS: flat data */
	};

	memcpy(memory_hva(memory, GDT_GPA, sizeof(gdt)), gdt, sizeof(gdt));
}

/*
 * On hardware-reduced machines, Linux resets by EFI or, without EFI, by a jump
 * to the BIOS's reset vector. It does not use the ACPI reset register. The code
 * at the reset vector therefore writes to that register.
 */
static void make_reset_vector(const struct memory *memory)
{
	static const uint8_t code[] = {
		0xba, RESET_PORT & 0xff, RESET_PORT >> 8, /* mov dx, port */
		0xb0, RESET_VALUE, /* mov al, value */
		0xee, /* out dx, al */
		0xf4, /* hlt */
	};

	memcpy(memory_hva(memory, RESET_VECTOR_GPA, sizeof(code)), code,
	       sizeof(code));
}

int boot_load(const struct memory *memory, const char *kernel,
	      const char *initrd, const char *cmdline, uint64_t *entry_gpa)
{
	struct boot_params *zero_page =
		memory_hva(memory, ZERO_PAGE_GPA, sizeof(*zero_page));
	size_t cmdline_size = strlen(cmdline) + 1;
	uint64_t kernel_end_gpa;
	int ret;

	memset(zero_page, 0, sizeof(*zero_page));
	ret = load_kernel(memory, kernel, zero_page, &kernel_end_gpa);
	if (ret)
		return ret;
	if (initrd) {
		ret = load_initrd(memory, initrd, &zero_page->hdr,
				  kernel_end_gpa);
		if (ret)
			return ret;
	}
	if (cmdline_size > CMDLINE_MAX ||
	    cmdline_size > (size_t)zero_page->hdr.cmdline_size + 1) {
		error("the command line is longer than the kernel takes, %u",
		      zero_page->hdr.cmdline_size);
		return -E2BIG;
	}
	memcpy(memory_hva(memory, CMDLINE_GPA, cmdline_size), cmdline,
	       cmdline_size);
	zero_page->hdr.cmd_line_ptr = CMDLINE_GPA;
	zero_page->acpi_rsdp_addr = ACPI_GPA;

	add_e820(zero_page, 0, LOW_MEMORY_END, E820_RAM);
	add_e820(zero_page, ACPI_GPA, ACPI_END, E820_RESERVED);
	add_e820(zero_page, HIGH_MEMORY_GPA, memory->boot.size, E820_RAM);
	make_page_tables(memory);
	make_gdt(memory);
	make_reset_vector(memory);
	*entry_gpa = KERNEL_GPA + ENTRY_64_OFFSET;
	return 0;
}

static struct kvm_segment flat_segment(uint16_t selector, bool code)
{
	return (struct kvm_segment){
		.limit = 0xffffffff,
		.selector = selector,
		.type = code ? 0xb : 0x3, /* accessed, read/write or execute */
		.present = 1,
		.s = 1,
		.l = code,
		.db = !code,
		.g = 1,
	};
}

int boot_set_long_mode(int vcpu_fd, uint64_t page_tables_gpa)
{
	struct kvm_sregs sregs;

	if (ioctl(vcpu_fd, KVM_GET_SREGS, &sregs))
		return -errno;
	sregs.cs = flat_segment(BOOT_CS, true);
	sregs.ds = flat_segment(BOOT_DS, false);
	sregs.es = sregs.fs = sregs.gs = sregs.ss = sregs.ds;
	sregs.gdt.base = GDT_GPA;
	sregs.gdt.limit = 4 * sizeof(uint64_t) - 1;
	sregs.idt.limit = 0;
	sregs.cr3 = page_tables_gpa;
	sregs.cr4 = CR4_PAE;
	sregs.cr0 = CR0_PE | CR0_ET | CR0_PG;
	sregs.efer = EFER_LME | EFER_LMA;
	if (ioctl(vcpu_fd, KVM_SET_SREGS, &sregs))
		return -errno;
	return 0;
}

/*
 * All memory is write-back: a guest that finds MTRRs disabled does not use PAT
 * either.
 */
static int set_mtrr(int vcpu_fd)
{
	union {
		struct kvm_msrs msrs;
		char room[sizeof(struct kvm_msrs) +
			  sizeof(struct kvm_msr_entry)];
	} set = {.msrs = {.nmsrs = 1}};

	set.msrs.entries[0].index = MSR_MTRR_DEF_TYPE;
	set.msrs.entries[0].data = MTRR_ENABLE_WRITEBACK;
	switch (ioctl(vcpu_fd, KVM_SET_MSRS, &set.msrs)) {
	case 1:
		return 0;
	case -1:
		return -errno;
	default:
		return -EINVAL;
	}
}

int boot_setup_vcpu(int vcpu_fd, uint64_t entry_gpa)
{
	struct kvm_regs regs = {
		.rip = entry_gpa,
		.rsi = ZERO_PAGE_GPA,
		.rflags = 2, /* the bit that is always set; no interrupts */
	};
	int ret;

	ret = boot_set_long_mode(vcpu_fd, PAGE_TABLES_GPA);
	if (!ret)
		ret = set_mtrr(vcpu_fd);
	if (!ret && ioctl(vcpu_fd, KVM_SET_REGS, &regs))
		ret = -errno;
	if (ret)
		error_errno(-ret, "cannot set the boot CPU's registers");
	return ret;
}
