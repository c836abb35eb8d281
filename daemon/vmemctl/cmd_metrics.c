// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl metrics: metrics of VMs for Prometheus and other readers of its
 * formats.
 *
 * The default is the text format of node_exporter's textfile collector. The
 * option --openmetrics selects OpenMetrics 1.0, in which the name of a
 * counter's family has no "_total", and the text ends with an end marker. An
 * output file is replaced atomically, so that a reader never sees a part of it.
 *
 * A thread for each VM calls its vmemd. A vmemd that hangs delays the output by
 * no more than the time limit, and only its own metrics are missing.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "command_line.h"
#include "common/output_file.h"
#include "common/printable.h"
#include "daemon_call.h"
#include "vms.h"

#define NSEC_PER_SEC 1e9

/**
 * struct vm - a VM, or one device of it if the devices have names
 * @labels: the labels of its metrics
 * @status: answer to "status"; NULL if vmemd has not answered or the device has
 *	no region
 * @latencies: answer to "latencies"; NULL as for @status
 */
struct vm {
	char *labels;
	json_object *status;
	json_object *latencies;
};

/**
 * struct page - the output
 * @out: output stream
 * @vms: the VMs
 * @nr: number of VMs
 * @openmetrics: use the OpenMetrics format
 */
struct page {
	FILE *out;
	struct vm *vms;
	size_t nr;
	bool openmetrics;
};

/* --- Asking --- */

/*
 * Escape a text as the value of a label. The result is valid UTF-8, because a
 * reader rejects the whole file otherwise.
 *
 * Return: the text, which the caller frees; NULL: out of memory.
 */
static char *escape(const char *text)
{
	char *valid = printable_escape(text, strlen(text));
	char *escaped = valid ? malloc(2 * strlen(valid) + 1) : NULL;
	char *to = escaped;

	for (const char *from = valid; escaped && *from; from++) {
		if (*from == '\\' || *from == '"')
			*to++ = '\\';
		*to++ = *from;
	}
	if (escaped)
		*to = '\0';
	free(valid);
	return escaped;
}

/* The label of a VM: the name of its directory, or the path of the socket. */
static char *new_vm_label(const char *path)
{
	char *name = vms_name(path), *label;

	label = escape(name ? name : path);
	free(name);
	return label;
}

/* Return: the labels, as between braces; NULL: out of memory. */
static char *new_labels(const char *vm, const char *device)
{
	char *labels = NULL, *escaped = escape(device);
	int ret = -1;

	if (escaped)
		ret = *device ? asprintf(&labels, "vm=\"%s\",device=\"%s\"", vm,
					 escaped)
			      : asprintf(&labels, "vm=\"%s\"", vm);
	free(escaped);
	return ret < 0 ? NULL : labels;
}

/*
 * Add a VM or device to the page.
 *
 * @status: as in struct vm; the page takes over the reference
 * @asked: in: request latencies; out: false if that has failed
 */
static int add_vm(struct page *page, const char *name, struct daemon *daemon,
		  json_object *status, const char *device, bool *asked)
{
	char *labels = new_labels(name, device);
	struct vm *grown, *vm;

	grown = labels ? reallocarray(page->vms, page->nr + 1, sizeof(*grown))
		       : NULL;
	if (!grown) {
		free(labels);
		json_object_put(status);
		return -ENOMEM;
	}
	page->vms = grown;
	vm = &grown[page->nr++];
	*vm = (struct vm){
		.labels = labels,
		.status = status,
	};
	daemon->device = *device ? device : NULL;
	/* After one request without an answer there is no time for another. */
	if (status && *asked &&
	    daemon_call(daemon, "latencies", NULL, &vm->latencies)) {
		vm->latencies = NULL;
		*asked = false;
	}
	daemon->device = NULL;
	return 0;
}

static int add_devices(struct page *page, const char *name,
		       struct daemon *daemon, json_object *devices)
{
	bool asked = true;
	int ret = 0;

	for (size_t i = 0; i < answer_array_length(devices) && !ret; i++) {
		json_object *status = json_object_array_get_idx(devices, i);
		bool attached = answer_bool(status, "attached");

		ret = add_vm(page, name, daemon,
			     attached ? json_object_get(status) : NULL,
			     answer_text(status, "device"), &asked);
	}
	return ret;
}

