/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The memslot budget on the control socket; see budget_methods.c. */
#ifndef BUDGET_CONTROL_H
#define BUDGET_CONTROL_H

#include "daemon.h"

int budget_methods_plan(struct control_call *call, const struct vmem *vmem,
			struct vmem_device *device);
int budget_methods_attach(struct control_call *call, const struct vmem *vmem,
			  const struct vmem_device *device, int region_fd);
uint64_t budget_methods_others(const struct vmem *vmem,
			       const struct vmem_device *device);
json_object *budget_methods_status(const struct vmem_device *device);

#endif /* BUDGET_CONTROL_H */
