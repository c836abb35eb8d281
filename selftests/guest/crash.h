/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The guest's crash kernel, as kdump uses it: loaded beforehand into memory that
 * was kept free for it, started by a panic, with the memory of the kernel that
 * panicked in /proc/vmcore. There the virtio_mem driver asks the device which
 * blocks are plugged (STATE requests), and what is not reads zero.
 */
#ifndef CRASH_H
#define CRASH_H

#include <stdint.h>

/* A page of each block of the device, of the size that tests use. */
#define CRASH_STEP (2ULL << 20)

/**
 * struct crash_result - what a dump has of memory that was hotplugged
 * @bytes: its size
 * @pages: read, one of each CRASH_STEP bytes
 * @held: those of them that a process held, whole
 * @zero: those that are all zero
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
 * Only memory that there is now will be in the dump.
 *
 * Return: 0 or a negative errno.
 */
int crash_load(void);

/** crash_now() - panic; returns only if that fails, a negative errno */
int crash_now(void);

/**
 * crash_read() - look at the dump
 * @seed: that of hold_begin() before the crash
 * @result: filled in
 *
 * Return: 0; -ENOENT: this is no crash kernel; another negative errno.
 */
int crash_read(uint64_t seed, struct crash_result *result);

#endif /* CRASH_H */
