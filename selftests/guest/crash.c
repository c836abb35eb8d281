// SPDX-License-Identifier: GPL-2.0-or-later
#include "crash.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kexec.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "hold.h"
#include "pattern.h"

#define VMLINUZ "/crash/vmlinuz"
#define INITRD	"/crash/initrd"
#define CMDLINE "console=ttyS0 quiet panic=-1 nr_cpus=1"

/* All hotplugged memory, and no other, is above this address. */
#define REGION_GPA_MIN (4ULL << 30)

/* Skip the start of a block, which the kernel may use itself. */
#define STEP_OFFSET (1ULL << 20)

static int open_to_read(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

static int load(unsigned long flags)
{
	int kernel, initrd, ret = 0;

	kernel = open_to_read(VMLINUZ);
	if (kernel < 0)
		return kernel;
	initrd = open_to_read(INITRD);
	if (initrd < 0) {
		close(kernel);
		return initrd;
	}
	if (syscall(SYS_kexec_file_load, kernel, initrd, sizeof(CMDLINE),
		    CMDLINE, flags))
		ret = -errno;
	close(kernel);
	close(initrd);
	return ret;
}

int crash_load(void)
{
	return load(KEXEC_FILE_ON_CRASH);
}

int crash_kexec(void)
{
	int ret = load(0);

	if (ret)
		return ret;
	reboot(RB_KEXEC);
	return -errno;
}

int crash_now(void)
{
	int fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, "c", 1) < 0 ? -errno : -EIO;
	close(fd);
	return ret;
}

static int read_all(int fd, void *buffer, size_t size, uint64_t offset)
{
	ssize_t len = pread(fd, buffer, size, (off_t)offset);

	if (len < 0)
		return -errno;
	return (size_t)len == size ? 0 : -EIO;
}

static bool is_zero(const uint64_t page[PATTERN_PAGE_WORDS])
{
	size_t i;

	for (i = 0; i < PATTERN_PAGE_WORDS; i++)
		if (page[i])
			return false;
	return true;
}

static int read_segment(int fd, const Elf64_Phdr *segment, uint64_t seed,
			struct crash_result *result)
{
	uint64_t page[PATTERN_PAGE_WORDS], at;
	int ret;

	result->bytes += segment->p_memsz;
	for (at = STEP_OFFSET; at < segment->p_memsz; at += CRASH_STEP) {
		ret = read_all(fd, page, sizeof(page), segment->p_offset + at);
		if (ret)
			return ret;
		result->pages++;
		result->held += hold_is_page(page, seed);
		result->zero += is_zero(page);
	}
	return 0;
}

static int read_segments(int fd, uint64_t seed, struct crash_result *result)
{
	Elf64_Ehdr header;
	Elf64_Phdr segment;
	unsigned int i;
	int ret;

	ret = read_all(fd, &header, sizeof(header), 0);
	if (ret)
		return ret;
	if (memcmp(header.e_ident, ELFMAG, SELFMAG) ||
	    header.e_phentsize != sizeof(segment))
		return -EINVAL;
	for (i = 0; i < header.e_phnum && !ret; i++) {
		ret = read_all(fd, &segment, sizeof(segment),
			       header.e_phoff + i * sizeof(segment));
		if (!ret && segment.p_type == PT_LOAD &&
		    segment.p_paddr >= REGION_GPA_MIN)
			ret = read_segment(fd, &segment, seed, result);
	}
	return ret;
}

int crash_read(uint64_t seed, struct crash_result *result)
{
	int fd, ret;

	memset(result, 0, sizeof(*result));
	fd = open_to_read("/proc/vmcore");
	if (fd < 0)
		return fd;
	ret = read_segments(fd, seed, result);
	close(fd);
	return ret;
}
