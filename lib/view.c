// SPDX-License-Identifier: MIT
/*
 * Views: a consumer of whole memslots whose map() and unmap() change the protection
 * of a mapping.
 *
 * The mapping is made without any access, and an error leaves a range as it was:
 * mprotect(2) may have changed a part of the range before it fails, so unmap()
 * makes the whole range accessible again, and map() makes it inaccessible.
 */
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "fail.h"
#include "struct_size.h"

/* Size of the first version. */
#define FIRST_CONFIG \
	(offsetof(struct kvmvmem_view_config, name) + sizeof(const char *))

struct kvmvmem_view {
	unsigned char *hva;
	size_t size;
	struct kvmvmem_consumer *consumer;
};

static int protect(const struct kvmvmem_view *view,
		   const struct kvmvmem_range *range, int access, int before)
{
	int ret;

	/* vmemd may have another region than the view was made for. */
	if (range->offset > view->size ||
	    range->size > view->size - range->offset)
		return -ERANGE;
	if (!mprotect(view->hva + range->offset, range->size, access))
		return 0;
	ret = -errno;
	/* To go back needs no more mappings than there were. */
	mprotect(view->hva + range->offset, range->size, before);
	return ret;
}

static int map(void *arg, const struct kvmvmem_range *range)
{
	return protect(arg, range, PROT_READ | PROT_WRITE, PROT_NONE);
}

static int unmap(void *arg, const struct kvmvmem_range *range)
{
	return protect(arg, range, PROT_NONE, PROT_READ | PROT_WRITE);
}

static int start(struct kvmvmem_view *view,
		 const struct kvmvmem_view_config *config,
		 struct kvmvmem_error *error)
{
	const struct kvmvmem_consumer_config consumer = {
		.size = sizeof(consumer),
		.unit = KVMVMEM_MEMSLOT_RUNS,
		.control_path = config->control_path,
		.device = config->device,
		.name = config->name,
		.map = map,
		.unmap = unmap,
		.arg = view,
	};

	return kvmvmem_consumer_new(&view->consumer, &consumer, error);
}

int kvmvmem_view_new(struct kvmvmem_view **viewp,
		     const struct kvmvmem_view_config *config,
		     struct kvmvmem_error *error)
{
	struct kvmvmem_view_config known;
	struct kvmvmem_view *view;
	char text[128];
	void *hva;
	int ret;

	ret = kvmvmem_struct_take(&known, sizeof(known), FIRST_CONFIG, config,
				  config->size);
	if (ret)
		return kvmvmem_fail(error, ret,
				    "view: a structure of another version");
	if (!known.region_size || known.region_size > SIZE_MAX ||
	    known.offset > INT64_MAX)
		return kvmvmem_fail(error, -EINVAL,
				    "view: region_size or offset out of range");
	view = calloc(1, sizeof(*view));
	if (!view)
		return kvmvmem_fail(error, -ENOMEM, "out of memory");
	view->size = known.region_size;
	hva = mmap(NULL, view->size, PROT_NONE, MAP_SHARED | MAP_NORESERVE,
		   known.memory_fd, (off_t)known.offset);
	if (hva == MAP_FAILED) {
		ret = errno;
		ret = kvmvmem_fail(error, -ret, "view: mmap: %s",
				   kvmvmem_text_of(ret, text, sizeof(text)));
		goto err_free;
	}
	view->hva = hva;
	ret = start(view, &known, error);
	if (ret)
		goto err_unmap;
	*viewp = view;
	return 0;

err_unmap:
	munmap(view->hva, view->size);
err_free:
	free(view);
	return ret;
}

void kvmvmem_view_free(struct kvmvmem_view *view)
{
	if (!view)
		return;
	kvmvmem_consumer_free(view->consumer);
	munmap(view->hva, view->size);
	free(view);
}

void *kvmvmem_view_address(const struct kvmvmem_view *view)
{
	return view->hva;
}

struct kvmvmem_consumer *kvmvmem_view_consumer(const struct kvmvmem_view *view)
{
	return view->consumer;
}
