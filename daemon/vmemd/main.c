// SPDX-License-Identifier: GPL-2.0-or-later
#include <signal.h>
#include <stdlib.h>

#include "base/log.h"
#include "common/standard_fds.h"
#include "daemon.h"
#include "options.h"
#include "passed_fds.h"

/* Exit status for an invalid command line. */
#define EXIT_USAGE 2

int main(int argc, char **argv)
{
	struct options options;
	struct passed_fds fds;
	struct vmem *vmem;
	int ret;

	if (standard_fds_open())
		return EXIT_FAILURE;
	ret = options_parse(&options, argc, argv);
	if (ret < 0)
		return EXIT_USAGE;
	if (ret)
		return standard_output_close("vmemd") ? EXIT_FAILURE
						      : EXIT_SUCCESS;
	/* A peer may close its end, also of standard error: handle EPIPE. */
	signal(SIGPIPE, SIG_IGN);
	/* A closed terminal, or a manager's reload, must not end the daemon. */
	signal(SIGHUP, SIG_IGN);
	log_init(options.log_level);
	if (passed_fds_take(&fds, &options))
		return EXIT_FAILURE;
	if (daemon_new(&vmem, &options, &fds))
		return EXIT_FAILURE;
	ret = daemon_run(vmem);
	daemon_free(vmem);
	return ret ? EXIT_FAILURE : EXIT_SUCCESS;
}
