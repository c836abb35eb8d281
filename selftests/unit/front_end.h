/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A vhost-user front end with a guest's driver, for tests. It connects to the
 * daemon's real back end by a socket and shares a memfd with it. Both ends are
 * in one process; front_end_run() runs the back end's event loop.
 */
#ifndef FRONT_END_H
#define FRONT_END_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_ring.h>
#include <systemd/sd-event.h>

#include "bitmap_backing.h"
#include "device/virtio_mem.h"
#include "driver.h"
#include "vhost/protocol.h"
#include "vhost/vhost_user.h"

#define FE_REGION_GPA  (4ULL << 30)
#define FE_REGION_SIZE (64ULL << 30)
#define FE_BLOCK       (2ULL << 20)

/* The guest's memory, and offsets of the rings in it. */
#define FE_MEMORY     (256ULL << 10)
#define FE_GPA	      0x100000ULL
#define FE_UVA	      0x7f0000000000ULL
#define FE_DESC	      0x0000
#define FE_AVAIL      0x1000
#define FE_USED	      0x2000
#define FE_BUFFERS    0x8000
#define FE_TABLES     0x20000
#define FE_LARGE      0x30000
#define FE_QUEUE_SIZE 128

/* All protocol features of the back end. */
#define FE_PROTOCOL_FEATURES                                 \
	(1ULL << VHOST_USER_PROTOCOL_F_MQ |                  \
	 1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK |           \
	 1ULL << VHOST_USER_PROTOCOL_F_BACKEND_REQ |         \
	 1ULL << VHOST_USER_PROTOCOL_F_CONFIG |              \
	 1ULL << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD |      \
	 1ULL << VHOST_USER_PROTOCOL_F_RESET_DEVICE |        \
	 1ULL << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS | \
	 1ULL << VHOST_USER_PROTOCOL_F_STATUS)

/* Features of a driver without ring features; see front_end.features. */
#define FE_FEATURES                                            \
	(1ULL << 32 | 1ULL << VHOST_USER_F_PROTOCOL_FEATURES | \
	 1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE |         \
	 1ULL << VIRTIO_MEM_F_PERSISTENT_SUSPEND)

/* Features that the back end offers; packed virtqueues only if enabled. */
#define FE_OFFERED                                           \
	(FE_FEATURES | 1ULL << VIRTIO_RING_F_INDIRECT_DESC | \
	 1ULL << VIRTIO_RING_F_EVENT_IDX)

/*
 * Environment variable: number of other active devices in the daemon of each
 * first device. They must not be affected by what happens to the first device,
 * so that tests of one device also test several.
 */
#define FE_BYSTANDERS	  "FE_BYSTANDERS"
#define FE_MAX_BYSTANDERS 4

/**
 * struct front_end - a front end, and the back end with its device
 * @access: memory that the daemon may access: @own, or that of the daemon's
 *	first device
 * @listen_fd: where the back end listens; @name is its abstract name
 * @fd: the front end's socket, -1 if not connected
 * @memory: the guest's memory, a mapping of @memory_fd
 * @kick, @call, @err: eventfds of the queue
 * @channel: the front end's socket of the back-end channel
 * @features: features that the driver accepts
 * @driver: driver of the queue
 * @bystanders: other devices of the daemon, @nr_bystanders of them
 * @lost: the front end does not know the back end's position in the queue, and
 *	sets @lost_base
 */
struct front_end {
	sd_event *event;
	struct guest_access *access;
	struct guest_access own;
	struct bitmap_backing bitmap;
	struct virtio_mem dev;
	struct vhost_user vu;
	char name[64];
	int fd;
	int memory_fd;
	uint8_t *memory;
	int kick;
	int call;
	int err;
	int channel;
	uint64_t features;
	struct driver driver;
	struct front_end *bystanders[FE_MAX_BYSTANDERS];
	unsigned int nr_bystanders;
	bool lost;
	uint32_t lost_base;
};

struct front_end *front_end_new(uint64_t region_size, uint64_t block_size,
				uint64_t ring_features);
struct front_end *front_end_add(struct front_end *first, uint64_t gpa,
				uint64_t region_size, uint64_t block_size);
void front_end_free(struct front_end *fe);
int front_end_set_up(void **state);
int front_end_tear_down(void **state);

bool front_end_run(struct front_end *fe);
void front_end_connect(struct front_end *fe);
void front_end_close(struct front_end *fe);
bool front_end_closed(struct front_end *fe);

void front_end_send_raw(struct front_end *fe, const void *bytes, size_t size,
			const int *fds, size_t nr_fds);
void front_end_send(struct front_end *fe, uint32_t request, uint32_t flags,
		    const void *payload, uint32_t size, const int *fds,
		    size_t nr_fds);
uint32_t front_end_receive(struct front_end *fe, uint32_t request,
			   union vhost_user_payload *payload);
uint64_t front_end_call(struct front_end *fe, uint32_t request,
			const void *payload, uint32_t size, const int *fds,
			size_t nr_fds);
uint64_t front_end_get(struct front_end *fe, uint32_t request);
uint64_t front_end_set(struct front_end *fe, uint32_t request, uint64_t value,
		       int fd);
uint64_t front_end_set_vring(struct front_end *fe, uint32_t request,
			     uint32_t num);

void front_end_negotiate(struct front_end *fe);
void front_end_give_channel(struct front_end *fe);
int front_end_get_inflight(struct front_end *fe);
void front_end_set_inflight(struct front_end *fe, int fd);
void front_end_share_memory(struct front_end *fe);
void front_end_new_ring(struct front_end *fe);
void front_end_start_ring(struct front_end *fe);
void front_end_start(struct front_end *fe);
void front_end_serve(struct front_end *fe, uint64_t requested);

void front_end_config(struct front_end *fe, struct virtio_mem_config *config);
unsigned int front_end_config_changes(struct front_end *fe);

void front_end_put_bytes(struct front_end *fe, const void *request,
			 uint32_t request_size, uint32_t response_size);
void front_end_put(struct front_end *fe, uint16_t type, uint64_t gpa,
		   uint16_t nr_blocks, uint32_t request_size,
		   uint32_t response_size);
uint32_t front_end_stop_ring(struct front_end *fe);
void front_end_kick(struct front_end *fe);
bool front_end_used(struct front_end *fe, struct virtio_mem_resp *resp);
uint16_t front_end_request(struct front_end *fe, uint16_t type, uint64_t gpa,
			   uint16_t nr_blocks);
uint16_t front_end_plug(struct front_end *fe, uint64_t gpa, uint16_t nr_blocks);
uint16_t front_end_unplug(struct front_end *fe, uint64_t gpa,
			  uint16_t nr_blocks);
uint16_t front_end_unplug_all(struct front_end *fe);
uint64_t front_end_count(int fd);
unsigned int front_end_open_fds(void);

#endif /* FRONT_END_H */
