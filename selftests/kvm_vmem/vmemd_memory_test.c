// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program vmemd and the memory of a real region: lack of huge pages, a full
 * memory cgroup, unplugged blocks that the guest uses nevertheless, and KVM's
 * mapping sizes.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <json-c/json.h>

#include "cgroup.h"
#include "driver.h"
#include "kernel.h"
#include "region.h"
#include "tap.h"
#include "vmemctl_run.h"

#define GPA GIB(8)

/* Maximum number of status requests until an expected state. */
#define STATUS_TRIES 2000

/**
 * struct machine - a VM with a region, and a vmemd with a driver
 * @r: the region
 * @d: the driver and its vmemd
 * @control: path of vmemd's control socket
 */
struct machine {
	struct region r;
	struct driver d;
	char control[64];
};

/* Map a file at @off after a multiple of its largest page size. */
static void map_memory(struct backing *b, int fd, uint64_t size, uint64_t off)
{
	uint64_t align = GIB(1);
	uint8_t *reserved;

	b->size = size;
	b->fd = fd;
	ASSERT_GE(b->fd, 0);
	ASSERT_EQ(ftruncate(b->fd, (off_t)size), 0);
	reserved = mmap(NULL, size + 2 * align, PROT_NONE,
			MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	ASSERT_NE((void *)reserved, MAP_FAILED);
	b->hva = (uint8_t *)(((uintptr_t)reserved + align - 1) & -align) + off;
	ASSERT_EQ(mmap(b->hva, size, PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_NORESERVE | MAP_FIXED, b->fd, 0),
		  (void *)b->hva);
}

/* @fd: the region's memory, which the machine takes over */
static void machine_region_of(struct machine *m, int fd, uint64_t block,
			      uint64_t slot, uint64_t size, uint64_t off)
{
	struct region *r = &m->r;

	/* Skip before anything is started. */
	vmemd_program();
	region_prepare(r);
	backing_destroy(&r->mem);
	map_memory(&r->mem, fd, size, off);
	r->args.guest_phys_addr = GPA;
	r->args.region_size = size;
	r->args.userspace_addr = (uintptr_t)r->mem.hva;
	r->args.block_size = block;
	r->args.slot_size = slot;
	region_create(r);
	snprintf(m->control, sizeof(m->control), "/tmp/vmemd-memory-%d",
		 (int)getpid());
}

/* @flags: flags of memfd_create(), which determine the kind of memory */
static void machine_region(struct machine *m, uint64_t block, uint64_t slot,
			   uint64_t size, unsigned int flags, uint64_t off)
{
	machine_region_of(m, memfd_create("memory", MFD_CLOEXEC | flags), block,
			  slot, size, off);
}

static void machine_start(struct machine *m, char *const *args)
{
	driver_spawn(&m->d, args, m->control, m->r.fd, m->r.mem.fd);
	driver_start(&m->d);
}

#define START(m, ...) \
	machine_start(m, (char *const[]){(char *)__VA_ARGS__, NULL})

static uint16_t plug(struct machine *m, unsigned int first, uint16_t nr)
{
	return driver_request(&m->d, VIRTIO_MEM_REQ_PLUG,
			      region_block_gpa(&m->r, first), nr);
}

static uint16_t unplug(struct machine *m, unsigned int first, uint16_t nr)
{
	return driver_request(&m->d, VIRTIO_MEM_REQ_UNPLUG,
			      region_block_gpa(&m->r, first), nr);
}

static json_object *status(const struct machine *m)
{
	json_object *object;

	ASSERT_EQ(RUN("--control", m->control, "--json", "status"), 0);
	object = printed_device();
	ASSERT_TRUE(object);
	return object;
}

static uint64_t status_of(const struct machine *m, const char *name)
{
	json_object *object = status(m);
	uint64_t value = get(object, name);

	json_object_put(object);
	return value;
}

static void await_status(const struct machine *m, const char *name,
			 uint64_t wanted)
{
	uint64_t is = 0;

	for (int i = 0; i < STATUS_TRIES; i++) {
		is = status_of(m, name);
		if (is == wanted)
			return;
	}
	tap_fail(__FILE__, __LINE__, "%s is %llu, not %llu", name,
		 (unsigned long long)is, (unsigned long long)wanted);
}

static void expect_failure(const struct machine *m, const char *why)
{
	json_object *object = status(m);
	const char *said =
		json_object_get_string(member(object, "last_failure"));

	if (!strstr(said, why))
		tap_fail(__FILE__, __LINE__, "\"%s\" is not in \"%s\"", why,
			 said);
	json_object_put(object);
}

/* --- Huge pages --- */

#define POOL_2M "/sys/kernel/mm/hugepages/hugepages-2048kB/"
#define POOL_1G "/sys/kernel/mm/hugepages/hugepages-1048576kB/"

static long pool_read(const char *pool, const char *name)
{
	char path[96], text[32];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%s%s", pool, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return strtol(text, NULL, 10);
}

/* Set the number of pages. Return: whether the pool has exactly that many. */
static bool pool_set(const char *pool, long nr)
{
	char path[96], text[32];
	int fd, length;

	snprintf(path, sizeof(path), "%snr_hugepages", pool);
	length = snprintf(text, sizeof(text), "%ld", nr);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (write(fd, text, (size_t)length) != length)
		nr = -1;
	close(fd);
	return pool_read(pool, "nr_hugepages") == nr;
}

static long pool_free(const char *pool)
{
	return pool_read(pool, "free_hugepages");
}

static void a_host_without_pages_answers_busy(const void *arg)
{
	struct machine m;
	uint64_t value;

	(void)arg;
	if (!pool_set(POOL_2M, 4))
		tap_skip("no pages of 2 MiB");
	machine_region(&m, MIB(2), MIB(8), MIB(32), MFD_HUGETLB | MFD_HUGE_2MB,
		       0);
	START(&m, "--prealloc", "--requested-size", "32M");
	EXPECT_EQ(pool_free(POOL_2M), 4);
	EXPECT_EQ(plug(&m, 0, 4), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(pool_free(POOL_2M), 0);
	EXPECT_GUEST_MEMORY(&m.r.vcpu, region_block_gpa(&m.r, 3),
			    region_block_hva(&m.r, 3));
	/* No free page. */
	EXPECT_EQ(plug(&m, 4, 2), VIRTIO_MEM_RESP_BUSY);
	expect_failure(&m, "no free pages of 2 MiB");
	EXPECT_GUEST_MMIO(&m.r.vcpu, region_block_gpa(&m.r, 4));
	EXPECT_EQ(status_of(&m, "plugged_size"), MIB(8));
	/* One of two pages is free: it is returned. */
	ASSERT_TRUE(pool_set(POOL_2M, 5));
	EXPECT_EQ(plug(&m, 4, 2), VIRTIO_MEM_RESP_BUSY);
	await_status(&m, "undiscarded_size", 0);
	EXPECT_EQ(pool_free(POOL_2M), 1);
	/* The host has found free pages. */
	ASSERT_TRUE(pool_set(POOL_2M, 6));
	EXPECT_EQ(plug(&m, 4, 2), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(pool_free(POOL_2M), 0);
	EXPECT_EQ(guest_write(&m.r.vcpu, region_block_gpa(&m.r, 5), 0x5a5a),
		  GUEST_MEMORY);
	/* Memory returned and allocated again reads as zero. */
	EXPECT_EQ(unplug(&m, 4, 2), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(pool_free(POOL_2M), 2);
	EXPECT_EQ(status_of(&m, "resident_size"), MIB(8));
	EXPECT_EQ(plug(&m, 5, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(guest_read(&m.r.vcpu, region_block_gpa(&m.r, 5), &value),
		  GUEST_MEMORY);
	EXPECT_EQ(value, 0);
	EXPECT_EQ(pool_free(POOL_2M), 1);
	driver_stop(&m.d);
}

static void a_page_of_1_gib_is_a_block(const void *arg)
{
	struct machine m;
	uint64_t value;

	(void)arg;
	pool_set(POOL_2M, 0);
	if (!pool_set(POOL_1G, 1))
		tap_skip("no page of 1 GiB");
	machine_region(&m, GIB(1), GIB(1), GIB(2), MFD_HUGETLB | MFD_HUGE_1GB,
		       0);
	START(&m, "--prealloc", "--requested-size", "2G");
	EXPECT_EQ(status_of(&m, "map_size"), GIB(1));
	EXPECT_EQ(plug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(plug(&m, 1, 1), VIRTIO_MEM_RESP_BUSY);
	EXPECT_EQ(guest_write(&m.r.vcpu, GPA + MIB(700), 7), GUEST_MEMORY);
	EXPECT_EQ(unplug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(pool_free(POOL_1G), 1);
	EXPECT_EQ(plug(&m, 1, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(guest_read(&m.r.vcpu, GPA + GIB(1) + MIB(700), &value),
		  GUEST_MEMORY);
	EXPECT_EQ(value, 0);
	driver_stop(&m.d);
	close(m.r.fd);
	munmap(m.r.mem.hva, m.r.mem.size);
	close(m.r.mem.fd);
	pool_set(POOL_1G, 0);
}

/* --- Memory whose lack triggers the OOM killer --- */

#define CGROUP_LIMIT MIB(96)

/* The cgroup has less memory than the guest requests; no process is killed. */
static void a_plug_beyond_the_cgroup_is_busy(const void *arg)
{
	struct machine m;
	uint64_t plugged;

	(void)arg;
	if (!cgroup_enter())
		tap_skip("no memory cgroups");
	machine_region(&m, MIB(2), MIB(32), MIB(256), 0, 0);
	START(&m, "--prealloc", "--requested-size", "256M");
	cgroup_limit(CGROUP_LIMIT);
	EXPECT_EQ(plug(&m, 0, 64), VIRTIO_MEM_RESP_BUSY);
	expect_failure(&m, "the memory cgroup has only");
	/* The allocated part is returned. */
	await_status(&m, "undiscarded_size", 0);
	EXPECT_EQ(status_of(&m, "resident_size"), 0);
	EXPECT_EQ(plug(&m, 0, 16), VIRTIO_MEM_RESP_ACK);
	/* Block by block until the limit. */
	for (plugged = 16; plugged < 128; plugged++)
		if (plug(&m, plugged, 1) != VIRTIO_MEM_RESP_ACK)
			break;
	EXPECT_TRUE(plugged < CGROUP_LIMIT / MIB(2));
	EXPECT_EQ(status_of(&m, "plugged_size"), plugged * MIB(2));
	/* A restarted vmemd with the unanswered request does not loop. */
	driver_lose(&m.d);
	driver_respawn(&m.d, (char *const[]){(char *)"--prealloc", NULL},
		       m.control, m.r.fd, m.r.mem.fd);
	driver_start(&m.d);
	EXPECT_EQ(plug(&m, plugged, 1), VIRTIO_MEM_RESP_BUSY);
	cgroup_limit(CGROUP_NO_LIMIT);
	EXPECT_EQ(plug(&m, plugged, 1), VIRTIO_MEM_RESP_ACK);
	driver_stop(&m.d);
	cgroup_leave();
}

/* --- Unplugged blocks --- */

#define BLOCK MIB(2)

/* Write to blocks 1 to 8, from the guest and from a device of the VMM. */
static void use_unplugged(struct machine *m)
{
	for (unsigned int block = 1; block <= 8; block++)
		EXPECT_EQ(guest_write(&m->r.vcpu,
				      region_block_gpa(&m->r, block), block),
			  GUEST_MEMORY);
	memset(region_block_hva(&m->r, 1), 0x77, 8 * BLOCK);
}

static void what_unplugged_blocks_have_is_told(const void *arg)
{
	struct machine m;

	(void)arg;
	machine_region(&m, BLOCK, MIB(64), MIB(128), 0, 0);
	START(&m, "--requested-size", "64M");
	EXPECT_EQ(plug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(status_of(&m, "excess_size"), 0);
	memset(region_block_hva(&m.r, 0), 0x11, BLOCK);
	EXPECT_EQ(status_of(&m, "resident_size"), BLOCK);
	EXPECT_EQ(status_of(&m, "excess_size"), 0);
	use_unplugged(&m);
	EXPECT_EQ(status_of(&m, "resident_size"), 9 * BLOCK);
	EXPECT_EQ(status_of(&m, "excess_size"), 8 * BLOCK);
	EXPECT_EQ(status_of(&m, "punches"), 0);
	driver_stop(&m.d);
}

static void more_than_the_cap_is_taken_back(const void *arg)
{
	struct machine m;

	(void)arg;
	machine_region(&m, BLOCK, MIB(64), MIB(128), 0, 0);
	START(&m, "--requested-size", "64M", "--unplugged-cap", "8M");
	EXPECT_EQ(plug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	memset(region_block_hva(&m.r, 0), 0x11, BLOCK);
	use_unplugged(&m);
	/* Either the timer or the status request notices it first. */
	await_status(&m, "resident_size", BLOCK);
	EXPECT_GE(status_of(&m, "punches"), 1);
	EXPECT_GE(status_of(&m, "punched_size"), MIB(8));
	for (uint64_t i = 0; i < BLOCK; i += GUEST_PAGE)
		ASSERT_EQ(region_block_hva(&m.r, 0)[i], 0x11);
	EXPECT_EQ(region_block_hva(&m.r, 8)[BLOCK - 1], 0);
	/* The device still works. */
	EXPECT_EQ(plug(&m, 1, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_GUEST_MEMORY(&m.r.vcpu, region_block_gpa(&m.r, 1),
			    region_block_hva(&m.r, 1));
	driver_stop(&m.d);
}

/* --- How KVM maps memory --- */

/* @arg: if not NULL, the region keeps the mappings of other memory */
static void what_an_unplug_drops_is_reported(const void *arg)
{
	const bool asks = arg, keeps = asks && kvm_nested_paging();
	struct machine m;

	vmemd_program();
	region_prepare(&m.r);
	m.r.args.flags = asks ? KVM_VMEM_REGION_ZAP_RANGES : 0;
	region_create(&m.r);
	snprintf(m.control, sizeof(m.control), "/tmp/vmemd-memory-%d",
		 (int)getpid());
	START(&m, "--requested-size", "1M");
	await_status(&m, "requested_size", MIB(1));
	EXPECT_EQ(plug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(status_of(&m, "range_zaps"), 0);
	EXPECT_EQ(status_of(&m, "zaps_by_kvm"), 0);
	EXPECT_EQ(unplug(&m, 0, 1), VIRTIO_MEM_RESP_ACK);
	EXPECT_EQ(status_of(&m, "range_zaps"), keeps);
	EXPECT_EQ(status_of(&m, "zaps_by_kvm"), !keeps);
	EXPECT_EQ(RUN("--control", m.control, "status"), 0);
	EXPECT_EQ(!strstr(output, " (not asked for)"), asks);
	driver_stop(&m.d);
}

static void addresses_that_do_not_fit_are_told(const void *arg)
{
	struct machine m;

	(void)arg;
	machine_region(&m, BLOCK, MIB(64), MIB(128), 0, 0);
	START(&m, "--log-level", "err");
	EXPECT_EQ(status_of(&m, "map_size"), MIB(2));
	EXPECT_EQ(RUN("--control", m.control, "status"), 0);
	EXPECT_TRUE(strstr(output, "shmem, pages of 4 KiB, mapped by 2 MiB at "
				   "most\n"));
	driver_stop(&m.d);
	machine_region(&m, BLOCK, MIB(64), MIB(128), 0, GUEST_PAGE);
	START(&m, "--log-level", "err");
	EXPECT_EQ(status_of(&m, "map_size"), GUEST_PAGE);
	EXPECT_EQ(status_of(&m, "map_size_wanted"), MIB(2));
	EXPECT_EQ(RUN("--control", m.control, "status"), 0);
	EXPECT_TRUE(strstr(output, "addresses or memslots do not fit"));
	driver_stop(&m.d);
}

/* --- A file of persistent memory --- */

#define PMEM	  "/dev/pmem0"
#define PMEM_WAIT "/sys/bus/nd/devices/ndbus0/wait_probe"

/* Run a program. Return: whether it could be run and succeeded. */
static bool run_program(char *const *argv)
{
	int status;
	pid_t pid;

	if (posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ))
		return false;
	ASSERT_EQ(waitpid(pid, &status, 0), pid);
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

#define PROGRAM(...) run_program((char *const[]){(char *)__VA_ARGS__, NULL})

/* Create a file on DAX memory. Skips if there is no such memory. */
static int file_on_dax(void)
{
	char dir[] = "/tmp/dax-XXXXXX", path[32];
	int fd;

	/*
	 * The driver, and the module that finds the memory, which nothing loads
	 * here.
	 */
	PROGRAM("modprobe", (char *)"nd_pmem");
	PROGRAM("modprobe", (char *)"nd_e820");
	/* Probing is asynchronous; reading this file waits for it. */
	fd = open(PMEM_WAIT, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		EXPECT_GT(read(fd, path, sizeof(path)), 0);
		close(fd);
	}
	if (access(PMEM, W_OK))
		tap_skip(PMEM ": %s", strerror(errno));
	if (!PROGRAM("mkfs.ext4", (char *)"-q", (char *)"-F", (char *)"-b",
		     (char *)"4096", (char *)PMEM))
		tap_skip("no mkfs.ext4");
	ASSERT_TRUE(mkdtemp(dir));
	ASSERT_EQ(mount(PMEM, dir, "ext4", 0, "dax=always"), 0);
	snprintf(path, sizeof(path), "%s/memory", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_GE(fd, 0);
	/* The mount ends with the last use of the file. */
	EXPECT_EQ(umount2(dir, MNT_DETACH), 0);
	EXPECT_EQ(rmdir(dir), 0);
	return fd;
}

static uint64_t free_on(int fd)
{
	struct statfs fs;

	ASSERT_EQ(fstatfs(fd, &fs), 0);
	return fs.f_bfree * (uint64_t)fs.f_bsize;
}

static void a_file_on_dax_is_memory(const void *arg)
{
	uint64_t value, free;
	json_object *object;
	struct machine m;
	int fd;

	(void)arg;
	fd = file_on_dax();
	machine_region_of(&m, fd, BLOCK, MIB(8), MIB(64), 0);
	START(&m, "--requested-size", "64M");
	object = status(&m);
	EXPECT_EQ(
		strcmp(json_object_get_string(member(object, "memory")), "dax"),
		0);
	json_object_put(object);
	EXPECT_EQ(status_of(&m, "page_size"), KIB(4));
	EXPECT_EQ(status_of(&m, "map_size"), MIB(2));
	free = free_on(fd);
	EXPECT_EQ(plug(&m, 0, 8), VIRTIO_MEM_RESP_ACK);
	EXPECT_GUEST_MEMORY(&m.r.vcpu, region_block_gpa(&m.r, 3),
			    region_block_hva(&m.r, 3));
	memset(m.r.mem.hva, 0x77, 8 * BLOCK);
	EXPECT_EQ(status_of(&m, "resident_size"), 8 * BLOCK);
	EXPECT_EQ(free_on(fd), free - 8 * BLOCK);

	/* Returned to the file system, although the VMM has mapped it. */
	EXPECT_EQ(unplug(&m, 2, 3), VIRTIO_MEM_RESP_ACK);
	await_status(&m, "undiscarded_size", 0);
	EXPECT_EQ(status_of(&m, "resident_size"), 5 * BLOCK);
	EXPECT_EQ(free_on(fd), free - 5 * BLOCK);

	/*
	 * A replugged block reads as zero; blocks that stayed plugged are
	 * unchanged.
	 */
	EXPECT_EQ(plug(&m, 4, 1), VIRTIO_MEM_RESP_ACK);
	for (uint64_t i = 0; i < BLOCK; i += GUEST_PAGE) {
		EXPECT_EQ(guest_read(&m.r.vcpu, region_block_gpa(&m.r, 4) + i,
				     &value),
			  GUEST_MEMORY);
		ASSERT_EQ(value, 0);
		ASSERT_EQ(region_block_hva(&m.r, 1)[i], 0x77);
		ASSERT_EQ(region_block_hva(&m.r, 5)[i], 0x77);
	}
	EXPECT_GUEST_MEMORY(&m.r.vcpu, region_block_gpa(&m.r, 4),
			    region_block_hva(&m.r, 4));
	driver_stop(&m.d);
}

int main(void)
{
	static const struct tap_case cases[] = {
		{.name = "a host without huge pages answers busy",
		 .run = a_host_without_pages_answers_busy},
		{.name = "a page of 1 GiB is a block",
		 .run = a_page_of_1_gib_is_a_block},
		{.name = "a plug beyond the memory cgroup is busy",
		 .run = a_plug_beyond_the_cgroup_is_busy},
		{.name = "memory in unplugged blocks is reported",
		 .run = what_unplugged_blocks_have_is_told},
		{.name = "memory in unplugged blocks beyond the cap is discarded",
		 .run = more_than_the_cap_is_taken_back},
		{.name = "mappings that an unplug drops are reported",
		 .run = what_an_unplug_drops_is_reported},
		{.name = "the same in a region that keeps other mappings",
		 .run = what_an_unplug_drops_is_reported,
		 .arg = ""},
		{.name = "addresses that prevent large mappings are reported",
		 .run = addresses_that_do_not_fit_are_told},
		{.name = "a file on persistent memory (DAX) works as memory",
		 .run = a_file_on_dax_is_memory},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
