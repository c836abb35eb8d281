// SPDX-License-Identifier: MIT
/* The vmemd of a VM: start, stop and requests. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "call.h"
#include "spawn.h"
#include "struct_size.h"

/* Timeout of the end of vmemd, which is killed then. */
#define STOP_MS 10000

/* Maximum number of devices, as vmemd has it. */
#define DEVICES_MAX 16

/* Maximum number of arguments; a device has about 15 options. */
#define OPTIONS_MAX 512

/* Region, memory, consumers, vhost-user per device; the control socket. */
#define FDS_MAX (4 * DEVICES_MAX + 1)

/* Size of the first version. */
#define FIRST_PLAN                               \
	(offsetof(struct kvmvmem_plan, reason) + \
	 sizeof(((struct kvmvmem_plan *)NULL)->reason))

/* Size of a device name, including the NUL, as vmemd has it. */
#define NAME_MAX_BYTES 32

/**
 * struct device - a device of a vmemd that the library starts
 * @name: its name; "": the only device
 * @region_fd: descriptor of the region; owned by the caller
 * @memory_fd: memory of the region; owned by the caller
 * @consumers_fd: file in which vmemd records its consumers for the next vmemd;
 *	-1: no vmemd was started yet
 * @back_end: vhost-user socket of vmemd, during the start
 * @front_end: vhost-user socket of the VMM, until it is returned
 */
struct device {
	char name[NAME_MAX_BYTES];
	int region_fd;
	int memory_fd;
	int consumers_fd;
	int back_end;
	int front_end;
};

/**
 * struct kvmvmem_vmemd - a vmemd
 * @path: path of the control socket; NULL: none
 * @timeout_ms: timeout of answers
 * @options: arguments
 * @nr_options: number of @options
 * @devices: the devices
 * @nr_devices: number of @devices
 * @pidfd: the process that the library has started; -1: none
 * @bound: the library has created @path, and removes it
 */
struct kvmvmem_vmemd {
	char *path;
	uint32_t timeout_ms;
	char *options[OPTIONS_MAX];
	unsigned int nr_options;
	struct device devices[DEVICES_MAX];
	unsigned int nr_devices;
	int pidfd;
	bool bound;
};

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int kvmvmem_vmemd_new(struct kvmvmem_vmemd **vmemdp, const char *control_path,
		      struct kvmvmem_error *error)
{
	struct kvmvmem_vmemd *vmemd = calloc(1, sizeof(*vmemd));

	if (vmemd && control_path)
		vmemd->path = strdup(control_path);
	if (!vmemd || (control_path && !vmemd->path)) {
		free(vmemd);
		return kvmvmem_fail(error, -ENOMEM, "out of memory");
	}
	vmemd->timeout_ms = KVMVMEM_ANSWER_MS;
	vmemd->pidfd = -1;
	*vmemdp = vmemd;
	return 0;
}

void kvmvmem_vmemd_free(struct kvmvmem_vmemd *vmemd)
{
	if (!vmemd)
		return;
	kvmvmem_vmemd_stop(vmemd);
	for (unsigned int i = 0; i < vmemd->nr_devices; i++)
		close_fd(&vmemd->devices[i].consumers_fd);
	for (unsigned int i = 0; i < vmemd->nr_options; i++)
		free(vmemd->options[i]);
	free(vmemd->path);
	free(vmemd);
}

void kvmvmem_vmemd_set_timeout(struct kvmvmem_vmemd *vmemd, uint32_t ms)
{
	vmemd->timeout_ms = ms;
}

/* --- Starting it --- */

int kvmvmem_vmemd_add_option(struct kvmvmem_vmemd *vmemd, const char *option,
			     struct kvmvmem_error *error)
{
	if (vmemd->nr_options == OPTIONS_MAX)
		return kvmvmem_fail(error, -E2BIG, "more than %d options",
				    OPTIONS_MAX);
	vmemd->options[vmemd->nr_options] = strdup(option);
	if (!vmemd->options[vmemd->nr_options])
		return kvmvmem_fail(error, -ENOMEM, "out of memory");
	vmemd->nr_options++;
	return 0;
}

static struct device *find_device(struct kvmvmem_vmemd *vmemd, const char *name)
{
	for (unsigned int i = 0; i < vmemd->nr_devices; i++)
		if (!strcmp(vmemd->devices[i].name, name ? name : ""))
			return &vmemd->devices[i];
	return NULL;
}

