// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The device's queue: taking the guest's requests, executing them, and writing
 * the responses.
 *
 * The queue is processed only if the front end has started and enabled it and
 * the driver has accepted the features that the device requires. A kick
 * announces new requests. Processing stops after the work of one turn, or to
 * wait for memory, for the device's answer, or for the reply of a front end
 * that maps memory. It continues in a later turn.
 *
 * A queue whose rings are not in shared memory waits, and so does a request in
 * memory that was removed. Both continue when memory is added. See
 * removed_memory.c.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/epoll.h>

#include "common/fd.h"
#include "vhost/backend_channel.h"
#include "vhost/connection.h"
#include "vhost/vhost_queue.h"

static bool protocol_negotiated(const struct vhost_user *vu)
{
	return vu->features & BIT(VHOST_USER_F_PROTOCOL_FEATURES);
}

static bool is_enabled(const struct vhost_user *vu)
{
	return vu->vring.enabled || !protocol_negotiated(vu);
}

bool vhost_queue_runs(const struct vhost_user *vu)
{
	const struct vring_queue *vring = &vu->vring;

	return vring->started && vring->mapped && !vring->broken &&
	       is_enabled(vu) && virtio_mem_features_ok(vu->features);
}

static void ring_broken(struct vhost_user *vu, const char *reason)
{
	vu->vring.broken = true;
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "the guest's driver broke its queue: %s", reason);
	doorbell_ring(&vu->bell, vu->err_fd);
	vhost_connection_changed(vu);
}

/* If shared memory was truncated, stop the queue. Return: whether it was. */
static bool memory_lost(struct vhost_user *vu)
{
	if (!vu->memory.lost)
		return false;
	/* Handlers still use the connection: end it from the event loop. */
	vu->vring.broken = true;
	if (vu->lost_source)
		sd_event_source_set_enabled(vu->lost_source, SD_EVENT_ONESHOT);
	return true;
}

/*
 * Must a request wait, because it is in memory that the front end has removed,
 * or in a region whose blocks are not known yet?
 * @error: error of parsing the chain
 * @gpa: address that caused the error; VRING_NO_FAULT: none
 */
static bool must_wait(struct vhost_user *vu, int error, uint64_t gpa)
{
	bool unread;

	if (error != -EFAULT || gpa == VRING_NO_FAULT)
		return false;
	unread = guest_access_unread(vu->access, gpa);
	if (!unread && !removed_memory_has(&vu->removed, gpa))
		return false;
	/* The chain stays available, and the driver broke no rule. */
	vu->vring.broken = false;
	log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
		    "vhost-user: a request at 0x%" PRIx64
		    " waits for memory that %s",
		    gpa,
		    unread ? "no front end has listed yet"
			   : "the front end has removed");
	return true;
}

/*
 * Write the answer to a chain and give the chain back. Its buffers are looked
 * up again, since the request may have taken long, or have unplugged them.
 */
static bool answer(struct vhost_user *vu, const struct vring_chain *chain,
		   const struct virtio_mem_resp *resp)
{
	struct vring_request request = {.fault = VRING_NO_FAULT};
	struct error err;
	int ret;

	/*
	 * The memory of a disabled queue may have another use: the driver may
	 * have been reset.
	 */
	if (!vhost_queue_runs(vu)) {
		vring_unpop(&vu->vring, chain);
		return false;
	}
	ret = vring_find(&vu->vring, &vu->memory, &err);
	if (!ret)
		ret = vring_again(&vu->vring, &vu->memory, chain, &request,
				  &err);
	if (must_wait(vu, ret, request.fault)) {
		/* The chain will be taken again and get a repeated answer. */
		vring_unpop(&vu->vring, chain);
		return false;
	}
	if (ret) {
		ring_broken(vu, err.text);
		return false;
	}
	if (request.write_size < sizeof(*resp)) {
		ring_broken(vu, "too little room for a response");
		return false;
	}
	inflight_push(&vu->inflight, &vu->vring, chain,
		      vring_write(&request, resp, sizeof(*resp)));
	return true;
}

