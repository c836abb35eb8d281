/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The device's queue; see vhost_queue.c. */
#ifndef VHOST_QUEUE_H
#define VHOST_QUEUE_H

#include "vhost/vhost_user.h"

bool vhost_queue_runs(const struct vhost_user *vu);
void vhost_queue_process(struct vhost_user *vu);
int vhost_queue_on_more(sd_event_source *source, void *arg);
int vhost_queue_remap(struct vhost_user *vu);
bool vhost_queue_set_up_again(struct vhost_user *vu);
int vhost_queue_memory_changed(struct vhost_user *vu);
int vhost_queue_start(struct vhost_user *vu, int kick_fd);
void vhost_queue_leave(struct vhost_user *vu);
void vhost_queue_stop(struct vhost_user *vu);

#endif /* VHOST_QUEUE_H */
