/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio-mem driver without a guest. It uses the reference VMM's vhost-user
 * front end, and adds requests to a queue like a guest's driver, to test and
 * measure the program vmemd without a vCPU. For tests: any failure ends the
 * case (tap.h).
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <linux/virtio_mem.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "region.h"
#include "vmm/vhost_user.h"

/* Size of the queue in descriptors. */
#define DRIVER_QUEUE_SIZE 64

/* Maximum number of unanswered requests, which have two descriptors each. */
#define DRIVER_OUTSTANDING (DRIVER_QUEUE_SIZE / 2)

struct kvmvmem_vmemd;

/**
 * struct driver - a driver, its queue, and the vmemd that serves it
 * @vmemd: the daemon; ended by driver_stop()
 * @pid: its process
 * @vu: front end
 * @memory: the queue, and a buffer for each request
 * @memory_fd: memfd of @memory
 * @kick: eventfd that signals requests
 * @call: eventfd that signals answers
 * @put: number of requests
 * @seen: number of answers
 * @state: VIRTIO_MEM_STATE_*, if the last answer was to a STATE request
 * @shared: @memory is mapped by this vmemd
 */
struct driver {
	struct kvmvmem_vmemd *vmemd;
	pid_t pid;
	struct vhost_user vu;
	uint8_t *memory;
	int memory_fd;
	int kick;
	int call;
	uint16_t put;
	uint16_t seen;
	uint16_t state;
	bool shared;
};

void driver_region(struct region *r, uint64_t gpa, uint64_t size,
		   uint64_t block_size, uint64_t slot_size);
void driver_spawn(struct driver *d, char *const *args, const char *control_path,
		  int region_fd, int memory_fd);
void driver_start(struct driver *d);
void driver_reset(struct driver *d);
void driver_lose(struct driver *d);
void driver_respawn(struct driver *d, char *const *args,
		    const char *control_path, int region_fd, int memory_fd);
void driver_stop(struct driver *d);

void driver_config(struct driver *d, struct virtio_mem_config *config);
void driver_add(struct driver *d, uint16_t type, uint64_t gpa,
		uint16_t nr_blocks);
void driver_kick(struct driver *d);
void driver_put(struct driver *d, uint16_t type, uint64_t gpa,
		uint16_t nr_blocks);
bool driver_take(struct driver *d, uint16_t *answer);
uint16_t driver_wait(struct driver *d);
uint16_t driver_request(struct driver *d, uint16_t type, uint64_t gpa,
			uint16_t nr_blocks);

const char *vmemd_program(void);

#endif /* DRIVER_H */