/* Several devices need names. The list of descriptors separates them by colons. */
static bool may_be_added(struct kvmvmem_vmemd *vmemd, const char *name)
{
	if (!name)
		return !vmemd->nr_devices;
	return *name && strlen(name) < NAME_MAX_BYTES && !strchr(name, ':') &&
	       !find_device(vmemd, NULL) && !find_device(vmemd, name);
}

int kvmvmem_vmemd_add_device(struct kvmvmem_vmemd *vmemd, const char *device,
			     int region_fd, int memory_fd,
			     struct kvmvmem_error *error)
{
	struct device *added;
	int ret = 0;

	if (vmemd->nr_devices == DEVICES_MAX)
		return kvmvmem_fail(error, -E2BIG, "more than %d devices",
				    DEVICES_MAX);
	if (!may_be_added(vmemd, device))
		return kvmvmem_fail(error, -EINVAL,
				    "several devices need names of their own, "
				    "of less than %d letters",
				    NAME_MAX_BYTES);
	if ((region_fd < 0) != (memory_fd < 0))
		return kvmvmem_fail(error, -EINVAL,
				    "region and memory come together");
	if (vmemd->nr_options + 2 > OPTIONS_MAX)
		return kvmvmem_fail(error, -E2BIG, "more than %d options",
				    OPTIONS_MAX);
	if (device) {
		ret = kvmvmem_vmemd_add_option(vmemd, "--device", error);
		if (!ret)
			ret = kvmvmem_vmemd_add_option(vmemd, device, error);
		if (ret)
			return ret;
	}
	added = &vmemd->devices[vmemd->nr_devices++];
	*added = (struct device){
		.region_fd = region_fd,
		.memory_fd = memory_fd,
		.consumers_fd = -1,
		.back_end = -1,
		.front_end = -1,
	};
	strcpy(added->name, device ? device : "");
	return 0;
}

/**
 * struct handed - descriptors for vmemd
 * @fds: the descriptors
 * @nr: number of @fds
 * @names: their names, separated by colons
 */
struct handed {
	int fds[FDS_MAX];
	unsigned int nr;
	char names[FDS_MAX * (sizeof("vhost-user-") + NAME_MAX_BYTES)];
};

static void hand(struct handed *handed, const char *kind, const char *device,
		 int fd)
{
	char *names = handed->names;

	if (fd < 0)
		return;
	if (handed->nr)
		strcat(names, ":");
	strcat(names, kind);
	if (*device) {
		strcat(names, "-");
		strcat(names, device);
	}
	handed->fds[handed->nr++] = fd;
}

static int open_fds(struct kvmvmem_vmemd *vmemd, struct handed *handed)
{
	for (unsigned int i = 0; i < vmemd->nr_devices; i++) {
		struct device *device = &vmemd->devices[i];
		int pair[2];

		if (device->consumers_fd < 0)
			device->consumers_fd =
				memfd_create("vmemd-consumers",
					     MFD_CLOEXEC | MFD_ALLOW_SEALING);
		if (device->consumers_fd < 0)
			return -errno;
		close_fd(&device->front_end);
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
			return -errno;
		device->front_end = pair[0];
		device->back_end = pair[1];
		hand(handed, "region", device->name, device->region_fd);
		hand(handed, "memory", device->name, device->memory_fd);
		hand(handed, "consumers", device->name, device->consumers_fd);
		hand(handed, "vhost-user", device->name, device->back_end);
	}
	return 0;
}

/* Return: a listening socket, or a negative errno. */
static int listen_at(struct kvmvmem_vmemd *vmemd)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct stat st;
	int fd, ret;

	if (strlen(vmemd->path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, vmemd->path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	/* Remove the socket file of a process that was killed. */
	if (!lstat(vmemd->path, &st) && S_ISSOCK(st.st_mode) &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) &&
	    errno == ECONNREFUSED)
		unlink(vmemd->path);
	if (!bind(fd, (struct sockaddr *)&address, sizeof(address))) {
		vmemd->bound = true;
		if (!listen(fd, SOMAXCONN))
			return fd;
	}
	ret = -errno;
	close(fd);
	return ret;
}