/* Handle one request. Return: whether there was one and it was answered. */
static bool handle_request(struct vhost_user *vu)
{
	struct vring_request request = {.fault = VRING_NO_FAULT};
	struct virtio_mem_req req = {};
	struct virtio_mem_resp resp;
	struct error err;
	int ret;

	ret = vring_find(&vu->vring, &vu->memory, &err);
	if (!ret)
		ret = vring_pop(&vu->vring, &vu->memory, &request, &err);
	if (must_wait(vu, ret, request.fault))
		return false;
	if (ret < 0)
		ring_broken(vu, err.text);
	if (ret <= 0)
		return false;
	if (request.read_size < sizeof(req)) {
		ring_broken(vu, "a request that is too short");
		return false;
	}
	if (request.write_size < sizeof(resp)) {
		ring_broken(vu, "too little room for a response");
		return false;
	}
	inflight_take(&vu->inflight, &vu->vring, &request.chain);
	memcpy(&req, request.read, sizeof(req));
	if (!virtio_mem_handle(vu->dev, &req, &resp)) {
		vu->waiting = true;
		vu->waiting_chain = request.chain;
		return false;
	}
	return answer(vu, &request.chain, &resp);
}

/* Without a call descriptor, the interrupt waits for one. */
static void tell_used(struct vhost_user *vu)
{
	if (vu->call_fd < 0)
		vu->vring.tell = true;
	else if (!vring_find(&vu->vring, &vu->memory, NULL) &&
		 vring_wants_interrupt(&vu->vring))
		doorbell_ring(&vu->bell, vu->call_fd);
}

/*
 * Process the queue. While the device executes a request, also one of an
 * earlier connection, further requests stay in the ring.
 */
void vhost_queue_process(struct vhost_user *vu)
{
	bool enough = false;
	int done;

	if (memory_lost(vu))
		return;
	/*
	 * An earlier back end may have ended between an answer and its
	 * interrupt, for which the driver waits.
	 */
	if (vu->vring.tell && vhost_queue_runs(vu))
		tell_used(vu);
	if (!vhost_channel_ready(vu))
		return;

	for (done = 0; done < VHOST_USER_BUDGET && vhost_queue_runs(vu) &&
		       !virtio_mem_busy(vu->dev);
	     done++) {
		enough = work_enough(vu->memory.work);
		if (enough || !handle_request(vu))
			break;
	}
	if (done)
		tell_used(vu);
	if (memory_lost(vu))
		return;
	/* There may be more requests; other work gets its turn first. */
	if (done == VHOST_USER_BUDGET || enough)
		turn_take(&vu->more);
}

/*
 * The device can take requests again. They are processed from the event loop,
 * because the device still has to return from the current call.
 */
void vhost_user_go_on(struct vhost_user *vu)
{
	turn_take(&vu->more);
}

/**
 * vhost_user_answered() - deliver the answer to the waiting request
 * @vu: the back end
 * @resp: the answer
 *
 * Return: whether the answer was written to the ring.
 */
bool vhost_user_answered(struct vhost_user *vu,
			 const struct virtio_mem_resp *resp)
{
	bool told = false;

	if (vu->waiting) {
		vu->waiting = false;
		told = answer(vu, &vu->waiting_chain, resp) && !memory_lost(vu);
		if (told)
			tell_used(vu);
	}
	vhost_user_go_on(vu);
	return told;
}

/* Find a request in flight, after the position in the queue was found. */
static int resume_inflight(struct vhost_user *vu)
{
	int ret;

	ret = inflight_start(&vu->inflight, &vu->vring, &vu->error);
	if (ret < 0)
		return ret;
	if (ret == INFLIGHT_ANEW)
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: the inflight region is of another "
			    "queue; begun anew");
	if (vu->inflight.taken)
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: a request is in flight");
	return 0;
}

/*
 * Is the ring described? The features say its format. Front ends may send the
 * messages of a ring in any order, and the kick descriptor before the rest.
 */
static bool is_described(const struct vhost_user *vu)
{
	return vu->vring.size && vu->vring.has_addresses &&
	       virtio_mem_features_ok(vu->features);
}

/*
 * Map a started ring after a change of the ring or the memory. If it is not
 * described yet, or its memory is not shared, the queue waits until it is.
 *
 * The position is found once the queue is enabled. Before that, size, addresses
 * and inflight region may be those of different drivers.
 */
int vhost_queue_remap(struct vhost_user *vu)
{
	bool first = !vu->vring.located;
	int ret;

	if (!vu->vring.started || !is_described(vu))
		return 0;
	if (first && !is_enabled(vu))
		return 0;
	ret = vring_map(&vu->vring, &vu->memory, &vu->error);
	if (ret == -EFAULT)
		return 0;
	if (ret)
		return ret;
	return first ? resume_inflight(vu) : 0;
}

/*
 * The front end sends a message that sets the queue up. A queue in use does not
 * allow this. One that is disabled does: cloud-hypervisor only disables it when
 * the driver resets the device. The position is that of the next driver's ring
 * then, and an answer to the last driver is dropped.
 *
 * Return: whether it is allowed.
 */
