/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The vhost-user protocol on the wire: QEMU's docs/interop/vhost-user.rst.
 * All fields are in the host's byte order: both ends are on one host.
 */
#ifndef VHOST_USER_PROTOCOL_H
#define VHOST_USER_PROTOCOL_H

#include <stdint.h>

/* Feature bit of the transport: protocol features are negotiated. */
#define VHOST_USER_F_PROTOCOL_FEATURES 30

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12,
	VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
	VHOST_USER_PROTOCOL_F_SHMEM = 22,
};

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_MEM_TABLE = 5,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_SET_BACKEND_REQ_FD = 21,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_INFLIGHT_FD = 31,
	VHOST_USER_SET_INFLIGHT_FD = 32,
	VHOST_USER_RESET_DEVICE = 34,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
	VHOST_USER_GET_SHMEM_CONFIG = 44,
	VHOST_USER_NR_REQUESTS,
};

/* Requests on the backend channel. */
enum vhost_user_backend_request {
	VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2,
	VHOST_USER_BACKEND_SHMEM_MAP = 9,
	VHOST_USER_BACKEND_SHMEM_UNMAP = 10,
};

#define VHOST_USER_FLAGS_VERSION_MASK 0x3U
#define VHOST_USER_FLAGS_VERSION      0x1U
#define VHOST_USER_FLAGS_REPLY	      (1U << 2)
#define VHOST_USER_FLAGS_NEED_REPLY   (1U << 3)

/* The payload of KICK, CALL and ERR messages. */
#define VHOST_USER_VRING_INDEX_MASK 0xffU
#define VHOST_USER_VRING_NOFD	    (1U << 8)

/*
 * Limits of a message. The protocol allows 8 regions in a table, and QEMU sends
 * up to 8; rust-vmm's crate sends up to 32. QEMU reads up to 256 bytes of a
 * configuration space, the crate up to 4096.
 */
#define VHOST_USER_MAX_FDS	  32
#define VHOST_USER_MAX_CONFIG	  4096
#define VHOST_USER_MEM_TABLE_SIZE 32

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;
};

struct vhost_user_region {
	uint64_t gpa;
	uint64_t size;
	uint64_t uva;
	uint64_t mmap_offset;
};

struct vhost_user_mem_table {
	uint32_t nr;
	uint32_t padding;
	struct vhost_user_region regions[VHOST_USER_MEM_TABLE_SIZE];
};

struct vhost_user_mem_reg {
	uint64_t padding;
	struct vhost_user_region region;
};

struct vhost_user_vring_state {
	uint32_t index;
	uint32_t num;
};

struct vhost_user_vring_addr {
	uint32_t index;
	uint32_t flags;
	uint64_t desc_uva;
	uint64_t used_uva;
	uint64_t avail_uva;
	uint64_t log_gpa;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_MAX_CONFIG];
};

/* Some front ends send the padding at its end, some do not. */
struct vhost_user_inflight {
	uint64_t mmap_size;
	uint64_t mmap_offset;
	uint16_t nr_queues;
	uint16_t queue_size;
};

/* Maximum number of shared memory regions of a device. */
#define VHOST_USER_MAX_SHMEM 256

struct vhost_user_shmem_config {
	uint32_t nr;
	uint32_t padding;
	uint64_t sizes[VHOST_USER_MAX_SHMEM];
};

/* Flag of struct vhost_user_mmap: map writable, also for the guest. */
#define VHOST_USER_MMAP_RW (1ULL << 0)

/* Part of a file to map at an offset in a shared memory region. */
struct vhost_user_mmap {
	uint8_t shmem_id;
	uint8_t padding[7];
	uint64_t fd_offset;
	uint64_t shm_offset;
	uint64_t len;
	uint64_t flags;
};

union vhost_user_payload {
	uint64_t u64;
	struct vhost_user_mem_table mem_table;
	struct vhost_user_mem_reg mem_reg;
	struct vhost_user_vring_state vring_state;
	struct vhost_user_vring_addr vring_addr;
	struct vhost_user_config config;
	struct vhost_user_inflight inflight;
	struct vhost_user_shmem_config shmem_config;
	struct vhost_user_mmap mmap;
};

/* There may be padding after the header, unlike on the wire. */
struct vhost_user_message {
	struct vhost_user_header header;
	union vhost_user_payload payload;
};

#endif /* VHOST_USER_PROTOCOL_H */
