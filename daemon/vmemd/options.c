// SPDX-License-Identifier: GPL-2.0-or-later
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backing/vmm.h"
#include "common/size.h"
#include "common/standard_fds.h"
#include "options.h"

/* Smallest and default block size, as in the kernel: a huge page of x86. */
#define BLOCK_SIZE_MIN (2ULL << 20)

/* Largest region: more than a CPU addresses, so that sums cannot overflow. */
#define REGION_SIZE_MAX (1ULL << 48)

static const char help[] =
	"Usage: vmemd [OPTION]...\n"
	"\n"
	"The virtio-mem devices of one virtual machine, as vhost-user back ends.\n"
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
	"  SCM_RIGHTS, in this order. Of a device NAME they are named region-NAME\n"
	"  and so on; those of the first device may go without.\n"
	"\n"
	"Options:\n"
	"      --control PATH         listen here for vmemctl\n"
	"      --log-level LEVEL      err, warning, info or debug; default: info\n"
	"      --version              print the version\n"
	"  -h, --help                 print this\n"
	"\n"
	"Options of a device:\n"
	"      --device NAME          begin one more device, which has the options\n"
	"                             that follow; those before are the first\n"
	"                             device's. If there are none before, the first\n"
	"                             device has this name\n"
	"      --vhost-user PATH      listen here for a vhost-user front end\n"
	"      --requested-size SIZE  what the guest is asked to plug at first: a\n"
	"                             multiple of the block size, at most the\n"
	"                             region's size. Without effect on a region\n"
	"                             that was in use or has a requested size, as\n"
	"                             after a restart. Default: 0\n"
	"      --node N               tell the guest that the memory belongs to\n"
	"                             the ACPI proximity domain N (0 to 65535)\n"
	"      --memslots auto|N      memslots of its region: as many as there should\n"
	"                             be, or at most N; a region with more is\n"
	"                             refused. Default: auto\n"
	"      --isolate              a memslot for each block, so that the guest can\n"
	"                             touch no unplugged memory; another region is\n"
	"                             refused\n"
	"      --prealloc             allocate the memory of blocks before they are\n"
	"                             plugged: without memory the guest is told\n"
	"                             busy, and tries again later\n"
	"      --unplugged-cap SIZE   take unplugged blocks' memory back when it is\n"
	"                             more, as a hostile guest can use it. Default:\n"
	"                             warn only\n"
	"      --packed               offer packed virtqueues: for a front end that\n"
	"                             keeps the inflight region\n"
	"      --restore FILE         begin with the state that \"vmemctl save\" wrote.\n"
	"                             Without effect on a region that was served\n"
	"                             before, as after a restart\n"
	"      --backing BACKING      what populates memslots: kernel, the region of\n"
	"                             the kvm_vmem module (default); or vmm, a front\n"
	"                             end that speaks SHMEM and maps memory that\n"
	"                             vmemd makes, as QEMU 11.1 does\n"
	"\n"
	"With --backing vmm, without which these are of no use:\n"
	"      --region-size SIZE     of the memory; needed\n"
	"      --block-size SIZE      what is plugged at least: a power of two, 2M or\n"
	"                             more, default: 2M\n"
	"      --slot-size SIZE       of the first memslot: a power of two, multiple\n"
	"                             of the block size; there are 6 at most, each\n"
	"                             ends 4 times as far. Default: the smallest from\n"
	"                             128M on with which the last is no larger\n"
	"      --gpa ADDRESS          where the region is in the guest, if that is\n"
	"                             known at the start; else \"vmemctl place\"\n"
	"  Memory and state are memfds, kept by the service manager, if there is one,\n"
	"  as the descriptors \"memory\" and \"state\"; or files that are handed over\n"
	"  under these names, empty at first.\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024.\n"
	"\n"
	"Environment:\n"
	"  NOTIFY_SOCKET  readiness, status and stopping are told here, see\n"
	"                 sd_notify(3). Ready is when region and memory of each\n"
	"                 device are there and all sockets are served.\n"
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
	OPT_DEVICE = 1,
	OPT_VHOST_USER,
	OPT_CONTROL,
	OPT_REQUESTED_SIZE,
	OPT_NODE,
	OPT_MEMSLOTS,
	OPT_ISOLATE,
	OPT_PREALLOC,
	OPT_UNPLUGGED_CAP,
	OPT_PACKED,
	OPT_RESTORE,
	OPT_BACKING,
	OPT_REGION_SIZE,
	OPT_BLOCK_SIZE,
	OPT_SLOT_SIZE,
	OPT_GPA,
	OPT_LOG_LEVEL,
	OPT_VERSION,
	OPT_HELP,
};

