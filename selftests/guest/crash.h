/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's crash kernel, as used by kdump: it is loaded in advance into
 * reserved memory and started by a panic. /proc/vmcore then contains the memory
 * of the kernel that panicked. To read it, the virtio_mem driver asks the
 * device which blocks are plugged (STATE requests); unplugged blocks read as
 * zero.
 */
#ifndef CRASH_H
#define CRASH_H

#include <stdint.h>

/* One page is read of each block of the size that tests use. */
#define CRASH_STEP (2ULL << 20)

/**
 * struct crash_result - hotplugged memory in a dump
 * @bytes: its size
 * @pages: number of pages read, one for each CRASH_STEP bytes
 * @held: number of them that a process held, with correct contents
 * @zero: number of them that are all zero
 */
struct crash_result {
	uint64_t bytes;
	uint64_t pages;
	uint64_t held;
	uint64_t zero;
};

/**
 * crash_load() - load /crash/vmlinuz and /crash/initrd as the crash kernel
 *
 * The dump will contain only memory that exists now.
 *
 * Return: 0 or a negative errno.
 */
int crash_load(void);

/**
 * crash_kexec() - start /crash/vmlinuz with /crash/initrd in place of this kernel
 *
 * Return: only on failure, with a negative errno.
 */
int crash_kexec(void);

/** crash_now() - panic; returns only on failure, with a negative errno */
int crash_now(void);

/**
 * crash_read() - examine the dump
 * @seed: seed of hold_begin() before the crash
 * @result: filled in
 *
 * Return: 0; -ENOENT: this is no crash kernel; another negative errno.
 */
int crash_read(uint64_t seed, struct crash_result *result);

#endif /* CRASH_H */
