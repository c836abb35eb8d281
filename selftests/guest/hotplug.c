// SPDX-License-Identifier: GPL-2.0-or-later
#include "hotplug.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MEMORY_DIR "/sys/devices/system/memory"

/* proc(5), /proc/PID/pagemap. */
#define PAGEMAP_PRESENT	 (1ULL << 63)
#define PAGEMAP_PFN_MASK ((1ULL << 55) - 1)
#define PAGE_SIZE	 4096ULL

/*
 * The kernel reports uevents for whole memory blocks only, not for the parts of
 * a block that virtio_mem adds and removes. MemTotal is therefore also polled
 * at this interval, which is short compared with the resize that it measures.
 */
#define LOOK_MS 5

int hotplug_meminfo(const char *name, uint64_t *bytes)
{
	size_t length = strlen(name);
	int ret = -ENOENT;
	char line[128];
	uint64_t kib;
	FILE *file;

	file = fopen("/proc/meminfo", "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, length) || line[length] != ':' ||
		    sscanf(line + length + 1, "%" SCNu64, &kib) != 1)
			continue;
		*bytes = kib * 1024;
		ret = 0;
		break;
	}
	fclose(file);
	return ret;
}

static uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static int open_uevents(void)
{
	struct sockaddr_nl address = {
		.nl_family = AF_NETLINK, .nl_groups = 1, /* kernel uevents */
	};
	int fd, ret;

	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK,
		    NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

int hotplug_wait_memtotal(uint64_t wanted, uint64_t seconds, uint64_t *total)
{
	uint64_t deadline = now_ms() + seconds * 1000;
	struct pollfd events;
	char event[4096];
	int ret;

	/* Before MemTotal is first read, so that no change is missed. */
	events.fd = open_uevents();
	events.events = POLLIN;
	if (events.fd < 0)
		return events.fd;
	for (;;) {
		ret = hotplug_meminfo("MemTotal", total);
		if (ret || *total == wanted)
			break;
		if (now_ms() >= deadline) {
			ret = -ETIMEDOUT;
			break;
		}
		poll(&events, 1, LOOK_MS);
		while (recv(events.fd, event, sizeof(event), 0) > 0)
			;
	}
	close(events.fd);
	return ret;
}

int hotplug_ranges(struct hotplug_range ranges[HOTPLUG_MAX_RANGES],
		   unsigned int *nr)
{
	uint64_t first, last;
	char line[256];
	int ret = 0;
	FILE *file;

	*nr = 0;
	file = fopen("/proc/iomem", "re");
	if (!file)
		return -errno;
	while (fgets(line, sizeof(line), file)) {
		if (!strstr(line, "System RAM (virtio_mem)") ||
		    sscanf(line, " %" SCNx64 "-%" SCNx64, &first, &last) != 2)
			continue;
		if (*nr && ranges[*nr - 1].last_gpa + 1 == first) {
			ranges[*nr - 1].last_gpa = last;
			continue;
		}
		if (*nr == HOTPLUG_MAX_RANGES) {
			ret = -E2BIG;
			break;
		}
		ranges[*nr].gpa = first;
		ranges[(*nr)++].last_gpa = last;
	}
	fclose(file);
	return ret;
}

static int read_block_bytes(uint64_t *bytes)
{
	FILE *file = fopen(MEMORY_DIR "/block_size_bytes", "re");
	int ret = 0;

	if (!file)
		return -errno;
	if (fscanf(file, "%" SCNx64, bytes) != 1 || !*bytes)
		ret = -EIO;
	fclose(file);
	return ret;
}

/* Return: 1 online, 0 not, or a negative errno. */
static int block_is_online(uint64_t number)
{
	char path[64], state[32] = "";
	FILE *file;
	int ret;

	snprintf(path, sizeof(path), MEMORY_DIR "/memory%" PRIu64 "/state",
		 number);
	file = fopen(path, "re");
	if (!file)
		return -errno;
	ret = fscanf(file, "%31s", state) == 1 ? !strcmp(state, "online")
					       : -EIO;
	fclose(file);
	return ret;
}

int hotplug_movable_free(uint64_t *bytes)
{
	uint64_t free_pages = 0, high = 0, value;
	bool movable = false;
	char line[256], zone[32];
	FILE *file;

	file = fopen("/proc/zoneinfo", "re");
	if (!file)
		return -errno;
	*bytes = 0;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %*d, zone %31s", zone) == 1)
			movable = !strcmp(zone, "Movable");
		if (!movable)
			continue;
		if (sscanf(line, " pages free %" SCNu64, &value) == 1)
			free_pages += value;
		if (sscanf(line, " high %" SCNu64, &value) == 1)
			high += value;
	}
	fclose(file);
	if (free_pages > high)
		*bytes = (free_pages - high) * (uint64_t)sysconf(_SC_PAGESIZE);
	return 0;
}

int hotplug_read(struct hotplug_state *state)
{
	struct hotplug_range ranges[HOTPLUG_MAX_RANGES];
	unsigned int nr, i;
	uint64_t gpa;
	int ret;

	memset(state, 0, sizeof(*state));
	ret = read_block_bytes(&state->block_bytes);
	if (!ret)
		ret = hotplug_ranges(ranges, &nr);
	if (!ret)
		ret = hotplug_movable_free(&state->movable_free);
	if (ret)
		return ret;
	for (i = 0; i < nr; i++) {
		for (gpa = ranges[i].gpa; gpa <= ranges[i].last_gpa;
		     gpa += state->block_bytes) {
			ret = block_is_online(gpa / state->block_bytes);
			if (ret < 0)
				return ret;
			if (ret)
				state->online_blocks++;
			else
				state->offline_blocks++;
		}
	}
	state->plugged = state->online_blocks * state->block_bytes;
	return 0;
}

bool hotplug_entry(uint64_t entry, const struct hotplug_range *ranges,
		   unsigned int nr, uint64_t *gpa)
{
	*gpa = (entry & PAGEMAP_PFN_MASK) * PAGE_SIZE;
	while (nr--)
		if (entry & PAGEMAP_PRESENT && *gpa >= ranges[nr].gpa &&
		    *gpa <= ranges[nr].last_gpa)
			return true;
	return false;
}

int hotplug_locate(const void *page, uint64_t *gpa)
{
	struct hotplug_range ranges[HOTPLUG_MAX_RANGES];
	uint64_t entry = 0;
	unsigned int nr;
	ssize_t length;
	int fd, ret;

	ret = hotplug_ranges(ranges, &nr);
	if (ret)
		return ret;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	length = pread(fd, &entry, sizeof(entry),
		       (off_t)((uintptr_t)page / PAGE_SIZE * sizeof(entry)));
	close(fd);
	if (length != sizeof(entry))
		return -EIO;
	return hotplug_entry(entry, ranges, nr, gpa) ? 0 : -EFAULT;
}
