// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The whole daemon with fuzzed peers on all sides. Two devices in one process:
 * one has a region of the module, the front end maps the memory of the other.
 * The peers are their front ends with guests' drivers; operators that watch,
 * wait, hold, save, set dirty logging and attach; consumers that answer, refuse
 * or do nothing; and a module that is late, refuses, loses answers, or whose VM
 * ends. The daemon is killed and started again.
 *
 * The daemon is what vmemd links, from daemon_new() to daemon_free(), including
 * the control methods, with these exceptions. A model of the module replaces
 * the netlink client (fuzz_module.c). isolation_enter() is left out, because it
 * would end this process. Doorbells are kept from run to run, since the kernel
 * takes a tenth of a second to close two. Timers expire only when the input
 * says so.
 *
 * Any peer may end at any step, with or without a following turn of the loop:
 * the daemon then notices the end during some other work.
 *
 * Invariants, in addition to those of fuzz.c and the sanitizers:
 *
 * - Sizes agree with each other after each turn.
 * - No turn takes more steps than permitted (base/work.h).
 * - Answers of the control socket are one object per line, one for each
 *   request. The answer to a dirty-log request has the requested value.
 * - When all requests have been answered and all timers have expired, vmemd's
 *   view of the region's blocks agrees with the module.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <linux/virtio_mem.h>

#include "common/fd.h"
#include "daemon.h"
#include "driver.h"
#include "fd_message.h"
#include "fuzz.h"
#include "fuzz_client.h"
#include "fuzz_module.h"
#include "vhost/protocol.h"

enum {
	/*
	 * The device with the module's region, and the one with the front end's
	 * memory.
	 */
	DEVICE_REGION,
	DEVICE_SHMEM,
	NR_DEVICES,
};

/* More than the daemon's limit, including root's. */
#define NR_CLIENTS 24
#define NR_TIMERS  64

/* The second device's region. */
#define SHMEM_GPA  (16ULL << 30)
#define SHMEM_SIZE (16ULL << 20)
#define SHMEM_SLOT (512ULL << 10)
#define BLOCK	   FUZZ_MODULE_BLOCK

/* A guest's other memory, and its layout. */
#define MEMORY_SIZE (64ULL << 10)
#define MEMORY_GPA  0x100000ULL
#define MEMORY_UVA  0x7f0000000000ULL
#define SHMEM_UVA   0x7e0000000000ULL
#define QUEUE_SIZE  16
#define BUFFERS	    0x3000
#define BUFFER_SIZE 64

/* Maximum number of bytes that an operator sends at once from the input. */
#define SEND_MAX 255

/* The minimum size of a socket's buffer, so that answers have to wait. */
#define SOCKET_BUFFER 4608

/* Ids of requests that disable and enable dirty logging. */
#define ID_LOG_OFF 1000
#define ID_LOG_ON  1001

/*
 * Maximum number of restarts in a run. A restart takes as long as tens of other
 * steps, and generated inputs have many.
 */
#define RESTARTS_MAX 2

/* Number of turns after which the loop must be idle. */
#define TURNS_MAX 4096

/* Number of turns until a region has its requested state. */
#define SETTLE_MAX 64

enum step {
	STEP_CONNECT,
	STEP_SET_UP,
	STEP_MESSAGE,
	STEP_REQUEST,
	STEP_MEMORY,
	STEP_KICK,
	STEP_CHANNEL,
	STEP_HANG_UP,
	STEP_LINE,
	STEP_SEND,
	STEP_ATTACH,
	STEP_DONE,
	STEP_READ,
	STEP_LEAVE,
	STEP_SHUT,
	STEP_MODULE,
	STEP_FINISH,
	STEP_OTHERS,
	STEP_TIME,
	STEP_TURN,
	STEP_END_VM,
	STEP_RESTART,
	STEP_NR,
	/* The daemon gets no turn after the step. */
	STEP_NO_TURN = 0x80,
};

/**
 * struct fuzz_vmm - a device's front end, and the driver of its guest
 * @name: abstract address where the daemon listens for it
 * @fd: the front end's socket, -1 if not connected
 * @channel: the front end's socket of the back-end channel, likewise
 * @memory_fd: file of the guest's memory @memory
 * @mapped_fd: file that the daemon has had mapped; -1: none
 * @mapped: mapped slots, by their offsets; size 0: none
 */
