// SPDX-License-Identifier: GPL-2.0-or-later
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "layout.h"
#include "util.h"

static const char usage[] =
	"Usage: vmem-vmm --kernel BZIMAGE [OPTION]...\n"
	"Run a Linux guest with virtio-mem devices whose memslots kvm_vmem.ko keeps.\n"
	"\n"
	"Guest:\n"
	"  --kernel FILE          bzImage\n"
	"  --initrd FILE          initramfs\n"
	"  --cmdline TEXT         kernel command line (console=ttyS0)\n"
	"  --memory SIZE          boot memory, 64M to 3G (512M)\n"
	"  --cpus N               virtual CPUs, 1 to 16 (1)\n"
	"  --reboot               continue when the guest resets itself\n"
	"  --hide-features MASK   virtio features to hide from the driver\n"
	"  --smm                  give memory to the SMM address space too\n"
	"  --vfio ADDRESS         registers of a PCI device that is bound to vfio-pci,\n"
	"                         which may access the guest's memory\n"
	"  --serial WHERE         console: stdio, unix:PATH or a file (stdio)\n"
	"  --console-log FILE     also write the console's output to FILE\n"
	"\n"
	"Device, at most two:\n"
	"  --device NAME          begin another device, as vmemd's --device does\n"
	"  --region-size SIZE     size of the virtio-mem region (none)\n"
	"  --slot-size SIZE|auto  size of a memslot (128M); auto: as the vmemd of\n"
	"                         --control plans it\n"
	"  --block-size SIZE      virtio-mem block (2M)\n"
	"  --region-gpa ADDRESS   guest address (first suitable from 4 GiB on)\n"
	"  --region-pages SIZE    use huge pages of the host's pool (normal pages)\n"
	"  --zap-all              a deleted memslot zaps all mappings of the guest\n"
	"  --probe SOCKET         report at SOCKET its memslots that exist in KVM\n"
	"  --vhost-user SOCKET    its vhost-user socket, of a running vmemd\n"
	"\n"
	"vmemd, one of:\n"
	"  --vmemd FILE           start this program for one device, with\n"
	"    --vmemd-arg X        an option for it, may be repeated, and\n"
	"    --control-listen PATH  its control socket\n"
	"  --control SOCKET       control socket of a running vmemd, together with\n"
	"                         --vhost-user for each device\n"
	"\n"
	"A SIZE is in bytes, or with a binary suffix K, M, G or T.\n"
	"Exit status: 0: the guest has powered off; 3: it has reset itself without\n"
	"--reboot; 4: ended by a signal; 1: error.\n";

enum option_id {
	OPT_BLOCK_SIZE = 256,
	OPT_CMDLINE,
	OPT_CONSOLE_LOG,
	OPT_CONTROL,
	OPT_CONTROL_LISTEN,
	OPT_CPUS,
	OPT_DEVICE,
	OPT_HELP,
	OPT_HIDE_FEATURES,
	OPT_INITRD,
	OPT_KERNEL,
	OPT_MEMORY,
	OPT_PROBE,
	OPT_REBOOT,
	OPT_REGION_GPA,
	OPT_REGION_PAGES,
	OPT_REGION_SIZE,
	OPT_SERIAL,
	OPT_SLOT_SIZE,
	OPT_SMM,
	OPT_VFIO,
	OPT_VHOST_USER,
	OPT_VMEMD,
	OPT_VMEMD_ARG,
	OPT_ZAP_ALL,
};

static const struct option long_options[] = {
	{"block-size", required_argument, NULL, OPT_BLOCK_SIZE},
	{"cmdline", required_argument, NULL, OPT_CMDLINE},
	{"console-log", required_argument, NULL, OPT_CONSOLE_LOG},
	{"control", required_argument, NULL, OPT_CONTROL},
	{"control-listen", required_argument, NULL, OPT_CONTROL_LISTEN},
	{"cpus", required_argument, NULL, OPT_CPUS},
	{"device", required_argument, NULL, OPT_DEVICE},
	{"help", no_argument, NULL, OPT_HELP},
	{"hide-features", required_argument, NULL, OPT_HIDE_FEATURES},
	{"initrd", required_argument, NULL, OPT_INITRD},
	{"kernel", required_argument, NULL, OPT_KERNEL},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"probe", required_argument, NULL, OPT_PROBE},
	{"reboot", no_argument, NULL, OPT_REBOOT},
	{"region-gpa", required_argument, NULL, OPT_REGION_GPA},
	{"region-pages", required_argument, NULL, OPT_REGION_PAGES},
	{"region-size", required_argument, NULL, OPT_REGION_SIZE},
	{"serial", required_argument, NULL, OPT_SERIAL},
	{"slot-size", required_argument, NULL, OPT_SLOT_SIZE},
	{"smm", no_argument, NULL, OPT_SMM},
	{"vfio", required_argument, NULL, OPT_VFIO},
	{"vhost-user", required_argument, NULL, OPT_VHOST_USER},
	{"vmemd", required_argument, NULL, OPT_VMEMD},
	{"vmemd-arg", required_argument, NULL, OPT_VMEMD_ARG},
	{"zap-all", no_argument, NULL, OPT_ZAP_ALL},
	{NULL, 0, NULL, 0},
};

