// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * vmemctl metrics: what vmemds tell of their VMs, for Prometheus and what reads
 * its formats.
 *
 * By default in the text format that node_exporter's textfile collector reads;
 * with --openmetrics in OpenMetrics 1.0, in which a counter's family is named
 * without "_total", and the text has an end. A file is replaced by one that is
 * whole: whoever reads it at the wrong moment must not see half of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmemctl_daemon.h"

/* Control sockets by the systemd units; a VM's name is its folder's. */
#define CONTROL_DIR  "/run/vmemd/"
#define CONTROL_NAME "/control"

#define NSEC_PER_SEC 1e9

/**
 * struct vm - a VM as its vmemd tells it; where its devices have names, one of
 *	them
 * @labels: that name it
 * @status: NULL if the vmemd does not tell, or the device has no region
 * @latencies: how long requests took; NULL likewise
 */
struct vm {
	char *labels;
	json_object *status;
	json_object *latencies;
};

/**
 * struct page - what is printed
 * @out: where to
 * @vms: @nr of them
 * @openmetrics: in that format
 */
struct page {
	FILE *out;
	struct vm *vms;
	size_t nr;
	bool openmetrics;
};

/* --- Asking --- */

/* As a label's value may be; the caller's to free. NULL without memory. */
static char *escape(const char *text, size_t length)
{
	char *escaped = malloc(2 * length + 1), *to = escaped;

	if (!escaped)
		return NULL;
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\\' || text[i] == '"' || text[i] == '\n')
			*to++ = '\\';
		*to++ = text[i] == '\n' ? 'n' : text[i];
	}
	*to = '\0';
	return escaped;
}

/* By its folder, where the units have put it; else by its path. */
static char *vm_name(const char *path)
{
	size_t dir = strlen(CONTROL_DIR), name = strlen(CONTROL_NAME);
	size_t length = strlen(path);

	if (length > dir + name && !strncmp(path, CONTROL_DIR, dir) &&
	    !strcmp(path + length - name, CONTROL_NAME))
		return escape(path + dir, length - dir - name);
	return escape(path, length);
}

/* As it stands in braces. NULL without memory. */
static char *new_labels(const char *vm, const char *device)
{
	char *labels = NULL;
	int ret;

	/* vmemd's names of devices need not be escaped. */
	ret = *device ? asprintf(&labels, "vm=\"%s\",device=\"%s\"", vm, device)
		      : asprintf(&labels, "vm=\"%s\"", vm);
	return ret < 0 ? NULL : labels;
}

/* @status: given away; NULL likewise as in struct vm */
static int add_vm(struct page *page, const char *name, struct daemon *daemon,
		  json_object *status, const char *device)
{
	struct vm *grown, *vm;

	grown = reallocarray(page->vms, page->nr + 1, sizeof(*grown));
	if (!grown) {
		json_object_put(status);
		return -ENOMEM;
	}
	page->vms = grown;
	vm = &grown[page->nr++];
	*vm = (struct vm){
		.labels = new_labels(name, device),
		.status = status,
	};
	if (!vm->labels)
		return -ENOMEM;
	daemon->device = *device ? device : NULL;
	if (status && daemon_call(daemon, "latencies", NULL, &vm->latencies))
		vm->latencies = NULL;
	daemon->device = NULL;
	return 0;
}

static int add_devices(struct page *page, const char *name,
		       struct daemon *daemon, json_object *devices)
{
	int ret = 0;

	for (size_t i = 0; i < json_object_array_length(devices) && !ret; i++) {
		json_object *status = json_object_array_get_idx(devices, i);
		bool attached = get_bool(status, "attached");

		ret = add_vm(page, name, daemon,
			     attached ? json_object_get(status) : NULL,
			     get_text(status, "device"));
	}
	return ret;
}

/* One that does not tell is down, and said to be. */
static int ask(struct page *page, const char *name, const char *path,
	       const struct ctl_options *options)
{
	json_object *status = NULL, *devices;
	struct daemon daemon;
	int ret;

	if (daemon_open(&daemon, path, options) ||
	    daemon_call(&daemon, "status", NULL, &status))
		status = NULL;
	devices = get_object(status, "devices");
	if (devices) {
		ret = add_devices(page, name, &daemon, devices);
		json_object_put(status);
	} else {
		ret = add_vm(page, name, &daemon, status,
			     get_text(status, "device"));
	}
	daemon_close(&daemon);
	return ret;
}

/* --- Printing --- */

