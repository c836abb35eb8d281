// SPDX-License-Identifier: GPL-2.0-or-later
#include "manager.h"

#include <string.h>
#include <sys/socket.h>

/**
 * manager_names() - Read what was sent to the service manager so far.
 * @manager: the manager's socket
 * @names: set to the names of the descriptors to store, one per line; "-" before
 *	one to drop
 */
void manager_names(int manager, char *names, size_t size)
{
	char text[256];
	ssize_t length;

	names[0] = '\0';
	while ((length = recv(manager, text, sizeof(text) - 1, MSG_DONTWAIT)) >
	       0) {
		const char *name;

		text[length] = '\0';
		name = strstr(text, "FDNAME=");
		if (!name)
			continue;
		if (strstr(text, "FDSTOREREMOVE=1"))
			strncat(names, "-", size - strlen(names) - 1);
		strncat(names, name + strlen("FDNAME="),
			size - strlen(names) - 1);
		strncat(names, "\n", size - strlen(names) - 1);
	}
}