static int size_option(const char *name, const char *text, uint64_t *size)
{
	int ret = parse_size(text, size);

	if (ret)
		error("--%s: %s is no size", name, text);
	return ret;
}

/* The kernel checks whether there is a pool of this page size. */
static int pages_option(const char *name, const char *text, uint64_t *size)
{
	int ret = size_option(name, text, size);

	if (ret || (*size && !(*size & (*size - 1))))
		return ret;
	error("--%s: %s is not a power of two", name, text);
	return -EINVAL;
}

static int mask_option(const char *name, const char *text, uint64_t *mask)
{
	char *end;

	errno = 0;
	*mask = strtoull(text, &end, 0);
	if (!errno && end != text && !*end)
		return 0;
	error("--%s: %s is no number", name, text);
	return -EINVAL;
}

static int cpus_option(struct options *options, const char *text)
{
	unsigned long number;
	char *end;

	number = strtoul(text, &end, 10);
	if (*end || !number || number > MAX_VCPUS) {
		error("--cpus: 1 to %d", MAX_VCPUS);
		return -EINVAL;
	}
	options->nr_vcpus = (unsigned int)number;
	return 0;
}

static int vmemd_arg_option(struct options *options, char *text)
{
	unsigned int i;

	for (i = 0; i < VMEMD_MAX_ARGS; i++) {
		if (!options->vmemd_args[i]) {
			options->vmemd_args[i] = text;
			return 0;
		}
	}
	error("--vmemd-arg: more than %d", VMEMD_MAX_ARGS);
	return -E2BIG;
}

static const struct device_options device_defaults = {
	.region =
		{
			.block_size = 2 * MIB,
			.slot_size = 128 * MIB,
		},
};

/*
 * An option of a device applies to the last one; without --device, to the
 * first.
 */
static struct device_options *last_device(struct options *options)
{
	if (!options->nr_devices)
		options->devices[options->nr_devices++] = device_defaults;
	return &options->devices[options->nr_devices - 1];
}

static int device_option(struct options *options, const char *name)
{
	unsigned int nr = options->nr_devices;

	/* vmemd's rule for names; such names need no quotes in JSON. */
	if (!*name || strlen(name) > DEVICE_NAME_MAX ||
	    strspn(name, "abcdefghijklmnopqrstuvwxyz"
			 "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
			 "0123456789-_.") != strlen(name)) {
		error("--device: \"%s\" is not up to %d letters, digits, dashes, underscores and dots",
		      name, DEVICE_NAME_MAX);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < nr; i++) {
		if (options->devices[i].name &&
		    !strcmp(options->devices[i].name, name)) {
			error("--device: there are two of the name %s", name);
			return -EINVAL;
		}
	}
	if (nr == MAX_DEVICES) {
		error("--device: more than %d", MAX_DEVICES);
		return -E2BIG;
	}
	options->devices[nr] = device_defaults;
	options->devices[nr].name = name;
	options->nr_devices++;
	return 0;
}

static int take_device_option(struct options *options, int option,
			      const char *name, char *text)
{
	struct device_options *device = last_device(options);

	switch (option) {
	case OPT_BLOCK_SIZE:
		return size_option(name, text, &device->region.block_size);
	case OPT_PROBE:
		device->probe = text;
		return 0;
	case OPT_REGION_GPA:
		return size_option(name, text, &device->region.gpa);
	case OPT_REGION_PAGES:
		return pages_option(name, text, &device->region.page_size);
	case OPT_REGION_SIZE:
		return size_option(name, text, &device->region.size);
	case OPT_SLOT_SIZE:
		device->plan = !strcmp(text, "auto");
		return device->plan ? 0
				    : size_option(name, text,
						  &device->region.slot_size);
	case OPT_VHOST_USER:
		device->vhost_user = text;
		return 0;
	case OPT_ZAP_ALL:
		device->region.zap_all = true;
		return 0;
	default:
		return -EINVAL; /* getopt_long has printed the error */
	}
}

