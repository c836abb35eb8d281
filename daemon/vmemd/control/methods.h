/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's control methods; see methods.c. */
#ifndef VMEM_CONTROL_H
#define VMEM_CONTROL_H

#include "daemon.h"

extern const struct control_ops vmem_control_ops;

json_object *vmem_control_migration(const struct vmem_device *device);
json_object *vmem_control_sizes(const struct vmem_device *device);

#endif /* VMEM_CONTROL_H */
