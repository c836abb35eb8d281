// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The daemon.
 *
 *	guest -> vring -> virtio_mem -> region -> kvm_vmem.ko
 *	VMM   -> vhost_user            control <- vmemctl
 *
 * One thread, one event loop. Everything happens in its turn: a request of the
 * guest's, a message of the front end's, a line of an operator's. What takes
 * time is done while others have their turn: a change of memslots by the
 * kernel, whose answer is an event; memory being given back, a part at a time.
 *
 * Start: descriptors and sockets, then the region, then isolation.c, then the
 * loop. A region that comes later, by "attach", is taken over from inside the
 * loop; the front end is not looked at before that, since there is no device
 * to show to it.
 *
 * What changes is noted by note_change(), and told PUBLISH_DELAY_USEC later,
 * however much it was by then: to those who watch, to those who wait for a
 * resize, and to the service manager.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>

#include "isolation.h"
#include "log.h"
#include "size.h"
#include "vmem.h"
#include "vmem_control.h"

/* Front ends and operators that may wait to be accepted. */
#define LISTEN_BACKLOG 16

/*
 * Changes within this time are told as one: short for a person, long for a
 * guest that plugs a thousand blocks.
 */
#define PUBLISH_DELAY_USEC 10000

/*
 * How long after memory could not be given back it is tried again, when nobody
 * wants it before.
 */
#define WORK_AGAIN_USEC (10 * 1000000ULL)

/* --- Telling of changes --- */

uint64_t vmem_plugged_size(const struct vmem *vmem)
{
	return virtio_mem_plugged_size(&vmem->dev);
}

static void note_change(void *arg)
{
	struct vmem *vmem = arg;
	int enabled;

	if (!vmem->publish_source ||
	    sd_event_source_get_enabled(vmem->publish_source, &enabled) < 0 ||
	    enabled != SD_EVENT_OFF)
		return;
	sd_event_source_set_time_relative(vmem->publish_source,
					  PUBLISH_DELAY_USEC);
	sd_event_source_set_enabled(vmem->publish_source, SD_EVENT_ONESHOT);
}

static void config_changed(void *arg)
{
	struct vmem *vmem = arg;

	vhost_user_config_changed(&vmem->vu);
}

static int on_publish(sd_event_source *source __attribute__((unused)),
		      uint64_t usec __attribute__((unused)), void *arg)
{
	struct vmem *vmem = arg;
	char plugged[SIZE_TEXT_MAX], requested[SIZE_TEXT_MAX];

	if (vmem->attached)
		notify_send(&vmem->notify,
			    "STATUS=%s plugged, %s requested, front end %s",
			    size_format(vmem_plugged_size(vmem), plugged),
			    size_format(vmem->dev.requested_size, requested),
			    vhost_user_connected(&vmem->vu) ? "connected"
							    : "absent");
	control_publish(&vmem->control);
	return 0;
}

/* --- The device --- */

static void want_work(void *arg)
{
	struct vmem *vmem = arg;

	sd_event_source_set_enabled(vmem->work_source, SD_EVENT_ONESHOT);
}

static int on_work(sd_event_source *source __attribute__((unused)), void *arg)
{
	struct vmem *vmem = arg;
	int ret;

	ret = virtio_mem_work(&vmem->dev);
	if (ret > 0) {
		want_work(vmem);
	} else if (ret < 0) {
		sd_event_source_set_time_relative(vmem->work_again_source,
						  WORK_AGAIN_USEC);
		sd_event_source_set_enabled(vmem->work_again_source,
					    SD_EVENT_ONESHOT);
	}
	return 0;
}

static int on_work_again(sd_event_source *source,
			 uint64_t usec __attribute__((unused)), void *arg)
{
	return on_work(source, arg);
}

static bool answered(void *arg, const struct virtio_mem_resp *resp)
{
	struct vmem *vmem = arg;

	return vhost_user_answered(&vmem->vu, resp);
}

/* --- The region --- */

static int on_region(sd_event_source *source __attribute__((unused)),
		     int fd __attribute__((unused)), uint32_t revents,
		     void *arg)
{
	struct vmem *vmem = arg;
	bool others;
	int ret;

	ret = region_read_changes(&vmem->region, &others);
	if (ret == -ENODEV || revents & EPOLLHUP) {
		log_info("the VM is gone");
		return sd_event_exit(vmem->event, 0);
	}
	if (ret) {
		log_err("reading the region: %s", strerror(-ret));
		return sd_event_exit(vmem->event, ret);
	}
	if (others)
		region_recheck(&vmem->region);
	return 0;
}

