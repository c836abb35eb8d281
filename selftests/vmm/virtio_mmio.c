// SPDX-License-Identifier: GPL-2.0-or-later
#include "virtio_mmio.h"

#include <errno.h>
#include <linux/kvm.h>
#include <linux/virtio_config.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "layout.h"
#include "memory.h"
#include "util.h"

#define MAGIC	  0x74726976 /* "virt" */
#define VERSION	  2
#define VENDOR_ID 0x4d454d56 /* "VMEM" */

#ifndef VIRTIO_MMIO_SHM_LEN_LOW
#define VIRTIO_MMIO_SHM_LEN_LOW	  0x0b0
#define VIRTIO_MMIO_SHM_BASE_HIGH 0x0bc
#endif

/* Alignment of a packed ring's event suppression areas. */
#define PACKED_EVENT_ALIGN_SIZE 4

static int assign_fds(const struct virtio_mmio *dev, int vm_fd, uint32_t index,
		      int kick_fd, int call_fd)
{
	struct kvm_ioeventfd kick = {
		.datamatch = index,
		.addr = dev->gpa + VIRTIO_MMIO_QUEUE_NOTIFY,
		.len = 4,
		.fd = kick_fd,
		.flags = KVM_IOEVENTFD_FLAG_DATAMATCH,
	};
	struct kvm_irqfd call = {
		.fd = (uint32_t)call_fd,
		.gsi = dev->gsi,
	};

	if (kick_fd >= 0 && ioctl(vm_fd, KVM_IOEVENTFD, &kick))
		return -errno;
	if (ioctl(vm_fd, KVM_IRQFD, &call))
		return -errno;
	return 0;
}

static int open_queue(struct virtio_mmio *dev, int vm_fd, uint32_t index)
{
	struct virtio_mmio_queue *queue = &dev->queues[index];

	queue->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	queue->call_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (queue->kick_fd < 0 || queue->call_fd < 0)
		return -errno;
	return assign_fds(dev, vm_fd, index, queue->kick_fd, queue->call_fd);
}

int virtio_mmio_open(struct virtio_mmio *dev, int vm_fd, uint64_t gpa,
		     uint32_t gsi, const struct memory *memory,
		     struct vhost_user *vu, uint32_t device_id,
		     uint32_t nr_queues, uint64_t features_mask)
{
	uint32_t i;
	int ret;

	memset(dev, 0, sizeof(*dev));
	pthread_mutex_init(&dev->lock, NULL);
	pthread_cond_init(&dev->back, NULL);
	dev->gpa = gpa;
	dev->gsi = gsi;
	dev->memory = memory;
	dev->vu = vu;
	dev->device_id = device_id;
	dev->nr_queues = nr_queues;
	dev->features_mask = features_mask;
	inflight_init(&dev->inflight);
	for (i = 0; i < nr_queues; i++) {
		dev->queues[i].kick_fd = -1;
		dev->queues[i].call_fd = -1;
	}
	dev->config_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ret = dev->config_fd < 0 ? -errno : 0;
	if (!ret)
		ret = assign_fds(dev, vm_fd, 0, -1, dev->config_fd);
	for (i = 0; i < nr_queues && !ret; i++)
		ret = open_queue(dev, vm_fd, i);
	if (ret)
		error_errno(-ret, "cannot make the virtio-mmio device");
	return ret;
}

void virtio_mmio_close(struct virtio_mmio *dev)
{
	uint32_t i;

	for (i = 0; i < dev->nr_queues; i++) {
		if (dev->queues[i].kick_fd >= 0)
			close(dev->queues[i].kick_fd);
		if (dev->queues[i].call_fd >= 0)
			close(dev->queues[i].call_fd);
	}
	if (dev->config_fd >= 0)
		close(dev->config_fd);
	inflight_close(&dev->inflight);
	pthread_cond_destroy(&dev->back);
	pthread_mutex_destroy(&dev->lock);
}

void virtio_mmio_config_changed(struct virtio_mmio *dev)
{
	__atomic_store_n(&dev->config_pending, true, __ATOMIC_RELEASE);
	eventfd_write(dev->config_fd, 1);
}

/* Report to the driver that the device has failed: it needs a reset. */
static void device_failed(struct virtio_mmio *dev)
{
	dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
	virtio_mmio_config_changed(dev);
}

