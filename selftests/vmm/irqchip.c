// SPDX-License-Identifier: GPL-2.0-or-later
#include "irqchip.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>

#include "layout.h"

/*
 * All interrupts go to the IOAPIC only. The guest of a hardware-reduced machine
 * does not set up the 8259, which would deliver them with uninitialized
 * vectors.
 */
static int set_gsi_routing(int vm_fd)
{
	union {
		struct kvm_irq_routing routing;
		char room[sizeof(struct kvm_irq_routing) +
			  IOAPIC_PINS * sizeof(struct kvm_irq_routing_entry)];
	} set = {.routing = {.nr = IOAPIC_PINS}};
	uint32_t gsi;

	for (gsi = 0; gsi < IOAPIC_PINS; gsi++)
		set.routing.entries[gsi] = (struct kvm_irq_routing_entry){
			.gsi = gsi,
			.type = KVM_IRQ_ROUTING_IRQCHIP,
			.u.irqchip = {KVM_IRQCHIP_IOAPIC, gsi},
		};
	if (ioctl(vm_fd, KVM_SET_GSI_ROUTING, &set.routing))
		return -errno;
	return 0;
}

int irqchip_create(struct irqchip *irqchip, int vm_fd)
{
	uint32_t i;

	if (ioctl(vm_fd, KVM_CREATE_IRQCHIP, 0))
		return -errno;
	for (i = 0; i < IRQCHIP_COUNT; i++) {
		memset(&irqchip->chips[i], 0, sizeof(irqchip->chips[i]));
		irqchip->chips[i].chip_id = i;
		if (ioctl(vm_fd, KVM_GET_IRQCHIP, &irqchip->chips[i]))
			return -errno;
	}
	return set_gsi_routing(vm_fd);
}

int irqchip_reset(const struct irqchip *irqchip, int vm_fd)
{
	uint32_t i;

	for (i = 0; i < IRQCHIP_COUNT; i++)
		if (ioctl(vm_fd, KVM_SET_IRQCHIP, &irqchip->chips[i]))
			return -errno;
	return 0;
}
