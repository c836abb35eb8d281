// SPDX-License-Identifier: MIT
/*
 * A consumer: what is mapped, and what vmemd says of it. The protocol is in
 * vmemd(8), Consumers.
 *
 * Two sets. @told has the blocks that vmemd has told of, since the subscription,
 * and that were taken. @mapped has the units, blocks or memslots, for which map()
 * was called. A unit is to be mapped while it has a block that is told. Each event
 * changes @told by a range, and then @mapped for the units of that range.
 *
 * The middle of an event. Units that an event has changed are in @touched. If one
 * of them fails, the others are changed back, vmemd is answered no, and all is as
 * before. If that fails as well, the device does not have what vmemd believes:
 * vmemd is answered no, so that the guest's memory stays as it is, and the
 * consumer is closed. Nothing but unmapping all of it mends that.
 *
 * Resumption. If vmemd dies, memory stays plugged and mapped, and the device goes
 * on. @told is emptied with the connection, @mapped is kept. The next vmemd tells
 * of all that is plugged; what is mapped by then is kept without a call. When it
 * says "subscribed", what is mapped and was not told has gone meanwhile, and is
 * unmapped. A memslot that loses a block before that stays, as its other blocks
 * may not have been told yet.
 *
 * vmemd keeps the memory that a consumer may map when the connection is lost, or
 * closed, and answers the guest busy. So the consumer unsubscribes at its end, by
 * another connection if it has none.
 *
 * Who is closed, by vmemd or by the above, has maps that are not what it believes.
 * They are unmapped before it subscribes again.
 *
 * The descriptor is an epoll instance of the connection and of a timer, for the
 * next attempt to connect and for a vmemd that does not answer.
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
 * Between attempts to connect: soon at first, as a service manager restarts
 * vmemd at once, and twice as long each time.
 */
#define RETRY_MIN_MS 50
#define RETRY_MAX_MS 1000

/* Size of the first version. */
#define FIRST_CONFIG \
	(offsetof(struct kvmvmem_consumer_config, arg) + sizeof(void *))

/* Ids of requests. An answer to "done" or "unsubscribe" says nothing. */
#define SUBSCRIBE_ID   1
#define DONE_ID	       2
#define UNSUBSCRIBE_ID 3

/*
 * How long the end of a subscription may take: a turn of vmemd's. Without an
 * answer vmemd waits for the end of this process instead.
 */
#define UNSUBSCRIBE_MS 2000

/**
 * struct layout - the region, as "subscribe" is answered
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
 * @config: with strings of our own
 * @state: enum kvmvmem_consumer_state
 * @subscribing: "subscribe" is not answered yet
 * @fd: the connection, or -1
 * @timer_fd, @epoll_fd: see above
 * @retry_ms: until the next attempt
 * @line: what has come
 * @out: what could not be sent yet, from @out_sent on; @out.length is 0: nothing
 * @layout: all zero before the first answer
 * @unit_blocks: blocks of a unit; the last may have fewer
 * @told: blocks; @mapped, @touched: units
 * @nr_mapped: units that are mapped, counted in blocks
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

/* Blocks of units @first to @end - 1. */
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

/* Where a call for units from @first on ends. */
static uint64_t call_end(const struct kvmvmem_consumer *consumer,
			 const struct kvmvmem_bits *set, uint64_t first,
			 uint64_t end, bool value)
{
	if (consumer->config.unit == KVMVMEM_EACH_BLOCK)
		return first + 1;
	return kvmvmem_bits_next(set, first, end, !value);
}

/* Map or unmap those of units @first to @end - 1 that are not, or are. */
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

/* Undo what change_all() has done. All of it is tried. Return: 0 or -EIO. */
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

/* May a unit go, of which blocks up to @first and from @end on are not asked? */
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
 * Is a unit of blocks @first to @end - 1 mapped that no event of this connection
 * has told of? It was mapped before the connection.
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
 * Do what an event says of blocks @first to @end - 1.
 *
 * Return: 0; what map() or unmap() has returned: nothing has changed; -EIO with
 * @lost: it cannot be told what has.
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

/* Unmap units @first to @end - 1. All calls are made. Return: 0, or an errno. */
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
 * Unmap those of the mapped units @first to @end - 1 that have nothing told.
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

		/* The unit of that block stays. */
		until = told < limit ? told / per : end;
		one = unmap_units(consumer, first, until);
		if (one)
			ret = one;
		first = until + 1;
	}
	return ret;
}

