// SPDX-License-Identifier: GPL-2.0-or-later
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <systemd/sd-daemon.h>

#include "options.h"
#include "size.h"

static const char help[] =
	"Usage: vmemd [OPTION]...\n"
	"\n"
	"The virtio-mem device of one virtual machine, as a vhost-user back end.\n"
	"What its guest plugs and unplugs is carried out by the kvm_vmem kernel\n"
	"module: only populated memslots exist in KVM.\n"
	"\n"
	"Descriptors:\n"
	"  By the socket activation protocol (LISTEN_FDS, LISTEN_PID,\n"
	"  LISTEN_FDNAMES; see sd_listen_fds(3)) vmemd takes, by name:\n"
	"    region      the region, from KVM_VMEM_CREATE_REGION\n"
	"    memory      the memfd that is the region's memory; its offset 0 is\n"
	"                the region's start\n"
	"    vhost-user  a listening or a connected UNIX stream socket\n"
	"    control     a listening UNIX stream socket\n"
	"  region and memory come together. Without them, they come by the\n"
	"  control call \"attach\" of the VMM, which sends the two descriptors with\n"
	"  SCM_RIGHTS, in this order.\n"
	"\n"
	"Options:\n"
	"      --vhost-user PATH      listen here for a vhost-user front end\n"
	"      --control PATH         listen here for vmemctl\n"
	"      --requested-size SIZE  what the guest is asked to plug at first: a\n"
	"                             multiple of the block size, at most the\n"
	"                             region's size. Without effect on a region\n"
	"                             that was in use or has a requested size, as\n"
	"                             after a restart. Default: 0\n"
	"      --node N               tell the guest that the memory belongs to\n"
	"                             the ACPI proximity domain N (0 to 65535)\n"
	"      --prealloc             allocate the memory of blocks before they are\n"
	"                             plugged: without memory the guest is told\n"
	"                             busy, and tries again later\n"
	"      --unplugged-cap SIZE   take unplugged blocks' memory back when it is\n"
	"                             more, as a hostile guest can use it. Default:\n"
	"                             warn only\n"
	"      --log-level LEVEL      err, warning, info or debug; default: info\n"
	"      --version              print the version\n"
	"      --help                 print this\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024.\n"
	"\n"
	"Environment:\n"
	"  NOTIFY_SOCKET  readiness, status and stopping are told here, see\n"
	"                 sd_notify(3). Ready is when region and memory are there\n"
	"                 and both sockets are served.\n"
	"  WATCHDOG_USEC  watchdog of the service manager, see\n"
	"                 sd_watchdog_enabled(3)\n"
	"\n"
	"Exit status:\n"
	"  0  on SIGTERM and SIGINT, and when the VMM is gone\n"
	"  1  it could not start, or could not go on\n"
	"  2  the command line is wrong\n"
	"\n"
	"vmemd keeps no state: it may be killed and started again with the same\n"
	"descriptors at any time. Blocks stay plugged meanwhile.\n";

enum {
	OPT_VHOST_USER = 1,
	OPT_CONTROL,
	OPT_REQUESTED_SIZE,
	OPT_NODE,
	OPT_PREALLOC,
	OPT_UNPLUGGED_CAP,
	OPT_LOG_LEVEL,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"vhost-user", required_argument, NULL, OPT_VHOST_USER},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"requested-size", required_argument, NULL, OPT_REQUESTED_SIZE},
	{"node", required_argument, NULL, OPT_NODE},
	{"prealloc", no_argument, NULL, OPT_PREALLOC},
	{"unplugged-cap", required_argument, NULL, OPT_UNPLUGGED_CAP},
	{"log-level", required_argument, NULL, OPT_LOG_LEVEL},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{},
};

static int parse_node(const char *text, uint16_t *node)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > UINT16_MAX)
		return -EINVAL;
	*node = value;
	return 0;
}

static int wrong(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "vmemd: --%s %s: %s\n", option, value, why);
	return -EINVAL;
}

