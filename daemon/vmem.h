/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon: what belongs together and how it starts and ends. */
#ifndef VMEM_H
#define VMEM_H

#include "options.h"

struct vmem;

int vmem_new(struct vmem **vmemp, const struct options *options,
	     struct passed_fds *fds);
int vmem_run(struct vmem *vmem);
void vmem_free(struct vmem *vmem);

#endif /* VMEM_H */