/* Others have changed the region. */
static void on_news(void *arg)
{
	struct vmem *vmem = arg;

	log_debug("the region was changed by others");
	virtio_mem_set_requested(&vmem->dev, vmem->region.state.requested_size);
	virtio_mem_backing_changed(&vmem->dev);
}

/* May this be the requested size? @text gets what is wrong. */
static int check_requested(const struct vmem *vmem, uint64_t size, char *text,
			   size_t text_size)
{
	const struct backing *backing = &vmem->region.backing;
	char pretty[SIZE_TEXT_MAX], limit[SIZE_TEXT_MAX];

	if (size > backing->size) {
		snprintf(text, text_size, "%s is more than the region has (%s)",
			 size_format(size, pretty),
			 size_format(backing->size, limit));
		return -ERANGE;
	}
	if (size % backing->block_size) {
		snprintf(text, text_size,
			 "%" PRIu64 " bytes is not a multiple of the block "
			 "size (%s)",
			 size, size_format(backing->block_size, limit));
		return -EINVAL;
	}
	return 0;
}

/*
 * Set the requested size where it lasts; on_size_set() tells the guest.
 * Return: -EINPROGRESS, or an errno.
 */
int vmem_set_requested(struct vmem *vmem, uint64_t size, char *text,
		       size_t text_size)
{
	struct vmem_nl_error err;
	int ret;

	ret = check_requested(vmem, size, text, text_size);
	if (ret)
		return ret;
	ret = region_set_requested(&vmem->region, size, &err);
	if (ret != -EINPROGRESS)
		snprintf(text, text_size, "%s", err.text);
	return ret;
}

static void on_size_set(void *arg, int result, const char *text)
{
	struct vmem *vmem = arg;
	uint64_t token = vmem->resize_token;

	vmem->resize_token = 0;
	if (result)
		log_warning("the requested size cannot be set: %s", text);
	else
		virtio_mem_set_requested(&vmem->dev,
					 vmem->region.state.requested_size);
	if (token)
		control_answer(&vmem->control, token, result,
			       result ? NULL : vmem_control_sizes(vmem), text);
}

/* The device is there: let a front end see it. */
static int serve_vhost_user(struct vmem *vmem)
{
	int listening = 0;
	socklen_t size = sizeof(listening);
	int fd = vmem->vhost_user_fd;
	int ret;

	vmem->vhost_user_fd = -1;
	if (fd < 0)
		return 0;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0)
		listening = 0;
	ret = listening ? vhost_user_listen(&vmem->vu, fd)
			: vhost_user_adopt(&vmem->vu, fd);
	if (ret)
		log_err("vhost-user socket: %s", strerror(-ret));
	return ret;
}

/**
 * vmem_attach() - take over a region and become its device
 * @region_fd: owned from here, also on error
 * @memory_fd: likewise
 * @text: what is wrong, on error
 */
int vmem_attach(struct vmem *vmem, int region_fd, int memory_fd, char *text,
		size_t text_size)
{
	struct region *region = &vmem->region;
	char size[SIZE_TEXT_MAX], plugged[SIZE_TEXT_MAX];
	struct vmem_nl_error err;
	int ret;

	ret = region_attach(region, vmem->event, &vmem->nl, region_fd,
			    memory_fd, &err);
	if (ret) {
		snprintf(text, text_size, "%s", err.text);
		close(region_fd);
		close(memory_fd);
		return ret;
	}
	virtio_mem_start(&vmem->dev, &region->backing,
			 region->state.requested_size, region->used_before);
	region->news = on_news;
	region->size_set = on_size_set;
	region->arg = vmem;
	if (vmem->options.has_requested_size && !region->used_before &&
	    !region->state.requested_size) {
		ret = vmem_set_requested(vmem, vmem->options.requested_size,
					 text, text_size);
		if (ret != -EINPROGRESS)
			goto stop_device;
	}
	ret = sd_event_add_io(vmem->event, &vmem->region_source, region_fd,
			      EPOLLIN, on_region, vmem);
	if (ret < 0) {
		snprintf(text, text_size, "the region cannot be polled: %s",
			 strerror(-ret));
		goto stop_device;
	}
	vmem->attached = true;
	ret = serve_vhost_user(vmem);
	if (ret) {
		snprintf(text, text_size, "the vhost-user socket is no good");
		goto forget;
	}
	log_info("region %u: %s at 0x%" PRIx64 ", %s plugged", region->state.id,
		 size_format(region->backing.size, size), region->backing.gpa,
		 size_format(vmem_plugged_size(vmem), plugged));
	if (vmem->isolated)
		notify_ready(&vmem->notify);
	note_change(vmem);
	return 0;

forget:
	vmem->attached = false;
	vmem->region_source =
		sd_event_source_disable_unref(vmem->region_source);
stop_device:
	virtio_mem_stop(&vmem->dev);
	region_detach(region);
	return ret;
}

