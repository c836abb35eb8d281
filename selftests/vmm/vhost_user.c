// SPDX-License-Identifier: GPL-2.0-or-later
#include "vhost_user.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "inflight.h"
#include "memory.h"
#include "util.h"

enum {
	GET_FEATURES = 1,
	SET_FEATURES = 2,
	SET_OWNER = 3,
	SET_MEM_TABLE = 5,
	SET_VRING_NUM = 8,
	SET_VRING_ADDR = 9,
	SET_VRING_BASE = 10,
	GET_VRING_BASE = 11,
	SET_VRING_KICK = 12,
	SET_VRING_CALL = 13,
	GET_PROTOCOL_FEATURES = 15,
	SET_PROTOCOL_FEATURES = 16,
	SET_VRING_ENABLE = 18,
	SET_BACKEND_REQ_FD = 21,
	GET_CONFIG = 24,
	SET_CONFIG = 25,
	GET_INFLIGHT_FD = 31,
	SET_INFLIGHT_FD = 32,
	RESET_DEVICE = 34,
	GET_MAX_MEM_SLOTS = 36,
	ADD_MEM_REG = 37,
	SET_STATUS = 39,
	GET_STATUS = 40,
};

/* The only supported request of the backend channel. */
#define BACKEND_CONFIG_CHANGE_MSG 2

#define F_PROTOCOL_FEATURES (1ULL << 30)

#define PF_REPLY_ACK	       (1ULL << 3)
#define PF_BACKEND_REQ	       (1ULL << 5)
#define PF_CONFIG	       (1ULL << 9)
#define PF_INFLIGHT_SHMFD      (1ULL << 12)
#define PF_RESET_DEVICE	       (1ULL << 13)
#define PF_CONFIGURE_MEM_SLOTS (1ULL << 15)
#define PF_STATUS	       (1ULL << 16)
#define PF_KNOWN                                                         \
	(PF_REPLY_ACK | PF_BACKEND_REQ | PF_CONFIG | PF_INFLIGHT_SHMFD | \
	 PF_RESET_DEVICE | PF_CONFIGURE_MEM_SLOTS | PF_STATUS)

#define FLAG_VERSION	  1U
#define FLAG_VERSION_MASK 3U
#define FLAG_REPLY	  (1U << 2)
#define FLAG_NEED_REPLY	  (1U << 3)

/*
 * A backend that is silent for this long is given up. A memslot batch takes far
 * less even on a busy host, so only a hung backend exceeds it.
 */
#define REPLY_TIMEOUT_S 60

/* One for each range of guest memory. */
#define MAX_FDS (1 + MAX_DEVICES)

struct mem_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t hva;
	uint64_t mmap_offset;
};

struct message {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
	union {
		uint64_t u64;
		struct {
			uint32_t index;
			uint32_t num;
		} state;
		struct {
			uint32_t index;
			uint32_t flags;
			uint64_t desc;
			uint64_t used;
			uint64_t avail;
			uint64_t log;
		} addr;
		struct {
			uint32_t nr;
			uint32_t padding;
			struct mem_region regions[MAX_FDS];
		} table;
		struct {
			uint64_t padding;
			struct mem_region region;
		} add;
		struct {
			uint32_t offset;
			uint32_t size;
			uint32_t flags;
			uint8_t data[VHOST_USER_CONFIG_MAX];
		} config;
		struct {
			uint64_t size;
			uint64_t offset;
			uint16_t nr_queues;
			uint16_t queue_size;
			uint32_t padding;
		} inflight;
	};
} __attribute__((packed));

#define HEADER_SIZE	   offsetof(struct message, u64)
#define CONFIG_HEADER_SIZE 12
#define MAX_PAYLOAD	   (sizeof(struct message) - HEADER_SIZE)

static bool is_broken(const struct vhost_user *vu)
{
	return __atomic_load_n(&vu->broken, __ATOMIC_ACQUIRE);
}

static bool has(const struct vhost_user *vu, uint64_t feature)
{
	return vu->protocol_features & feature;
}

