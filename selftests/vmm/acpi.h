/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * ACPI tables: hardware-reduced (ACPI 4.1), which spares the PM timer, the
 * SCI and the 8254 and 8259 for the guest. DSDT and SSDT are compiled from
 * dsdt.asl and ssdt.asl.
 */
#ifndef ACPI_H
#define ACPI_H

#include <stdbool.h>

struct memory;

/**
 * acpi_build() - write the tables, RSDP first, at ACPI_GPA
 * @memory: the VM's memory, with boot memory
 * @nr_vcpus: processors to declare
 * @virtio: declare the virtio-mmio device
 */
void acpi_build(const struct memory *memory, unsigned int nr_vcpus,
		bool virtio);

#endif /* ACPI_H */