bool vhost_queue_set_up_again(struct vhost_user *vu)
{
	if (!vu->vring.located)
		return true;
	if (is_enabled(vu))
		return false;
	vhost_channel_leave(vu);
	vu->waiting = false;
	vu->vring.mapped = false;
	vu->vring.located = false;
	vu->vring.broken = false;
	inflight_forget(&vu->inflight);
	return true;
}

int vhost_queue_on_more(sd_event_source *source __attribute__((unused)),
			void *arg)
{
	struct vhost_user *vu = arg;

	/* The ring may be in blocks that have become known. */
	if (vu->vring.started && !vu->vring.mapped) {
		if (vhost_queue_remap(vu)) {
			vhost_connection_end_with(vu, NULL);
			return 0;
		}
		if (vu->vring.mapped)
			vhost_connection_changed(vu);
	}
	vhost_queue_process(vu);
	return 0;
}

/* The memory has changed: waiting requests continue from the event loop. */
int vhost_queue_memory_changed(struct vhost_user *vu)
{
	int ret;

	/* The new table may show plugged blocks, which may contain the ring. */
	if (vu->shmem)
		vu->shmem->memory(vu->shmem_arg);
	ret = vhost_queue_remap(vu);
	if (ret)
		return ret;
	vhost_connection_changed(vu);
	if (vu->vring.started)
		turn_take(&vu->more);
	if (vu->shmem && vu->shmem_started)
		vu->shmem->table(vu->shmem_arg);
	return 0;
}

/* Stop serving the queue: the front end is gone, or stops the ring. */
void vhost_queue_leave(struct vhost_user *vu)
{
	vu->kick_source = sd_event_source_disable_unref(vu->kick_source);
	fd_close(&vu->kick_fd);
	/* Leave the request in the ring for the next back end. */
	if (vu->waiting)
		vring_unpop(&vu->vring, &vu->waiting_chain);
	vu->waiting = false;
	vring_stop(&vu->vring);
	turn_drop(&vu->more);
	if (vu->shmem_started)
		vhost_channel_stopped(vu);
}

/* The front end stops the ring and gets its position. */
void vhost_queue_stop(struct vhost_user *vu)
{
	vhost_queue_leave(vu);
	inflight_forget(&vu->inflight);
}

/*
 * The event source is edge-triggered, and the eventfd is not read. The front
 * end shares the open file: it could read the counter and clear O_NONBLOCK, and
 * a read(2) would block until the next kick.
 */
static int on_kick(sd_event_source *source __attribute__((unused)),
		   int fd __attribute__((unused)), uint32_t revents, void *arg)
{
	struct vhost_user *vu = arg;

	if (revents & (EPOLLHUP | EPOLLERR)) {
		error_set(&vu->error, -EPIPE,
			  "the kick descriptor is unusable");
		vhost_connection_end_with(vu, NULL);
		return 0;
	}
	if (!is_described(vu))
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: the driver uses its queue, which the "
			    "front end has not set up yet; it waits");
	else if (is_enabled(vu) && !vu->vring.mapped)
		log_limited(&vu->limit, LOG_LEVEL_WARNING, vu->label,
			    "vhost-user: the driver uses its queue, whose "
			    "memory the front end does not share; it waits");
	vhost_queue_process(vu);
	if (vhost_queue_runs(vu) && vhost_channel_lacking(vu))
		log_limited(&vu->limit, LOG_LEVEL_INFO, vu->label,
			    "vhost-user: the driver uses its queue; it waits "
			    "for the backend channel, by which the front end "
			    "is asked to map memory");
	return 0;
}

/**
 * vhost_queue_start() - start the queue, or replace its kick descriptor
 * @vu: the back end
 * @kick_fd: the kick descriptor; taken over, also on error
 *
 * Return: 0, or an errno with vu->error set.
 */
int vhost_queue_start(struct vhost_user *vu, int kick_fd)
{
	int ret;

	vu->kick_source = sd_event_source_disable_unref(vu->kick_source);
	fd_close(&vu->kick_fd);
	vu->kick_fd = kick_fd;
	ret = sd_event_add_io(vu->event, &vu->kick_source, kick_fd,
			      EPOLLIN | EPOLLET, on_kick, vu);
	if (ret < 0)
		return error_set(&vu->error, ret,
				 "the descriptor cannot be polled");
	vu->vring.started = true;
	vu->vring.broken = false;
	return vhost_queue_remap(vu);
}

/* Does a driver with sufficient features use the queue? */
bool vhost_user_driver_ready(const struct vhost_user *vu)
{
	return vhost_queue_runs(vu);
}
