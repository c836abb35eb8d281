// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "batch.h"
#include "driver.h"
#include "kvmvmem.h"
#include "tap.h"
#include "vmm/memory.h"

/* Layout of the driver's memory, which begins at guest address 0. */
#define DESC	    0x0000
#define AVAIL	    0x1000
#define USED	    0x2000
#define BUFFERS	    0x4000
#define BUFFER_SIZE 64
#define MEMORY_SIZE 0x8000

/* Offset of the response in a buffer. */
#define RESPONSE 32

/*
 * Time limit for an answer, after which vmemd counts as hung: far more than a
 * batch takes on a busy machine.
 */
#define ANSWER_MS 60000

/* Path of vmemd; the test is skipped if it is absent. */
const char *vmemd_program(void)
{
	static const char *const paths[] = {"/bin/vmemd", "/sbin/vmemd",
					    "/usr/local/sbin/vmemd"};

	for (size_t i = 0; i < ARRAY_SIZE(paths); i++)
		if (!access(paths[i], X_OK))
			return paths[i];
	tap_skip("no vmemd");
}

/**
 * driver_region() - create a VM without vCPUs, and a region in it
 * @r: the region
 * @gpa: its guest address
 * @size: its size
 * @block_size: its block size
 * @slot_size: its slot size
 *
 * The test is skipped if the CPU has too few physical address bits.
 */
void driver_region(struct region *r, uint64_t gpa, uint64_t size,
		   uint64_t block_size, uint64_t slot_size)
{
	memset(r, 0, sizeof(*r));
	r->dev = kvm_vmem_open();
	vm_create(&r->vm, 0);
	vm_need_gpa(&r->vm, gpa + size);
	backing_create(&r->mem, size);
	r->args = (struct kvm_vmem_create_region){
		.size = sizeof(r->args),
		.vm_fd = r->vm.fd,
		.address_spaces = AS_MASK_NORMAL,
		.first_slot = VM_BOOT_SLOT + 1,
		.guest_phys_addr = gpa,
		.region_size = size,
		.userspace_addr = (uintptr_t)r->mem.hva,
		.block_size = block_size,
		.slot_size = slot_size,
	};
	region_create(r);
}

/**
 * driver_spawn() - start a vmemd, and negotiate with it
 * @d: the driver
 * @args: further options, ended by NULL
 * @control_path: path of its control socket, or NULL
 * @region_fd: the region
 * @memory_fd: the region's memory
 */
void driver_spawn(struct driver *d, char *const *args, const char *control_path,
		  int region_fd, int memory_fd)
{
	memset(d, 0, sizeof(*d));
	vhost_user_init(&d->vu);
	d->memory_fd = memfd_create("driver", MFD_CLOEXEC);
	ASSERT_GE(d->memory_fd, 0);
	ASSERT_EQ(ftruncate(d->memory_fd, MEMORY_SIZE), 0);
	d->memory = mmap(NULL, MEMORY_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
			 d->memory_fd, 0);
	ASSERT_TRUE(d->memory != MAP_FAILED);
	d->kick = eventfd(0, EFD_CLOEXEC);
	d->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	ASSERT_GE(d->kick, 0);
	ASSERT_GE(d->call, 0);
	driver_respawn(d, args, control_path, region_fd, memory_fd);
}

/* The process of a pidfd, according to fdinfo. */
static pid_t process_of(int pidfd)
{
	char path[64], line[64];
	int pid = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", pidfd);
	f = fopen(path, "re");
	ASSERT_TRUE(f);
	while (!pid && fgets(line, sizeof(line), f))
		sscanf(line, "Pid: %d", &pid);
	fclose(f);
	ASSERT_GT(pid, 0);
	return pid;
}

static void expect_done(int ret, const struct kvmvmem_error *error)
{
	if (!ret)
		return;
	tap_fail(__FILE__, __LINE__, "%s", error->text);
	tap_abort();
}