/* Add a VM. One whose vmemd does not answer is reported as down. */
static int ask(struct page *page, const char *name, const char *path,
	       const struct ctl_options *options)
{
	json_object *status = NULL, *devices;
	struct daemon daemon;
	bool asked = true;
	int ret;

	if (daemon_open(&daemon, path, options) ||
	    daemon_call(&daemon, "status", NULL, &status))
		status = NULL;
	devices = answer_array(status, "devices");
	if (answer_array_length(devices) > DAEMON_DEVICES_MAX) {
		daemon_not_vmemd(&daemon);
		json_object_put(status);
		status = NULL;
		devices = NULL;
	}
	if (devices) {
		ret = add_devices(page, name, &daemon, devices);
		json_object_put(status);
	} else {
		ret = add_vm(page, name, &daemon, status,
			     answer_text(status, "device"), &asked);
	}
	daemon_close(&daemon);
	return ret;
}

/* --- Printing --- */

/* Print the head of a family. @name does not have the "_total" of counters. */
static void put_head(const struct page *page, const char *name,
		     const char *type, const char *unit, const char *help)
{
	const char *suffix =
		!page->openmetrics && !strcmp(type, "counter") ? "_total" : "";

	fprintf(page->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", name, suffix,
		help, name, suffix, type);
	if (page->openmetrics && *unit)
		fprintf(page->out, "# UNIT %s %s\n", name, unit);
}

static void put_up(const struct page *page)
{
	put_head(page, "vmem_up", "gauge", "",
		 "Whether the VM's vmemd answers and has a region.");
	for (size_t i = 0; i < page->nr; i++)
		fprintf(page->out, "vmem_up{%s} %d\n", page->vms[i].labels,
			!!page->vms[i].status);
}

static void put_sizes(const struct page *page)
{
	static const struct {
		const char *field;
		const char *name;
		const char *unit;
		const char *help;
	} gauges[] = {
		{"region_size", "vmem_region_size_bytes", "bytes",
		 "Size of the region, the maximum plugged size."},
		{"usable_region_size", "vmem_usable_region_size_bytes", "bytes",
		 "Size of the part of the region in which the guest may plug."},
		{"requested_size", "vmem_requested_size_bytes", "bytes",
		 "Size that the guest is requested to plug."},
		{"plugged_size", "vmem_plugged_size_bytes", "bytes",
		 "Size of the plugged blocks."},
		{"undiscarded_size", "vmem_undiscarded_size_bytes", "bytes",
		 "Unplugged memory that is not discarded yet."},
		{"resident_size", "vmem_resident_size_bytes", "bytes",
		 "Resident memory of the region, touched or allocated."},
		{"excess_size", "vmem_excess_size_bytes", "bytes",
		 "Resident memory beyond the plugged size."},
		{"nr_slots", "vmem_memslots", "",
		 "Memslots of the region if all of it is plugged."},
		{"populated_slots", "vmem_populated_memslots", "",
		 "Memslots of the region that exist in KVM."},
		{"longest_turn_steps", "vmem_longest_turn_steps", "",
		 "Largest number of small steps in one turn of vmemd, for which "
		 "all others have waited."},
	};

	for (size_t g = 0; g < sizeof(gauges) / sizeof(gauges[0]); g++) {
		put_head(page, gauges[g].name, "gauge", gauges[g].unit,
			 gauges[g].help);
		for (size_t i = 0; i < page->nr; i++)
			if (page->vms[i].status)
				fprintf(page->out, "%s{%s} %" PRIu64 "\n",
					gauges[g].name, page->vms[i].labels,
					answer_size(page->vms[i].status,
						    gauges[g].field));
	}
}

static void put_punches(const struct page *page)
{
	static const struct {
		const char *field;
		const char *name;
		const char *unit;
		const char *help;
	} counters[] = {
		{"punches", "vmem_punches", "",
		 "Times that memory of unplugged blocks exceeded the cap and "
		 "was discarded."},
		{"punched_size", "vmem_punched_size_bytes", "bytes",
		 "Memory of unplugged blocks that was discarded then."},
	};

	for (size_t c = 0; c < sizeof(counters) / sizeof(counters[0]); c++) {
		put_head(page, counters[c].name, "counter", counters[c].unit,
			 counters[c].help);
		for (size_t i = 0; i < page->nr; i++)
			if (page->vms[i].status)
				fprintf(page->out, "%s_total{%s} %" PRIu64 "\n",
					counters[c].name, page->vms[i].labels,
					answer_size(page->vms[i].status,
						    counters[c].field));
	}
}

