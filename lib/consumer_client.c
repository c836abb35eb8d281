// SPDX-License-Identifier: MIT
/*
 * A consumer: it maps what vmemd reports as plugged. vmemd(8), "Consumers",
 * describes the protocol.
 *
 * Two sets. @told has the blocks that vmemd has reported since the subscription
 * and that the consumer has accepted. @mapped has the units, which are blocks or
 * memslots, for which map() was called. A unit must be mapped while @told has a
 * block of it. An event changes a range of @told, and @mapped for the units of
 * that range.
 *
 * Rollback. @touched has the units that the current event has changed. If a call
 * for one of them fails, the others are changed back, and the event is refused.
 * If changing back fails too, the mappings differ from what vmemd assumes: the
 * consumer is closed, and has to unmap everything.
 *
 * Reconnection. If vmemd ends, memory stays plugged and mapped, and the device
 * continues. The end of the connection clears @told and keeps @mapped. The next
 * vmemd reports all plugged blocks again. Units that are mapped already stay
 * mapped without a call. With "subscribed", the report is complete: units without
 * a reported block were unplugged meanwhile, and are unmapped. Until then a
 * memslot that loses a block stays mapped, because its other blocks may not have
 * been reported yet.
 *
 * While a consumer may have mappings and has no connection, vmemd keeps their
 * memory and answers the guest BUSY. So the consumer unsubscribes when it is
 * freed, on a new connection if necessary.
 *
 * The mappings of a closed consumer may be stale. They are unmapped before it
 * subscribes again.
 *
 * The descriptor for poll() is an epoll instance with the connection and a timer.
 * The timer is for the next attempt to connect and for the timeout of an answer.
 */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "bits.h"
#include "call.h"
#include "struct_size.h"

/*
 * Time between attempts to connect. It is short at first, because a service
 * manager restarts vmemd at once, and doubles each time.
 */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 1000

/* Size of the first version. */
#define FIRST_CONFIG \
	(offsetof(struct kvmvmem_consumer_config, arg) + sizeof(void *))

/* Ids of requests. Answers to "done" and "unsubscribe" are ignored. */
#define SUBSCRIBE_ID   1
#define DONE_ID	       2
#define UNSUBSCRIBE_ID 3

/*
 * Timeout of "unsubscribe". If it is not delivered, vmemd waits for the end of
 * this process.
 */
#define UNSUBSCRIBE_MS 2000

/**
 * struct layout - layout of the region, from the answer to "subscribe"
 * @gpa: guest address
 * @size: bytes
 * @block_size: bytes
 * @slot_size: bytes per memslot; the last may be shorter
 * @first_slot: id of the first memslot
 */
struct layout {
	uint64_t gpa;
	uint64_t size;
	uint64_t block_size;
	uint64_t slot_size;
	uint64_t first_slot;
};

/**
 * struct kvmvmem_consumer - a consumer
 * @config: configuration, with copies of the strings
 * @state: enum kvmvmem_consumer_state
 * @subscribing: "subscribe" has not been answered yet
 * @fd: the connection; -1: none
 * @timer_fd: timer, see above
 * @epoll_fd: descriptor for poll(), see above
 * @retry_ms: time until the next attempt to connect
 * @line: received bytes
 * @out: request that is being sent; empty if its length is 0
 * @out_sent: bytes of @out that have been sent
 * @layout: layout of the region; zeros before the first answer
 * @unit_blocks: blocks per unit; the last unit may have fewer
 * @told: accepted blocks of this connection
 * @mapped: mapped units
 * @touched: units that the current event has changed
 * @nr_mapped: number of blocks in @mapped
 */
struct kvmvmem_consumer {
	struct kvmvmem_consumer_config config;
	int state;
	bool subscribing;
	int fd;
	int timer_fd;
	int epoll_fd;
	int retry_ms;
	struct kvmvmem_line line;
	struct kvmvmem_request out;
	size_t out_sent;
	struct layout layout;
	uint64_t unit_blocks;
	struct kvmvmem_bits told;
	struct kvmvmem_bits mapped;
	struct kvmvmem_bits touched;
	uint64_t nr_mapped;
};

