/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The messages of a front end; see messages.c. */
#ifndef VHOST_MESSAGES_H
#define VHOST_MESSAGES_H

#include "vhost/vhost_user.h"

/**
 * enum vhost_message_handled - return value of a handler, if it is no errno
 * @VHOST_MESSAGE_HANDLED: acknowledge with 0 if the front end requests it
 * @VHOST_MESSAGE_REFUSED: acknowledge with a non-zero value likewise
 * @VHOST_MESSAGE_REPLY: the message now has the reply
 */
enum vhost_message_handled {
	VHOST_MESSAGE_HANDLED,
	VHOST_MESSAGE_REFUSED,
	VHOST_MESSAGE_REPLY,
};

struct vhost_message_handler {
	const char *name;
	int (*handle)(struct vhost_user *vu, struct vhost_user_message *msg);
	uint32_t min_size;
	uint32_t max_size;
	uint8_t min_fds;
	uint8_t max_fds;
	/* Protocol features that must have been negotiated. */
	uint64_t needs;
};

const struct vhost_message_handler *vhost_message_handler(uint32_t request);
int vhost_message_reply_u64(struct vhost_user_message *msg, uint64_t value);
void vhost_message_no_inflight(struct vhost_user *vu,
			       struct vhost_user_message *msg, int err);

#endif /* VHOST_MESSAGES_H */