static uint64_t offered_features(const struct virtio_mmio *dev)
{
	uint64_t features = dev->vu->features & dev->features_mask;

	if (dev->nr_queues != 1 || !vhost_user_has_inflight(dev->vu))
		features &= ~(1ULL << VIRTIO_F_RING_PACKED);
	return features;
}

static bool is_packed(const struct virtio_mmio *dev)
{
	return dev->driver_features & 1ULL << VIRTIO_F_RING_PACKED;
}

/* The device's position in a queue. */
static uint16_t used_index(const struct virtio_mmio *dev,
			   const struct virtio_mmio_queue *queue)
{
	if (is_packed(dev))
		return inflight_packed_position(&dev->inflight);
	return __atomic_load_n(queue->used_index, __ATOMIC_ACQUIRE);
}

static void stop_queues(struct virtio_mmio *dev)
{
	uint32_t i;

	for (i = 0; i < dev->nr_queues; i++) {
		if (!dev->queues[i].started)
			continue;
		/*
		 * If this fails, the backend is gone and does not use the
		 * rings.
		 */
		vhost_user_stop_queue(dev->vu, i);
		dev->queues[i].started = false;
	}
}

static void reset(struct virtio_mmio *dev)
{
	struct virtio_mmio_queue *queue;
	eventfd_t count;
	uint32_t i;

	stop_queues(dev);
	if (dev->status)
		vhost_user_reset(dev->vu);
	for (i = 0; i < dev->nr_queues; i++) {
		queue = &dev->queues[i];
		queue->size = 0;
		queue->desc_gpa = 0;
		queue->avail_gpa = 0;
		queue->used_gpa = 0;
		queue->ready = false;
		eventfd_read(queue->kick_fd, &count);
	}
	dev->device_features_sel = 0;
	dev->driver_features_sel = 0;
	dev->driver_features = 0;
	dev->queue_sel = 0;
	dev->status = 0;
	__atomic_store_n(&dev->config_pending, false, __ATOMIC_RELEASE);
}

void virtio_mmio_reset(struct virtio_mmio *dev)
{
	pthread_mutex_lock(&dev->lock);
	reset(dev);
	pthread_mutex_unlock(&dev->lock);
}

/* Is the backend lost, to be replaced? The new one gets the whole setup. */
static bool is_away(const struct virtio_mmio *dev)
{
	return dev->comes_back &&
	       __atomic_load_n(&dev->vu->broken, __ATOMIC_ACQUIRE);
}

/* Return: false if the driver's setup is invalid, or the backend refuses. */
static bool start_queue(struct virtio_mmio *dev, uint32_t index)
{
	struct virtio_mmio_queue *queue = &dev->queues[index];
	struct vhost_user_queue shared = {
		.index = index,
		.size = queue->size,
		.kick_fd = queue->kick_fd,
		.call_fd = queue->call_fd,
	};
	const struct vring_used *used;
	uint16_t base;
	uint64_t entries = queue->size;
	bool packed = is_packed(dev);
	/* Sizes of virtio 1.2, 2.7 and 2.8, with the event index at the end. */
	uint64_t avail_size = packed ? 4 : 6 + 2 * entries;
	uint64_t used_size = packed ? 4 : 6 + 8 * entries;
	unsigned int avail_align =
		packed ? PACKED_EVENT_ALIGN_SIZE : VRING_AVAIL_ALIGN_SIZE;

	if (!entries || entries > VIRTIO_MMIO_QUEUE_SIZE ||
	    (!packed && (entries & (entries - 1))) ||
	    (queue->desc_gpa & (VRING_DESC_ALIGN_SIZE - 1)) ||
	    (queue->avail_gpa & (avail_align - 1)) ||
	    (queue->used_gpa & (VRING_USED_ALIGN_SIZE - 1)))
		return false;
	shared.desc = memory_hva(dev->memory, queue->desc_gpa, 16 * entries);
	shared.avail = memory_hva(dev->memory, queue->avail_gpa, avail_size);
	shared.used = memory_hva(dev->memory, queue->used_gpa, used_size);
	if (!shared.desc || !shared.avail || !shared.used)
		return false;
	/* The backend gets the addresses; this one is accessed here. */
	used = memory_view(dev->memory, queue->used_gpa, used_size);
	queue->used_index = &used->idx;
	/*
	 * The driver has zeroed the rings, so the base is 0 unless the backend
	 * continues after a lost one. This position is correct because
	 * virtio-mem's requests are answered in order.
	 */
	base = used_index(dev, queue);
	shared.base = packed ? base | (uint32_t)base << 16 : base;
	if (vhost_user_start_queue(dev->vu, &shared) && !is_away(dev))
		return false;
	if (!queue->started) {
		queue->shown_index = base;
		queue->acked_index = base;
	}
	queue->started = true;
	return true;
}

