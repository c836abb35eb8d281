// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that are passed by the socket activation protocol.
 *
 * The name of a device's descriptor is its kind: "region", "memory", "state",
 * "consumers" or "vhost-user". For a named device, the name follows:
 * "region-NAME". It may be omitted for the first device, so that a single
 * device needs no name.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "base/log.h"
#include "common/fd.h"
#include "passed_fds.h"

/**
 * passed_fd_name() - get the name of a device's descriptor
 * @device: options of the device
 * @kind: "region", "memory", "state", "consumers" or "vhost-user"
 * @name: set to the name
 *
 * Return: @name.
 */
const char *passed_fd_name(const struct device_options *device,
			   const char *kind, char name[PASSED_FD_NAME_MAX])
{
	snprintf(name, PASSED_FD_NAME_MAX, "%s%s%s", kind,
		 device->name ? "-" : "", device->name ? device->name : "");
	return name;
}

/* Is this the name of the descriptor of kind @kind of device @index? */
static bool is_named(const char *name, const char *kind,
		     const struct options *options, unsigned int index)
{
	char full[PASSED_FD_NAME_MAX];

	if (!index && !strcmp(name, kind))
		return true;
	return !strcmp(name,
		       passed_fd_name(&options->devices[index], kind, full));
}

/* Place in @fds of the descriptor with this name; NULL: none. */
static int *find_place(struct passed_fds *fds, const struct options *options,
		       const char *name)
{
	if (!strcmp(name, "control"))
		return &fds->control;
	for (unsigned int i = 0; i < options->nr_devices; i++) {
		struct device_fds *device = &fds->devices[i];

		if (is_named(name, "region", options, i))
			return &device->region;
		if (is_named(name, "memory", options, i))
			return &device->memory;
		if (is_named(name, "state", options, i))
			return &device->state;
		if (is_named(name, "consumers", options, i))
			return &device->consumers;
		if (is_named(name, "vhost-user", options, i))
			return &device->vhost_user;
	}
	return NULL;
}

static int take_named(struct passed_fds *fds, const struct options *options,
		      const char *name, int fd)
{
	int *place = find_place(fds, options, name);

	if (!place) {
		log_warning(
			"a descriptor with the unknown name \"%s\" is closed",
			name);
		close(fd);
		return 0;
	}
	if (*place >= 0) {
		log_err("two descriptors are named \"%s\"", name);
		return -EINVAL;
	}
	*place = fd;
	return 0;
}

/*
 * Memory may come alone: it is stored first, and vmemd may have been killed before
 * it stored the region or the state. With --backing vmm, vmm.c checks later that
 * such memory is empty. Otherwise the VMM attaches the region again.
 *
 * A state says that the memory belongs to a VM whose front end maps it. Without
 * --backing vmm, that memory would be dropped.
 */
static int check_pairs(const struct passed_fds *fds,
		       const struct options *options)
{
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++) {
		const struct device_fds *device = &fds->devices[i];

		if (device->state >= 0 && device->region < 0 &&
		    !options->devices[i].vmm) {
			log_err("a \"state\" descriptor needs --backing vmm");
			return -EINVAL;
		}
		if (device->memory >= 0 ||
		    (device->region < 0 && device->state < 0))
			continue;
		log_err("\"region\" or \"state\", and \"memory\" "
			"descriptors come together");
		return -EINVAL;
	}
	return 0;
}

/** passed_fds_init() - no descriptor was passed */
void passed_fds_init(struct passed_fds *fds)
{
	fds->control = -1;
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++)
		fds->devices[i] = (struct device_fds){
			.region = -1,
			.memory = -1,
			.state = -1,
			.consumers = -1,
			.vhost_user = -1,
		};
}

/**
 * passed_fds_take() - take the descriptors of the socket activation protocol
 * @fds: set, also on error
 * @options: command line
 *
 * Return: 0; -EINVAL or an errno of sd_listen_fds_with_names(), with a message
 * printed.
 */
int passed_fds_take(struct passed_fds *fds, const struct options *options)
{
	char **names = NULL;
	int nr, ret = 0;

	passed_fds_init(fds);
	nr = sd_listen_fds_with_names(1, &names);
	if (nr < 0) {
		log_err("descriptors by LISTEN_FDS: %s", strerror(-nr));
		return nr;
	}
	for (int i = 0; i < nr; i++) {
		if (!ret)
			ret = take_named(fds, options, names[i],
					 SD_LISTEN_FDS_START + i);
		free(names[i]);
	}
	free(names);
	if (!ret)
		ret = check_pairs(fds, options);
	if (ret)
		passed_fds_close(fds);
	return ret;
}

void passed_fds_close(struct passed_fds *fds)
{
	fd_close(&fds->control);
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++) {
		fd_close(&fds->devices[i].region);
		fd_close(&fds->devices[i].memory);
		fd_close(&fds->devices[i].state);
		fd_close(&fds->devices[i].consumers);
		fd_close(&fds->devices[i].vhost_user);
	}
}
