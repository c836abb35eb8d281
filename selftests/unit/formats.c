// SPDX-License-Identifier: GPL-2.0-or-later
#include "formats.h"

#include <stdbool.h>
#include <stdlib.h>

#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

#define NAME_SIZE 128

/* Runs a group of tests whose number is not a compile-time constant. */
static int run(const struct CMUnitTest *tests, size_t nr)
{
	puts("TAP version 13");
	fflush(stdout);
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return _cmocka_run_group_tests("tests", tests, nr, NULL, NULL);
}

int formats_run(const struct format_case *cases, size_t nr,
		CMFixtureFunction set_up, CMFixtureFunction tear_down)
{
	static uint64_t features[FORMATS_NR];
	struct CMUnitTest *tests = calloc(FORMATS_NR * nr, sizeof(*tests));
	char(*names)[NAME_SIZE] = calloc(FORMATS_NR * nr, sizeof(*names));
	int ret = EXIT_FAILURE;
	size_t nr_tests = 0;

	if (!tests || !names)
		goto out;
	for (unsigned int i = 0; i < FORMATS_NR; i++) {
		bool packed = i & 1, indirect = i & 2, event = i & 4;

		features[i] = (uint64_t)packed << VIRTIO_F_RING_PACKED |
			      (uint64_t)indirect
				      << VIRTIO_RING_F_INDIRECT_DESC |
			      (uint64_t)event << VIRTIO_RING_F_EVENT_IDX;
		for (size_t n = 0; n < nr; n++) {
			char *name = names[nr_tests];

			if (cases[n].once && i)
				continue;
			snprintf(name, NAME_SIZE, "%s, %s, %s: %s",
				 packed ? "packed" : "split",
				 indirect ? "indirect" : "direct",
				 event ? "event index" : "flags",
				 cases[n].name);
			tests[nr_tests++] = (struct CMUnitTest){
				.name = name,
				.test_func = cases[n].function,
				.setup_func = set_up,
				.teardown_func = tear_down,
				.initial_state = &features[i],
			};
		}
	}
	ret = run(tests, nr_tests);
out:
	free(names);
	free(tests);
	return ret;
}