/* Head of a family. @name is without the suffix that a counter's samples have. */
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
		 "Size of the region: what the VM can have plugged at most."},
		{"usable_region_size", "vmem_usable_region_size_bytes", "bytes",
		 "From the region's start, where the guest may plug."},
		{"requested_size", "vmem_requested_size_bytes", "bytes",
		 "What the guest is asked to have plugged."},
		{"plugged_size", "vmem_plugged_size_bytes", "bytes",
		 "What the guest has plugged."},
		{"undiscarded_size", "vmem_undiscarded_size_bytes", "bytes",
		 "Unplugged memory that is not given back to the host yet."},
		{"resident_size", "vmem_resident_size_bytes", "bytes",
		 "Memory that the region has: touched or allocated."},
		{"excess_size", "vmem_excess_size_bytes", "bytes",
		 "Of that, what is more than is plugged."},
		{"nr_slots", "vmem_memslots", "",
		 "Memslots of the region when all of it is plugged."},
		{"populated_slots", "vmem_populated_memslots", "",
		 "Memslots of the region that exist in KVM."},
	};

	for (size_t g = 0; g < sizeof(gauges) / sizeof(gauges[0]); g++) {
		put_head(page, gauges[g].name, "gauge", gauges[g].unit,
			 gauges[g].help);
		for (size_t i = 0; i < page->nr; i++)
			if (page->vms[i].status)
				fprintf(page->out, "%s{%s} %" PRIu64 "\n",
					gauges[g].name, page->vms[i].labels,
					get_size(page->vms[i].status,
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
		 "How often unplugged blocks had more memory than their cap, "
		 "and it was taken back."},
		{"punched_size", "vmem_punched_size_bytes", "bytes",
		 "How much it was then, in all."},
	};

	for (size_t c = 0; c < sizeof(counters) / sizeof(counters[0]); c++) {
		put_head(page, counters[c].name, "counter", counters[c].unit,
			 counters[c].help);
		for (size_t i = 0; i < page->nr; i++)
			if (page->vms[i].status)
				fprintf(page->out, "%s_total{%s} %" PRIu64 "\n",
					counters[c].name, page->vms[i].labels,
					get_size(page->vms[i].status,
						 counters[c].field));
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
					get_bool(get_object(page->vms[i].status,
							    "driver"),
						 gauges[g].field));
	}
}

/* One family: metadata by kind, of VMs that know it. */
static void put_metadata(const struct page *page, const char *field,
			 const char *name, const char *help)
{
	put_head(page, name, "gauge", "bytes", help);
	for (size_t i = 0; i < page->nr; i++) {
		json_object *kinds = get_object(page->vms[i].status, field);

		if (!kinds)
			continue;
		json_object_object_foreach(kinds, kind, value)
		{
			/* A sum is the reader's to make. */
			if (!strcmp(kind, "total"))
				continue;
			fprintf(page->out, "%s{%s,kind=\"%s\"} %" PRIu64 "\n",
				name, page->vms[i].labels, kind,
				json_object_get_uint64(value));
		}
	}
}

static void put_requests(const struct page *page)
{
	put_head(page, "vmem_requests", "counter", "",
		 "Requests of the guest, by their answers.");
	for (size_t i = 0; i < page->nr; i++) {
		json_object *requests =
			get_object(page->vms[i].status, "requests");

		if (!requests)
			continue;
		json_object_object_foreach(requests, request, answers)
		{
			json_object_object_foreach(answers, answer, count)
			{
				fprintf(page->out,
					"vmem_requests_total{%s,"
					"request=\"%s\",answer=\"%s\"} %" PRIu64
					"\n",
					page->vms[i].labels, request, answer,
					json_object_get_uint64(count));
			}
		}
	}
}

/* A histogram: its buckets, each with those before, its sum and count. */
static void put_histogram(const struct page *page, const char *name,
			  const char *labels, const char *request,
			  json_object *latency)
{
	json_object *buckets = get_object(latency, "buckets");
	uint64_t below = 0;

	for (size_t i = 0; i < json_object_array_length(buckets); i++) {
		json_object *bucket = json_object_array_get_idx(buckets, i);
		double most = (double)get_size(bucket, "most") / NSEC_PER_SEC;
		char bound[32];

		below += get_size(bucket, "count");
		snprintf(bound, sizeof(bound), "%g", most);
		/* In OpenMetrics a bound is written as a float, always. */
		fprintf(page->out,
			"%s_bucket{%s,request=\"%s\",le=\"%s%s\"} "
			"%" PRIu64 "\n",
			name, labels, request, bound,
			strpbrk(bound, ".e") ? "" : ".0", below);
	}
	fprintf(page->out,
		"%s_bucket{%s,request=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", name,
		labels, request, get_size(latency, "count"));
	fprintf(page->out, "%s_sum{%s,request=\"%s\"} %.9f\n", name, labels,
		request, (double)get_size(latency, "sum") / NSEC_PER_SEC);
	fprintf(page->out, "%s_count{%s,request=\"%s\"} %" PRIu64 "\n", name,
		labels, request, get_size(latency, "count"));
}

