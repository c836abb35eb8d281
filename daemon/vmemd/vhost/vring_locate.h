/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Where the device is in a queue, by the queue itself; see vring_locate.c. */
#ifndef VRING_LOCATE_H
#define VRING_LOCATE_H

#include "vhost/vring.h"

void vring_locate(struct vring_queue *vring);
bool vring_may_be_at(const struct vring_queue *vring, uint16_t index,
		     bool wrap);

#endif /* VRING_LOCATE_H */