/* Zaps are known for regions of the module only, not with --backing vmm. */
static void put_zaps(const struct page *page)
{
	static const char name[] = "vmem_zaps";
	static const struct {
		const char *field, *of;
	} kinds[] = {
		{"range_zaps", "memslots"},
		{"zaps_by_kvm", "vm"},
	};

	put_head(page, name, "counter", "",
		 "Batches that deleted memslots, by the mappings that they "
		 "dropped: those of the memslots, or all of the VM.");
	for (size_t i = 0; i < page->nr; i++) {
		json_object *status = page->vms[i].status;

		for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
			if (status && answer_has_size(status, kinds[k].field))
				fprintf(page->out,
					"%s_total{%s,of=\"%s\"} %" PRIu64 "\n",
					name, page->vms[i].labels, kinds[k].of,
					answer_size(status, kinds[k].field));
	}
}

static void put_driver(const struct page *page)
{
	static const struct {
		const char *field;
		const char *name;
		const char *help;
	} gauges[] = {
		{"connected", "vmem_front_end_connected",
		 "Whether the VMM is connected to vmemd."},
		{"ready", "vmem_driver_ready",
		 "Whether the guest has a virtio-mem driver that is ready."},
	};

	for (size_t g = 0; g < sizeof(gauges) / sizeof(gauges[0]); g++) {
		put_head(page, gauges[g].name, "gauge", "", gauges[g].help);
		for (size_t i = 0; i < page->nr; i++)
			if (page->vms[i].status)
				fprintf(page->out, "%s{%s} %d\n",
					gauges[g].name, page->vms[i].labels,
					answer_bool(answer_object(
							    page->vms[i].status,
							    "driver"),
						    gauges[g].field));
	}
}

/* A region in the kernel, which does not report this, never loses it. */
static void put_lost(const struct page *page)
{
	static const char name[] = "vmem_state_lost";

	put_head(page, name, "gauge", "",
		 "Whether the plugged blocks are unknown. Memory beyond the "
		 "plugged size is not detected then.");
	for (size_t i = 0; i < page->nr; i++)
		if (page->vms[i].status)
			fprintf(page->out, "%s{%s} %d\n", name,
				page->vms[i].labels,
				answer_bool(page->vms[i].status, "state_lost"));
}

/**
 * struct sample - context for printing the members of an object as samples
 * @page: the page
 * @name: name of the family
 * @labels: labels of the VM
 * @request: name of the request whose answers are printed
 */
struct sample {
	const struct page *page;
	const char *name;
	const char *labels;
	const char *request;
};

static void put_kind(const char *kind, json_object *value, void *arg)
{
	const struct sample *sample = arg;

	/* Readers compute sums themselves. */
	if (strcmp(kind, "total") != 0 &&
	    json_object_is_type(value, json_type_int))
		fprintf(sample->page->out, "%s{%s,kind=\"%s\"} %" PRIu64 "\n",
			sample->name, sample->labels, kind,
			json_object_get_uint64(value));
}

/* Print one family: metadata by kind, of the VMs that report it. */
static void put_metadata(const struct page *page, const char *field,
			 const char *name, const char *help)
{
	put_head(page, name, "gauge", "bytes", help);
	for (size_t i = 0; i < page->nr; i++) {
		struct sample sample = {
			.page = page,
			.name = name,
			.labels = page->vms[i].labels,
		};

		answer_each_member(answer_object(page->vms[i].status, field),
				   put_kind, &sample);
	}
}

static void put_answer(const char *answer, json_object *count, void *arg)
{
	const struct sample *sample = arg;

	if (!json_object_is_type(count, json_type_int))
		return;
	fprintf(sample->page->out,
		"vmem_requests_total{%s,request=\"%s\",answer=\"%s\"} %" PRIu64
		"\n",
		sample->labels, sample->request, answer,
		json_object_get_uint64(count));
}

static void put_request(const char *request, json_object *answers, void *arg)
{
	struct sample sample = *(const struct sample *)arg;

	sample.request = request;
	answer_each_member(answers, put_answer, &sample);
}

static void put_requests(const struct page *page)
{
	put_head(page, "vmem_requests", "counter", "",
		 "Requests of the guest, by their answers.");
	for (size_t i = 0; i < page->nr; i++) {
		struct sample sample = {
			.page = page,
			.labels = page->vms[i].labels,
		};

		answer_each_member(
			answer_object(page->vms[i].status, "requests"),
			put_request, &sample);
	}
}

