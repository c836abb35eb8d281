/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Physical addresses, I/O ports and interrupts of the guest.
 *
 * Included by the C code and by the ACPI source (iasl's preprocessor), so that
 * the tables agree with the devices: only macros with plain numbers.
 *
 *	0x00000500	GDT			(boot.c)
 *	0x00007000	zero page		(boot.c)
 *	0x00009000	page tables, 6 pages	(boot.c)
 *	0x00020000	command line		(boot.c)
 *	0x000e0000	ACPI tables		(acpi.c)
 *	0x000f0000	page tables and code of the probe (probe.c)
 *	0x000ffff0	reset vector		(boot.c)
 *	0x01000000	kernel, then initrd at the top of boot memory
 *	0xc0000000	end of boot memory at most
 *	0xd0000000	virtio-mmio windows, one for each device
 *	0xe0000000	registers of a device that is passed through
 *	0xfec00000	IOAPIC, 0xfee00000 local APIC (KVM)
 *	0x100000000	first address a region may have
 */
#ifndef LAYOUT_H
#define LAYOUT_H

#define GDT_GPA		 0x500
#define ZERO_PAGE_GPA	 0x7000
#define PAGE_TABLES_GPA	 0x9000
#define CMDLINE_GPA	 0x20000
#define CMDLINE_MAX	 0x10000
#define LOW_MEMORY_END	 0x9fc00
#define ACPI_GPA	 0xe0000
#define ACPI_END	 0x100000
#define RESET_VECTOR_GPA 0xffff0
#define PROBE_GPA	 0xf0000
#define PROBE_CODE_GPA	 0xfe000
#define HIGH_MEMORY_GPA	 0x100000
#define KERNEL_GPA	 0x1000000

/* Boot memory ends below the hole that holds devices under 4 GiB. */
#define BOOT_MEMORY_MAX 0xc0000000
#define REGION_GPA_MIN	0x100000000

#define VIRTIO_MMIO0_GPA 0xd0000000
#define VIRTIO_MMIO1_GPA 0xd0001000
#define VIRTIO_MMIO_SIZE 0x1000
/* One for each ACPI table: two devices show what one cannot. */
#define MAX_DEVICES 2

#define BAR_GPA	     0xe0000000
#define BAR_MAX_SIZE 0x10000000

#define IOAPIC_GPA 0xfec00000
#define LAPIC_GPA  0xfee00000
/* Three pages for the TSS and one before it, only used on Intel hosts. */
#define KVM_IDENTITY_MAP_GPA 0xfffbc000
#define KVM_TSS_GPA	     0xfffbd000

#define SERIAL_PORT	 0x3f8
#define SERIAL_PORT_SIZE 8
#define SERIAL_GSI	 4

/* Pins of the in-kernel IOAPIC, which are GSIs 0 to 23. */
#define IOAPIC_PINS	 24
#define VIRTIO_MMIO0_GSI 16
#define VIRTIO_MMIO1_GSI 17

/* ACPI sleep control, sleep status and reset registers (ACPI 4.8.3.7). */
#define SLEEP_CONTROL_PORT 0x600
#define SLEEP_STATUS_PORT  0x601
#define RESET_PORT	   0x602
/* Only the probe's vCPU writes there. */
#define PROBE_PORT	0x80
#define POWER_PORT_SIZE 3
#define RESET_VALUE	1
/* SLP_TYP of S5, also the value of \_S5 in dsdt.asl. */
#define SLEEP_TYPE_S5 5

#endif /* LAYOUT_H */
