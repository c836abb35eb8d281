/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Functions of connection.c for other parts of the back end. */
#ifndef VHOST_CONNECTION_H
#define VHOST_CONNECTION_H

#include "vhost/vhost_user.h"

#define BIT(n) (1ULL << (n))

void vhost_connection_changed(struct vhost_user *vu);
void vhost_connection_end_with(struct vhost_user *vu, const char *request);
void vhost_connection_reset(struct vhost_user *vu);

#endif /* VHOST_CONNECTION_H */
