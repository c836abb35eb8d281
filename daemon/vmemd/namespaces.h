/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Moving to empty namespaces; see namespaces.c. */
#ifndef NAMESPACES_H
#define NAMESPACES_H

#include <stdbool.h>

void namespaces_leave(bool tell_users_apart);

#endif /* NAMESPACES_H */
