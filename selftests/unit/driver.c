// SPDX-License-Identifier: GPL-2.0-or-later
#include <endian.h>
#include <string.h>

#include "driver.h"
#include "unit.h"

#define AVAIL (1U << VRING_PACKED_DESC_F_AVAIL)
#define USED  (1U << VRING_PACKED_DESC_F_USED)

/*
 * Ids of the packed format are chosen by the driver; these cannot be mistaken
 * for slots.
 */
#define ID_BASE 0x4000

static struct vring_packed_desc *packed_of(const struct driver *driver)
{
	return (struct vring_packed_desc *)(driver->memory +
					    driver->layout.desc);
}

static struct vring_avail *avail_of(const struct driver *driver)
{
	return (struct vring_avail *)(driver->memory + driver->layout.avail);
}

static struct vring_used *used_of(const struct driver *driver)
{
	return (struct vring_used *)(driver->memory + driver->layout.used);
}

static struct vring_packed_desc_event *event_of(const struct driver *driver,
						size_t at)
{
	return (struct vring_packed_desc_event *)(driver->memory + at);
}

bool driver_has(const struct driver *driver, unsigned int bit)
{
	return driver->features & 1ULL << bit;
}

static bool is_packed(const struct driver *driver)
{
	return driver_has(driver, VIRTIO_F_RING_PACKED);
}

void driver_init(struct driver *driver, uint8_t *memory, uint64_t gpa,
		 const struct driver_layout *layout, uint64_t features,
		 uint16_t size)
{
	*driver = (struct driver){
		.features = features,
		.size = size,
		.gpa = gpa,
		.layout = *layout,
		.avail_wrap = true,
		.used_wrap = true,
	};
	driver->memory = memory;
}

static size_t table_at(const struct driver *driver, uint16_t slot)
{
	return driver->layout.tables +
	       slot * DRIVER_TABLE * sizeof(struct vring_desc);
}

static struct driver_entry entry_at(const struct driver *driver, size_t at)
{
	struct vring_desc *desc = (struct vring_desc *)(driver->memory + at);
	struct vring_packed_desc *packed =
		(struct vring_packed_desc *)(driver->memory + at);

	if (is_packed(driver))
		return (struct driver_entry){
			(uint64_t *)&packed->addr,
			(uint32_t *)&packed->len,
			(uint16_t *)&packed->flags,
			(uint16_t *)&packed->id,
		};
	return (struct driver_entry){
		(uint64_t *)&desc->addr,
		(uint32_t *)&desc->len,
		(uint16_t *)&desc->flags,
		(uint16_t *)&desc->next,
	};
}

/* A descriptor of the queue. */
struct driver_entry driver_slot(const struct driver *driver, uint16_t slot)
{
	return entry_at(driver, driver->layout.desc +
					slot % driver->size *
						sizeof(struct vring_desc));
}

/* The descriptor of a chain's buffer, which may be in a table. */
struct driver_entry driver_entry(const struct driver *driver,
				 const struct driver_chain *chain, uint16_t i)
{
	if (driver_has(driver, VIRTIO_RING_F_INDIRECT_DESC))
		return entry_at(driver, table_at(driver, chain->slot) +
						i * sizeof(struct vring_desc));
	return driver_slot(driver, chain->slot + i);
}

static void write_entry(const struct driver_entry *entry,
			const struct driver_buffer *buffer, uint16_t flags,
			uint16_t next)
{
	if (buffer->write)
		flags |= VRING_DESC_F_WRITE;
	*entry->gpa = htole64(buffer->gpa);
	*entry->size = htole32(buffer->size);
	*entry->next = htole16(next);
	*entry->flags = htole16(flags);
}

/*
 * Fill the table of a slot. Return: the buffer that describes the table in the
 * ring.
 */
static struct driver_buffer write_table(const struct driver *driver,
					const struct driver_chain *chain,
					const struct driver_buffer *buffers)
{
	bool packed = is_packed(driver);

	assert_true(chain->nr <= DRIVER_TABLE);
	for (uint16_t i = 0; i < chain->nr; i++) {
		struct driver_entry entry = driver_entry(driver, chain, i);
		bool last = i + 1 == chain->nr;

		/* In a packed table only the "write" flag is valid. */
		write_entry(&entry, &buffers[i],
			    last || packed ? 0 : VRING_DESC_F_NEXT,
			    packed ? 0xdead : i + 1);
	}
	return (struct driver_buffer){
		.gpa = driver->gpa + table_at(driver, chain->slot),
		.size = chain->nr * sizeof(struct vring_desc),
	};
}

static void add_split(struct driver *driver, const struct driver_chain *chain,
		      const struct driver_buffer *buffers, uint16_t nr,
		      uint16_t flags)
{
	struct vring_avail *avail = avail_of(driver);

	for (uint16_t i = 0; i < nr; i++) {
		struct driver_entry entry =
			driver_slot(driver, chain->slot + i);

		write_entry(&entry, &buffers[i],
			    flags | (i + 1 < nr ? VRING_DESC_F_NEXT : 0),
			    (chain->slot + i + 1) % driver->size);
	}
	avail->ring[driver->avail % driver->size] = htole16(chain->id);
	driver->avail++;
	avail->idx = htole16(driver->avail);
}

static void add_packed(struct driver *driver, const struct driver_chain *chain,
		       const struct driver_buffer *buffers, uint16_t nr,
		       uint16_t flags)
{
	for (uint16_t i = 0; i < nr; i++) {
		struct driver_entry entry =
			driver_slot(driver, chain->slot + i);

		/* The id of a chain is in its last descriptor. */
		write_entry(&entry, &buffers[i],
			    flags | (driver->avail_wrap ? AVAIL : USED) |
				    (i + 1 < nr ? VRING_DESC_F_NEXT : 0),
			    i + 1 < nr ? 0xbeef : chain->id);
		if (chain->slot + i == driver->size - 1)
			driver->avail_wrap = !driver->avail_wrap;
	}
	driver->avail += nr;
}

