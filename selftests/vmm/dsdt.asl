/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Devices of every guest: the console, and power off. */
#include "layout.h"

DefinitionBlock ("", "DSDT", 2, "KVMVMM", "VMMDSDT ", 1)
{
	Name (\_S5, Package () { SLEEP_TYPE_S5, 0, 0, 0 })

	Scope (\_SB)
	{
		Device (COM1)
		{
			Name (_HID, EisaId ("PNP0501"))
			Name (_UID, 1)
			Name (_CRS, ResourceTemplate ()
			{
				IO (Decode16, SERIAL_PORT, SERIAL_PORT, 0,
				    SERIAL_PORT_SIZE)
				Interrupt (ResourceConsumer, Edge, ActiveHigh,
					   Exclusive) { SERIAL_GSI }
			})
		}
	}
}
