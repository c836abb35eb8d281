/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The interrupt controllers that all vCPUs share, emulated by KVM. */
#ifndef IRQCHIP_H
#define IRQCHIP_H

#include <linux/kvm.h>

/* Both halves of the 8259, and the IOAPIC. */
#define IRQCHIP_COUNT 3

struct irqchip {
	struct kvm_irqchip chips[IRQCHIP_COUNT];
};

/**
 * irqchip_create() - create them; later vCPUs get local APICs
 * @irqchip: saves their state for irqchip_reset()
 * @vm_fd: the VM
 *
 * Return: 0 or a negative errno.
 */
int irqchip_create(struct irqchip *irqchip, int vm_fd);

/**
 * irqchip_reset() - restore their initial state
 * @irqchip: state saved by irqchip_create()
 * @vm_fd: the VM; no vCPU runs, and no line is high
 *
 * Return: 0 or a negative errno.
 */
int irqchip_reset(const struct irqchip *irqchip, int vm_fd);

#endif /* IRQCHIP_H */