struct fuzz_vmm {
	char name[32];
	int listener;
	int fd;
	int channel;
	int memory_fd;
	uint8_t *memory;
	int kick;
	int call;
	int err;
	struct driver driver;
	int mapped_fd;
	struct vhost_user_region mapped[VMM_MAX_SLOTS];
};

static struct vmem *vmem;
static struct options options;
static struct fuzz_vmm peers[NR_DEVICES];
static struct fuzz_client clients[NR_CLIENTS];
static int control_listener;
static const char control_name[] = "control";
static int region_memory;
static int shmem_memory;
static int vmm_state;
static unsigned int nr_restarts;
static sd_event_source *timers[NR_TIMERS];
static struct doorbell doorbells[NR_DEVICES];
static size_t nr_doorbells;

/* --- Timers, and replaced parts of the daemon --- */

int __wrap_isolation_enter(bool control);
void __wrap_footprint_trim(void);
int __real_doorbell_open(struct doorbell *bell);
int __wrap_doorbell_open(struct doorbell *bell);
void __wrap_doorbell_close(struct doorbell *bell);
int __real_sd_event_add_time_relative(sd_event *event, sd_event_source **source,
				      clockid_t clock, uint64_t usec,
				      uint64_t accuracy,
				      sd_event_time_handler_t handler,
				      void *arg);
int __wrap_sd_event_add_time_relative(sd_event *event, sd_event_source **source,
				      clockid_t clock, uint64_t usec,
				      uint64_t accuracy,
				      sd_event_time_handler_t handler,
				      void *arg);
sd_event_source *__real_sd_event_source_disable_unref(sd_event_source *source);
sd_event_source *__wrap_sd_event_source_disable_unref(sd_event_source *source);

/* The dropped pages would be read again at the next start. */
void __wrap_footprint_trim(void)
{
}

/* Reuse a kept doorbell, with the caller's label. */
int __wrap_doorbell_open(struct doorbell *bell)
{
	const char *label = bell->label;

	if (bell->tried)
		return 0;
	fuzz_require(nr_doorbells);
	*bell = doorbells[--nr_doorbells];
	bell->label = label;
	return 0;
}

void __wrap_doorbell_close(struct doorbell *bell)
{
	const char *label = bell->label;

	if (bell->tried)
		doorbells[nr_doorbells++] = *bell;
	doorbell_init(bell);
	bell->label = label;
}

/* A fuzzer needs other system calls than the daemon. */
int __wrap_isolation_enter(bool control __attribute__((unused)))
{
	return 0;
}

int __wrap_sd_event_add_time_relative(sd_event *event, sd_event_source **source,
				      clockid_t clock, uint64_t usec,
				      uint64_t accuracy,
				      sd_event_time_handler_t handler,
				      void *arg)
{
	int ret = __real_sd_event_add_time_relative(event, source, clock, usec,
						    accuracy, handler, arg);
	size_t i = 0;

	while (i < NR_TIMERS && timers[i])
		i++;
	fuzz_require(ret >= 0 && i < NR_TIMERS);
	timers[i] = *source;
	return ret;
}

sd_event_source *__wrap_sd_event_source_disable_unref(sd_event_source *source)
{
	for (size_t i = 0; source && i < NR_TIMERS; i++)
		if (timers[i] == source)
			timers[i] = NULL;
	return __real_sd_event_source_disable_unref(source);
}

/* Let an enabled timer expire. Return: false if the timer is not enabled. */
static bool run_out(size_t i)
{
	int enabled;

	if (!timers[i] ||
	    sd_event_source_get_enabled(timers[i], &enabled) < 0 ||
	    enabled == SD_EVENT_OFF)
		return false;
	fuzz_require(sd_event_source_set_time_relative(timers[i], 0) >= 0);
	return true;
}

/* --- The daemon --- */

static int listen_at(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	fuzz_require(fd >= 0);
	/* An abstract address that is unique to this process. */
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%d-%s",
		 (int)getpid(), name);
	fuzz_require(!bind(fd, (struct sockaddr *)&addr, sizeof(addr)) &&
		     !listen(fd, 16));
	return fd;
}

/* Return: a connection, or -1 if it is refused. */
static int connect_to(const char *name)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	fuzz_require(fd >= 0);
	snprintf(addr.sun_path + 1, sizeof(addr.sun_path) - 1, "%d-%s",
		 (int)getpid(), name);
	if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return fd;
	close(fd);
	return -1;
}

