/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The channel for requests to the front end; see backend_channel.c. */
#ifndef VHOST_BACKEND_CHANNEL_H
#define VHOST_BACKEND_CHANNEL_H

#include "vhost/vhost_user.h"

int vhost_channel_open(struct vhost_user *vu, int fd);
void vhost_channel_drop(struct vhost_user *vu);
bool vhost_channel_lacking(const struct vhost_user *vu);
bool vhost_channel_ready(struct vhost_user *vu);
void vhost_channel_leave(struct vhost_user *vu);
void vhost_channel_stopped(struct vhost_user *vu);
void vhost_channel_tell_config(struct vhost_user *vu);

#endif /* VHOST_BACKEND_CHANNEL_H */
