// SPDX-License-Identifier: GPL-2.0-or-later
#include "vmemd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "region.h"
#include "util.h"

/* sd_listen_fds(3): the descriptors begin at 3, in the order of the names. */
#define FIRST_FD 3
#define MAX_FDS	 5

/* How long vmemd may take to end, or to answer, before it counts as hung. */
#define STOP_TIMEOUT_MS	 10000
#define ANSWER_TIMEOUT_S 10
#define ANSWER_MAX	 4096

/* Room for a device's name in a request: options_parse() has checked it. */
#define DEVICE_PARAM_MAX (DEVICE_NAME_MAX + 32)

#define ATTACH "{\"id\":1,\"method\":\"attach\",\"params\":{%s}}\n"

static void forget_process(struct vmemd *vmemd)
{
	vmemd->pid = 0;
	vmemd->pid_fd = -1;
	vmemd->control_path = NULL;
}

void vmemd_init(struct vmemd *vmemd)
{
	forget_process(vmemd);
	vmemd->consumers_fd = -1;
}

static int fill_address(struct sockaddr_un *address, const char *path)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	if (strlen(path) >= sizeof(address->sun_path))
		return -ENAMETOOLONG;
	strcpy(address->sun_path, path);
	return 0;
}

static int listen_at(const char *path)
{
	struct sockaddr_un address;
	int fd, ret;

	ret = fill_address(&address, path);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(fd, SOMAXCONN)) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

static int connect_to(const char *path)
{
	struct sockaddr_un address;
	int fd, ret;

	ret = fill_address(&address, path);
	if (ret)
		return ret;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -errno;
	if (connect(fd, (struct sockaddr *)&address, sizeof(address))) {
		ret = -errno;
		close(fd);
		return ret;
	}
	return fd;
}

/* In the child: put the descriptors in place and become vmemd. */
static void exec_vmemd(const char *path, char *const *args, const int *fds,
		       unsigned int nr_fds, const char *names)
{
	char *argv[VMEMD_MAX_ARGS + 2] = {(char *)path};
	int moved[MAX_FDS];
	char number[16];
	unsigned int i;
	sigset_t none;

	/* Out of the way first: a source may be another's destination. */
	for (i = 0; i < nr_fds; i++) {
		moved[i] =
			fcntl(fds[i], F_DUPFD_CLOEXEC, FIRST_FD + (int)nr_fds);
		if (moved[i] < 0)
			goto err;
	}
	/* The copy is not closed by exec. */
	for (i = 0; i < nr_fds; i++)
		if (dup2(moved[i], FIRST_FD + (int)i) < 0)
			goto err;
	snprintf(number, sizeof(number), "%d", getpid());
	if (setenv("LISTEN_PID", number, 1))
		goto err;
	snprintf(number, sizeof(number), "%u", nr_fds);
	if (setenv("LISTEN_FDS", number, 1) ||
	    setenv("LISTEN_FDNAMES", names, 1))
		goto err;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (i = 0; i < VMEMD_MAX_ARGS && args[i]; i++)
		argv[i + 1] = args[i];
	execv(path, argv);
err:
	error_errno(errno, "cannot run %s", path);
	_exit(127);
}

int vmemd_spawn(struct vmemd *vmemd, const char *path, char *const *args,
		const char *control_path, int region_fd, int memory_fd)
{
	int fds[MAX_FDS] = {region_fd, memory_fd, -1, -1, -1};
	int sockets[2] = {-1, -1};
	unsigned int nr_fds = 4;
	int ret;

	if (vmemd->consumers_fd < 0)
		vmemd->consumers_fd = memfd_create(
			"vmemd-consumers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (vmemd->consumers_fd < 0) {
		ret = -errno;
		goto out;
	}
	fds[2] = vmemd->consumers_fd;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets)) {
		ret = -errno;
		goto out;
	}
	fds[3] = sockets[1];
	if (control_path) {
		ret = listen_at(control_path);
		if (ret < 0) {
			error_errno(-ret, "%s", control_path);
			goto out;
		}
		vmemd->control_path = control_path;
		fds[nr_fds++] = ret;
	}
	vmemd->pid = fork();
	if (vmemd->pid < 0) {
		ret = -errno;
		vmemd->pid = 0;
		goto out;
	}
	if (!vmemd->pid)
		exec_vmemd(
			path, args, fds, nr_fds,
			control_path
				? "region:memory:consumers:vhost-user:control"
				: "region:memory:consumers:vhost-user");
	vmemd->pid_fd = (int)syscall(SYS_pidfd_open, vmemd->pid, 0);
	if (vmemd->pid_fd < 0) {
		ret = -errno;
		goto out;
	}
	ret = sockets[0];
	sockets[0] = -1;
out:
	if (ret < 0)
		error_errno(-ret, "cannot start %s", path);
	if (fds[4] >= 0)
		close(fds[4]);
	if (sockets[1] >= 0)
		close(sockets[1]);
	if (sockets[0] >= 0)
		close(sockets[0]);
	return ret;
}

/* The parameter that says which device is meant, if that has to be said. */
static const char *device_param(const char *device, const char *rest,
				char text[DEVICE_PARAM_MAX])
{
	text[0] = '\0';
	if (device)
		snprintf(text, DEVICE_PARAM_MAX, "\"device\":\"%s\"%s", device,
			 rest);
	return text;
}

