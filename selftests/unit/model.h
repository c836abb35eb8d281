/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A region of the fuzzers' model of the module, attached for a unit test. */
#ifndef MODEL_H
#define MODEL_H

#include <systemd/sd-event.h>

#include "backing/kernel.h"

void model_attach(struct kernel_backing *region, sd_event **event,
		  struct kernel_nl *nl);
void model_detach(struct kernel_backing *region, sd_event *event,
		  struct kernel_nl *nl);

#endif /* MODEL_H */