/* Make a chain available. */
struct driver_chain driver_add(struct driver *driver,
			       const struct driver_buffer *buffers, uint16_t nr)
{
	struct driver_chain chain = {.slot = driver->next, .nr = nr};
	struct driver_buffer table;
	uint16_t flags = 0;

	chain.id = is_packed(driver) ? ID_BASE + chain.slot : chain.slot;
	if (driver_has(driver, VIRTIO_RING_F_INDIRECT_DESC)) {
		table = write_table(driver, &chain, buffers);
		buffers = &table;
		nr = 1;
		flags = VRING_DESC_F_INDIRECT;
	}
	driver->next = (driver->next + nr) % driver->size;
	if (is_packed(driver))
		add_packed(driver, &chain, buffers, nr, flags);
	else
		add_split(driver, &chain, buffers, nr, flags);
	return chain;
}

/* The slot of the chain that came back as @id. */
uint16_t driver_slot_of(const struct driver *driver, uint16_t id)
{
	return is_packed(driver) ? id - ID_BASE : id;
}

static bool take_split(struct driver *driver, uint16_t *id, uint32_t *written)
{
	const struct vring_used *used = used_of(driver);
	const struct vring_used_elem *elem;

	if (le16toh(used->idx) == driver->seen)
		return false;
	elem = &used->ring[driver->seen % driver->size];
	*id = le32toh(elem->id);
	*written = le32toh(elem->len);
	driver->seen++;
	return true;
}

static bool take_packed(struct driver *driver, uint16_t nr, uint16_t *id,
			uint32_t *written)
{
	const struct vring_packed_desc *desc = &packed_of(driver)[driver->used];
	uint16_t flags = le16toh(desc->flags);

	if (!!(flags & AVAIL) != driver->used_wrap ||
	    !!(flags & USED) != driver->used_wrap)
		return false;
	assert_int_equal(!!(flags & VRING_DESC_F_WRITE), !!desc->len);
	*id = le16toh(desc->id);
	*written = le32toh(desc->len);
	if (driver_has(driver, VIRTIO_RING_F_INDIRECT_DESC))
		nr = 1;
	driver->seen += nr;
	driver->used += nr;
	if (driver->used >= driver->size) {
		driver->used -= driver->size;
		driver->used_wrap = !driver->used_wrap;
	}
	return true;
}

/* Take a chain of @nr buffers back. Return: whether there is one. */
bool driver_take(struct driver *driver, uint16_t nr, uint16_t *id,
		 uint32_t *written)
{
	if (is_packed(driver))
		return take_packed(driver, nr, id, written);
	return take_split(driver, id, written);
}

/* The event index is behind the last entry. */
static uint16_t avail_event(const struct driver *driver)
{
	const uint8_t *at =
		(const uint8_t *)&used_of(driver)->ring[driver->size];
	uint16_t event;

	memcpy(&event, at, sizeof(event));
	return event;
}

/* Does the device request a kick for the entries made available? */
bool driver_needs_kick(struct driver *driver)
{
	const struct vring_packed_desc_event *event =
		event_of(driver, driver->layout.used);
	const struct vring_used *used = used_of(driver);
	uint16_t old = driver->kicked, new = driver->avail, at;

	driver->kicked = new;
	if (!is_packed(driver)) {
		if (!driver_has(driver, VIRTIO_RING_F_EVENT_IDX))
			return !(le16toh(used->flags) & VRING_USED_F_NO_NOTIFY);
		at = le16toh(avail_event(driver));
		return vring_need_event(at, new, old);
	}
	if (le16toh(event->flags) != VRING_PACKED_EVENT_FLAG_DESC)
		return le16toh(event->flags) == VRING_PACKED_EVENT_FLAG_ENABLE;
	at = le16toh(event->off_wrap) & 0x7fff;
	if (le16toh(event->off_wrap) >> 15 != driver->avail_wrap)
		at -= driver->size;
	return vring_need_event(at, driver->next, driver->next - (new - old));
}

/* Enable or disable interrupts, without the event index. */
void driver_want_interrupt(struct driver *driver, bool want)
{
	if (is_packed(driver))
		event_of(driver, driver->layout.avail)->flags =
			htole16(want ? VRING_PACKED_EVENT_FLAG_ENABLE
				     : VRING_PACKED_EVENT_FLAG_DISABLE);
	else
		avail_of(driver)->flags =
			htole16(want ? 0 : VRING_AVAIL_F_NO_INTERRUPT);
}

/* Request an interrupt after @nr more used entries than seen. */
void driver_want_interrupt_after(struct driver *driver, uint16_t nr)
{
	struct vring_packed_desc_event *event =
		event_of(driver, driver->layout.avail);
	uint16_t at = driver->used + nr - 1;
	bool wrap = driver->used_wrap;

	if (!is_packed(driver)) {
		avail_of(driver)->ring[driver->size] =
			htole16(driver->seen + nr - 1);
		return;
	}
	if (at >= driver->size) {
		at -= driver->size;
		wrap = !wrap;
	}
	event->off_wrap = htole16(at | wrap << 15);
	event->flags = htole16(VRING_PACKED_EVENT_FLAG_DESC);
}

/* The position of a device that has answered all entries seen. */
uint32_t driver_base(const struct driver *driver)
{
	uint32_t base = driver->used | (uint32_t)driver->used_wrap << 15;

	return is_packed(driver) ? base | base << 16 : driver->seen;
}