/* Requests in flight at a lost backend are recorded in its inflight memory. */
static int share_inflight(struct virtio_mmio *dev, bool lost)
{
	uint16_t nr = (uint16_t)dev->nr_queues;
	int ret = 0;

	if (!vhost_user_has_inflight(dev->vu))
		return 0;
	if (!lost)
		inflight_close(&dev->inflight);
	if (dev->inflight.fd < 0)
		ret = vhost_user_get_inflight(dev->vu, &dev->inflight, nr,
					      VIRTIO_MMIO_QUEUE_SIZE);
	if (ret)
		return ret;
	return vhost_user_set_inflight(dev->vu, &dev->inflight, nr,
				       VIRTIO_MMIO_QUEUE_SIZE);
}

/* @lost: a previous backend was lost */
static bool start_queues(struct virtio_mmio *dev, bool lost)
{
	uint32_t i;

	if (share_inflight(dev, lost) && !is_away(dev))
		return false;
	if (is_packed(dev) && dev->inflight.fd < 0)
		return false;
	for (i = 0; i < dev->nr_queues; i++)
		if (dev->queues[i].ready && !start_queue(dev, i))
			return false;
	return true;
}

static void write_status(struct virtio_mmio *dev, uint8_t status)
{
	uint8_t added = status & (uint8_t)~dev->status;
	uint8_t accepted = status;
	int ret = 0;

	if (!status) {
		reset(dev);
		return;
	}
	if (dev->status & VIRTIO_CONFIG_S_NEEDS_RESET) {
		dev->status = status | VIRTIO_CONFIG_S_NEEDS_RESET;
		return;
	}
	if (added & VIRTIO_CONFIG_S_FEATURES_OK) {
		/*
		 * Legacy drivers are refused, which the specification permits.
		 */
		if ((dev->driver_features & ~offered_features(dev)) ||
		    !(dev->driver_features & (1ULL << VIRTIO_F_VERSION_1)))
			status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
		else
			ret = vhost_user_set_features(dev->vu,
						      dev->driver_features);
	}
	if (!ret && (added & VIRTIO_CONFIG_S_DRIVER_OK) &&
	    !start_queues(dev, false))
		ret = -EINVAL;
	if (!ret)
		ret = vhost_user_set_status(dev->vu, status, &accepted);
	/* The backend may only refuse the features. */
	if (!is_away(dev) && !(accepted & VIRTIO_CONFIG_S_FEATURES_OK))
		status &= (uint8_t)~VIRTIO_CONFIG_S_FEATURES_OK;
	dev->status = status | (accepted & VIRTIO_CONFIG_S_NEEDS_RESET);
	if (ret && !is_away(dev))
		device_failed(dev);
}

static void set_half(uint64_t *value, bool high, uint32_t half)
{
	unsigned int shift = high ? 32 : 0;

	*value &= ~(0xffffffffULL << shift);
	*value |= (uint64_t)half << shift;
}

static void acknowledge(struct virtio_mmio *dev, uint32_t bits)
{
	uint32_t i;

	if (bits & VIRTIO_MMIO_INT_CONFIG)
		__atomic_store_n(&dev->config_pending, false, __ATOMIC_RELEASE);
	if (bits & VIRTIO_MMIO_INT_VRING)
		for (i = 0; i < dev->nr_queues; i++)
			dev->queues[i].acked_index = dev->queues[i].shown_index;
}