/* Prepare a vmemd that does not know the previous one's consumers. */
static void new_vmemd(struct driver *d, char *const *args,
		      const char *control_path, int region_fd, int memory_fd)
{
	struct kvmvmem_error error;

	kvmvmem_vmemd_free(d->vmemd);
	expect_done(kvmvmem_vmemd_new(&d->vmemd, control_path, &error), &error);
	for (; *args; args++)
		expect_done(kvmvmem_vmemd_add_option(d->vmemd, *args, &error),
			    &error);
	expect_done(kvmvmem_vmemd_add_device(d->vmemd, NULL, region_fd,
					     memory_fd, &error),
		    &error);
}

/**
 * driver_respawn() - start another vmemd, after driver_lose()
 * @d: the driver
 * @args: options of vmemd, ended by NULL; if NULL, vmemd has the options of the
 *	previous one and the file in which that one noted its consumers, and the
 *	other parameters are ignored
 * @control_path: path of its control socket, or NULL
 * @region_fd: the region
 * @memory_fd: the region's memory
 *
 * driver_start() repeats the unanswered requests.
 */
void driver_respawn(struct driver *d, char *const *args,
		    const char *control_path, int region_fd, int memory_fd)
{
	struct kvmvmem_error error;
	int fd;

	if (args)
		new_vmemd(d, args, control_path, region_fd, memory_fd);
	expect_done(kvmvmem_vmemd_spawn(d->vmemd, vmemd_program(), &error),
		    &error);
	d->pid = process_of(kvmvmem_vmemd_pidfd(d->vmemd));
	fd = kvmvmem_vmemd_front_end(d->vmemd, NULL, &error);
	d->shared = false;
	ASSERT_OK(fd);
	ASSERT_OK(
		vhost_user_open(&d->vu, fd, sizeof(struct virtio_mem_config)));
}

/** driver_lose() - kill vmemd */
void driver_lose(struct driver *d)
{
	ASSERT_EQ(kill(d->pid, SIGKILL), 0);
	/* Reaps the process, and removes the socket. */
	kvmvmem_vmemd_stop(d->vmemd);
	vhost_user_close(&d->vu);
}

/** driver_start() - initialize the device up to DRIVER_OK */
void driver_start(struct driver *d)
{
	const uint64_t features = 1ULL << VIRTIO_F_VERSION_1 |
				  1ULL << VIRTIO_MEM_F_UNPLUGGED_INACCESSIBLE;
	const struct memory memory = {
		.boot = {0, MEMORY_SIZE, d->memory, d->memory_fd},
	};
	const struct vhost_user_queue queue = {
		.size = DRIVER_QUEUE_SIZE,
		.base = d->seen,
		.desc = d->memory + DESC,
		.avail = d->memory + AVAIL,
		.used = d->memory + USED,
		.kick_fd = d->kick,
		.call_fd = d->call,
	};
	uint8_t status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER |
			 VIRTIO_CONFIG_S_FEATURES_OK;
	uint8_t accepted;

	ASSERT_EQ(d->vu.features & features, features);
	ASSERT_OK(vhost_user_set_features(&d->vu, features));
	ASSERT_OK(vhost_user_set_status(&d->vu, status, &accepted));
	ASSERT_EQ(accepted, status);
	if (!d->shared)
		ASSERT_OK(vhost_user_set_memory(&d->vu, &memory));
	d->shared = true;
	ASSERT_OK(vhost_user_start_queue(&d->vu, &queue));
	status |= VIRTIO_CONFIG_S_DRIVER_OK;
	ASSERT_OK(vhost_user_set_status(&d->vu, status, &accepted));
	ASSERT_EQ(accepted, status);
}

/**
 * driver_reset() - reset the device, as an unloaded driver does
 * @d: the driver, without outstanding requests
 *
 * driver_start() then acts as a new driver.
 */
void driver_reset(struct driver *d)
{
	ASSERT_EQ(d->put, d->seen);
	ASSERT_OK(vhost_user_stop_queue(&d->vu, 0));
	ASSERT_OK(vhost_user_reset(&d->vu));
	memset(d->memory, 0, MEMORY_SIZE);
	d->put = 0;
	d->seen = 0;
}

/** driver_stop() - end vmemd as its VMM does, and free the driver */
void driver_stop(struct driver *d)
{
	vhost_user_close(&d->vu);
	kvmvmem_vmemd_free(d->vmemd);
	munmap(d->memory, MEMORY_SIZE);
	close(d->memory_fd);
	close(d->kick);
	close(d->call);
}