static const struct option long_options[] = {
	{"device", required_argument, NULL, OPT_DEVICE},
	{"vhost-user", required_argument, NULL, OPT_VHOST_USER},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"requested-size", required_argument, NULL, OPT_REQUESTED_SIZE},
	{"node", required_argument, NULL, OPT_NODE},
	{"memslots", required_argument, NULL, OPT_MEMSLOTS},
	{"isolate", no_argument, NULL, OPT_ISOLATE},
	{"prealloc", no_argument, NULL, OPT_PREALLOC},
	{"unplugged-cap", required_argument, NULL, OPT_UNPLUGGED_CAP},
	{"packed", no_argument, NULL, OPT_PACKED},
	{"restore", required_argument, NULL, OPT_RESTORE},
	{"backing", required_argument, NULL, OPT_BACKING},
	{"region-size", required_argument, NULL, OPT_REGION_SIZE},
	{"block-size", required_argument, NULL, OPT_BLOCK_SIZE},
	{"slot-size", required_argument, NULL, OPT_SLOT_SIZE},
	{"gpa", required_argument, NULL, OPT_GPA},
	{"log-level", required_argument, NULL, OPT_LOG_LEVEL},
	{"version", no_argument, NULL, OPT_VERSION},
	{"help", no_argument, NULL, OPT_HELP},
	{},
};

static int parse_number(const char *text, uint16_t *number)
{
	unsigned long value;
	char *end;

	if (*text < '0' || *text > '9')
		return -EINVAL;
	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno || *end || value > UINT16_MAX)
		return -EINVAL;
	*number = value;
	return 0;
}

/* "auto" is 0. A region in the kernel has at most 65535 memslots. */
static int parse_memslots(const char *text, uint32_t *most)
{
	uint16_t number;

	*most = 0;
	if (!strcmp(text, "auto"))
		return 0;
	if (parse_number(text, &number) || !number)
		return -EINVAL;
	*most = number;
	return 0;
}

static int wrong(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "vmemd: --%s %s: %s\n", option, value, why);
	return -EINVAL;
}

static int parse_backing(const char *text, bool *vmm)
{
	if (strcmp(text, "kernel") != 0 && strcmp(text, "vmm") != 0)
		return wrong("backing", text, "not kernel or vmm");
	*vmm = !strcmp(text, "vmm");
	return 0;
}

static int parse_gpa(const char *text, uint64_t *gpa)
{
	char *end;

	errno = 0;
	*gpa = strtoull(text, &end, 0);
	if (*text < '0' || *text > '9' || errno || *end || !*gpa)
		return wrong("gpa", text, "not an address");
	return 0;
}

static int parse_size(const char *name, uint64_t *size)
{
	if (size_parse(optarg, size) || !*size)
		return wrong(name, optarg, "not a size");
	return 0;
}

/* Parse an option for --backing vmm. */
static int parse_vmm_option(struct device_options *device, int opt)
{
	switch (opt) {
	case OPT_REGION_SIZE:
		return parse_size("region-size", &device->region_size);
	case OPT_BLOCK_SIZE:
		return parse_size("block-size", &device->block_size);
	case OPT_SLOT_SIZE:
		return parse_size("slot-size", &device->slot_size);
	default:
		return parse_gpa(optarg, &device->gpa);
	}
}

static int not_of_use(const char *why)
{
	fprintf(stderr, "vmemd: %s\n", why);
	return -EINVAL;
}

static bool power_of_two(uint64_t value)
{
	return value && !(value & (value - 1));
}

/* Check the options for --backing vmm, and set defaults. */
static int complete_vmm(struct device_options *device)
{
	if (!device->vmm)
		return device->region_size || device->block_size ||
				       device->slot_size || device->gpa
			       ? not_of_use("--region-size, --block-size, "
					    "--slot-size and --gpa are for "
					    "--backing vmm")
			       : 0;
	if (device->prealloc || device->restore_path || device->budget.most ||
	    device->budget.isolate)
		return not_of_use("--prealloc, --restore, --memslots and "
				  "--isolate are not for --backing vmm");
	if (!device->region_size)
		return not_of_use("--backing vmm needs --region-size");
	if (!device->block_size)
		device->block_size = BLOCK_SIZE_MIN;
	if (!power_of_two(device->block_size) ||
	    device->block_size < BLOCK_SIZE_MIN)
		return not_of_use("--block-size is a power of two, 2M or more");
	if (device->region_size % device->block_size ||
	    device->region_size > REGION_SIZE_MAX)
		return not_of_use("--region-size is a multiple of the block "
				  "size, 256T at most");
	if (!device->slot_size)
		device->slot_size = vmm_default_slot(device->region_size,
						     device->block_size);
	else if (!power_of_two(device->slot_size) ||
		 device->slot_size < device->block_size)
		return not_of_use("--slot-size is a power of two, the block "
				  "size or more");
	if (device->gpa % device->block_size)
		return not_of_use("--gpa is a multiple of the block size");
	return 0;
}