static int parse_one(struct options *options, int opt)
{
	struct device_options *device =
		&options->devices[options->nr_devices - 1];
	int level;

	switch (opt) {
	case OPT_VHOST_USER:
		device->vhost_user_path = optarg;
		return 0;
	case OPT_CONTROL:
		options->control_path = optarg;
		return 0;
	case OPT_REQUESTED_SIZE:
		device->has_requested_size = true;
		if (size_parse(optarg, &device->requested_size))
			return wrong("requested-size", optarg, "not a size");
		return 0;
	case OPT_NODE:
		device->has_node = true;
		if (parse_node(optarg, &device->node))
			return wrong("node", optarg,
				     "not a number from 0 to 65535");
		return 0;
	case OPT_PREALLOC:
		device->prealloc = true;
		return 0;
	case OPT_UNPLUGGED_CAP:
		device->has_unplugged_cap = true;
		if (size_parse(optarg, &device->unplugged_cap))
			return wrong("unplugged-cap", optarg, "not a size");
		return 0;
	case OPT_LOG_LEVEL:
		level = log_level_from_name(optarg);
		if (level < 0)
			return wrong("log-level", optarg,
				     "not err, warning, info or debug");
		options->log_level = level;
		return 0;
	default:
		fprintf(stderr, "Try 'vmemd --help'.\n");
		return -EINVAL;
	}
}

/**
 * options_parse() - read the command line
 *
 * Return: 0; 1 if it was --help or --version, which is done; -EINVAL with a
 * message printed.
 */
int options_parse(struct options *options, int argc, char **argv)
{
	int opt, ret;

	*options = (struct options){
		.nr_devices = 1,
		.log_level = LOG_LEVEL_INFO,
	};
	while ((opt = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
		if (opt == OPT_HELP) {
			fputs(help, stdout);
			return 1;
		}
		if (opt == OPT_VERSION) {
			puts("vmemd " VMEM_VERSION);
			return 1;
		}
		ret = parse_one(options, opt);
		if (ret)
			return ret;
	}
	if (optind < argc) {
		fprintf(stderr, "vmemd: unexpected argument \"%s\"\n",
			argv[optind]);
		return -EINVAL;
	}
	return 0;
}

static int take_named(struct passed_fds *fds, const char *name, int fd)
{
	const struct {
		const char *name;
		int *fd;
	} known[] = {
		{"region", &fds->devices[0].region},
		{"memory", &fds->devices[0].memory},
		{"vhost-user", &fds->devices[0].vhost_user},
		{"control", &fds->control},
	};

	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		if (strcmp(name, known[i].name))
			continue;
		if (*known[i].fd >= 0) {
			log_err("two descriptors are named \"%s\"", name);
			return -EINVAL;
		}
		*known[i].fd = fd;
		return 0;
	}
	log_warning("a descriptor named \"%s\" is of no use; closed", name);
	close(fd);
	return 0;
}

/**
 * passed_fds_take() - take what the socket activation protocol hands over
 * @fds: filled
 *
 * Return: 0; -EINVAL or an errno of sd_listen_fds_with_names(), with a message
 * printed.
 */
int passed_fds_take(struct passed_fds *fds)
{
	char **names = NULL;
	int nr, ret = 0;

	fds->control = -1;
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++)
		fds->devices[i] = (struct device_fds){-1, -1, -1};
	nr = sd_listen_fds_with_names(1, &names);
	if (nr < 0) {
		log_err("descriptors by LISTEN_FDS: %s", strerror(-nr));
		return nr;
	}
	for (int i = 0; i < nr; i++) {
		if (!ret)
			ret = take_named(fds, names[i],
					 SD_LISTEN_FDS_START + i);
		free(names[i]);
	}
	free(names);
	if (!ret &&
	    (fds->devices[0].region < 0) != (fds->devices[0].memory < 0)) {
		log_err("\"region\" and \"memory\" descriptors come together");
		ret = -EINVAL;
	}
	if (ret)
		passed_fds_close(fds);
	return ret;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void passed_fds_close(struct passed_fds *fds)
{
	close_fd(&fds->control);
	for (size_t i = 0; i < VMEM_MAX_DEVICES; i++) {
		close_fd(&fds->devices[i].region);
		close_fd(&fds->devices[i].memory);
		close_fd(&fds->devices[i].vhost_user);
	}
}