static int take_option(struct options *options, int option, const char *name,
		       char *text)
{
	switch (option) {
	case OPT_CMDLINE:
		options->cmdline = text;
		return 0;
	case OPT_CONSOLE_LOG:
		options->console_log = text;
		return 0;
	case OPT_CONTROL:
		options->control = text;
		return 0;
	case OPT_CONTROL_LISTEN:
		options->control_listen = text;
		return 0;
	case OPT_CPUS:
		return cpus_option(options, text);
	case OPT_DEVICE:
		return device_option(options, text);
	case OPT_HIDE_FEATURES:
		return mask_option(name, text, &options->features_hidden);
	case OPT_INITRD:
		options->initrd = text;
		return 0;
	case OPT_KERNEL:
		options->kernel = text;
		return 0;
	case OPT_MEMORY:
		return size_option(name, text, &options->memory);
	case OPT_REBOOT:
		options->reboot = true;
		return 0;
	case OPT_SERIAL:
		options->serial = text;
		return 0;
	case OPT_SMM:
		options->smm = true;
		return 0;
	case OPT_VFIO:
		options->vfio = text;
		return 0;
	case OPT_VMEMD:
		options->vmemd = text;
		return 0;
	case OPT_VMEMD_ARG:
		return vmemd_arg_option(options, text);
	default:
		return take_device_option(options, option, name, text);
	}
}

static int check_devices(const struct options *options)
{
	unsigned int i;

	if (options->vmemd && options->control) {
		error("--vmemd and --control exclude each other");
		return -EINVAL;
	}
	if (options->vmemd && options->nr_devices > 1) {
		error("--vmemd is for one device, connect to a running one");
		return -EINVAL;
	}
	if (!options->nr_devices && (options->vmemd || options->control)) {
		error("--vmemd and --control go with --region-size");
		return -EINVAL;
	}
	for (i = 0; i < options->nr_devices; i++) {
		const struct device_options *device = &options->devices[i];

		if (!device->region.size ||
		    (!options->vmemd && !options->control)) {
			error("a device takes --region-size and a vmemd");
			return -EINVAL;
		}
		if (!device->vhost_user != !options->control) {
			error("--vhost-user and --control go together, without --vmemd");
			return -EINVAL;
		}
		if (!device->plan && !device->region.slot_size) {
			error("--slot-size: 0 is no size");
			return -EINVAL;
		}
		if (device->plan && !options->control) {
			error("--slot-size auto goes with --control");
			return -EINVAL;
		}
		if (!device->name && options->nr_devices > 1) {
			error("two devices need names, by --device");
			return -EINVAL;
		}
	}
	return 0;
}

static int check(const struct options *options)
{
	if (!options->kernel) {
		error("--kernel is missing");
		return -EINVAL;
	}
	if (options->memory < 64 * MIB || options->memory > BOOT_MEMORY_MAX ||
	    options->memory % MIB) {
		error("--memory: 64M to 3G, in whole MiB");
		return -EINVAL;
	}
	if (!options->vmemd &&
	    (options->vmemd_args[0] || options->control_listen)) {
		error("--vmemd-arg and --control-listen go with --vmemd");
		return -EINVAL;
	}
	if (options->vfio && options->nr_devices && !options_control(options)) {
		error("--vfio goes with --control or --control-listen");
		return -EINVAL;
	}
	return check_devices(options);
}

int options_parse(struct options *options, int argc, char **argv)
{
	int option, index = 0, ret;

	*options = (struct options){
		.cmdline = "console=ttyS0",
		.memory = 512 * MIB,
		.nr_vcpus = 1,
		.serial = "stdio",
	};
	for (;;) {
		option = getopt_long(argc, argv, "", long_options, &index);
		if (option < 0)
			break;
		if (option == OPT_HELP) {
			fputs(usage, stdout);
			return 1;
		}
		ret = take_option(options, option, long_options[index].name,
				  optarg);
		if (ret)
			return ret;
	}
	if (optind < argc) {
		error("unexpected argument: %s", argv[optind]);
		return -EINVAL;
	}
	for (unsigned int i = 0; i < options->nr_devices; i++)
		options->devices[i].region.address_spaces =
			options->smm ? 3 : 1;
	return check(options);
}
