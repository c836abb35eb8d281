// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Descriptors that were handed over by the socket activation protocol.
 *
 * A descriptor of a device is named by its kind, "region", "memory", "state",
 * "consumers" or "vhost-user"; of a device that has a name, by that as well,
 * "region-NAME".
 * The first device's may always go without: whoever starts one device need not
 * think of names.
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
 * passed_fd_name() - by which name a device's descriptor comes
 * @kind: "region", "memory", "state", "consumers" or "vhost-user"
 * @name: filled
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

/* Is this the name of a descriptor of that kind, of device @index? */
static bool is_named(const char *name, const char *kind,
		     const struct options *options, unsigned int index)
{
	char full[PASSED_FD_NAME_MAX];

	if (!index && !strcmp(name, kind))
		return true;
	return !strcmp(name,
		       passed_fd_name(&options->devices[index], kind, full));
}

/* Where the descriptor of this name belongs; NULL if nowhere. */
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
		log_warning("a descriptor named \"%s\" is of no use; closed",
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
 * Memory that vmemd makes itself may come alone: it is kept first, and a daemon
 * may have been killed before its state was. Whether it is new is seen later.
 */
static int check_pairs(const struct passed_fds *fds,
		       const struct options *options)
{
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++) {
		const struct device_fds *device = &fds->devices[i];

		if ((device->region < 0 && device->state < 0) ==
		    (device->memory < 0))
			continue;
		if (options->devices[i].vmm && device->memory >= 0)
			continue;
		log_err("\"region\" or \"state\", and \"memory\" "
			"descriptors come together");
		return -EINVAL;
	}
	return 0;
}

/**
 * passed_fds_take() - take what the socket activation protocol hands over
 * @fds: filled
 *
 * Return: 0; -EINVAL or an errno of sd_listen_fds_with_names(), with a message
 * printed.
 */
int passed_fds_take(struct passed_fds *fds, const struct options *options)
{
	char **names = NULL;
	int nr, ret = 0;

	fds->control = -1;
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++)
		fds->devices[i] = (struct device_fds){-1, -1, -1, -1, -1};
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
