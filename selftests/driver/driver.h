/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A virtio-mem driver of our own, without a guest: it sits behind the reference
 * VMM's vhost-user front end and puts requests into a queue as a guest's driver
 * would, so that vmemd, the program, can be tested and measured without a
 * vCPU's time in between. For tests: what fails ends the case (tap.h).
 */
#ifndef DRIVER_H
#define DRIVER_H

#include <linux/virtio_mem.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "region.h"
#include "vmm/vhost_user.h"

/* Requests that may be on their way at the same time. */
#define DRIVER_QUEUE_SIZE 64

/* Requests that have no answer yet, at most: each takes two descriptors. */
#define DRIVER_OUTSTANDING (DRIVER_QUEUE_SIZE / 2)

struct kvmvmem_vmemd;

/**
 * struct driver - a driver, its queue, and the vmemd that serves it
 * @vmemd: the daemon, ended by driver_stop()
 * @pid: of its process
 * @vu: front end
 * @memory: the queue, and a buffer for each of its requests, of @memory_fd
 * @kick: signalled for requests; @call: signalled for answers
 * @put: requests so far; @seen: answers so far
 * @state: VIRTIO_MEM_STATE_*, if the last answer was to a STATE request
 * @shared: does this vmemd have @memory?
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