static int copy_of(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);

	fuzz_require(copy >= 0);
	return copy;
}

static int new_file(off_t size)
{
	int fd = memfd_create("fuzz", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	fuzz_require(fd >= 0 && !ftruncate(fd, size));
	return fd;
}

static struct vmem_device *device_of(unsigned int i)
{
	return &vmem->devices[i];
}

/* @attached: the region is passed at the start instead of by "attach" */
static void start_daemon(bool attached)
{
	struct passed_fds fds;
	sigset_t signals;

	passed_fds_init(&fds);
	fds.control = copy_of(control_listener);
	for (size_t i = 0; i < NR_DEVICES; i++)
		fds.devices[i].vhost_user = copy_of(peers[i].listener);
	if (attached) {
		fds.devices[DEVICE_REGION].region =
			copy_of(fuzz_module_region());
		fds.devices[DEVICE_REGION].memory = copy_of(region_memory);
	}
	fds.devices[DEVICE_SHMEM].memory = copy_of(shmem_memory);
	fds.devices[DEVICE_SHMEM].state = copy_of(vmm_state);
	fuzz_require(!sigprocmask(SIG_SETMASK, NULL, &signals));
	if (daemon_new(&vmem, &options, &fds))
		vmem = NULL;
	/* The fuzzer handles signals. */
	fuzz_require(!sigprocmask(SIG_SETMASK, &signals, NULL));
}

static void stop_daemon(void)
{
	if (vmem)
		daemon_free(vmem);
	vmem = NULL;
}

/* Invariants of a device. */
static void check_device(const struct vmem_device *device)
{
	const struct virtio_mem *dev = &device->dev;
	const struct backing *backing = dev->backing;

	if (!device->attached)
		return;
	fuzz_require(backing);
	fuzz_require(dev->requested_size <= dev->usable_region_size &&
		     dev->usable_region_size <= backing->size);
	fuzz_require(backing->plugged.set ==
		     blocks_count(&backing->plugged, 0, backing->plugged.nr));
	for (uint64_t i = 0; i < backing->owed.nr / 64; i++)
		fuzz_require(!(backing->owed.map[i] & backing->plugged.map[i]));
	if (device->vu.fd < 0)
		fuzz_require(!device->vu.memory.nr && !device->vu.waiting &&
			     device->vu.backend_fd < 0 &&
			     device->vu.kick_fd < 0);
}

/* Run the loop until it is idle, or for @most turns. */
static void run_loop(unsigned int most)
{
	int ret = 1;

	while (vmem && ret > 0 && most--) {
		struct work *work = &vmem->access.work;

		if (sd_event_get_state(vmem->event) == SD_EVENT_FINISHED) {
			stop_daemon();
			return;
		}
		work_begin_turn(work);
		ret = sd_event_run(vmem->event, 0);
		work_end_turn(work, 0);
		fuzz_require(ret >= 0);
		fuzz_require(work->steps <= 2 * WORK_TURN_STEPS);
	}
	for (unsigned int i = 0; vmem && i < NR_DEVICES; i++)
		check_device(device_of(i));
}

static void turn(void)
{
	run_loop(TURNS_MAX);
}

/* --- Front ends --- */

static uint64_t region_gpa(unsigned int i)
{
	return i == DEVICE_SHMEM ? SHMEM_GPA : FUZZ_MODULE_GPA;
}

static void send_to(struct fuzz_vmm *peer, const void *bytes, size_t size,
		    const int *fds, size_t nr_fds)
{
	if (peer->fd >= 0)
		fuzz_send(peer->fd, bytes, size, fds, nr_fds);
}

static void send_message(struct fuzz_vmm *peer, uint32_t request,
			 const void *payload, uint32_t size, const int *fds,
			 size_t nr_fds)
{
	uint8_t bytes[sizeof(struct vhost_user_header) +
		      sizeof(struct vhost_user_mem_table)];
	struct vhost_user_header header = {
		.request = request,
		.flags = VHOST_USER_FLAGS_VERSION,
		.size = size,
	};

	memcpy(bytes, &header, sizeof(header));
	if (size)
		memcpy(bytes + sizeof(header), payload, size);
	send_to(peer, bytes, sizeof(header) + size, fds, nr_fds);
}

static void set(struct fuzz_vmm *peer, uint32_t request, uint64_t value, int fd)
{
	send_message(peer, request, &value, sizeof(value), &fd, fd >= 0);
}

static void set_vring(struct fuzz_vmm *peer, uint32_t request, uint32_t num)
{
	struct vhost_user_vring_state state = {.num = num};

	send_message(peer, request, &state, sizeof(state), NULL, 0);
}

/* Send a table with the guest's memory and the mappings of the daemon. */
static void send_table(struct fuzz_vmm *peer)
{
	struct vhost_user_mem_table table = {
		.nr = 1,
		.regions[0] = {.gpa = MEMORY_GPA,
			       .size = MEMORY_SIZE,
			       .uva = MEMORY_UVA},
	};
	int fds[1 + VMM_MAX_SLOTS] = {peer->memory_fd};

	for (size_t i = 0; i < VMM_MAX_SLOTS; i++) {
		if (!peer->mapped[i].size)
			continue;
		fds[table.nr] = peer->mapped_fd;
		table.regions[table.nr++] = peer->mapped[i];
	}
	send_message(peer, VHOST_USER_SET_MEM_TABLE, &table,
		     offsetof(struct vhost_user_mem_table, regions) +
			     table.nr * sizeof(table.regions[0]),
		     fds, table.nr);
}

/* The VMM keeps its mappings. */
static void hang_up(struct fuzz_vmm *peer)
{
	fd_close(&peer->fd);
	fd_close(&peer->channel);
}

static void drop_mappings(struct fuzz_vmm *peer)
{
	fd_close(&peer->mapped_fd);
	memset(peer->mapped, 0, sizeof(peer->mapped));
}

/* The whole start of a front end with a driver. */
static void set_up(struct fuzz_vmm *peer, uint8_t how)
{
	static const struct driver_layout layout = {
		.desc = 0,
		.avail = 0x1000,
		.used = 0x2000,
		.tables = 0x8000,
	};
	uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
			    1ULL << VHOST_USER_F_PROTOCOL_FEATURES |
			    1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	uint64_t protocol = 1ULL << VHOST_USER_PROTOCOL_F_REPLY_ACK |
			    1ULL << VHOST_USER_PROTOCOL_F_BACKEND_REQ |
			    1ULL << VHOST_USER_PROTOCOL_F_CONFIG |
			    1ULL << VHOST_USER_PROTOCOL_F_RESET_DEVICE |
			    1ULL << VHOST_USER_PROTOCOL_F_STATUS;
	struct vhost_user_vring_addr addr = {
		.desc_uva = MEMORY_UVA + layout.desc,
		.avail_uva = MEMORY_UVA + layout.avail,
		.used_uva = MEMORY_UVA + layout.used,
	};
	int pair[2];

	if (peer == &peers[DEVICE_SHMEM])
		protocol |= 1ULL << VHOST_USER_PROTOCOL_F_SHMEM;
	if (how & 1)
		features |= 1ULL << VIRTIO_F_RING_PACKED;
	if (how & 2)
		features |= 1ULL << VIRTIO_RING_F_INDIRECT_DESC |
			    1ULL << VIRTIO_RING_F_EVENT_IDX;
	if (how & 4)
		drop_mappings(peer);
	memset(peer->memory, 0, MEMORY_SIZE);
	driver_init(&peer->driver, peer->memory, MEMORY_GPA, &layout, features,
		    QUEUE_SIZE);
	fd_close(&peer->channel);
	fuzz_require(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	peer->channel = pair[0];
	set(peer, VHOST_USER_SET_FEATURES, features, -1);
	set(peer, VHOST_USER_SET_PROTOCOL_FEATURES, protocol, -1);
	send_message(peer, VHOST_USER_SET_BACKEND_REQ_FD, NULL, 0, &pair[1], 1);
	close(pair[1]);
	send_table(peer);
	set_vring(peer, VHOST_USER_SET_VRING_NUM, QUEUE_SIZE);
	set_vring(peer, VHOST_USER_SET_VRING_BASE, driver_base(&peer->driver));
	send_message(peer, VHOST_USER_SET_VRING_ADDR, &addr, sizeof(addr), NULL,
		     0);
	set(peer, VHOST_USER_SET_VRING_CALL, 0, peer->call);
	set(peer, VHOST_USER_SET_VRING_ERR, 0, peer->err);
	set(peer, VHOST_USER_SET_VRING_KICK, 0, peer->kick);
	set_vring(peer, VHOST_USER_SET_VRING_ENABLE, 1);
	set(peer, VHOST_USER_SET_STATUS, 15, -1);
}

static void connect_peer(struct fuzz_vmm *peer)
{
	hang_up(peer);
	peer->fd = connect_to(peer->name);
}

/* A message of its proper size, unless the input sets another. */
static void send_any(struct fuzz_input *in, struct fuzz_vmm *peer)
{
	uint8_t bytes[sizeof(struct vhost_user_header) + 256];
	uint8_t request = fuzz_u8(in), how = fuzz_u8(in);
	const int kinds[] = {peer->memory_fd, peer->kick,   peer->call,
			     region_memory,   shmem_memory, vmm_state};
	size_t nr_fds = how >> 4, size = fuzz_u8(in);
	int fds[FUZZ_FDS_MAX];
	struct vhost_user_header header = {
		.request = request,
		.flags = how & 0xf,
		.size = size,
	};

	for (size_t i = 0; i < nr_fds; i++)
		fds[i] = kinds[(request + i) % 6];
	memcpy(bytes, &header, sizeof(header));
	fuzz_bytes(in, bytes + sizeof(header), size);
	send_to(peer, bytes, sizeof(header) + size, fds, nr_fds);
}

static void kick(struct fuzz_vmm *peer)
{
	uint64_t one = 1;

	(void)!write(peer->kick, &one, sizeof(one));
}

/* A request of a driver, almost valid. */
static void put_request(struct fuzz_input *in, unsigned int i)
{
	struct fuzz_vmm *peer = &peers[i];
	struct virtio_mem_req req = {.type = htole16(fuzz_u8(in) % 5)};
	uint8_t first = fuzz_u8(in), nr = fuzz_u8(in);
	size_t at;
	struct driver_buffer buffers[2];

	if (!peer->driver.size)
		return;
	at = BUFFERS + peer->driver.next % QUEUE_SIZE * BUFFER_SIZE;
	req.u.plug.addr = htole64(region_gpa(i) + first * BLOCK);
	req.u.plug.nb_blocks = htole16(nr);
	memcpy(peer->memory + at, &req, sizeof(req));
	buffers[0] = (struct driver_buffer){
		.gpa = MEMORY_GPA + at,
		.size = sizeof(req),
	};
	buffers[1] = (struct driver_buffer){
		.gpa = MEMORY_GPA + at + 32,
		.size = sizeof(struct virtio_mem_resp),
		.write = true,
	};
	driver_add(&peer->driver, buffers, 2);
	kick(peer);
}

static void write_memory(struct fuzz_input *in, struct fuzz_vmm *peer)
{
	size_t at = fuzz_u16(in) % MEMORY_SIZE;
	size_t size = fuzz_u8(in) % 64;

	if (size > MEMORY_SIZE - at)
		size = MEMORY_SIZE - at;
	fuzz_bytes(in, peer->memory + at, size);
}

/* Record the mappings of a front end. */
static void note_map(struct fuzz_vmm *peer, bool map,
		     const struct vhost_user_mmap *mmap)
{
	for (size_t i = 0; i < VMM_MAX_SLOTS; i++) {
		struct vhost_user_region *region = &peer->mapped[i];
		bool same =
			region->size && region->mmap_offset == mmap->fd_offset;

		if (map ? region->size : !same)
			continue;
		*region = (struct vhost_user_region){};
		if (map)
			*region = (struct vhost_user_region){
				.gpa = SHMEM_GPA + mmap->shm_offset,
				.size = mmap->len,
				.uva = SHMEM_UVA + mmap->shm_offset,
				.mmap_offset = mmap->fd_offset,
			};
		return;
	}
}

/*
 * Take a request of the back-end channel. @how: refuse it, reply with garbage,
 * send no table.
 */
static bool serve_channel(struct fuzz_vmm *peer, uint8_t how)
{
	struct vhost_user_header header;
	struct vhost_user_mmap mmap;
	struct __attribute__((packed)) {
		struct vhost_user_header header;
		uint64_t value;
	} reply;
	int fds[FD_MESSAGE_MAX];
	size_t nr_fds = FD_MESSAGE_MAX;
	ssize_t got;

	if (peer->channel < 0)
		return false;
	got = fd_message_receive(peer->channel, &header, sizeof(header), fds,
				 &nr_fds, MSG_DONTWAIT);
	if (got != sizeof(header))
		return false;
	for (size_t i = 0; i < nr_fds; i++) {
		fd_close(&peer->mapped_fd);
		peer->mapped_fd = fds[i];
	}
	if (header.size) {
		fuzz_require(header.size == sizeof(mmap));
		fuzz_require(recv(peer->channel, &mmap, sizeof(mmap),
				  MSG_DONTWAIT) == sizeof(mmap));
	}
	reply.header = header;
	reply.header.flags |= VHOST_USER_FLAGS_REPLY;
	reply.header.size = sizeof(reply.value);
	reply.value = how & 1;
	if (how & 2)
		reply.header.request++;
	if (header.flags & VHOST_USER_FLAGS_NEED_REPLY)
		fuzz_send(peer->channel, &reply, sizeof(reply), NULL, 0);
	if (!header.size || how & 1)
		return true;
	note_map(peer, header.request == VHOST_USER_BACKEND_SHMEM_MAP, &mmap);
	if (!(how & 4))
		send_table(peer);
	return true;
}

/* --- Operators and consumers --- */

/* The answer to a dirty-log request has the requested value. */
static void check_dirty_log(json_object *answer)
{
	json_object *id, *part;
	int number = 0;

	if (json_object_object_get_ex(answer, "id", &id) &&
	    json_object_is_type(id, json_type_int))
		number = json_object_get_int(id);
	if ((number == ID_LOG_OFF || number == ID_LOG_ON) &&
	    json_object_object_get_ex(answer, "result", &part) &&
	    json_object_object_get_ex(part, "dirty_log", &part))
		fuzz_require(json_object_get_boolean(part) ==
			     (number == ID_LOG_ON));
}

/* Choose a client, and connect it if the daemon accepts. */
static struct fuzz_client *choose_client(struct fuzz_input *in)
{
	struct fuzz_client *client = &clients[fuzz_u8(in) % NR_CLIENTS];
	int size = SOCKET_BUFFER;

	if (client->fd >= 0 || !vmem)
		return client;
	client->fd = connect_to(control_name);
	if (client->fd >= 0)
		fuzz_require(!setsockopt(client->fd, SOL_SOCKET, SO_SNDBUF,
					 &size, sizeof(size)));
	return client;
}

static void send_input(struct fuzz_input *in, struct fuzz_client *client)
{
	uint8_t bytes[SEND_MAX];
	size_t size = fuzz_u8(in);

	if (size > in->left)
		size = in->left;
	fuzz_bytes(in, bytes, size);
	fuzz_client_send(client, bytes, size, NULL, 0);
}

/* A valid request with values from the input. */
static void send_line(struct fuzz_input *in, struct fuzz_client *client)
{
	static const char *const names[] = {
		"plan",	     "status", "latencies",    "resize",
		"place",     "slots",  "system-reset", "blocks",
		"save",	     "hold",   "done",	       "dirty-log",
		"subscribe", "watch",  "consumers",    "nothing"};
	uint8_t method = fuzz_u8(in), how = fuzz_u8(in), number = fuzz_u8(in);
	const char *on = how & 1 ? "true" : "false";
	unsigned int id = number;
	char line[512], device[32] = "";
	int length;

	method %= sizeof(names) / sizeof(names[0]);
	if (!strcmp(names[method], "dirty-log"))
		id = how & 1 ? ID_LOG_ON : ID_LOG_OFF;
	if (how & 2)
		snprintf(device, sizeof(device), "\"device\":\"%u\",",
			 how >> 2 & 1);
	length = snprintf(
		line, sizeof(line),
		"{\"id\":%u,\"method\":\"%s\",\"params\":{%s\"size\":%llu,"
		"\"wait\":%s,\"on\":%s,\"force\":%s,\"ok\":%s,\"name\":\"n%u\","
		"\"seq\":%u,\"memslots\":%u,\"gpa\":%llu,\"region_size\":%llu,"
		"\"block_size\":65536,\"kvm_limit\":%u,\"start\":%llu}}\n",
		id, names[method], device, number * BLOCK, on, on, on, on,
		number, number, how >> 3, (how >> 3) * BLOCK,
		(unsigned long long)FUZZ_MODULE_SIZE, 100U + number,
		FUZZ_MODULE_GPA + (how >> 3) * BLOCK);
	fuzz_client_send(client, line, (size_t)length, NULL, 0);
}

static void send_attach(struct fuzz_input *in, struct fuzz_client *client)
{
	static const char line[] =
		"{\"id\":1,\"method\":\"attach\",\"params\":{\"device\":\"0\"}}"
		"\n";
	uint8_t how = fuzz_u8(in);
	const int kinds[] = {fuzz_module_region(), region_memory, shmem_memory,
			     peers[0].kick};
	int fds[FUZZ_FDS_MAX];
	size_t nr = how & 1 ? how >> 1 & 7 : 2;

	for (size_t i = 0; i < nr; i++)
		fds[i] = kinds[how & 1 ? (how >> 4) + i & 3 : i];
	fuzz_client_send(client, line, sizeof(line) - 1, fds, nr);
}

/* A consumer answers the last event that it has read. */
static void send_done(struct fuzz_input *in, struct fuzz_client *client)
{
	uint8_t how = fuzz_u8(in);
	char line[128];
	int length;

	fuzz_client_read(client);
	if (!client->seq)
		return;
	length = snprintf(line, sizeof(line),
			  "{\"id\":2,\"method\":\"done\",\"params\":{"
			  "\"seq\":%llu,\"ok\":%s,\"reason\":\"%u\"}}\n",
			  (unsigned long long)client->seq,
			  how & 7 ? "true" : "false", how);
	client->seq = 0;
	fuzz_client_send(client, line, (size_t)length, NULL, 0);
}

/* --- Runs --- */

void fuzz_set_up(void)
{
	unsetenv("NOTIFY_SOCKET");
	signal(SIGPIPE, SIG_IGN);
	control_listener = listen_at(control_name);
	for (unsigned int i = 0; i < NR_DEVICES; i++) {
		struct fuzz_vmm *peer = &peers[i];

		snprintf(peer->name, sizeof(peer->name), "vhost-user-%u", i);
		peer->listener = listen_at(peer->name);
		peer->memory_fd = new_file(MEMORY_SIZE);
		peer->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE,
				    MAP_SHARED, peer->memory_fd, 0);
		fuzz_require(peer->memory != MAP_FAILED);
		peer->kick = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		peer->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		peer->err = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		peer->fd = -1;
		peer->channel = -1;
		peer->mapped_fd = -1;
		doorbell_init(&doorbells[i]);
		fuzz_require(!__real_doorbell_open(&doorbells[i]));
		nr_doorbells++;
	}
	for (size_t i = 0; i < NR_CLIENTS; i++) {
		clients[i].fd = -1;
		clients[i].check = check_dirty_log;
	}
}

/* Kill the daemon and start it again, with or without its files. */
static void restart(uint8_t how)
{
	if (nr_restarts++ >= RESTARTS_MAX)
		return;
	stop_daemon();
	if (how & 1) {
		close(shmem_memory);
		close(vmm_state);
		shmem_memory = new_file(0);
		vmm_state = new_file(0);
	}
	start_daemon(!(how & 2));
}

static void take_step(struct fuzz_input *in, uint8_t step)
{
	unsigned int i = step >> 6 & 1;
	struct fuzz_vmm *peer = &peers[i];
	uint8_t byte;

	switch ((step & 0x3f) % STEP_NR) {
	case STEP_CONNECT:
		connect_peer(peer);
		break;
	case STEP_SET_UP:
		connect_peer(peer);
		turn();
		set_up(peer, fuzz_u8(in));
		break;
	case STEP_MESSAGE:
		send_any(in, peer);
		break;
	case STEP_REQUEST:
		put_request(in, i);
		break;
	case STEP_MEMORY:
		write_memory(in, peer);
		break;
	case STEP_KICK:
		kick(peer);
		break;
	case STEP_CHANNEL:
		serve_channel(peer, fuzz_u8(in));
		break;
	case STEP_HANG_UP:
		hang_up(peer);
		break;
	case STEP_LINE:
		send_line(in, choose_client(in));
		break;
	case STEP_SEND:
		send_input(in, choose_client(in));
		break;
	case STEP_ATTACH:
		send_attach(in, choose_client(in));
		break;
	case STEP_DONE:
		send_done(in, choose_client(in));
		break;
	case STEP_READ:
		fuzz_client_read(choose_client(in));
		break;
	case STEP_LEAVE:
		fuzz_client_leave(&clients[fuzz_u8(in) % NR_CLIENTS]);
		break;
	case STEP_SHUT:
		byte = fuzz_u8(in);
		shutdown(choose_client(in)->fd, byte & 1 ? SHUT_WR : SHUT_RD);
		break;
	case STEP_MODULE:
		fuzz_module_set(fuzz_u8(in));
		break;
	case STEP_FINISH:
		fuzz_module_finish();
		break;
	case STEP_OTHERS:
		byte = fuzz_u8(in);
		fuzz_module_others(byte, fuzz_u8(in), byte & 0x40);
		break;
	case STEP_TIME:
		run_out(fuzz_u8(in) % NR_TIMERS);
		break;
	case STEP_TURN:
		run_loop(1);
		return;
	case STEP_END_VM:
		fuzz_module_end_vm();
		break;
	case STEP_RESTART:
		restart(fuzz_u8(in));
		break;
	}
	if (!(step & STEP_NO_TURN))
		turn();
}

/* Complete everything that is pending. Return: false if nothing was. */
static bool let_go_on(void)
{
	bool any = fuzz_module_finish();

	for (size_t i = 0; i < NR_TIMERS; i++)
		any |= run_out(i);
	for (size_t i = 0; i < NR_DEVICES; i++)
		while (serve_channel(&peers[i], 0))
			any = true;
	turn();
	return any;
}

/* In the end, vmemd's view of the region must be correct. */
static void settle(void)
{
	const struct vmem_device *device;
	const struct vmem_nl_region *state = fuzz_module_state();

	fuzz_module_set(0);
	turn();
	/* Periodic timers, such as that of the cap, are always enabled. */
	for (int i = 0; let_go_on() && i < SETTLE_MAX; i++)
		;
	if (!vmem)
		return;
	device = device_of(DEVICE_REGION);
	if (!device->attached || !fuzz_module_alive())
		return;
	fuzz_require(device->region.state.requested_size ==
		     state->requested_size);
	for (uint64_t i = 0; i < FUZZ_MODULE_NR_BLOCKS; i++)
		fuzz_require(blocks_count(&device->region.backing.plugged, i,
					  1) == fuzz_module_plugged(i));
	for (const struct consumer *consumer = device->consumers.list; consumer;
	     consumer = consumer->next)
		fuzz_require(!consumer->out);
}

static void begin_run(struct fuzz_input *in)
{
	uint8_t how = fuzz_u8(in);
	struct device_options *region = &options.devices[DEVICE_REGION];
	struct device_options *shmem = &options.devices[DEVICE_SHMEM];

	nr_restarts = 0;
	memset(&options, 0, sizeof(options));
	options.nr_devices = NR_DEVICES;
	region->name = "0";
	region->prealloc = how & 1;
	region->has_unplugged_cap = how & 2;
	region->packed = true;
	region->budget.isolate = how & 4;
	shmem->name = "1";
	shmem->vmm = true;
	shmem->packed = true;
	shmem->region_size = SHMEM_SIZE;
	shmem->block_size = BLOCK;
	shmem->slot_size = SHMEM_SLOT;
	shmem->gpa = how & 8 ? 0 : SHMEM_GPA;
	shmem->has_unplugged_cap = how & 16;
	shmem->has_requested_size = how & 32;
	shmem->requested_size = SHMEM_SIZE / 2;
	fuzz_module_start();
	region_memory = new_file(FUZZ_MODULE_SIZE);
	shmem_memory = new_file(0);
	vmm_state = new_file(0);
	start_daemon(how & 64);
}

static void drop_connections(int listener)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0)
		close(fd);
}

static void end_run(void)
{
	uint64_t none;

	for (size_t i = 0; i < NR_CLIENTS; i++) {
		fuzz_client_read(&clients[i]);
		fuzz_client_leave(&clients[i]);
	}
	for (size_t i = 0; i < NR_DEVICES; i++) {
		hang_up(&peers[i]);
		drop_mappings(&peers[i]);
		memset(&peers[i].driver, 0, sizeof(peers[i].driver));
	}
	turn();
	if (vmem)
		fuzz_require(!vmem->control.nr_clients &&
			     !vmem->control.clients);
	stop_daemon();
	fuzz_module_stop();
	close(region_memory);
	close(shmem_memory);
	close(vmm_state);
	drop_connections(control_listener);
	for (size_t i = 0; i < NR_DEVICES; i++) {
		drop_connections(peers[i].listener);
		(void)!read(peers[i].kick, &none, sizeof(none));
	}
	for (size_t i = 0; i < NR_TIMERS; i++)
		fuzz_require(!timers[i]);
}

void fuzz_one(struct fuzz_input *in)
{
	begin_run(in);
	while (in->left)
		take_step(in, fuzz_u8(in));
	settle();
	end_run();
}