/* Print a histogram: cumulative buckets, sum and count. */
static void put_histogram(const struct page *page, const char *name,
			  const char *labels, const char *request,
			  json_object *latency)
{
	json_object *buckets = answer_array(latency, "buckets");
	uint64_t below = 0;

	for (size_t i = 0; i < answer_array_length(buckets); i++) {
		json_object *bucket = json_object_array_get_idx(buckets, i);
		double most =
			(double)answer_size(bucket, "most") / NSEC_PER_SEC;
		char bound[32];

		below += answer_size(bucket, "count");
		snprintf(bound, sizeof(bound), "%g", most);
		/* OpenMetrics requires a floating-point number as the bound. */
		fprintf(page->out,
			"%s_bucket{%s,request=\"%s\",le=\"%s%s\"} "
			"%" PRIu64 "\n",
			name, labels, request, bound,
			strpbrk(bound, ".e") ? "" : ".0", below);
	}
	fprintf(page->out,
		"%s_bucket{%s,request=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name,
		labels, request, answer_size(latency, "count"));
	fprintf(page->out, "%s_sum{%s,request=\"%s\"} %.9f\n", name, labels,
		request, (double)answer_size(latency, "sum") / NSEC_PER_SEC);
	fprintf(page->out, "%s_count{%s,request=\"%s\"} %" PRIu64 "\n", name,
		labels, request, answer_size(latency, "count"));
}

static void put_latency(const char *request, json_object *latency, void *arg)
{
	const struct sample *sample = arg;

	put_histogram(sample->page, sample->name, sample->labels, request,
		      latency);
}

static void put_latencies(const struct page *page)
{
	static const char name[] = "vmem_request_duration_seconds";

	put_head(page, name, "histogram", "seconds",
		 "Time from reading a request of the guest to its answer.");
	for (size_t i = 0; i < page->nr; i++) {
		struct sample sample = {
			.page = page,
			.name = name,
			.labels = page->vms[i].labels,
		};

		answer_each_member(
			answer_object(page->vms[i].latencies, "latencies_ns"),
			put_latency, &sample);
	}
}

static void put_longest_turn(const struct page *page)
{
	static const char name[] = "vmem_longest_turn_seconds";

	put_head(page, name, "gauge", "seconds",
		 "Longest turn of vmemd since its start.");
	for (size_t i = 0; i < page->nr; i++)
		if (page->vms[i].status)
			fprintf(page->out, "%s{%s} %.9f\n", name,
				page->vms[i].labels,
				(double)answer_size(page->vms[i].status,
						    "longest_turn_ns") /
					NSEC_PER_SEC);
}

static void put_page(const struct page *page)
{
	put_up(page);
	put_sizes(page);
	put_punches(page);
	put_driver(page);
	put_lost(page);
	put_metadata(page, "metadata", "vmem_metadata_bytes",
		     "Metadata of the region's memslots in KVM.");
	put_metadata(page, "whole_metadata", "vmem_whole_metadata_bytes",
		     "Metadata in KVM if the region were one memslot.");
	put_zaps(page);
	put_requests(page);
	put_latencies(page);
	put_longest_turn(page);
	if (page->openmetrics)
		fputs("# EOF\n", page->out);
}

/* --- The command --- */

/* Write the page to a file of mode 0644: the collector is another user. */
static int write_file(struct page *page, const char *path)
{
	char *text = NULL;
	size_t size = 0;
	int ret;

	page->out = open_memstream(&text, &size);
	if (!page->out) {
		ctl_complain("out of memory");
		return -ENOMEM;
	}
	put_page(page);
	ret = fclose(page->out) ? -errno : 0;
	if (!ret)
		ret = output_file_write(path, 0644, false, text, size);
	if (ret)
		ctl_complain("%s: %s", path, strerror(-ret));
	free(text);
	return ret;
}

/* --- Asking all at once --- */

/*
 * Default time limit for the answers of a VM. vmemd normally answers within
 * milliseconds. Collectors of metrics have time limits of about 10 seconds.
 */
#define METRICS_TIMEOUT_MS (5 * MSEC_PER_SEC)

/* Stack size of a thread that calls a vmemd; its call depth is small. */
#define ASKER_STACK_SIZE (256U << 10)

/**
 * struct asker - a thread that calls one vmemd
 * @path: path of the control socket
 * @options: the command line
 * @thread: the thread, if @started
 * @started: the thread was created
 * @page: the VM or its devices
 * @ret: 0, or -ENOMEM
 */
struct asker {
	const char *path;
	const struct ctl_options *options;
	pthread_t thread;
	bool started;
	struct page page;
	int ret;
};

static void *run_asker(void *arg)
{
	struct asker *asker = arg;
	char *name = new_vm_label(asker->path);

	asker->ret = name ? ask(&asker->page, name, asker->path, asker->options)
			  : -ENOMEM;
	free(name);
	return NULL;
}

