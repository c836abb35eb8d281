// SPDX-License-Identifier: GPL-2.0-or-later
#include <signal.h>
#include <stdlib.h>

#include "log.h"
#include "options.h"
#include "passed_fds.h"
#include "vmem.h"

int main(int argc, char **argv)
{
	struct options options;
	struct passed_fds fds;
	struct vmem *vmem;
	int ret;

	ret = options_parse(&options, argc, argv);
	if (ret)
		return ret < 0 ? 2 : EXIT_SUCCESS;
	/*
	 * Whoever is at the other end of a descriptor, the standard error's
	 * too, may leave: that is EPIPE, not the end of the daemon.
	 */
	signal(SIGPIPE, SIG_IGN);
	log_init(options.log_level);
	if (passed_fds_take(&fds, &options))
		return EXIT_FAILURE;
	if (vmem_new(&vmem, &options, &fds))
		return EXIT_FAILURE;
	ret = vmem_run(vmem);
	vmem_free(vmem);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