/*
 * Is this a valid name of a device? It becomes part of descriptor names, which
 * cannot contain colons. It cannot look like a number, since "device" accepts
 * both names and numbers.
 */
static bool is_name(const char *text)
{
	size_t length = strlen(text);

	return isalpha((unsigned char)*text) && length <= DEVICE_NAME_MAX &&
	       strspn(text, "abcdefghijklmnopqrstuvwxyz"
			    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			    "0123456789-_.") == length;
}

static int begin_device(struct options *options, const char *name)
{
	if (!is_name(name))
		return wrong("device", name,
			     "not a letter and at most 30 letters, digits, "
			     "dashes, underscores or dots after it");
	for (unsigned int i = 0; i < options->nr_devices; i++)
		if (options->devices[i].name &&
		    !strcmp(options->devices[i].name, name))
			return wrong("device", name, "there are two");
	if (!options->devices[0].given) {
		options->devices[0].name = name;
		options->devices[0].given = true;
		return 0;
	}
	if (options->nr_devices == VMEM_MAX_DEVICES)
		return wrong("device", name, "that is one more than 16");
	options->devices[options->nr_devices++].name = name;
	return 0;
}

static int parse_device_option(struct device_options *device, int opt)
{
	device->given = true;
	switch (opt) {
	case OPT_VHOST_USER:
		device->vhost_user_path = optarg;
		return 0;
	case OPT_REQUESTED_SIZE:
		device->has_requested_size = true;
		if (size_parse(optarg, &device->requested_size))
			return wrong("requested-size", optarg, "not a size");
		return 0;
	case OPT_NODE:
		device->has_node = true;
		if (parse_number(optarg, &device->node))
			return wrong("node", optarg,
				     "not a number from 0 to 65535");
		return 0;
	case OPT_MEMSLOTS:
		if (parse_memslots(optarg, &device->budget.most))
			return wrong("memslots", optarg,
				     "not \"auto\", nor a number from 1 to "
				     "65535");
		return 0;
	case OPT_ISOLATE:
		device->budget.isolate = true;
		return 0;
	case OPT_PREALLOC:
		device->prealloc = true;
		return 0;
	case OPT_UNPLUGGED_CAP:
		device->has_unplugged_cap = true;
		if (size_parse(optarg, &device->unplugged_cap))
			return wrong("unplugged-cap", optarg, "not a size");
		return 0;
	case OPT_PACKED:
		device->packed = true;
		return 0;
	case OPT_RESTORE:
		device->restore_path = optarg;
		return 0;
	case OPT_BACKING:
		return parse_backing(optarg, &device->vmm);
	case OPT_REGION_SIZE:
	case OPT_BLOCK_SIZE:
	case OPT_SLOT_SIZE:
	case OPT_GPA:
		return parse_vmm_option(device, opt);
	default:
		fprintf(stderr, "Try 'vmemd --help'.\n");
		return -EINVAL;
	}
}

static int parse_one(struct options *options, int opt)
{
	int level;

	switch (opt) {
	case OPT_DEVICE:
		return begin_device(options, optarg);
	case OPT_CONTROL:
		options->control_path = optarg;
		return 0;
	case OPT_LOG_LEVEL:
		level = log_level_from_name(optarg);
		if (level < 0)
			return wrong("log-level", optarg,
				     "not err, warning, info or debug");
		options->log_level = level;
		return 0;
	default:
		return parse_device_option(
			&options->devices[options->nr_devices - 1], opt);
	}
}

/**
 * options_parse() - parse the command line
 * @options: set on success
 * @argc: of main()
 * @argv: of main()
 *
 * Return: 0; 1: --help or --version has been executed; -EINVAL with a message
 * printed.
 */
int options_parse(struct options *options, int argc, char **argv)
{
	int opt, ret;

	*options = (struct options){
		.nr_devices = 1,
		.log_level = LOG_LEVEL_INFO,
	};
	while ((opt = getopt_long(argc, argv, "h", long_options, NULL)) != -1) {
		if (opt == OPT_HELP || opt == 'h') {
			standard_output_put(help);
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
	for (unsigned int i = 0; i < options->nr_devices; i++) {
		ret = complete_vmm(&options->devices[i]);
		if (ret)
			return ret;
	}
	return 0;
}
