/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Virtio-mmio device 1, in a separate table, so that a VM without the device
 * does not show it. Edge triggered: KVM raises it through irqfds. Resources
 * need plain numbers, so each device has its own source file.
 */
#include "layout.h"

DefinitionBlock ("", "SSDT", 2, "KVMVMM", "VMMSSDT1", 1)
{
	Scope (\_SB)
	{
		Device (VIO1)
		{
			Name (_HID, "LNRO0005")
			Name (_UID, 1)
			Name (_CCA, 1)
			Name (_CRS, ResourceTemplate ()
			{
				Memory32Fixed (ReadWrite, VIRTIO_MMIO1_GPA,
					       VIRTIO_MMIO_SIZE)
				Interrupt (ResourceConsumer, Edge, ActiveHigh,
					   Exclusive) { VIRTIO_MMIO1_GSI }
			})
		}
	}
}
