// SPDX-License-Identifier: GPL-2.0-or-later
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "fuzz/fuzz.h"
#include "fuzz/fuzz_module.h"
#include "model.h"
#include "unit.h"

/* Called if vmemd violates an invariant that the model checks. */
void fuzz_broken(const char *file, int line, const char *condition)
{
	print_error("%s:%d: %s\n", file, line, condition);
	abort();
}

/* Start the model, and attach a device's region of it to a new event loop. */
void model_attach(struct kernel_backing *region, sd_event **event,
		  struct kernel_nl *nl)
{
	int memory = memfd_create("model-test", MFD_CLOEXEC);
	struct error err;

	assert_int_equal(ftruncate(memory, FUZZ_MODULE_SIZE), 0);
	assert_true(sd_event_new(event) >= 0);
	fuzz_module_start();
	assert_int_equal(kernel_nl_open(nl, &err), 0);
	if (kernel_attach(region, *event, nl, dup(fuzz_module_region()), memory,
			  &err))
		fail_msg("%s", err.text);
	region->label = "";
}

void model_detach(struct kernel_backing *region, sd_event *event,
		  struct kernel_nl *nl)
{
	kernel_detach(region);
	kernel_nl_close(nl);
	fuzz_module_stop();
	sd_event_unref(event);
}