static int send_attach(int fd, const char *device, int region_fd, int memory_fd)
{
	char request[DEVICE_PARAM_MAX + sizeof(ATTACH)];
	char param[DEVICE_PARAM_MAX];
	int len = snprintf(request, sizeof(request), ATTACH,
			   device_param(device, "", param));
	union {
		char buffer[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {.buffer = {0}};
	const int fds[2] = {region_fd, memory_fd};
	struct iovec iov = {request, (size_t)len};
	struct msghdr header = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buffer,
		.msg_controllen = sizeof(control.buffer),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&header);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	/* So short a message goes whole or not at all. */
	if (sendmsg(fd, &header, MSG_NOSIGNAL) < 0)
		return -errno;
	return 0;
}

/* The answer is one line: {"id":1,"result":...} or {"id":1,"error":...}. */
static int receive_answer(int fd, char line[ANSWER_MAX])
{
	struct timeval timeout = {.tv_sec = ANSWER_TIMEOUT_S};
	size_t used = 0;
	ssize_t len;

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout)))
		return -errno;
	do {
		len = recv(fd, line + used, ANSWER_MAX - 1 - used, 0);
		if (len < 0 && errno == EINTR)
			continue;
		if (len < 0)
			return errno == EAGAIN ? -ETIMEDOUT : -errno;
		if (!len)
			return -EPIPE;
		used += (size_t)len;
		line[used] = '\0';
	} while (!strchr(line, '\n') && used < ANSWER_MAX - 1);
	line[strcspn(line, "\n")] = '\0';
	if (strstr(line, "\"error\"") || !strstr(line, "\"result\"")) {
		error("vmemd refuses: %s", line);
		return -EREMOTEIO;
	}
	return 0;
}

/* A number of the answer. Return: 0, or -EBADMSG. */
static int answered_number(const char *line, const char *name, uint64_t *number)
{
	const char *at = strstr(line, name);
	unsigned long long value;

	if (!at || sscanf(at + strlen(name), "\":%llu", &value) != 1)
		return -EBADMSG;
	*number = value;
	return 0;
}

/* A call without descriptors; @line has it, and then the answer. */
static int call(const char *control_path, char line[ANSWER_MAX])
{
	int fd, ret;

	fd = connect_to(control_path);
	if (fd < 0)
		return fd;
	/* So short a message goes whole or not at all. */
	ret = send(fd, line, strlen(line), MSG_NOSIGNAL) < 0 ? -errno : 0;
	if (!ret)
		ret = receive_answer(fd, line);
	close(fd);
	return ret;
}

int vmemd_plan(const char *control_path, const char *device,
	       struct region_config *region, unsigned int used,
	       unsigned int kvm_limit)
{
	char line[ANSWER_MAX], param[DEVICE_PARAM_MAX];
	int ret;

	snprintf(line, sizeof(line),
		 "{\"id\":1,\"method\":\"plan\",\"params\":{%s"
		 "\"region_size\":%llu,\"block_size\":%llu,"
		 "\"gpa\":%llu,\"used\":%u,\"kvm_limit\":%u}}\n",
		 device_param(device, ",", param),
		 (unsigned long long)region->size,
		 (unsigned long long)region->block_size,
		 (unsigned long long)region->gpa, used, kvm_limit);
	ret = call(control_path, line);
	if (!ret)
		ret = answered_number(line, "slot_size", &region->slot_size);
	if (ret)
		error_errno(-ret, "no plan from %s", control_path);
	return ret;
}

int vmemd_system_reset(const char *control_path, const char *device)
{
	char line[ANSWER_MAX], param[DEVICE_PARAM_MAX];
	int ret;

	snprintf(line, sizeof(line),
		 "{\"id\":1,\"method\":\"system-reset\",\"params\":{%s}}\n",
		 device_param(device, "", param));
	ret = call(control_path, line);
	if (ret)
		error_errno(-ret, "no system reset by %s", control_path);
	return ret;
}

int vmemd_try_attach(const char *vhost_user_path, const char *control_path,
		     const char *device, int region_fd, int memory_fd)
{
	char line[ANSWER_MAX];
	int fd, ret;

	fd = connect_to(control_path);
	if (fd < 0)
		return fd;
	ret = send_attach(fd, device, region_fd, memory_fd);
	if (!ret)
		ret = receive_answer(fd, line);
	close(fd);
	return ret ? ret : connect_to(vhost_user_path);
}

int vmemd_attach(const char *vhost_user_path, const char *control_path,
		 const char *device, int region_fd, int memory_fd)
{
	int fd = vmemd_try_attach(vhost_user_path, control_path, device,
				  region_fd, memory_fd);

	if (fd < 0)
		error_errno(-fd, "cannot attach the region at %s and %s",
			    control_path, vhost_user_path);
	return fd;
}

void vmemd_stop(struct vmemd *vmemd)
{
	struct pollfd ended = {vmemd->pid_fd, POLLIN, 0};

	if (vmemd->pid) {
		kill(vmemd->pid, SIGTERM);
		if (poll(&ended, 1, STOP_TIMEOUT_MS) <= 0) {
			error("vmemd does not end, killing it");
			kill(vmemd->pid, SIGKILL);
		}
		waitpid(vmemd->pid, NULL, 0);
	}
	if (vmemd->pid_fd >= 0)
		close(vmemd->pid_fd);
	if (vmemd->control_path)
		unlink(vmemd->control_path);
	forget_process(vmemd);
}