static uint64_t min(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* --- Mapping --- */

/* Number of blocks in units @first to @end - 1. */
static uint64_t blocks_of(const struct kvmvmem_consumer *consumer,
			  uint64_t first, uint64_t end)
{
	return min(end * consumer->unit_blocks, consumer->told.nr) -
	       first * consumer->unit_blocks;
}

/* Call map() or unmap() for units @first to @end - 1. */
static int change(struct kvmvmem_consumer *consumer, bool map, uint64_t first,
		  uint64_t end)
{
	const struct kvmvmem_consumer_config *config = &consumer->config;
	uint64_t block_size = consumer->layout.block_size;
	uint64_t blocks = blocks_of(consumer, first, end);
	struct kvmvmem_range range = {
		.offset = first * consumer->unit_blocks * block_size,
		.size = blocks * block_size,
	};
	int ret;

	range.gpa = consumer->layout.gpa + range.offset;
	if (config->unit == KVMVMEM_MEMSLOT_RUNS) {
		range.first_slot =
			(uint32_t)(consumer->layout.first_slot + first);
		range.nr_slots = (uint32_t)(end - first);
	}
	ret = (map ? config->map : config->unmap)(config->arg, &range);
	if (ret)
		return ret;
	kvmvmem_bits_fill(&consumer->mapped, first, end, map);
	if (map)
		consumer->nr_mapped += blocks;
	else
		consumer->nr_mapped -= blocks;
	return 0;
}

/* Return: the end of one call of map() or unmap() that starts at @first. */
static uint64_t call_end(const struct kvmvmem_consumer *consumer,
			 const struct kvmvmem_bits *set, uint64_t first,
			 uint64_t end, bool value)
{
	if (consumer->config.unit == KVMVMEM_EACH_BLOCK)
		return first + 1;
	return kvmvmem_bits_next(set, first, end, !value);
}

/*
 * Map all of units @first to @end - 1 that are not mapped, or unmap all that are.
 *
 * Return: 0; the errno of the first call that fails; later units are unchanged.
 */
static int change_all(struct kvmvmem_consumer *consumer, bool map,
		      uint64_t first, uint64_t end)
{
	const struct kvmvmem_bits *mapped = &consumer->mapped;
	uint64_t at = first, until;
	int ret;

	kvmvmem_bits_fill(&consumer->touched, first, end, false);
	while ((at = kvmvmem_bits_next(mapped, at, end, !map)) < end) {
		until = call_end(consumer, mapped, at, end, !map);
		ret = change(consumer, map, at, until);
		if (ret)
			return ret;
		kvmvmem_bits_fill(&consumer->touched, at, until, true);
		at = until;
	}
	return 0;
}

/* Undo change_all(), also after a failure. Return: 0 or -EIO. */
static int change_back(struct kvmvmem_consumer *consumer, bool map,
		       uint64_t first, uint64_t end)
{
	const struct kvmvmem_bits *touched = &consumer->touched;
	uint64_t at = first, until;
	int ret = 0;

	while ((at = kvmvmem_bits_next(touched, at, end, true)) < end) {
		until = call_end(consumer, touched, at, end, true);
		if (change(consumer, !map, at, until))
			ret = -EIO;
		at = until;
	}
	return ret;
}

static bool has_told(const struct kvmvmem_consumer *consumer, uint64_t first,
		     uint64_t end)
{
	return kvmvmem_bits_next(&consumer->told, first, end, true) < end;
}

/*
 * May a unit be unmapped when blocks @first to @end - 1 are discarded? It must not
 * have other blocks that are, or may be, plugged.
 */
static bool may_go(const struct kvmvmem_consumer *consumer, uint64_t unit,
		   uint64_t first, uint64_t end)
{
	uint64_t unit_first = unit * consumer->unit_blocks;
	uint64_t unit_end =
		min(unit_first + consumer->unit_blocks, consumer->told.nr);

	if (first <= unit_first && unit_end <= end)
		return true;
	return consumer->state == KVMVMEM_SUBSCRIBED &&
	       !has_told(consumer, unit_first, first) &&
	       !has_told(consumer, end, unit_end);
}

/*
 * Do blocks @first to @end - 1 have a mapped unit that this connection has not
 * reported? Such a unit was mapped before the reconnection.
 */
static bool has_kept(const struct kvmvmem_consumer *consumer, uint64_t first,
		     uint64_t end)
{
	uint64_t per = consumer->unit_blocks, nr = consumer->told.nr;
	uint64_t unit_end = (end - 1) / per + 1, unit = first / per;

	if (consumer->state == KVMVMEM_SUBSCRIBED)
		return false;
	while ((unit = kvmvmem_bits_next(&consumer->mapped, unit, unit_end,
					 true)) < unit_end) {
		if (!has_told(consumer, unit * per, min((unit + 1) * per, nr)))
			return true;
		unit++;
	}
	return false;
}

/*
 * Execute an event for blocks @first to @end - 1.
 * @lost: set if the event failed and could not be undone
 *
 * Return: 0; the errno of map() or unmap().
 */
static int do_event(struct kvmvmem_consumer *consumer, bool populate,
		    uint64_t first, uint64_t end, bool *lost)
{
	uint64_t unit = first / consumer->unit_blocks;
	uint64_t unit_end = (end - 1) / consumer->unit_blocks + 1;
	int ret = 0;

	if (!populate && !may_go(consumer, unit_end - 1, first, end))
		unit_end--;
	if (!populate && unit < unit_end && !may_go(consumer, unit, first, end))
		unit++;
	if (unit < unit_end)
		ret = change_all(consumer, populate, unit, unit_end);
	if (!ret)
		kvmvmem_bits_fill(&consumer->told, first, end, populate);
	else
		*lost = change_back(consumer, populate, unit, unit_end) != 0;
	return ret;
}

/* Unmap units @first to @end - 1, also after a failure. Return: 0 or an errno. */
static int unmap_units(struct kvmvmem_consumer *consumer, uint64_t first,
		       uint64_t end)
{
	int ret = 0, one;

	while (first < end) {
		uint64_t until =
			call_end(consumer, &consumer->mapped, first, end, true);

		one = change(consumer, false, first, until);
		if (one)
			ret = one;
		first = until;
	}
	return ret;
}

/*
 * Unmap those of the mapped units @first to @end - 1 without a block in @told.
 *
 * Return: as of unmap_units().
 */
static int sweep_run(struct kvmvmem_consumer *consumer, uint64_t first,
		     uint64_t end)
{
	uint64_t per = consumer->unit_blocks, until;
	uint64_t limit = min(end * per, consumer->told.nr);
	int ret = 0, one;

	while (first < end) {
		uint64_t told = kvmvmem_bits_next(&consumer->told, first * per,
						  limit, true);

		/* The unit of that block stays mapped. */
		until = told < limit ? told / per : end;
		one = unmap_units(consumer, first, until);
		if (one)
			ret = one;
		first = until + 1;
	}
	return ret;
}

/*
 * Unmap all units without a block in @told. A failure does not end the loop.
 *
 * Return: 0, or an errno of unmap().
 */
static int sweep(struct kvmvmem_consumer *consumer)
{
	const struct kvmvmem_bits *mapped = &consumer->mapped;
	uint64_t at = 0, end;
	int ret = 0, one;

	while ((at = kvmvmem_bits_next(mapped, at, mapped->nr, true)) <
	       mapped->nr) {
		end = kvmvmem_bits_next(mapped, at, mapped->nr, false);
		one = sweep_run(consumer, at, end);
		if (one)
			ret = one;
		at = end;
	}
	return ret;
}

/* --- The connection --- */

static void set_timer(const struct kvmvmem_consumer *consumer, int ms)
{
	const struct itimerspec when = {
		.it_value = {ms / 1000, ms % 1000 * 1000000L},
	};

	timerfd_settime(consumer->timer_fd, 0, &when, NULL);
}

/* Wait for room to send if a request is pending, else for data. */
static void await(const struct kvmvmem_consumer *consumer)
{
	struct epoll_event event = {
		.events = consumer->out.length ? EPOLLOUT : EPOLLIN,
	};

	epoll_ctl(consumer->epoll_fd, EPOLL_CTL_MOD, consumer->fd, &event);
}

/*
 * A child of the process may have a copy of the socket, which keeps it in the
 * epoll instance and keeps the connection open. So close() does not suffice.
 */
static void close_socket(struct kvmvmem_consumer *consumer)
{
	if (consumer->fd < 0)
		return;
	epoll_ctl(consumer->epoll_fd, EPOLL_CTL_DEL, consumer->fd, NULL);
	shutdown(consumer->fd, SHUT_RDWR);
	close(consumer->fd);
	consumer->fd = -1;
}

static void disconnect(struct kvmvmem_consumer *consumer)
{
	close_socket(consumer);
	consumer->subscribing = false;
	consumer->out.length = 0;
	consumer->line.have = 0;
	consumer->line.used = 0;
	set_timer(consumer, 0);
	if (consumer->told.words)
		kvmvmem_bits_fill(&consumer->told, 0, consumer->told.nr, false);
}

static void close_consumer(struct kvmvmem_consumer *consumer)
{
	disconnect(consumer);
	consumer->state = KVMVMEM_CLOSED;
}

/* There is no vmemd: try again later. */
static void retry(struct kvmvmem_consumer *consumer)
{
	disconnect(consumer);
	consumer->state = KVMVMEM_CONNECTING;
	set_timer(consumer, consumer->retry_ms);
	consumer->retry_ms =
		(int)min(2 * (uint64_t)consumer->retry_ms, RETRY_MAX_MS);
}

/* Send as much of the pending request as fits. */
static void flush(struct kvmvmem_consumer *consumer)
{
	struct kvmvmem_request *out = &consumer->out;
	ssize_t sent;

	while (consumer->out_sent < out->length) {
		sent = send(consumer->fd, out->text + consumer->out_sent,
			    out->length - consumer->out_sent,
			    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0 && errno != EAGAIN) {
			/* The reason for the close can still be read. */
			out->length = 0;
			break;
		}
		if (sent < 0) {
			await(consumer);
			return;
		}
		consumer->out_sent += (size_t)sent;
	}
	out->length = 0;
	await(consumer);
}

static void send_out(struct kvmvmem_consumer *consumer)
{
	kvmvmem_request_end(&consumer->out);
	consumer->out_sent = 0;
	flush(consumer);
}

static void put_count(struct kvmvmem_request *request, const char *name,
		      uint64_t value)
{
	if (value)
		kvmvmem_request_size(request, name, value);
}

/* Connect and send "subscribe". Return: 0, or an errno. */
static int subscribe(struct kvmvmem_consumer *consumer,
		     struct kvmvmem_error *error)
{
	const struct kvmvmem_consumer_config *config = &consumer->config;
	struct epoll_event event = {.events = EPOLLIN};
	char text[128];
	int fd, ret;

	fd = kvmvmem_connect(config->control_path, error);
	if (fd < 0)
		return fd;
	if (epoll_ctl(consumer->epoll_fd, EPOLL_CTL_ADD, fd, &event)) {
		ret = errno;
		close(fd);
		return kvmvmem_fail(error, -ret, "epoll: %s",
				    kvmvmem_text_of(ret, text, sizeof(text)));
	}
	consumer->fd = fd;
	consumer->subscribing = true;
	consumer->state = KVMVMEM_POPULATING;
	set_timer(consumer, KVMVMEM_ANSWER_MS);
	kvmvmem_request_begin(&consumer->out, SUBSCRIBE_ID, "subscribe");
	kvmvmem_request_text(&consumer->out, "device", config->device);
	kvmvmem_request_text(&consumer->out, "name", config->name);
	put_count(&consumer->out, "memslots", config->memslots);
	put_count(&consumer->out, "used", config->used);
	put_count(&consumer->out, "reserved", config->reserved);
	put_count(&consumer->out, "mappings", config->mappings);
	if (consumer->out.too_long)
		return kvmvmem_fail(error, -E2BIG, "the names are too long");
	send_out(consumer);
	return 0;
}

/* --- Lines of vmemd --- */

static int not_vmemd(struct kvmvmem_error *error, const char *what)
{
	return kvmvmem_fail(error, -EBADMSG, "not a vmemd's: %s", what);
}

static bool is_layout(const struct layout *layout)
{
	uint64_t end;

	return layout->block_size &&
	       !(layout->block_size & (layout->block_size - 1)) &&
	       layout->size && !(layout->gpa % layout->block_size) &&
	       !(layout->size % layout->block_size) &&
	       !__builtin_add_overflow(layout->gpa, layout->size, &end) &&
	       layout->size / layout->block_size <= KVM_VMEM_MAX_BLOCKS &&
	       layout->slot_size && !(layout->slot_size % layout->block_size) &&
	       layout->first_slot <=
		       UINT32_MAX - (layout->size - 1) / layout->slot_size;
}

/* Store the layout and allocate the sets. Return: 0 or -ENOMEM. */
static int keep_layout(struct kvmvmem_consumer *consumer,
		       const struct layout *layout)
{
	uint64_t blocks = layout->size / layout->block_size, units;

	consumer->unit_blocks = consumer->config.unit == KVMVMEM_MEMSLOT_RUNS
					? layout->slot_size / layout->block_size
					: 1;
	units = (blocks - 1) / consumer->unit_blocks + 1;
	if (kvmvmem_bits_init(&consumer->told, blocks) ||
	    kvmvmem_bits_init(&consumer->mapped, units) ||
	    kvmvmem_bits_init(&consumer->touched, units))
		return -ENOMEM;
	consumer->layout = *layout;
	return 0;
}

static void forget_layout(struct kvmvmem_consumer *consumer)
{
	kvmvmem_bits_free(&consumer->told);
	kvmvmem_bits_free(&consumer->mapped);
	kvmvmem_bits_free(&consumer->touched);
	memset(&consumer->layout, 0, sizeof(consumer->layout));
}

static int take_layout(struct kvmvmem_consumer *consumer,
		       struct kvmvmem_json result, struct kvmvmem_error *error)
{
	struct layout layout = {0};

	if (!kvmvmem_json_get_size(result, "gpa", &layout.gpa) ||
	    !kvmvmem_json_get_size(result, "size", &layout.size) ||
	    !kvmvmem_json_get_size(result, "block_size", &layout.block_size) ||
	    !kvmvmem_json_get_size(result, "slot_size", &layout.slot_size) ||
	    !kvmvmem_json_get_size(result, "first_slot", &layout.first_slot) ||
	    !is_layout(&layout))
		return not_vmemd(error, "no region that there can be");
	/* Without mappings, any region is accepted. */
	if (consumer->layout.size && !consumer->nr_mapped)
		forget_layout(consumer);
	if (!consumer->layout.size) {
		if (!keep_layout(consumer, &layout))
			return 0;
		forget_layout(consumer);
		return kvmvmem_fail(error, -ENOMEM, "out of memory");
	}
	if (memcmp(&layout, &consumer->layout, sizeof(layout)))
		return kvmvmem_fail(error, -ESTALE,
				    "vmemd has another region now");
	return 0;
}

/* The next dispatch must handle lines that arrived with the answer. */
static void wake_up(const struct kvmvmem_consumer *consumer)
{
	const struct itimerspec now = {.it_value = {0, 1}};

	timerfd_settime(consumer->timer_fd, 0, &now, NULL);
}

/* Handle an answer. Return: 0; an errno, see is_away(). */
static int on_answer(struct kvmvmem_consumer *consumer,
		     struct kvmvmem_json line, struct kvmvmem_error *error)
{
	struct kvmvmem_json result;
	int ret;

	if (!consumer->subscribing)
		return 0;
	ret = kvmvmem_answer(line, SUBSCRIBE_ID, &result, error);
	if (ret == 1)
		return 0;
	if (!ret)
		ret = take_layout(consumer, result, error);
	if (ret)
		return ret;
	consumer->subscribing = false;
	consumer->retry_ms = RETRY_MIN_MS;
	wake_up(consumer);
	return 0;
}

static int on_subscribed(struct kvmvmem_consumer *consumer,
			 struct kvmvmem_error *error)
{
	int ret = sweep(consumer);
	char text[128];

	if (ret)
		return kvmvmem_fail(error, -EIO,
				    "memory that has gone cannot be unmapped: "
				    "%s",
				    kvmvmem_text_of(-ret, text, sizeof(text)));
	consumer->state = KVMVMEM_SUBSCRIBED;
	return 0;
}

/* Get the blocks of an event. Return: whether they are within the region. */
static bool get_blocks(const struct kvmvmem_consumer *consumer,
		       struct kvmvmem_json line, uint64_t *first, uint64_t *end)
{
	const struct layout *layout = &consumer->layout;
	uint64_t gpa, size;

	if (!kvmvmem_json_get_size(line, "gpa", &gpa) ||
	    !kvmvmem_json_get_size(line, "size", &size) || !size ||
	    gpa < layout->gpa || gpa - layout->gpa >= layout->size ||
	    size > layout->size - (gpa - layout->gpa) ||
	    (gpa | size) % layout->block_size)
		return false;
	*first = (gpa - layout->gpa) / layout->block_size;
	*end = *first + size / layout->block_size;
	return true;
}

static int on_change(struct kvmvmem_consumer *consumer, bool populate,
		     struct kvmvmem_json line, struct kvmvmem_error *error)
{
	struct kvmvmem_request *out = &consumer->out;
	uint64_t seq, first, end;
	bool lost = false;
	char text[128];
	int ret;

	if (!kvmvmem_json_get_size(line, "seq", &seq) ||
	    !get_blocks(consumer, line, &first, &end))
		return not_vmemd(error, "an event beyond the region");
	ret = do_event(consumer, populate, first, end, &lost);
	kvmvmem_text_of(-ret, text, sizeof(text));
	/*
	 * A refused populate event means that nothing of it is mapped, and vmemd
	 * may discard the memory. Without an answer, the end of the connection
	 * means that all of it may be mapped, and vmemd keeps the memory.
	 */
	if (ret && populate && !lost && has_kept(consumer, first, end))
		return kvmvmem_fail(error, -EIO,
				    "cannot map: %s; what was mapped before "
				    "the reconnection stays mapped",
				    text);
	if (lost && populate)
		return kvmvmem_fail(error, -EIO,
				    "cannot map, and cannot undo what was "
				    "done: %s",
				    text);
	kvmvmem_request_begin(out, DONE_ID, "done");
	kvmvmem_request_size(out, "seq", seq);
	kvmvmem_request_bool(out, "ok", !ret);
	if (ret)
		kvmvmem_request_text(out, "reason", text);
	send_out(consumer);
	if (!lost)
		return 0;
	return kvmvmem_fail(error, -EIO,
			    "cannot unmap, and cannot undo what was done: %s",
			    text);
}

static int on_event(struct kvmvmem_consumer *consumer, struct kvmvmem_json line,
		    struct kvmvmem_json name, struct kvmvmem_error *error)
{
	char event[32] = "", reason[128] = "no reason";

	kvmvmem_json_text(name, event, sizeof(event));
	if (!strcmp(event, "closed")) {
		kvmvmem_json_get_text(line, "reason", reason, sizeof(reason));
		return kvmvmem_fail(error, -ECONNABORTED,
				    "vmemd has closed the consumer: %s",
				    reason);
	}
	if (consumer->subscribing)
		return not_vmemd(error, "an event before the answer");
	if (!strcmp(event, "populate"))
		return on_change(consumer, true, line, error);
	if (!strcmp(event, "discard"))
		return on_change(consumer, false, line, error);
	if (!strcmp(event, "subscribed"))
		return on_subscribed(consumer, error);
	/* A later vmemd may send other events; they need no answer. */
	return 0;
}

/*
 * Handle the received lines, up to the answer to "subscribe": until the caller has
 * the consumer, map() must not be called.
 *
 * Return: see on_answer().
 */
static int on_lines(struct kvmvmem_consumer *consumer,
		    struct kvmvmem_error *error)
{
	struct kvmvmem_json line, name;
	bool was_subscribing;
	int ret = 0;

	/* A pending request is sent first, which bounds what vmemd can cause. */
	while (!ret && !consumer->out.length) {
		ret = kvmvmem_line_next(&consumer->line, &line);
		if (ret == -EAGAIN)
			return 0;
		if (ret)
			return not_vmemd(error, "a line");
		if (kvmvmem_json_member(line, "event", &name)) {
			ret = on_event(consumer, line, name, error);
			continue;
		}
		was_subscribing = consumer->subscribing;
		ret = on_answer(consumer, line, error);
		if (was_subscribing && !consumer->subscribing)
			break;
	}
	return ret;
}

static int on_connection(struct kvmvmem_consumer *consumer,
			 struct kvmvmem_error *error)
{
	int ret, receive;

	flush(consumer);
	/* Lines that waited for the pending request. */
	ret = on_lines(consumer, error);
	if (ret || consumer->out.length)
		return ret;
	receive = kvmvmem_line_receive(&consumer->line, consumer->fd);
	if (receive == -EBADMSG)
		return not_vmemd(error, "a line that is too long");
	if (receive && receive != -EAGAIN)
		return kvmvmem_fail(error, -EPIPE,
				    "vmemd has closed the connection");
	return on_lines(consumer, error);
}

static void on_timer(struct kvmvmem_consumer *consumer)
{
	uint64_t count;

	if (read(consumer->timer_fd, &count, sizeof(count)) !=
	    (ssize_t)sizeof(count))
		return;
	/* Time to connect, or timeout of the answer. */
	if (consumer->state == KVMVMEM_CONNECTING
		    ? subscribe(consumer, NULL) != 0
		    : consumer->subscribing)
		retry(consumer);
}

/* --- Calls --- */

/*
 * Does an error mean that vmemd is absent or not ready? It has closed the
 * connection; it has no region yet; it has no place, descriptor or memory for
 * another client.
 */
static bool is_away(const struct kvmvmem_consumer *consumer, int ret)
{
	return ret == -EPIPE ||
	       (consumer->subscribing &&
		(ret == -ENODEV || ret == -EUSERS || ret == -EMFILE ||
		 ret == -ENFILE || ret == -ENOMEM));
}

int kvmvmem_consumer_dispatch(struct kvmvmem_consumer *consumer,
			      struct kvmvmem_error *error)
{
	struct kvmvmem_error own;
	int ret = 0;

	/* The timer first: handling lines may set it again. */
	on_timer(consumer);
	if (consumer->fd >= 0)
		ret = on_connection(consumer, &own);
	if (ret && !is_away(consumer, ret)) {
		close_consumer(consumer);
		return kvmvmem_fail(error, ret, "%s", own.text);
	}
	if (ret)
		retry(consumer);
	return 0;
}

/* Subscribe and wait for the answer. Return: 0; an errno; closed then. */
static int start(struct kvmvmem_consumer *consumer, struct kvmvmem_error *error)
{
	int64_t deadline = kvmvmem_now_ms() + KVMVMEM_ANSWER_MS, left;
	struct pollfd ready = {.events = POLLIN};
	int ret;

	ret = subscribe(consumer, error);
	ready.fd = consumer->fd;
	while (!ret && consumer->subscribing) {
		left = deadline - kvmvmem_now_ms();
		if (left <= 0)
			ret = kvmvmem_fail(error, -ETIMEDOUT,
					   "vmemd does not answer");
		else if (poll(&ready, 1, kvmvmem_poll_ms(left)) > 0)
			ret = on_connection(consumer, error);
	}
	if (ret)
		close_consumer(consumer);
	return ret;
}

static int unmap_all(struct kvmvmem_consumer *consumer)
{
	if (!consumer->layout.size)
		return 0;
	kvmvmem_bits_fill(&consumer->told, 0, consumer->told.nr, false);
	return sweep(consumer);
}

int kvmvmem_consumer_resume(struct kvmvmem_consumer *consumer,
			    struct kvmvmem_error *error)
{
	char text[128];
	int ret;

	if (consumer->state != KVMVMEM_CLOSED)
		return 0;
	ret = unmap_all(consumer);
	if (ret)
		return kvmvmem_fail(error, -EIO, "cannot unmap: %s",
				    kvmvmem_text_of(-ret, text, sizeof(text)));
	consumer->retry_ms = RETRY_MIN_MS;
	return start(consumer, error);
}

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

static int make_fds(struct kvmvmem_consumer *consumer)
{
	struct epoll_event event = {.events = EPOLLIN};

	consumer->timer_fd =
		timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	if (consumer->timer_fd < 0)
		return -errno;
	consumer->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (consumer->epoll_fd < 0 ||
	    epoll_ctl(consumer->epoll_fd, EPOLL_CTL_ADD, consumer->timer_fd,
		      &event))
		return -errno;
	return 0;
}

static void free_consumer(struct kvmvmem_consumer *consumer)
{
	close_socket(consumer);
	if (consumer->epoll_fd >= 0)
		close(consumer->epoll_fd);
	if (consumer->timer_fd >= 0)
		close(consumer->timer_fd);
	forget_layout(consumer);
	free((char *)consumer->config.control_path);
	free((char *)consumer->config.device);
	free((char *)consumer->config.name);
	free(consumer);
}

int kvmvmem_consumer_new(struct kvmvmem_consumer **consumerp,
			 const struct kvmvmem_consumer_config *config,
			 struct kvmvmem_error *error)
{
	struct kvmvmem_consumer *consumer;
	struct kvmvmem_consumer_config known;
	char text[128];
	int ret;

	ret = kvmvmem_struct_take(&known, sizeof(known), FIRST_CONFIG, config,
				  config->size);
	if (ret)
		return kvmvmem_fail(error, ret,
				    "consumer: a structure of another version");
	if (!known.control_path || !known.name || !known.map || !known.unmap ||
	    known.unit > KVMVMEM_MEMSLOT_RUNS)
		return kvmvmem_fail(error, -EINVAL,
				    "consumer: a path, a name and both calls "
				    "are needed, and a unit that there is");
	consumer = calloc(1, sizeof(*consumer));
	if (!consumer)
		return kvmvmem_fail(error, -ENOMEM, "out of memory");
	consumer->config = known;
	consumer->config.control_path = copy_of(known.control_path);
	consumer->config.device = copy_of(known.device);
	consumer->config.name = copy_of(known.name);
	consumer->fd = -1;
	consumer->timer_fd = -1;
	consumer->epoll_fd = -1;
	consumer->retry_ms = RETRY_MIN_MS;
	ret = make_fds(consumer);
	if (!consumer->config.control_path || !consumer->config.name ||
	    (known.device && !consumer->config.device))
		ret = -ENOMEM;
	if (ret)
		kvmvmem_fail(error, ret, "consumer: %s",
			     kvmvmem_text_of(-ret, text, sizeof(text)));
	else
		ret = start(consumer, error);
	if (ret) {
		free_consumer(consumer);
		return ret;
	}
	*consumerp = consumer;
	return 0;
}

/* Has the connection subscribed, and is vmemd still at its other end? */
static bool is_connected(const struct kvmvmem_consumer *consumer)
{
	struct pollfd ended = {.fd = consumer->fd, .events = POLLRDHUP};

	return consumer->fd >= 0 && !consumer->subscribing &&
	       !poll(&ended, 1, 0);
}

/*
 * Declare that nothing is mapped any more. vmemd reads the request before the end
 * of the connection. All received data has to be read before the close: otherwise
 * the kernel resets the connection, and the request is lost.
 */
static void unsubscribe(struct kvmvmem_consumer *consumer)
{
	int64_t deadline = kvmvmem_now_ms() + UNSUBSCRIBE_MS, left;
	struct kvmvmem_request *out = &consumer->out;
	bool by_name = !is_connected(consumer);
	struct pollfd ready;
	char rest[512];
	ssize_t got = 1;

	if (by_name) {
		struct epoll_event event = {.events = 0};

		disconnect(consumer);
		consumer->fd =
			kvmvmem_connect(consumer->config.control_path, NULL);
		if (consumer->fd < 0 ||
		    epoll_ctl(consumer->epoll_fd, EPOLL_CTL_ADD, consumer->fd,
			      &event))
			return;
	}
	ready.fd = consumer->fd;
	for (;;) {
		ready.events = out->length ? POLLOUT : 0;
		left = deadline - kvmvmem_now_ms();
		if (!out->length || left <= 0 ||
		    (poll(&ready, 1, kvmvmem_poll_ms(left)) < 0 &&
		     errno != EINTR))
			break;
		flush(consumer);
	}
	if (out->length)
		return;
	kvmvmem_request_begin(out, UNSUBSCRIBE_ID, "unsubscribe");
	kvmvmem_request_text(out, "device", consumer->config.device);
	kvmvmem_request_text(out, "name", consumer->config.name);
	send_out(consumer);
	if (out->length || shutdown(consumer->fd, SHUT_WR))
		return;
	ready.events = POLLIN;
	/* After a signal, continue to read. */
	while (got > 0 && (left = deadline - kvmvmem_now_ms()) > 0) {
		int nr = poll(&ready, 1, kvmvmem_poll_ms(left));

		if (!nr || (nr < 0 && errno != EINTR))
			break;
		if (nr > 0)
			got = recv(consumer->fd, rest, sizeof(rest),
				   MSG_DONTWAIT);
	}
}

void kvmvmem_consumer_free(struct kvmvmem_consumer *consumer)
{
	if (!consumer)
		return;
	/* vmemd must keep memory that is still mapped. */
	if (!unmap_all(consumer) && consumer->layout.size)
		unsubscribe(consumer);
	free_consumer(consumer);
}

int kvmvmem_consumer_fd(const struct kvmvmem_consumer *consumer)
{
	return consumer->epoll_fd;
}

int kvmvmem_consumer_state(const struct kvmvmem_consumer *consumer)
{
	return consumer->state;
}

uint64_t kvmvmem_consumer_mapped_size(const struct kvmvmem_consumer *consumer)
{
	return consumer->nr_mapped * consumer->layout.block_size;
}
