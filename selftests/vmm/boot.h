/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Loading Linux by its 64-bit boot protocol (the kernel's
 * Documentation/x86/boot.rst, "64-bit boot protocol"): the guest starts in long
 * mode at the kernel's entry point, without firmware.
 */
#ifndef BOOT_H
#define BOOT_H

#include <stdint.h>

struct memory;

/**
 * boot_load() - put kernel, initrd, command line and zero page in memory
 * @memory: the VM's memory, with boot memory
 * @kernel: path of a bzImage
 * @initrd: path of an initramfs, NULL for none
 * @cmdline: the kernel's command line
 * @entry_gpa: where the boot CPU starts, for boot_setup_vcpu()
 *
 * Return: 0 or a negative errno, with a message.
 */
int boot_load(const struct memory *memory, const char *kernel,
	      const char *initrd, const char *cmdline, uint64_t *entry_gpa);

/**
 * boot_setup_vcpu() - set the registers of the boot CPU as the protocol
 * requires
 * @vcpu_fd: the vCPU
 * @entry_gpa: from boot_load()
 *
 * Return: 0 or a negative errno, with a message.
 */
int boot_setup_vcpu(int vcpu_fd, uint64_t entry_gpa);

/**
 * boot_set_long_mode() - set flat 64-bit segments and paging, with interrupts
 * off
 * @vcpu_fd: the vCPU
 * @page_tables_gpa: value of CR3
 *
 * Return: 0 or a negative errno.
 */
int boot_set_long_mode(int vcpu_fd, uint64_t page_tables_gpa);

#endif /* BOOT_H */