/*
 * Unmap the units that have nothing told. All of them are tried.
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

/* What to wait for: not for more to read while something is to be sent. */
static void await(const struct kvmvmem_consumer *consumer)
{
	struct epoll_event event = {
		.events = consumer->out.length ? EPOLLOUT : EPOLLIN,
	};

	epoll_ctl(consumer->epoll_fd, EPOLL_CTL_MOD, consumer->fd, &event);
}

/* Closing takes it out of the epoll instance; nobody else has a copy. */
static void disconnect(struct kvmvmem_consumer *consumer)
{
	if (consumer->fd >= 0)
		close(consumer->fd);
	consumer->fd = -1;
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

/* vmemd is not there: look again later. */
static void retry(struct kvmvmem_consumer *consumer)
{
	disconnect(consumer);
	consumer->state = KVMVMEM_CONNECTING;
	set_timer(consumer, consumer->retry_ms);
	consumer->retry_ms =
		(int)min(2 * (uint64_t)consumer->retry_ms, RETRY_MAX_MS);
}

/* Send what is to be sent, as far as there is room. */
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
			/* Why it has closed is still to be read. */
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

/* Connect, and send the request. Return: 0, or an errno. */
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

/* --- What vmemd says --- */

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

/* Make the sets. Return: 0 or -ENOMEM. */
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
	/* Nothing is mapped, so it may be any. */
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

/* Lines may have come with the answer. They are for the next dispatch. */
static void wake_up(const struct kvmvmem_consumer *consumer)
{
	const struct itimerspec now = {.it_value = {0, 1}};

	timerfd_settime(consumer->timer_fd, 0, &now, NULL);
}

/* An answer. Return: 0; why it is closed, or is_away(). */
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

/* The blocks of an event. Return: whether they are the region's. */
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
	 * A "no" to a populate event says that nothing of it is mapped, and vmemd
	 * may discard the memory. Without an answer, the end of the connection
	 * says that all of it may be mapped, and vmemd keeps the memory.
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
	/* A later vmemd may have others; none of them is to be answered. */
	return 0;
}

/*
 * Lines that have come, but for those behind the answer to "subscribe": the
 * caller has no consumer yet for which anything could be mapped.
 *
 * Return: as of on_answer().
 */
static int on_lines(struct kvmvmem_consumer *consumer,
		    struct kvmvmem_error *error)
{
	struct kvmvmem_json line, name;
	bool was_subscribing;
	int ret = 0;

	/* What is to be sent goes first, so that a vmemd cannot heap up more. */
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
	/* Lines that had to wait for that. */
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
	/* It is time to connect, or vmemd has not answered in time. */
	if (consumer->state == KVMVMEM_CONNECTING
		    ? subscribe(consumer, NULL) != 0
		    : consumer->subscribing)
		retry(consumer);
}

/* --- Calls --- */

/*
 * Does an error mean that vmemd is absent or not ready? It has closed the
 * connection; it has no region yet; it has no place or no descriptor for another
 * client.
 */
static bool is_away(const struct kvmvmem_consumer *consumer, int ret)
{
	return ret == -EPIPE ||
	       (consumer->subscribing && (ret == -ENODEV || ret == -EUSERS ||
					  ret == -EMFILE || ret == -ENFILE));
}

int kvmvmem_consumer_dispatch(struct kvmvmem_consumer *consumer,
			      struct kvmvmem_error *error)
{
	struct kvmvmem_error own;
	int ret = 0;

	/* The timer first: it may be set again for lines that are left. */
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

/* Subscribe, and wait for the answer. Return: 0; why not: it is closed then. */
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
	if (consumer->fd >= 0)
		close(consumer->fd);
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

/* Is there a connection by which vmemd knows the consumer? */
static bool is_connected(const struct kvmvmem_consumer *consumer)
{
	return consumer->fd >= 0 && !consumer->subscribing;
}

/*
 * Say that nothing is mapped any more. vmemd reads that before it sees the end of
 * the connection, unless something is left to be read here: then the kernel says
 * that the connection was reset, and the rest is lost.
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
	/* A signal is no reason to leave what would reset the connection. */
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
	/* What is still mapped vmemd may not give back. */
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
