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
 * Usable bytes beyond the requested size: two memory blocks of Linux on x86-64
 * (128 MiB each), so that a guest can reach the requested size even if the
 * region does not begin at a memory block.
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
 * enum virtio_mem_step - what the current request waits for
 * @VIRTIO_MEM_JUDGING: old memory of its range to be discarded
 * @VIRTIO_MEM_AWAITING: the backing to be ready for a request
 * @VIRTIO_MEM_REPEATING: the backing to check whether the request repeats one
 *	whose answer was lost
 * @VIRTIO_MEM_CHANGING: the backing to plug or unplug
 */
enum virtio_mem_step {
	VIRTIO_MEM_JUDGING,
	VIRTIO_MEM_AWAITING,
	VIRTIO_MEM_REPEATING,
	VIRTIO_MEM_CHANGING,
};

/**
 * struct virtio_mem_current - the request in progress
 * @active: a request is in progress
 * @awaited: the backing is ready for it
 * @verified: the backing has verified its set of plugged blocks
 * @again: the request was judged a second time
 * @swept: unswept blocks of the range are in the backing's set of owed blocks
 * @system_reset: a reset of the system, not a request of the driver
 * @request: type of request
 * @step: what the request waits for
 * @gpa: start of the range
 * @size: bytes in the range
 * @nr_blocks: number of blocks in the range
 * @began_ns: time of arrival
 * @wrong: what the guest did wrong, if the answer is ERROR
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
 * @label: prefix of messages, see base/log.h; not owned
 * @backing: executes changes; has the region's geometry
 * @node_id: ACPI proximity domain, if @has_node
 * @has_node: VIRTIO_MEM_F_ACPI_PXM is offered
 * @requested_size: bytes that the guest is asked to plug
 * @usable_region_size: bytes from the start of the region in which the guest
 *	may plug
 * @current: the request in progress
 * @reset_wanted: reset the system once @current has ended
 * @answers: number of answers since the start, by request and answer
 * @latencies: time from reading a request to its answer, by request
 * @last_failure: reason of the last BUSY; empty after an ACK
 * @last_plug: range of the last plug; size 0 if an unplug followed it
 * @given_back: the guest unplugged @last_plug at once, below the requested size
 * @held: plugging and unplugging is suspended, see virtio_mem_hold()
 * @asked_early: the configuration was read before the region's address was
 *	known; the driver that read it may have failed to probe
 * @sweep: unplugged blocks from this number on are still to be swept, see
 *	virtio_mem_sweep()
 * @first_sweep: the sweep is the one that starts with the device. It frees
 *	memory that an earlier daemon left behind; later sweeps free memory
 *	that the guest took without plugging it.
 * @next_owed: block at which the next search for owed blocks starts
 * @kept_owed: owed blocks that consumers may map, found since the search was at 0
 * @work_done: counts work in a turn of the event loop; NULL: not counted. Not
 *	owned
 * @limit: rate limit for messages that a guest can cause
 * @config_changed: send the driver a configuration change notification
 * @changed: something that status shows has changed
 * @work: schedule a call of virtio_mem_work()
 * @answered: pass on the answer to a request for which virtio_mem_handle()
 *	returned false. Return: whether the answer could be delivered
 * @system_reset: a reset for which virtio_mem_system_reset() returned
 *	-EINPROGRESS has ended: 0, or an errno with the backing's error
 * @arg: for the five callbacks
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
	struct error last_failure;
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
	uint64_t kept_owed;
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