static int start(struct kvmvmem_vmemd *vmemd, const char *program,
		 const struct handed *handed, struct kvmvmem_error *error)
{
	char *argv[OPTIONS_MAX + 2] = {(char *)program};
	const struct kvmvmem_spawn spawn = {
		.program = program,
		.argv = argv,
		.fds = handed->fds,
		.nr_fds = handed->nr,
		.names = handed->names,
	};
	int pidfd;

	for (unsigned int i = 0; i < vmemd->nr_options; i++)
		argv[i + 1] = vmemd->options[i];
	pidfd = kvmvmem_spawn(&spawn, error);
	if (pidfd < 0)
		return pidfd;
	vmemd->pidfd = pidfd;
	return 0;
}

int kvmvmem_vmemd_spawn(struct kvmvmem_vmemd *vmemd, const char *program,
			struct kvmvmem_error *error)
{
	struct pollfd ended = {.fd = vmemd->pidfd, .events = POLLIN};
	struct handed handed = {.nr = 0};
	int control_fd = -1, ret;
	char text[128];

	if (!vmemd->nr_devices)
		return kvmvmem_fail(error, -EINVAL, "vmemd has no device");
	if (vmemd->pidfd >= 0 && !poll(&ended, 1, 0))
		return kvmvmem_fail(error, -EBUSY, "vmemd runs already");
	kvmvmem_vmemd_stop(vmemd);
	ret = open_fds(vmemd, &handed);
	if (ret)
		kvmvmem_fail(error, ret, "descriptors: %s",
			     kvmvmem_text_of(-ret, text, sizeof(text)));
	if (!ret && vmemd->path) {
		control_fd = listen_at(vmemd);
		if (control_fd < 0)
			ret = kvmvmem_fail(error, control_fd, "%s: %s",
					   vmemd->path,
					   kvmvmem_text_of(-control_fd, text,
							   sizeof(text)));
		hand(&handed, "control", "", control_fd);
	}
	if (!ret)
		ret = start(vmemd, program, &handed, error);
	close_fd(&control_fd);
	for (unsigned int i = 0; i < vmemd->nr_devices; i++)
		close_fd(&vmemd->devices[i].back_end);
	if (ret)
		kvmvmem_vmemd_stop(vmemd);
	return ret;
}

int kvmvmem_vmemd_front_end(struct kvmvmem_vmemd *vmemd, const char *device,
			    struct kvmvmem_error *error)
{
	struct device *found = find_device(vmemd, device);
	int fd = found ? found->front_end : -1;

	if (fd < 0)
		return kvmvmem_fail(error, -ENOENT,
				    "no front end of device \"%.40s\" is left",
				    device ? device : "");
	found->front_end = -1;
	return fd;
}

int kvmvmem_vmemd_pidfd(const struct kvmvmem_vmemd *vmemd)
{
	return vmemd->pidfd;
}

static void send_signal(const struct kvmvmem_vmemd *vmemd, int number)
{
	syscall(SYS_pidfd_send_signal, vmemd->pidfd, number, NULL, 0);
}

/* End the process that was started, and wait for its end. */
static void end_process(const struct kvmvmem_vmemd *vmemd)
{
	struct pollfd ended = {.fd = vmemd->pidfd, .events = POLLIN};
	int64_t deadline = kvmvmem_now_ms() + STOP_MS, left;
	int ret;

	send_signal(vmemd, SIGTERM);
	do {
		left = deadline - kvmvmem_now_ms();
		ret = left > 0 ? poll(&ended, 1, kvmvmem_poll_ms(left)) : 0;
	} while (ret < 0 && errno == EINTR);
	if (ret <= 0)
		send_signal(vmemd, SIGKILL);
	kvmvmem_reap(vmemd->pidfd);
}

void kvmvmem_vmemd_stop(struct kvmvmem_vmemd *vmemd)
{
	if (vmemd->pidfd >= 0)
		end_process(vmemd);
	close_fd(&vmemd->pidfd);
	for (unsigned int i = 0; i < vmemd->nr_devices; i++)
		close_fd(&vmemd->devices[i].front_end);
	if (vmemd->bound)
		unlink(vmemd->path);
	vmemd->bound = false;
}

/* --- Requests --- */

static void begin(const struct kvmvmem_vmemd *vmemd, struct kvmvmem_call *call,
		  const char *method, const char *device)
{
	call->path = vmemd->path;
	call->timeout_ms = vmemd->timeout_ms;
	call->nr_fds = 0;
	call->line.have = 0;
	call->line.used = 0;
	kvmvmem_request_begin(&call->request, KVMVMEM_CALL_ID, method);
	kvmvmem_request_text(&call->request, "device", device);
}

