// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmem-dma: let a disk device write to hotplugged memory.
 *
 * usage: vmem-dma DISK BYTES FILE
 *
 * Reads the start of the disk without the page cache, so that the device itself
 * writes the memory, and copies it to FILE for comparison. Prints how many of
 * the bytes were read into memory of virtio_mem.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "pattern.h"

/* Size of one read: several requests of the device. */
#define CHUNK (1UL << 20)

static int transfer(int fd, uint8_t *memory, uint64_t bytes,
		    ssize_t (*one)(int fd, uint8_t *at, size_t size))
{
	for (uint64_t done = 0; done < bytes;) {
		uint64_t left = bytes - done;
		ssize_t got =
			one(fd, memory + done, left < CHUNK ? left : CHUNK);

		if (got <= 0)
			return got ? -errno : -ENODATA;
		done += (uint64_t)got;
	}
	return 0;
}

static ssize_t read_one(int fd, uint8_t *at, size_t size)
{
	return read(fd, at, size);
}

static ssize_t write_one(int fd, uint8_t *at, size_t size)
{
	return write(fd, at, size);
}

static int run(const char *disk, uint64_t bytes, const char *file)
{
	uint64_t hotplugged;
	uint8_t *memory;
	int fd, ret;

	memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (memory == MAP_FAILED)
		return -errno;
	fd = open(disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = transfer(fd, memory, bytes, read_one);
	close(fd);
	if (!ret)
		ret = pattern_locate(memory, bytes, &hotplugged);
	if (ret)
		return ret;
	printf("hotplugged_bytes %llu\n", (unsigned long long)hotplugged);
	fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return -errno;
	ret = transfer(fd, memory, bytes, write_one);
	close(fd);
	return ret;
}

int main(int argc, char **argv)
{
	int ret;

	if (argc != 4) {
		fprintf(stderr, "usage: vmem-dma DISK BYTES FILE\n");
		return 2;
	}
	ret = run(argv[1], strtoull(argv[2], NULL, 0), argv[3]);
	if (ret)
		fprintf(stderr, "vmem-dma: %s\n", strerror(-ret));
	return ret ? 1 : 0;
}