static void start_asker(struct asker *asker, const pthread_attr_t *attr)
{
	asker->started =
		!pthread_create(&asker->thread, attr, run_asker, asker);
	/* Without a thread, call this vmemd before the next ones. */
	if (!asker->started)
		run_asker(asker);
}

static void free_vm(struct vm *vm)
{
	free(vm->labels);
	json_object_put(vm->status);
	json_object_put(vm->latencies);
}

/* Is there a VM with these labels? Labels must be unique within a family. */
static bool is_known(const struct page *page, const char *labels)
{
	for (size_t i = 0; i < page->nr; i++)
		if (!strcmp(page->vms[i].labels, labels))
			return true;
	return false;
}

/* Move the VMs of an asker to the page. */
static int take_answers(struct page *page, struct asker *asker)
{
	struct vm *grown;
	int ret = asker->ret;

	grown = reallocarray(page->vms, page->nr + asker->page.nr + 1,
			     sizeof(*grown));
	if (grown)
		page->vms = grown;
	else
		ret = -ENOMEM;
	for (size_t i = 0; i < asker->page.nr; i++) {
		struct vm *vm = &asker->page.vms[i];
		bool known = vm->labels && is_known(page, vm->labels);

		if (known)
			ctl_complain("%s: there are two of {%s}", asker->path,
				     vm->labels);
		if (grown && vm->labels && !known)
			page->vms[page->nr++] = *vm;
		else
			free_vm(vm);
	}
	free(asker->page.vms);
	return ret;
}

/* Call all vmemds at the same time: one that hangs does not delay others. */
static int ask_all(struct page *page, const char *const *paths, size_t nr,
		   const struct ctl_options *options)
{
	struct asker *askers = calloc(nr + 1, sizeof(*askers));
	pthread_attr_t attr;
	int ret = 0;

	if (!askers)
		return -ENOMEM;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, ASKER_STACK_SIZE);
	for (size_t i = 0; i < nr; i++) {
		askers[i].path = paths[i];
		askers[i].options = options;
		start_asker(&askers[i], &attr);
	}
	pthread_attr_destroy(&attr);
	for (size_t i = 0; i < nr; i++) {
		int failed;

		if (askers[i].started)
			pthread_join(askers[i].thread, NULL);
		failed = take_answers(page, &askers[i]);
		ret = ret ? ret : failed;
	}
	free(askers);
	return ret;
}

/* Add the VMs that have a name and whose vmemd is running. */
static int ask_found(struct page *page, const struct ctl_options *options)
{
	const char **paths;
	struct vms vms;
	size_t nr = 0;
	int ret;

	ret = vms_find(&vms);
	if (ret)
		return ret;
	paths = calloc(vms.nr + 1, sizeof(*paths));
	for (size_t i = 0; paths && i < vms.nr; i++)
		if (vms.vms[i].name && !vms.vms[i].idle)
			paths[nr++] = vms.vms[i].path;
	ret = paths ? ask_all(page, paths, nr, options) : -ENOMEM;
	free(paths);
	vms_free(&vms);
	return ret;
}

static int ctl_metrics(const struct ctl_options *options)
{
	struct page page = {.openmetrics = options->openmetrics};
	struct ctl_options asking = *options;
	int ret;

	if (!asking.has_timeout) {
		asking.has_timeout = true;
		asking.timeout_ms = METRICS_TIMEOUT_MS;
	}
	if (options->nr_control)
		ret = ask_all(&page, (const char *const *)options->control,
			      options->nr_control, &asking);
	else
		ret = ask_found(&page, &asking);
	if (ret) {
		ctl_complain("out of memory");
	} else if (options->output) {
		ret = write_file(&page, options->output);
	} else {
		page.out = stdout;
		put_page(&page);
	}
	for (size_t i = 0; i < page.nr; i++)
		free_vm(&page.vms[i]);
	free(page.vms);
	return ret;
}

static const struct ctl_option metrics_options[] = {
	{.name = "output",
	 .value = "FILE",
	 .complete = "file",
	 .parse = ctl_parse_text,
	 .offset = offsetof(struct ctl_options, output),
	 .help = "write to FILE, for node_exporter's textfile collector"},
	{.name = "openmetrics",
	 .parse = ctl_parse_flag,
	 .offset = offsetof(struct ctl_options, openmetrics),
	 .help = "in the OpenMetrics format"},
	{},
};

const struct ctl_command metrics_commands[] = {
	{.name = "metrics",
	 .no_json = true,
	 .scope = CTL_VMEMDS,
	 .help = "metrics for Prometheus, of the given VMs or of all that \"list\"\n"
		 "finds by name",
	 .options = metrics_options,
	 .run = ctl_metrics},
	{},
};
