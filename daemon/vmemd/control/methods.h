/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's control methods; see methods.c. */
#ifndef VMEM_CONTROL_H
#define VMEM_CONTROL_H

#include "daemon.h"

extern const struct control_ops methods_ops;

json_object *methods_migration(const struct vmem_device *device);
json_object *methods_sizes(const struct vmem_device *device);
void methods_answer_save(struct vmem *vmem, struct vmem_device *device);

#endif /* VMEM_CONTROL_H */