static int send_message(int fd, const struct message *msg, const int *fds,
			unsigned int nr_fds)
{
	union {
		char buffer[CMSG_SPACE(MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control = {.buffer = {0}};
	size_t size = HEADER_SIZE + msg->size;
	struct iovec iov = {(void *)msg, size};
	struct msghdr header = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;
	ssize_t len;

	if (nr_fds) {
		header.msg_control = control.buffer;
		header.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		cmsg = CMSG_FIRSTHDR(&header);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(nr_fds * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, nr_fds * sizeof(int));
	}
	while (size) {
		len = sendmsg(fd, &header, MSG_NOSIGNAL);
		if (len < 0 && errno == EINTR)
			continue;
		if (len <= 0)
			return len ? -errno : -EPIPE;
		iov.iov_base = (char *)iov.iov_base + len;
		iov.iov_len -= (size_t)len;
		size -= (size_t)len;
		header.msg_control = NULL;
		header.msg_controllen = 0;
	}
	return 0;
}

/* As recv(); the received descriptor, if any, goes to @passed_fd. */
static ssize_t receive_with_fd(int fd, void *buffer, size_t size,
			       int *passed_fd)
{
	union {
		char buffer[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {buffer, size};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t len;

	len = recvmsg(fd, &header, MSG_CMSG_CLOEXEC);
	cmsg = len > 0 ? CMSG_FIRSTHDR(&header) : NULL;
	if (cmsg && cmsg->cmsg_level == SOL_SOCKET &&
	    cmsg->cmsg_type == SCM_RIGHTS && *passed_fd < 0)
		memcpy(passed_fd, CMSG_DATA(cmsg), sizeof(int));
	return len;
}

static int receive_bytes(int fd, void *buffer, size_t size, int *passed_fd)
{
	char *to = buffer;
	ssize_t len;

	while (size) {
		len = passed_fd ? receive_with_fd(fd, to, size, passed_fd)
				: recv(fd, to, size, 0);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (!len)
			return -EPIPE;
		to += len;
		size -= (size_t)len;
	}
	return 0;
}

/* @passed_fd: -1 on entry, out: the received descriptor; NULL to accept none */
static int receive_message(int fd, struct message *msg, int *passed_fd)
{
	int ret = receive_bytes(fd, msg, HEADER_SIZE, passed_fd);

	if (ret)
		return ret;
	if ((msg->flags & FLAG_VERSION_MASK) != FLAG_VERSION ||
	    msg->size > MAX_PAYLOAD)
		return -EPROTO;
	return receive_bytes(fd, &msg->u64, msg->size, passed_fd);
}

/* Give up the backend: its state is unknown from now on. */
static int give_up(struct vhost_user *vu, uint32_t request, int ret)
{
	if (!is_broken(vu))
		error_errno(-ret, "the backend fails at request %u", request);
	vhost_user_shutdown(vu);
	return -EPIPE;
}

/* As transact(); a descriptor that comes with the answer goes to @passed_fd. */
static int transact_fd(struct vhost_user *vu, struct message *msg,
		       const int *fds, unsigned int nr_fds, bool has_answer,
		       int *passed_fd)
{
	uint32_t request = msg->request;
	bool confirmed = !has_answer && has(vu, PF_REPLY_ACK);
	int ret;

	if (is_broken(vu))
		return -EPIPE;
	msg->flags = FLAG_VERSION | (confirmed ? FLAG_NEED_REPLY : 0);
	ret = send_message(vu->fd, msg, fds, nr_fds);
	if (ret)
		return give_up(vu, request, ret);
	if (!has_answer && !confirmed)
		return 0;
	ret = receive_message(vu->fd, msg, passed_fd);
	if (ret)
		return give_up(vu, request, ret);
	if (msg->request != request || !(msg->flags & FLAG_REPLY))
		return give_up(vu, request, -EPROTO);
	if (confirmed) {
		if (msg->size != sizeof(msg->u64))
			return give_up(vu, request, -EPROTO);
		if (msg->u64) {
			error("the backend refuses request %u", request);
			return -EREMOTEIO;
		}
	}
	return 0;
}

/*
 * Send a request. If it has an answer, receive it in @msg; otherwise, if the
 * backend confirms requests, wait for the confirmation.
 */
static int transact(struct vhost_user *vu, struct message *msg, const int *fds,
		    unsigned int nr_fds, bool has_answer)
{
	return transact_fd(vu, msg, fds, nr_fds, has_answer, NULL);
}

static int set_u64(struct vhost_user *vu, uint32_t request, uint64_t value)
{
	struct message msg = {
		.request = request,
		.size = sizeof(msg.u64),
		.u64 = value,
	};

	return transact(vu, &msg, NULL, 0, false);
}

static int get_u64(struct vhost_user *vu, uint32_t request, uint64_t *value)
{
	struct message msg = {.request = request};
	int ret = transact(vu, &msg, NULL, 0, true);

	if (ret)
		return ret;
	if (msg.size != sizeof(msg.u64))
		return give_up(vu, request, -EPROTO);
	*value = msg.u64;
	return 0;
}

static int set_state(struct vhost_user *vu, uint32_t request, uint32_t index,
		     uint32_t num)
{
	struct message msg = {
		.request = request,
		.size = sizeof(msg.state),
		.state = {index, num},
	};

	return transact(vu, &msg, NULL, 0, false);
}

static int set_vring_fd(struct vhost_user *vu, uint32_t request, uint32_t index,
			int fd)
{
	struct message msg = {
		.request = request,
		.size = sizeof(msg.u64),
		.u64 = index,
	};

	return transact(vu, &msg, &fd, 1, false);
}

static int open_channel(struct vhost_user *vu)
{
	struct message msg = {.request = SET_BACKEND_REQ_FD};
	int fds[2], ret;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds))
		return -errno;
	vu->channel_fd = fds[0];
	ret = transact(vu, &msg, &fds[1], 1, false);
	close(fds[1]);
	return ret;
}

static int negotiate(struct vhost_user *vu)
{
	uint64_t offered;
	int ret;

	ret = get_u64(vu, GET_FEATURES, &offered);
	if (ret)
		return ret;
	if (!(offered & F_PROTOCOL_FEATURES)) {
		error("the backend lacks protocol features");
		return -EPROTO;
	}
	vu->features = offered & ~F_PROTOCOL_FEATURES;
	ret = get_u64(vu, GET_PROTOCOL_FEATURES, &offered);
	if (ret)
		return ret;
	/* Later requests are confirmed, this one is not. */
	ret = set_u64(vu, SET_PROTOCOL_FEATURES, offered & PF_KNOWN);
	if (ret)
		return ret;
	vu->protocol_features = offered & PF_KNOWN;
	if (vu->config_size && !has(vu, PF_CONFIG)) {
		error("the backend has no configuration space");
		return -EPROTO;
	}
	ret = set_u64(vu, SET_OWNER, 0);
	if (!ret && has(vu, PF_BACKEND_REQ))
		ret = open_channel(vu);
	return ret;
}

void vhost_user_init(struct vhost_user *vu)
{
	memset(vu, 0, sizeof(*vu));
	vu->fd = -1;
	vu->channel_fd = -1;
	vu->broken = true;
}

int vhost_user_connect(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd, ret;

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (!connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return fd;
	ret = -errno;
	close(fd);
	return ret;
}

int vhost_user_open(struct vhost_user *vu, int fd, uint32_t config_size)
{
	struct timeval timeout = {.tv_sec = REPLY_TIMEOUT_S};
	int ret;

	vu->fd = fd;
	vu->config_size = config_size;
	vu->broken = false;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		ret = -errno;
	else
		ret = negotiate(vu);
	if (ret)
		error_errno(-ret, "cannot negotiate with the backend");
	return ret;
}

void vhost_user_shutdown(struct vhost_user *vu)
{
	__atomic_store_n(&vu->broken, true, __ATOMIC_RELEASE);
	if (vu->fd >= 0)
		shutdown(vu->fd, SHUT_RDWR);
}

void vhost_user_close(struct vhost_user *vu)
{
	if (vu->fd >= 0)
		close(vu->fd);
	if (vu->channel_fd >= 0)
		close(vu->channel_fd);
	vhost_user_init(vu);
}

static struct mem_region describe(const struct memory_range *range)
{
	return (struct mem_region){
		.gpa = range->gpa,
		.size = range->size,
		.hva = (uintptr_t)range->hva,
	};
}

static int add_mem_reg(struct vhost_user *vu, const struct memory_range *range)
{
	struct message msg = {
		.request = ADD_MEM_REG,
		.size = sizeof(msg.add),
		.add = {.region = describe(range)},
	};

	return transact(vu, &msg, &range->fd, 1, false);
}

static int set_mem_table(struct vhost_user *vu,
			 const struct memory_range *const *ranges, uint32_t nr)
{
	struct message msg = {
		.request = SET_MEM_TABLE,
		.size = (uint32_t)(offsetof(struct message, table.regions) -
				   HEADER_SIZE +
				   nr * sizeof(struct mem_region)),
		.table = {.nr = nr},
	};
	int fds[MAX_FDS];
	uint32_t i;

	for (i = 0; i < nr; i++) {
		msg.table.regions[i] = describe(ranges[i]);
		fds[i] = ranges[i]->fd;
	}
	return transact(vu, &msg, fds, nr, false);
}

int vhost_user_set_memory(struct vhost_user *vu, const struct memory *memory)
{
	const struct memory_range *ranges[MAX_FDS];
	uint32_t nr = 0, i;
	uint64_t max;
	int ret;

	ranges[nr++] = &memory->boot;
	for (i = 0; i < memory->nr_regions; i++)
		ranges[nr++] = &memory->regions[i];
	if (!has(vu, PF_CONFIGURE_MEM_SLOTS))
		return set_mem_table(vu, ranges, nr);
	ret = get_u64(vu, GET_MAX_MEM_SLOTS, &max);
	if (ret)
		return ret;
	if (max < nr) {
		error("the backend takes only %llu memory ranges",
		      (unsigned long long)max);
		return -ENOSPC;
	}
	for (i = 0; i < nr && !ret; i++)
		ret = add_mem_reg(vu, ranges[i]);
	return ret;
}

int vhost_user_set_features(struct vhost_user *vu, uint64_t features)
{
	return set_u64(vu, SET_FEATURES, features | F_PROTOCOL_FEATURES);
}

int vhost_user_set_status(struct vhost_user *vu, uint8_t status,
			  uint8_t *accepted)
{
	uint64_t value = status;
	int ret = 0;

	if (has(vu, PF_STATUS)) {
		ret = set_u64(vu, SET_STATUS, status);
		if (!ret)
			ret = get_u64(vu, GET_STATUS, &value);
	}
	*accepted = (uint8_t)value;
	return ret;
}

int vhost_user_get_config(struct vhost_user *vu, uint8_t *config)
{
	struct message msg = {
		.request = GET_CONFIG,
		.size = CONFIG_HEADER_SIZE + vu->config_size,
		.config = {.size = vu->config_size},
	};
	int ret = transact(vu, &msg, NULL, 0, true);

	if (ret)
		return ret;
	/* An empty payload means that the backend has failed. */
	if (msg.size != CONFIG_HEADER_SIZE + vu->config_size)
		return give_up(vu, GET_CONFIG, -EPROTO);
	memcpy(config, msg.config.data, vu->config_size);
	return 0;
}

int vhost_user_set_config(struct vhost_user *vu, uint32_t offset,
			  const void *data, uint32_t size)
{
	struct message msg = {
		.request = SET_CONFIG,
		.size = CONFIG_HEADER_SIZE + size,
		.config = {.offset = offset, .size = size},
	};

	if (size > VHOST_USER_CONFIG_MAX)
		return -EINVAL;
	memcpy(msg.config.data, data, size);
	return transact(vu, &msg, NULL, 0, false);
}

bool vhost_user_has_inflight(const struct vhost_user *vu)
{
	return has(vu, PF_INFLIGHT_SHMFD);
}

int vhost_user_get_inflight(struct vhost_user *vu, struct inflight *inflight,
			    uint16_t nr_queues, uint16_t queue_size)
{
	struct message msg = {
		.request = GET_INFLIGHT_FD,
		.size = sizeof(msg.inflight),
		.inflight = {.nr_queues = nr_queues, .queue_size = queue_size},
	};
	int fd = -1;
	int ret = transact_fd(vu, &msg, NULL, 0, true, &fd);

	if (!ret && (fd < 0 || msg.size < sizeof(msg.inflight) -
						  sizeof(msg.inflight.padding)))
		ret = give_up(vu, GET_INFLIGHT_FD, -EPROTO);
	if (!ret)
		return inflight_take(inflight, fd, msg.inflight.size,
				     msg.inflight.offset);
	if (fd >= 0)
		close(fd);
	return ret;
}

int vhost_user_set_inflight(struct vhost_user *vu,
			    const struct inflight *inflight, uint16_t nr_queues,
			    uint16_t queue_size)
{
	struct message msg = {
		.request = SET_INFLIGHT_FD,
		.size = sizeof(msg.inflight),
		.inflight =
			{
				.size = inflight->size,
				.offset = inflight->offset,
				.nr_queues = nr_queues,
				.queue_size = queue_size,
			},
	};

	return transact(vu, &msg, &inflight->fd, 1, false);
}

int vhost_user_start_queue(struct vhost_user *vu,
			   const struct vhost_user_queue *queue)
{
	struct message addr = {
		.request = SET_VRING_ADDR,
		.size = sizeof(addr.addr),
		.addr =
			{
				.index = queue->index,
				.desc = (uintptr_t)queue->desc,
				.used = (uintptr_t)queue->used,
				.avail = (uintptr_t)queue->avail,
			},
	};
	int ret;

	ret = set_state(vu, SET_VRING_NUM, queue->index, queue->size);
	if (!ret)
		ret = set_state(vu, SET_VRING_BASE, queue->index, queue->base);
	if (!ret)
		ret = transact(vu, &addr, NULL, 0, false);
	if (!ret)
		ret = set_vring_fd(vu, SET_VRING_CALL, queue->index,
				   queue->call_fd);
	if (!ret)
		ret = set_vring_fd(vu, SET_VRING_KICK, queue->index,
				   queue->kick_fd);
	if (!ret)
		ret = set_state(vu, SET_VRING_ENABLE, queue->index, 1);
	return ret;
}

int vhost_user_stop_queue(struct vhost_user *vu, uint32_t index)
{
	struct message msg = {
		.request = GET_VRING_BASE,
		.size = sizeof(msg.state),
		.state = {.index = index},
	};
	int ret;

	ret = set_state(vu, SET_VRING_ENABLE, index, 0);
	if (ret)
		return ret;
	ret = transact(vu, &msg, NULL, 0, true);
	if (ret)
		return ret;
	if (msg.size != sizeof(msg.state))
		return give_up(vu, GET_VRING_BASE, -EPROTO);
	return 0;
}

int vhost_user_reset(struct vhost_user *vu)
{
	struct message msg = {.request = RESET_DEVICE};

	if (has(vu, PF_STATUS))
		return set_u64(vu, SET_STATUS, 0);
	if (has(vu, PF_RESET_DEVICE))
		return transact(vu, &msg, NULL, 0, false);
	return 0;
}

int vhost_user_handle_channel(struct vhost_user *vu, bool *config_changed)
{
	struct message msg;
	bool known;
	int ret;

	*config_changed = false;
	ret = receive_message(vu->channel_fd, &msg, NULL);
	if (ret)
		return ret;
	known = msg.request == BACKEND_CONFIG_CHANGE_MSG;
	*config_changed = known;
	if (!(msg.flags & FLAG_NEED_REPLY))
		return 0;
	msg.flags = FLAG_VERSION | FLAG_REPLY;
	msg.size = sizeof(msg.u64);
	msg.u64 = known ? 0 : EOPNOTSUPP;
	return send_message(vu->channel_fd, &msg, NULL, 0);
}
