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
	"The kvm_vmem kernel module plugs and unplugs blocks for the guest: only\n"
	"populated memslots exist in KVM.\n"
	"\n"
	"Descriptors:\n"
	"  By the socket activation protocol (LISTEN_FDS, LISTEN_PID,\n"
	"  LISTEN_FDNAMES; see sd_listen_fds(3)), vmemd accepts:\n"
	"    region      the region, from KVM_VMEM_CREATE_REGION\n"
	"    memory      the memfd with the region's memory; its offset 0 is the\n"
	"                region's start\n"
	"    vhost-user  a listening or a connected UNIX stream socket\n"
	"    control     a listening UNIX stream socket\n"
	"  region and memory are passed together. Otherwise the VMM sends them by\n"
	"  the control call \"attach\" with SCM_RIGHTS, in this order. The names for\n"
	"  a device NAME are region-NAME and so on; the first device may omit\n"
	"  -NAME.\n"
	"\n"
	"Options:\n"
	"      --control PATH         listen at PATH for vmemctl\n"
	"      --log-level LEVEL      err, warning, info or debug; default: info\n"
	"      --version              print the version\n"
	"  -h, --help                 print this\n"
	"\n"
	"Options of a device:\n"
	"      --device NAME          start the options of a further device. Options\n"
	"                             before the first --device are those of the\n"
	"                             first device; if there are none, NAME is the\n"
	"                             first device\n"
	"      --vhost-user PATH      listen at PATH for a vhost-user front end\n"
	"      --requested-size SIZE  initial requested size: a multiple of the\n"
	"                             block size, at most the region's size.\n"
	"                             Ignored if the region was in use or has a\n"
	"                             requested size, as after a restart.\n"
	"                             Default: 0\n"
	"      --node N               ACPI proximity domain of the memory (0 to\n"
	"                             65535)\n"
	"      --memslots auto|N      maximum number of memslots of the region; a\n"
	"                             region with more is refused. auto (default):\n"
	"                             as many as KVM and consumers allow\n"
	"      --isolate              require one memslot per block, so that the\n"
	"                             guest cannot access unplugged memory\n"
	"      --prealloc             allocate the memory of blocks before they are\n"
	"                             plugged. If there is none, the guest gets\n"
	"                             busy and tries again later\n"
	"      --unplugged-cap SIZE   discard the memory of unplugged blocks when a\n"
	"                             hostile guest uses more than SIZE. Default:\n"
	"                             warn only\n"
	"      --packed               offer packed virtqueues, for a front end that\n"
	"                             keeps the inflight region\n"
	"      --restore FILE         restore a state of \"vmemctl save\". Ignored if\n"
	"                             the region was served before, as after a\n"
	"                             restart\n"
	"      --backing BACKING      kernel: a region of the kvm_vmem module\n"
	"                             (default); or vmm: vmemd creates the memory,\n"
	"                             and a front end with SHMEM maps it, as QEMU\n"
	"                             11.1 does\n"
	"\n"
	"Options of a device with --backing vmm:\n"
	"      --region-size SIZE     size of the region; required\n"
	"      --block-size SIZE      block size: a power of two, at least 2M.\n"
	"                             Default: 2M\n"
	"      --slot-size SIZE       size of the first memslot: a power of two and a\n"
	"                             multiple of the block size. There are up to 6\n"
	"                             memslots; each ends at 4 times the end of the\n"
	"                             previous one. Default: the smallest size from\n"
	"                             128M on with which 6 memslots suffice\n"
	"      --gpa ADDRESS          guest address of the region, if it is known at\n"
	"                             the start; otherwise use \"vmemctl place\"\n"
	"  Memory and state are memfds, which vmemd stores with the service manager,\n"
	"  if there is one, as \"memory\" and \"state\"; or files that are passed under\n"
	"  these names and are empty at first.\n"
	"\n"
	"SIZE is in bytes, or has a suffix K, M, G or T for powers of 1024.\n"
	"\n"
	"Environment:\n"
	"  NOTIFY_SOCKET  socket for readiness, status and stopping, see\n"
	"                 sd_notify(3). vmemd is ready when all devices have region\n"
	"                 and memory and all sockets are served.\n"
	"  WATCHDOG_USEC  watchdog of the service manager, see\n"
	"                 sd_watchdog_enabled(3)\n"
	"\n"
	"Exit status:\n"
	"  0  on SIGTERM and SIGINT, and when the VM is gone\n"
	"  1  the start failed, or an error occurred later\n"
	"  2  the command line is invalid\n"
	"\n"
	"vmemd has no state of its own: it may be killed and restarted with the same\n"
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

/*
 * An empty path is not one: bind(2) takes it as an abstract name, to which any
 * user may connect. It may come from a variable that is not set.
 */
static int parse_path(const char *name, const char **path)
{
	if (!*optarg)
		return wrong(name, optarg, "not a path");
	*path = optarg;
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
			return wrong("device", name, "the name is used twice");
	if (!options->devices[0].given) {
		options->devices[0].name = name;
		options->devices[0].given = true;
		return 0;
	}
	if (options->nr_devices == VMEM_MAX_DEVICES)
		return wrong("device", name, "more than 16 devices");
	options->devices[options->nr_devices++].name = name;
	return 0;
}

static int parse_device_option(struct device_options *device, int opt)
{
	device->given = true;
	switch (opt) {
	case OPT_VHOST_USER:
		return parse_path("vhost-user", &device->vhost_user_path);
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
		return parse_path("restore", &device->restore_path);
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
		return parse_path("control", &options->control_path);
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
