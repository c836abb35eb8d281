/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The virtio-mem device model, see virtio_mem.c. */
#ifndef VIRTIO_MEM_H
#define VIRTIO_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/virtio_mem.h>

#include "backing/backing.h"
#include "base/log.h"
#include "device/latency.h"

/* Virtio 1.4; not in the headers of Linux before 6.10. */
#ifndef VIRTIO_MEM_F_PERSISTENT_SUSPEND
#define VIRTIO_MEM_F_PERSISTENT_SUSPEND 2
#endif

/*
 * Beyond the requested size the guest may choose from this much: two memory
 * blocks of Linux on x86-64 (128 MiB each), so that a guest whose first block
 * is not aligned can still reach the requested size.
 */
#define VIRTIO_MEM_USABLE_EXTRA (2 * (128ULL << 20))

enum virtio_mem_request {
	VIRTIO_MEM_PLUG,
	VIRTIO_MEM_UNPLUG,
	VIRTIO_MEM_UNPLUG_ALL,
	VIRTIO_MEM_STATE,
	VIRTIO_MEM_NR_REQUESTS,
};

enum virtio_mem_answer {
	VIRTIO_MEM_ACK,
	VIRTIO_MEM_NACK,
	VIRTIO_MEM_BUSY,
	VIRTIO_MEM_ERROR,
	VIRTIO_MEM_NR_ANSWERS,
};

/**
 * enum virtio_mem_step - what a request waits for
 * @VIRTIO_MEM_JUDGING: its range's memory is to be discarded
 * @VIRTIO_MEM_AWAITING: the backing is not ready for a request
 * @VIRTIO_MEM_REPEATING: the backing is to tell whether it was answered before
 * @VIRTIO_MEM_CHANGING: the backing is to carry it out
 */
enum virtio_mem_step {
	VIRTIO_MEM_JUDGING,
	VIRTIO_MEM_AWAITING,
	VIRTIO_MEM_REPEATING,
	VIRTIO_MEM_CHANGING,
};

/**
 * struct virtio_mem_current - the request that is being carried out
 * @active: there is one
 * @awaited: the backing was ready for it
 * @verified: what is plugged was verified for it
 * @again: it was judged again, once
 * @swept: what a sweep had still to come to of its range is owed
 * @system_reset: it is a reset of the system, and nobody's request
 * @began_ns: when it came
 * @wrong: what is wrong with it, once it is to be answered with an error
 */
struct virtio_mem_current {
	bool active;
	bool awaited;
	bool verified;
	bool again;
	bool swept;
	bool system_reset;
	enum virtio_mem_request request;
	enum virtio_mem_step step;
	uint64_t gpa;
	uint64_t size;
	uint16_t nr_blocks;
	uint64_t began_ns;
	const char *wrong;
};

/**
 * struct virtio_mem - a virtio-mem device
 * @label: for messages, see base/log.h; not owned
 * @backing: what carries out its changes, and its geometry
 * @node_id: ACPI proximity domain, where @has_node
 * @has_node: VIRTIO_MEM_F_ACPI_PXM is offered
 * @requested_size: bytes the guest is asked to have plugged
 * @usable_region_size: bytes from the start in which it may plug
 * @current: the request that is being carried out
 * @reset_wanted: the system is to be reset once @current is done
 * @answers: how many of each answer to each request since the start
 * @latencies: how long each request took, from when it was read to its answer
 * @last_failure: why BUSY was answered last; empty after an ACK
 * @last_plug: first and size of what was plugged last, if nothing was since
 * @given_back: that was unplugged at once, by a guest that was asked for more
 * @held: nothing is plugged or unplugged, see virtio_mem_hold()
 * @asked_early: the configuration was read before it was known where the region
 *	is: a driver that did may have given the device up
 * @sweep: unplugged blocks from this number on may have memory, that a daemon
 *	before us has left behind, or that a guest which breaks the rules has
 *	taken; see virtio_mem_sweep()
 * @first_sweep: the former: it is ours to give back
 * @next_owed: where the next look for blocks that are owed begins
 * @work_done: counts what is done in a turn of the loop, NULL: nobody does. Not
 *	owned
 * @limit: for messages that a guest can cause
 * @config_changed: tell the driver that the configuration has changed
 * @changed: something that status shows has changed
 * @work: virtio_mem_work() is to be called soon
 * @answered: the answer to a request that had none yet. Return: whether there
 *	is still somebody to give it to
 * @system_reset: a reset of the system that was not done at once has ended:
 *	0, or an errno with the backing's reason
 * @arg: for all five
 */
struct virtio_mem {
	const char *label;
	struct backing *backing;
	uint16_t node_id;
	bool has_node;
	uint64_t requested_size;
	uint64_t usable_region_size;
	struct virtio_mem_current current;
	bool reset_wanted;
	uint64_t answers[VIRTIO_MEM_NR_REQUESTS][VIRTIO_MEM_NR_ANSWERS];
	struct latency latencies[VIRTIO_MEM_NR_REQUESTS];
	char last_failure[BACKING_REASON_MAX];
	struct {
		uint64_t gpa;
		uint64_t size;
	} last_plug;
	bool given_back;
	bool held;
	bool asked_early;
	uint64_t sweep;
	bool first_sweep;
	uint64_t next_owed;
	struct work *work_done;
	struct log_limit limit;
	void (*config_changed)(void *arg);
	void (*changed)(void *arg);
	void (*work)(void *arg);
	bool (*answered)(void *arg, const struct virtio_mem_resp *resp);
	void (*system_reset)(void *arg, int result);
	void *arg;
};

const char *virtio_mem_request_name(enum virtio_mem_request request);
const char *virtio_mem_answer_name(enum virtio_mem_answer answer);

void virtio_mem_start(struct virtio_mem *dev, struct backing *backing,
		      uint64_t requested_size, bool used_before);
void virtio_mem_keep_usable(struct virtio_mem *dev, uint64_t size);
void virtio_mem_stop(struct virtio_mem *dev);

uint64_t virtio_mem_features(const struct virtio_mem *dev);
bool virtio_mem_features_ok(uint64_t features);
uint64_t virtio_mem_accessible(const struct virtio_mem *dev, uint64_t gpa,
			       uint64_t size);
uint64_t virtio_mem_plugged_size(const struct virtio_mem *dev);
bool virtio_mem_unread(const struct virtio_mem *dev, uint64_t gpa);
bool virtio_mem_lost(const struct virtio_mem *dev);
void virtio_mem_config(const struct virtio_mem *dev,
		       struct virtio_mem_config *config);

void virtio_mem_set_requested(struct virtio_mem *dev, uint64_t requested_size);
int virtio_mem_system_reset(struct virtio_mem *dev);
void virtio_mem_backing_changed(struct virtio_mem *dev);
void virtio_mem_hold(struct virtio_mem *dev, bool on);
int virtio_mem_work(struct virtio_mem *dev);
void virtio_mem_sweep(struct virtio_mem *dev);
bool virtio_mem_sweeping(const struct virtio_mem *dev);
uint64_t virtio_mem_undiscarded_size(const struct virtio_mem *dev);
uint64_t virtio_mem_owed_size(const struct virtio_mem *dev);

bool virtio_mem_busy(const struct virtio_mem *dev);
bool virtio_mem_handle(struct virtio_mem *dev, const struct virtio_mem_req *req,
		       struct virtio_mem_resp *resp);

#endif /* VIRTIO_MEM_H */
