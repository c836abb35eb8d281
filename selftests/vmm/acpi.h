/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI tables of a hardware-reduced machine (ACPI 4.1), which has no PM timer,
 * SCI, 8254 and 8259. The DSDT is compiled from dsdt.asl, an SSDT for each
 * virtio-mmio device from ssdt*.asl.
 */
#ifndef ACPI_H
#define ACPI_H

struct memory;

/**
 * acpi_build() - write the tables, RSDP first, at ACPI_GPA
 * @memory: the VM's memory, with boot memory
 * @nr_vcpus: processors to declare
 * @nr_devices: virtio-mmio devices to declare, up to MAX_DEVICES
 */
void acpi_build(const struct memory *memory, unsigned int nr_vcpus,
		unsigned int nr_devices);

#endif /* ACPI_H */