/* A later move of the ring causes another interrupt. */
static uint32_t interrupt_status(struct virtio_mmio *dev)
{
	struct virtio_mmio_queue *queue;
	uint32_t status = 0, i;

	if (__atomic_load_n(&dev->config_pending, __ATOMIC_ACQUIRE))
		status |= VIRTIO_MMIO_INT_CONFIG;
	for (i = 0; i < dev->nr_queues; i++) {
		queue = &dev->queues[i];
		if (!queue->started)
			continue;
		queue->shown_index = used_index(dev, queue);
		if (queue->shown_index != queue->acked_index)
			status |= VIRTIO_MMIO_INT_VRING;
	}
	return status;
}

static void write_queue_register(struct virtio_mmio *dev, uint64_t offset,
				 uint32_t value)
{
	struct virtio_mmio_queue *queue;

	if (dev->queue_sel >= dev->nr_queues)
		return;
	queue = &dev->queues[dev->queue_sel];
	switch (offset) {
	case VIRTIO_MMIO_QUEUE_NUM:
		queue->size = value;
		break;
	case VIRTIO_MMIO_QUEUE_READY:
		if (!value && queue->started) {
			vhost_user_stop_queue(dev->vu, dev->queue_sel);
			queue->started = false;
		}
		queue->ready = value & 1;
		break;
	case VIRTIO_MMIO_QUEUE_DESC_LOW:
	case VIRTIO_MMIO_QUEUE_DESC_HIGH:
		set_half(&queue->desc_gpa,
			 offset == VIRTIO_MMIO_QUEUE_DESC_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_AVAIL_LOW:
	case VIRTIO_MMIO_QUEUE_AVAIL_HIGH:
		set_half(&queue->avail_gpa,
			 offset == VIRTIO_MMIO_QUEUE_AVAIL_HIGH, value);
		break;
	case VIRTIO_MMIO_QUEUE_USED_LOW:
	case VIRTIO_MMIO_QUEUE_USED_HIGH:
		set_half(&queue->used_gpa,
			 offset == VIRTIO_MMIO_QUEUE_USED_HIGH, value);
		break;
	default:
		break;
	}
}

static void write_register(struct virtio_mmio *dev, uint64_t offset,
			   uint32_t value)
{
	switch (offset) {
	case VIRTIO_MMIO_DEVICE_FEATURES_SEL:
		dev->device_features_sel = value;
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES:
		if (dev->driver_features_sel < 2 &&
		    !(dev->status & VIRTIO_CONFIG_S_FEATURES_OK))
			set_half(&dev->driver_features,
				 dev->driver_features_sel, value);
		break;
	case VIRTIO_MMIO_DRIVER_FEATURES_SEL:
		dev->driver_features_sel = value;
		break;
	case VIRTIO_MMIO_QUEUE_SEL:
		dev->queue_sel = value;
		break;
	case VIRTIO_MMIO_INTERRUPT_ACK:
		acknowledge(dev, value);
		break;
	case VIRTIO_MMIO_STATUS:
		write_status(dev, (uint8_t)value);
		break;
	default:
		/* Also QueueNotify of a queue that does not exist. */
		write_queue_register(dev, offset, value);
		break;
	}
}

static uint32_t read_register(struct virtio_mmio *dev, uint64_t offset)
{
	bool queue = dev->queue_sel < dev->nr_queues;

	switch (offset) {
	case VIRTIO_MMIO_MAGIC_VALUE:
		return MAGIC;
	case VIRTIO_MMIO_VERSION:
		return VERSION;
	case VIRTIO_MMIO_DEVICE_ID:
		return dev->device_id;
	case VIRTIO_MMIO_VENDOR_ID:
		return VENDOR_ID;
	case VIRTIO_MMIO_DEVICE_FEATURES:
		if (dev->device_features_sel > 1)
			return 0;
		return (uint32_t)(offered_features(dev) >>
				  (32 * dev->device_features_sel));
	case VIRTIO_MMIO_QUEUE_NUM_MAX:
		return queue ? VIRTIO_MMIO_QUEUE_SIZE : 0;
	case VIRTIO_MMIO_QUEUE_READY:
		return queue && dev->queues[dev->queue_sel].ready;
	case VIRTIO_MMIO_INTERRUPT_STATUS:
		return interrupt_status(dev);
	case VIRTIO_MMIO_STATUS:
		if (dev->status && !dev->comes_back &&
		    __atomic_load_n(&dev->vu->broken, __ATOMIC_ACQUIRE))
			dev->status |= VIRTIO_CONFIG_S_NEEDS_RESET;
		return dev->status;
	case VIRTIO_MMIO_CONFIG_GENERATION:
		return dev->generation;
	default:
		/*
		 * The length of a shared memory region that does not exist is
		 * all ones.
		 */
		if (offset >= VIRTIO_MMIO_SHM_LEN_LOW &&
		    offset <= VIRTIO_MMIO_SHM_BASE_HIGH)
			return UINT32_MAX;
		return 0;
	}
}

static void access_config(struct virtio_mmio *dev, uint64_t offset,
			  bool is_write, void *data, unsigned int size)
{
	uint8_t config[VHOST_USER_CONFIG_MAX];
	uint32_t config_size = dev->vu->config_size;
	int ret;

	if (offset >= config_size || size > config_size - offset)
		return;
	if (is_write) {
		ret = vhost_user_set_config(dev->vu, (uint32_t)offset, data,
					    size);
		if (ret == -EPIPE && !is_away(dev))
			device_failed(dev);
		return;
	}
	while (vhost_user_get_config(dev->vu, config)) {
		if (!is_away(dev)) {
			device_failed(dev);
			return;
		}
		pthread_cond_wait(&dev->back, &dev->lock);
	}
	if (memcmp(config, dev->config, config_size)) {
		dev->generation++;
		memcpy(dev->config, config, config_size);
	}
	memcpy(data, config + offset, size);
}

/* Set up a new backend like the old one. */
static int resume(struct virtio_mmio *dev)
{
	uint8_t accepted;
	uint32_t i;
	int ret = 0;

	if (dev->status & VIRTIO_CONFIG_S_FEATURES_OK)
		ret = vhost_user_set_features(dev->vu, dev->driver_features);
	if (!ret && dev->status & VIRTIO_CONFIG_S_DRIVER_OK &&
	    !start_queues(dev, true))
		ret = -EINVAL;
	if (!ret && dev->status)
		ret = vhost_user_set_status(dev->vu, dev->status, &accepted);
	/* Kicks and calls may have been lost, in either direction. */
	for (i = 0; !ret && i < dev->nr_queues; i++) {
		if (!dev->queues[i].started)
			continue;
		eventfd_write(dev->queues[i].kick_fd, 1);
		eventfd_write(dev->queues[i].call_fd, 1);
	}
	return ret;
}

void virtio_mmio_exchange(struct virtio_mmio *dev, const struct vhost_user *vu,
			  int moved_fd)
{
	int ret;

	pthread_mutex_lock(&dev->lock);
	vhost_user_close(dev->vu);
	*dev->vu = *vu;
	eventfd_write(moved_fd, 1);
	ret = resume(dev);
	if (ret && !is_away(dev)) {
		error_errno(-ret, "the backend does not take the device over");
		device_failed(dev);
	}
	pthread_cond_broadcast(&dev->back);
	pthread_mutex_unlock(&dev->lock);
	/* The configuration may have changed. */
	virtio_mmio_config_changed(dev);
}

void virtio_mmio_give_up(struct virtio_mmio *dev)
{
	pthread_mutex_lock(&dev->lock);
	dev->comes_back = false;
	pthread_cond_broadcast(&dev->back);
	pthread_mutex_unlock(&dev->lock);
}

void virtio_mmio_access(struct virtio_mmio *dev, uint64_t offset, bool is_write,
			void *data, unsigned int size)
{
	uint32_t value = 0;

	if (!is_write)
		memset(data, 0, size);
	pthread_mutex_lock(&dev->lock);
	if (offset >= VIRTIO_MMIO_CONFIG) {
		access_config(dev, offset - VIRTIO_MMIO_CONFIG, is_write, data,
			      size);
	} else if (size == sizeof(value)) {
		/* Registers support only 32-bit accesses. */
		if (is_write) {
			memcpy(&value, data, sizeof(value));
			write_register(dev, offset, value);
		} else {
			value = read_register(dev, offset);
			memcpy(data, &value, sizeof(value));
		}
	}
	pthread_mutex_unlock(&dev->lock);
}