static int make(struct kvmvmem_call *call, struct kvmvmem_error *error)
{
	if (!call->path)
		return kvmvmem_fail(error, -ENOTCONN,
				    "vmemd has no control socket");
	return kvmvmem_call(call, error);
}

int kvmvmem_vmemd_attach(struct kvmvmem_vmemd *vmemd, const char *device,
			 int region_fd, int memory_fd,
			 struct kvmvmem_error *error)
{
	struct kvmvmem_call call;

	begin(vmemd, &call, "attach", device);
	call.fds[0] = region_fd;
	call.fds[1] = memory_fd;
	call.nr_fds = 2;
	return make(&call, error);
}

/* Write a parameter unless it is 0, the default. */
static void put_size(struct kvmvmem_call *call, const char *name,
		     uint64_t value)
{
	if (value)
		kvmvmem_request_size(&call->request, name, value);
}

int kvmvmem_vmemd_plan(struct kvmvmem_vmemd *vmemd, const char *device,
		       struct kvmvmem_plan *plan, struct kvmvmem_error *error)
{
	struct kvmvmem_call call;
	struct kvmvmem_plan known;
	int ret;

	ret = kvmvmem_struct_take(&known, sizeof(known), FIRST_PLAN, plan,
				  plan->size);
	if (ret || known.reserved_for_later)
		return kvmvmem_fail(error, ret ? ret : -EINVAL,
				    "plan: a structure of another version");
	begin(vmemd, &call, "plan", device);
	kvmvmem_request_size(&call.request, "region_size", known.region_size);
	kvmvmem_request_size(&call.request, "block_size", known.block_size);
	kvmvmem_request_size(&call.request, "kvm_limit", known.kvm_limit);
	put_size(&call, "gpa", known.gpa);
	put_size(&call, "used", known.used);
	put_size(&call, "reserved", known.reserved);
	put_size(&call, "consumer_limit", known.consumer_limit);
	put_size(&call, "total_size", known.total_size);
	put_size(&call, "mappings", known.mappings);
	ret = make(&call, error);
	if (ret)
		return ret;
	/* The rest is optional; an older vmemd may not send it. */
	if (!kvmvmem_json_get_size(call.result, "slot_size",
				   &known.slot_size) ||
	    !known.slot_size)
		return kvmvmem_fail(error, -EBADMSG,
				    "vmemd's plan has no slot_size");
	known.nr_slots = (known.region_size - 1) / known.slot_size + 1;
	known.metadata = 0;
	known.metadata_nested = 0;
	known.reason[0] = '\0';
	kvmvmem_json_get_size(call.result, "metadata", &known.metadata);
	kvmvmem_json_get_size(call.result, "metadata_nested",
			      &known.metadata_nested);
	kvmvmem_json_get_text(call.result, "reason", known.reason,
			      sizeof(known.reason));
	kvmvmem_struct_give(plan, plan->size, &known, sizeof(known));
	return 0;
}

int kvmvmem_vmemd_system_reset(struct kvmvmem_vmemd *vmemd, const char *device,
			       bool force, struct kvmvmem_error *error)
{
	struct kvmvmem_call call;

	begin(vmemd, &call, "system-reset", device);
	kvmvmem_request_bool(&call.request, "force", force);
	return make(&call, error);
}

/* Call a method with the parameter "on". */
static int switch_on(const struct kvmvmem_vmemd *vmemd, const char *method,
		     const char *device, bool on, struct kvmvmem_error *error)
{
	struct kvmvmem_call call;

	begin(vmemd, &call, method, device);
	kvmvmem_request_bool(&call.request, "on", on);
	return make(&call, error);
}

int kvmvmem_vmemd_hold(struct kvmvmem_vmemd *vmemd, const char *device, bool on,
		       struct kvmvmem_error *error)
{
	return switch_on(vmemd, "hold", device, on, error);
}

int kvmvmem_vmemd_dirty_log(struct kvmvmem_vmemd *vmemd, const char *device,
			    bool on, struct kvmvmem_error *error)
{
	return switch_on(vmemd, "dirty-log", device, on, error);
}

int kvmvmem_vmemd_resize(struct kvmvmem_vmemd *vmemd, const char *device,
			 uint64_t size, struct kvmvmem_error *error)
{
	struct kvmvmem_call call;

	begin(vmemd, &call, "resize", device);
	kvmvmem_request_size(&call.request, "size", size);
	return make(&call, error);
}