static void put_latencies(const struct page *page)
{
	static const char name[] = "vmem_request_duration_seconds";

	put_head(page, name, "histogram", "seconds",
		 "Time from when a request of the guest was read to its "
		 "answer.");
	for (size_t i = 0; i < page->nr; i++) {
		json_object *latencies =
			get_object(page->vms[i].latencies, "latencies_ns");

		if (!latencies)
			continue;
		json_object_object_foreach(latencies, request, latency)
			put_histogram(page, name, page->vms[i].labels, request,
				      latency);
	}
}

static void put_page(const struct page *page)
{
	put_up(page);
	put_sizes(page);
	put_punches(page);
	put_driver(page);
	put_metadata(page, "metadata", "vmem_metadata_bytes",
		     "What KVM holds for the region's memslots.");
	put_metadata(page, "whole_metadata", "vmem_whole_metadata_bytes",
		     "What KVM would hold if the region were one memslot.");
	put_requests(page);
	put_latencies(page);
	if (page->openmetrics)
		fputs("# EOF\n", page->out);
}

/* --- The command --- */

static int close_output(struct page *page, const char *path, const char *work)
{
	int ret = 0;

	/* Written, and on disk before it has the name. */
	if (fflush(page->out) || fsync(fileno(page->out)))
		ret = -errno;
	if (fclose(page->out) && !ret)
		ret = -errno;
	if (!ret && rename(work, path))
		ret = -errno;
	if (ret) {
		complain("%s: %s", path, strerror(-ret));
		unlink(work);
	}
	return ret;
}

/* The page to a file that gets its name when it is whole. */
static int write_file(struct page *page, const char *path)
{
	char *work = NULL;
	int fd, ret;

	/* Not *.prom, which would be read already. */
	if (asprintf(&work, "%s.XXXXXX", path) < 0) {
		complain("out of memory");
		return -ENOMEM;
	}
	fd = mkostemp(work, O_CLOEXEC);
	if (fd < 0) {
		ret = -errno;
		complain("%s: %s", path, strerror(-ret));
		free(work);
		return ret;
	}
	/* For the collector, which is another user. */
	page->out = fchmod(fd, 0644) ? NULL : fdopen(fd, "w");
	if (!page->out) {
		ret = -errno;
		complain("%s: %s", path, strerror(-ret));
		close(fd);
		unlink(work);
	} else {
		put_page(page);
		ret = close_output(page, path, work);
	}
	free(work);
	return ret;
}

static int ask_all(struct page *page, char *const *paths, size_t nr,
		   const struct ctl_options *options)
{
	for (size_t i = 0; i < nr; i++) {
		char *name = vm_name(paths[i]);
		int ret;

		ret = name ? ask(page, name, paths[i], options) : -ENOMEM;
		free(name);
		if (ret)
			return ret;
	}
	return 0;
}

int ctl_metrics(const struct ctl_options *options)
{
	struct page page = {.openmetrics = options->openmetrics};
	glob_t found = {0};
	int ret;

	if (options->nr_control) {
		ret = ask_all(&page, (char *const *)options->control,
			      options->nr_control, options);
	} else {
		ret = glob(CONTROL_DIR "*" CONTROL_NAME, 0, NULL, &found);
		ret = ret == GLOB_NOSPACE ? -ENOMEM
					  : ask_all(&page, found.gl_pathv,
						    found.gl_pathc, options);
		globfree(&found);
	}
	if (ret) {
		complain("out of memory");
	} else if (options->output) {
		ret = write_file(&page, options->output);
	} else {
		page.out = stdout;
		put_page(&page);
		if (fflush(stdout)) {
			ret = -errno;
			complain("standard output: %s", strerror(-ret));
		}
	}
	for (size_t i = 0; i < page.nr; i++) {
		free(page.vms[i].labels);
		json_object_put(page.vms[i].status);
		json_object_put(page.vms[i].latencies);
	}
	free(page.vms);
	return ret;
}
