/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Control methods for memory that front ends map. */
#ifndef VMM_METHODS_H
#define VMM_METHODS_H

#include <json-c/json.h>

#include "device/vmem_device.h"

void vmm_methods_status(const struct vmem_device *device, json_object *status);
json_object *vmm_methods_slots(const struct vmem_device *device,
			       uint64_t start);

#endif /* VMM_METHODS_H */