/* --- Start and end --- */

/*
 * Listen at a path. A socket that a daemon before us has left there, and that
 * nobody listens on, is replaced.
 */
static int listen_at(const char *path)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	struct stat st;
	mode_t mask;
	int fd, ret;

	if (strlen(path) >= sizeof(addr.sun_path)) {
		log_err("%s: the path is too long for a socket", path);
		return -ENAMETOOLONG;
	}
	strcpy(addr.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		goto failed;
	if (!lstat(path, &st) && S_ISSOCK(st.st_mode)) {
		/* One whose backlog is full listens all the same: EAGAIN. */
		if (!connect(fd, (struct sockaddr *)&addr, sizeof(addr)) ||
		    errno != ECONNREFUSED) {
			errno = EADDRINUSE;
			goto failed;
		}
		unlink(path);
	}
	/* For this user alone; who is to have more may change the mode. */
	mask = umask(0177);
	ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
	umask(mask);
	if (ret < 0 || listen(fd, LISTEN_BACKLOG) < 0)
		goto failed;
	return fd;

failed:
	ret = -errno;
	log_err("%s: %s", path, strerror(-ret));
	if (fd >= 0)
		close(fd);
	return ret;
}

/* A socket that was passed is used, else one at the path is made. */
static int open_socket(int *fd, const char *path, const char *name)
{
	if (*fd >= 0 && path) {
		log_err("--%s, and a descriptor of that name as well", name);
		return -EINVAL;
	}
	if (*fd >= 0) {
		if (sd_is_socket(*fd, AF_UNIX, SOCK_STREAM, -1) > 0)
			return 0;
		log_err("\"%s\" descriptor: not a UNIX stream socket", name);
		return -EINVAL;
	}
	if (!path)
		return 0;
	*fd = listen_at(path);
	return *fd < 0 ? *fd : 0;
}

static int open_sockets(struct vmem *vmem, struct passed_fds *fds)
{
	int ret;

	ret = open_socket(&fds->vhost_user, vmem->options.vhost_user_path,
			  "vhost-user");
	if (!ret)
		ret = open_socket(&fds->control, vmem->options.control_path,
				  "control");
	if (ret)
		return ret;
	if (fds->vhost_user < 0) {
		log_err("no --vhost-user, and no descriptor of that name");
		return -EINVAL;
	}
	if (fds->region < 0 && fds->control < 0) {
		log_err("no \"region\" descriptor, and no --control where one "
			"could come");
		return -EINVAL;
	}
	if (fds->control >= 0 &&
	    sd_is_socket_unix(fds->control, SOCK_STREAM, 1, NULL, 0) <= 0) {
		log_err("\"control\" descriptor: not listening");
		return -EINVAL;
	}
	return 0;
}

static int add_sources(struct vmem *vmem)
{
	sigset_t signals;
	int ret;

	sigemptyset(&signals);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGINT);
	if (sigprocmask(SIG_BLOCK, &signals, NULL) < 0)
		return -errno;
	/* Without a handler these end the loop. */
	ret = sd_event_add_signal(vmem->event, NULL, SIGTERM, NULL, NULL);
	if (ret >= 0)
		ret = sd_event_add_signal(vmem->event, NULL, SIGINT, NULL,
					  NULL);
	if (ret >= 0)
		ret = sd_event_add_time_relative(
			vmem->event, &vmem->publish_source, CLOCK_MONOTONIC, 0,
			PUBLISH_DELAY_USEC, on_publish, vmem);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(vmem->publish_source,
						  SD_EVENT_OFF);
	if (ret >= 0)
		ret = sd_event_add_defer(vmem->event, &vmem->work_source,
					 on_work, vmem);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(vmem->work_source,
						  SD_EVENT_OFF);
	/* Guests and operators do not wait for it. */
	if (ret >= 0)
		ret = sd_event_source_set_priority(vmem->work_source,
						   SD_EVENT_PRIORITY_IDLE);
	if (ret >= 0)
		ret = sd_event_add_time_relative(
			vmem->event, &vmem->work_again_source, CLOCK_MONOTONIC,
			0, 0, on_work_again, vmem);
	if (ret >= 0)
		ret = sd_event_source_set_enabled(vmem->work_again_source,
						  SD_EVENT_OFF);
	return ret < 0 ? ret : 0;
}