/** driver_config() - read the device's configuration */
void driver_config(struct driver *d, struct virtio_mem_config *config)
{
	ASSERT_OK(vhost_user_get_config(&d->vu, (uint8_t *)config));
}

/**
 * driver_add() - add a request to the queue without a kick
 * @d: the driver, with less than DRIVER_OUTSTANDING requests
 * @type: VIRTIO_MEM_REQ_*
 * @gpa: guest address of the first block
 * @nr_blocks: number of blocks
 */
void driver_add(struct driver *d, uint16_t type, uint64_t gpa,
		uint16_t nr_blocks)
{
	struct vring_desc *descs = (void *)(d->memory + DESC);
	struct vring_avail *avail = (void *)(d->memory + AVAIL);
	uint16_t slot = d->put % DRIVER_OUTSTANDING, head = 2 * slot;
	uint64_t buffer = BUFFERS + (uint64_t)slot * BUFFER_SIZE;
	struct virtio_mem_req *request = (void *)(d->memory + buffer);

	ASSERT_TRUE((uint16_t)(d->put - d->seen) < DRIVER_OUTSTANDING);
	memset(request, 0, BUFFER_SIZE);
	request->type = type;
	request->u.plug.addr = gpa;
	request->u.plug.nb_blocks = nr_blocks;
	descs[head] = (struct vring_desc){
		.addr = buffer,
		.len = sizeof(*request),
		.flags = VRING_DESC_F_NEXT,
		.next = head + 1,
	};
	descs[head + 1] = (struct vring_desc){
		.addr = buffer + RESPONSE,
		.len = sizeof(struct virtio_mem_resp),
		.flags = VRING_DESC_F_WRITE,
	};
	avail->ring[d->put % DRIVER_QUEUE_SIZE] = head;
	d->put++;
	__atomic_store_n(&avail->idx, d->put, __ATOMIC_RELEASE);
}

/** driver_kick() - notify vmemd of requests */
void driver_kick(struct driver *d)
{
	const uint64_t one = 1;

	ASSERT_EQ(write(d->kick, &one, sizeof(one)), sizeof(one));
}

/** driver_put() - send a request; at most DRIVER_OUTSTANDING are unanswered */
void driver_put(struct driver *d, uint16_t type, uint64_t gpa,
		uint16_t nr_blocks)
{
	driver_add(d, type, gpa, nr_blocks);
	driver_kick(d);
}

/**
 * driver_take() - take the next answer
 * @d: the driver
 * @answer: set to its type, VIRTIO_MEM_RESP_*
 *
 * Return: whether there was an answer.
 */
bool driver_take(struct driver *d, uint16_t *answer)
{
	struct vring_used *used = (void *)(d->memory + USED);
	const struct virtio_mem_resp *resp;
	uint32_t head;

	if (__atomic_load_n(&used->idx, __ATOMIC_ACQUIRE) == d->seen)
		return false;
	head = used->ring[d->seen % DRIVER_QUEUE_SIZE].id;
	ASSERT_TRUE(head < DRIVER_QUEUE_SIZE);
	resp = (void *)(d->memory + BUFFERS + head / 2 * BUFFER_SIZE +
			RESPONSE);
	*answer = resp->type;
	d->state = resp->u.state.state;
	d->seen++;
	return true;
}

/** driver_wait() - wait for the next answer. Return: its type */
uint16_t driver_wait(struct driver *d)
{
	struct pollfd called = {d->call, POLLIN, 0};
	uint16_t answer;
	uint64_t count;

	while (!driver_take(d, &answer)) {
		ASSERT_EQ(poll(&called, 1, ANSWER_MS), 1);
		if (read(d->call, &count, sizeof(count)) < 0)
			ASSERT_EQ(errno, EAGAIN);
	}
	return answer;
}

/** driver_request() - send a request and wait. Return: the answer's type */
uint16_t driver_request(struct driver *d, uint16_t type, uint64_t gpa,
			uint16_t nr_blocks)
{
	driver_put(d, type, gpa, nr_blocks);
	return driver_wait(d);
}
