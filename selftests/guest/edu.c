// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-edu: let QEMU's device "edu" access hotplugged memory by itself.
 *
 * usage: vmem-edu REGISTERS copy PAGES SEED
 *        vmem-edu REGISTERS write ADDRESS
 *
 * REGISTERS is the address of the device's BAR. There is no driver: the program uses
 * the registers through /dev/mem.
 *
 * copy: allocates nearly all free hotplugged memory, takes PAGES pages of it at equal
 * distances, and has the device read each of them and write it into the next. Prints
 * how many pages were copied, and how many have wrong contents.
 *
 * write: has the device write a page of ones to ADDRESS, where the IOMMU may have
 * nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "edu_registers.h"
#include "hotplug.h"

#define PAGE_SIZE 4096ULL
#define WORDS	  (PAGE_SIZE / sizeof(uint64_t))
#define HUGE_SIZE (2ULL << 20)

/* Left free for the agent and for page tables. */
#define MARGIN (16 * HUGE_SIZE)

/* A page that was moved during its transfer is tried again. */
#define TRIES 3

static volatile uint8_t *open_registers(uint64_t gpa)
{
	int fd = open("/dev/mem", O_RDWR | O_SYNC | O_CLOEXEC);
	void *registers;

	if (fd < 0)
		return NULL;
	registers = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 fd, (off_t)gpa);
	close(fd);
	return registers == MAP_FAILED ? NULL : registers;
}

static void put(volatile uint8_t *registers, unsigned int offset,
		uint64_t value)
{
	*(volatile uint64_t *)(registers + offset) = value;
}

/* Wait for the device, which needs 100 ms for a transfer. */
static void transfer(volatile uint8_t *registers, uint64_t from, uint64_t to,
		     uint64_t flags)
{
	put(registers, EDU_DMA_FROM, from);
	put(registers, EDU_DMA_TO, to);
	put(registers, EDU_DMA_SIZE, PAGE_SIZE);
	put(registers, EDU_DMA_DO, flags | EDU_DMA_RUN);
	while (*(volatile uint64_t *)(registers + EDU_DMA_DO) & EDU_DMA_RUN)
		;
}

static void device_reads(volatile uint8_t *registers, uint64_t gpa)
{
	transfer(registers, gpa, EDU_BUFFER, 0);
}

static void device_writes(volatile uint8_t *registers, uint64_t gpa)
{
	transfer(registers, EDU_BUFFER, gpa, EDU_TO_RAM);
}

/* No word has the same value in another page, or with another seed. */
static uint64_t word_of(uint64_t seed, uint64_t number, uint64_t word)
{
	return (seed << 48 | number << 16 | word) * 0x9e3779b97f4a7c15ULL;
}

static void fill(volatile uint64_t *page, uint64_t seed, uint64_t number)
{
	for (uint64_t i = 0; i < WORDS; i++)
		page[i] = word_of(seed, number, i);
}

static bool is_filled(const volatile uint64_t *page, uint64_t seed,
		      uint64_t number)
{
	for (uint64_t i = 0; i < WORDS; i++)
		if (page[i] != word_of(seed, number, i))
			return false;
	return true;
}

/*
 * Copy a page by the device. Return: 1, 0 if the copy differs, -EAGAIN if a page was
 * moved, or another negative errno; -EFAULT: a page is not hotplugged.
 */
static int copy(volatile uint8_t *registers, void *from, void *to,
		uint64_t seed, uint64_t number)
{
	uint64_t from_gpa, to_gpa, from_after, to_after;
	int ret;

	fill(from, seed, number);
	memset(to, 0, PAGE_SIZE);
	ret = hotplug_locate(from, &from_gpa);
	if (!ret)
		ret = hotplug_locate(to, &to_gpa);
	if (ret)
		return ret;
	device_reads(registers, from_gpa);
	device_writes(registers, to_gpa);
	ret = hotplug_locate(from, &from_after);
	if (!ret)
		ret = hotplug_locate(to, &to_after);
	if (ret)
		return ret;
	if (from_after != from_gpa || to_after != to_gpa)
		return -EAGAIN;
	return is_filled(to, seed, number);
}

static uint8_t *allocate(uint64_t *size)
{
	uint8_t *memory;

	if (hotplug_movable_free(size) || *size < MARGIN + HUGE_SIZE)
		return NULL;
	*size = (*size - MARGIN) & ~(HUGE_SIZE - 1);
	memory = mmap(NULL, *size, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (memory == MAP_FAILED)
		return NULL;
	madvise(memory, *size, MADV_HUGEPAGE);
	for (uint64_t at = 0; at < *size; at += PAGE_SIZE)
		*(volatile uint8_t *)(memory + at) = 1;
	return memory;
}

static int copy_pages(volatile uint8_t *registers, uint64_t pages,
		      uint64_t seed)
{
	uint64_t size, step, bad = 0, copied = 0;
	uint8_t *memory = allocate(&size);
	int ret = 0;

	if (!memory || pages < 2 || size / PAGE_SIZE < pages)
		return -ENOMEM;
	step = size / PAGE_SIZE / pages * PAGE_SIZE;
	for (uint64_t i = 0; i < pages; i++) {
		uint8_t *from = memory + i * step;
		uint8_t *to = memory + (i + 1) % pages * step;
		int tries = 0;

		do
			ret = copy(registers, from, to, seed, i);
		while (ret == -EAGAIN && ++tries < TRIES);
		if (ret < 0)
			return ret;
		copied++;
		bad += !ret;
	}
	printf("copied %llu\nbad %llu\nspread %llu\n",
	       (unsigned long long)copied, (unsigned long long)bad,
	       (unsigned long long)size);
	return bad ? -EIO : 0;
}

static int write_to(volatile uint8_t *registers, uint64_t gpa)
{
	uint64_t size, own;
	uint8_t *memory = allocate(&size);
	int ret;

	if (!memory)
		return -ENOMEM;
	memset(memory, 0xff, PAGE_SIZE);
	ret = hotplug_locate(memory, &own);
	if (ret)
		return ret;
	device_reads(registers, own);
	device_writes(registers, gpa);
	return 0;
}

int main(int argc, char **argv)
{
	volatile uint8_t *registers;
	int ret = -EINVAL;

	if (argc < 4) {
		fprintf(stderr,
			"usage: vmem-edu REGISTERS copy PAGES SEED|write ADDRESS\n");
		return 2;
	}
	registers = open_registers(strtoull(argv[1], NULL, 0));
	if (!registers) {
		fprintf(stderr, "vmem-edu: /dev/mem: %s\n", strerror(errno));
		return 1;
	}
	if (*(volatile uint32_t *)registers != EDU_IDENTITY) {
		fprintf(stderr, "vmem-edu: no such device there\n");
		return 1;
	}
	if (argc == 5 && !strcmp(argv[2], "copy"))
		ret = copy_pages(registers, strtoull(argv[3], NULL, 0),
				 strtoull(argv[4], NULL, 0));
	else if (argc == 4 && !strcmp(argv[2], "write"))
		ret = write_to(registers, strtoull(argv[3], NULL, 0));
	if (ret)
		fprintf(stderr, "vmem-edu: %s\n", strerror(-ret));
	return ret ? 1 : 0;
}