/* Everything up to the isolation. Descriptors taken are -1 in @fds. */
static int start(struct vmem *vmem, struct passed_fds *fds)
{
	struct vmem_nl_error err;
	char text[CONTROL_TEXT_MAX];
	bool gone = false;
	int ret;

	ret = sd_event_new(&vmem->event);
	if (ret >= 0)
		ret = add_sources(vmem);
	if (ret < 0) {
		log_err("event loop: %s", strerror(-ret));
		return ret;
	}
	/* A manager that cannot be told is no reason not to serve. */
	ret = notify_open(&vmem->notify, vmem->event);
	if (ret)
		log_warning("NOTIFY_SOCKET: %s", strerror(-ret));
	ret = region_nl_open(&vmem->nl, &err);
	if (ret) {
		log_err("%s", err.text);
		return ret;
	}
	vmem->vu.event = vmem->event;
	vmem->control.event = vmem->event;

	ret = open_sockets(vmem, fds);
	if (ret)
		return ret;
	vmem->vhost_user_fd = fds->vhost_user;
	fds->vhost_user = -1;
	if (fds->control >= 0) {
		ret = control_listen(&vmem->control, fds->control);
		fds->control = -1;
		if (ret) {
			log_err("control socket: %s", strerror(-ret));
			return ret;
		}
	}
	if (fds->region >= 0) {
		int region_fd = fds->region, memory_fd = fds->memory;

		fds->region = -1;
		fds->memory = -1;
		ret = vmem_attach(vmem, region_fd, memory_fd, text,
				  sizeof(text));
		/* While we were being started; as if it had been later. */
		if (ret == -ENODEV) {
			log_info("the VM is gone");
			gone = true;
		} else if (ret) {
			log_err("%s", text);
			return ret;
		}
	} else {
		notify_send(&vmem->notify, "STATUS=waiting for a region");
	}
	ret = isolate();
	if (ret)
		return ret;
	vmem->isolated = true;
	if (vmem->attached || gone)
		notify_ready(&vmem->notify);
	return gone ? sd_event_exit(vmem->event, 0) : 0;
}

/**
 * vmem_new() - start the daemon, up to its loop
 * @vmemp: the daemon, on success
 * @options: command line; strings are not copied
 * @fds: taken over, also on error
 *
 * Return: 0, or a negative errno with a message printed.
 */
int vmem_new(struct vmem **vmemp, const struct options *options,
	     struct passed_fds *fds)
{
	struct vmem *vmem;
	int ret;

	vmem = calloc(1, sizeof(*vmem));
	if (!vmem) {
		log_err("out of memory");
		passed_fds_close(fds);
		return -ENOMEM;
	}
	vmem->options = *options;
	vmem->vhost_user_fd = -1;
	vmem->notify.fd = -1;
	vmem->dev.has_node = options->has_node;
	vmem->dev.node_id = options->node;
	vmem->dev.config_changed = config_changed;
	vmem->dev.changed = note_change;
	vmem->dev.work = want_work;
	vmem->dev.answered = answered;
	vmem->dev.arg = vmem;
	vhost_user_init(&vmem->vu, NULL, &vmem->dev);
	vmem->vu.changed = note_change;
	vmem->vu.arg = vmem;
	control_init(&vmem->control, NULL, &vmem_control_ops, vmem);

	ret = start(vmem, fds);
	passed_fds_close(fds);
	if (ret) {
		vmem_free(vmem);
		return ret;
	}
	*vmemp = vmem;
	return 0;
}

/* Serve until a signal, or until the VM is gone. Return: 0, or an error. */
int vmem_run(struct vmem *vmem)
{
	int ret;

	ret = sd_event_loop(vmem->event);
	if (ret < 0)
		log_err("event loop: %s", strerror(-ret));
	notify_send(&vmem->notify, "STOPPING=1");
	return ret;
}

/* Blocks stay as they are: they are the kernel's. */
void vmem_free(struct vmem *vmem)
{
	control_stop(&vmem->control);
	vhost_user_stop(&vmem->vu);
	if (vmem->vhost_user_fd >= 0)
		close(vmem->vhost_user_fd);
	vmem->region_source =
		sd_event_source_disable_unref(vmem->region_source);
	if (vmem->attached) {
		virtio_mem_stop(&vmem->dev);
		region_detach(&vmem->region);
	}
	vmem->publish_source =
		sd_event_source_disable_unref(vmem->publish_source);
	vmem->work_source = sd_event_source_disable_unref(vmem->work_source);
	vmem->work_again_source =
		sd_event_source_disable_unref(vmem->work_again_source);
	free(vmem->slots);
	notify_close(&vmem->notify);
	region_nl_close(&vmem->nl);
	sd_event_unref(vmem->event);
	free(vmem);
}
