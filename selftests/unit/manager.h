/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service manager, to which vmemd sends descriptors. */
#ifndef UNIT_MANAGER_H
#define UNIT_MANAGER_H

#include <stddef.h>

void manager_names(int manager, char *names, size_t size);

#endif /* UNIT_MANAGER_H */
