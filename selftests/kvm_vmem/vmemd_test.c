// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The program vmemd with a real region: it restores its state with the
 * descriptors that a service manager keeps for it, and it drops its privileges.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process.h"
#include "region.h"
#include "tap.h"

#define TEXT_MAX 8192

/* The first passed descriptor in the socket activation protocol. */
#define LISTEN_FDS_START 3

/* Maximum number of devices of a vmemd here. */
#define MAX_DEVICES 2

/**
 * struct daemon - a vmemd and its service manager, which is this process
 * @dir: a temporary folder with all sockets
 * @control_path: vmemd's control socket
 * @vhost_user_path: vhost-user socket of the first device
 * @far_path: vhost-user socket of the second device
 * @manager: socket that receives vmemd's notifications
 * @pid: process of vmemd, 0 if it does not run
 * @options: its first options, ended by NULL
 * @several: it has a second device, "far", with a socket of its own
 * @mixed: the front end maps the second device's memory
 * @region: region descriptor of each device, kept for vmemd
 * @memory: memory descriptor of each device, kept for vmemd
 * @control: connection to its control socket, or -1
 * @nobody: it runs as a user without privileges
 */
struct daemon {
	char dir[32];
	char control_path[64];
	char vhost_user_path[64];
	char far_path[64];
	int manager;
	pid_t pid;
	const char *options[3];
	bool several;
	bool mixed;
	int region[MAX_DEVICES];
	int memory[MAX_DEVICES];
	int control;
	bool nobody;
};

static void daemon_prepare(struct daemon *d)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char name[32];

	*d = (struct daemon){
		.region = {-1, -1},
		.memory = {-1, -1},
		.control = -1,
	};
	strcpy(d->dir, "/tmp/vmemd-XXXXXX");
	ASSERT_TRUE(mkdtemp(d->dir));
	snprintf(d->control_path, sizeof(d->control_path), "%s/control",
		 d->dir);
	snprintf(d->vhost_user_path, sizeof(d->vhost_user_path),
		 "%s/vhost-user", d->dir);
	snprintf(d->far_path, sizeof(d->far_path), "%s/far", d->dir);
	snprintf(name, sizeof(name), "@vmemd-test-%d", (int)getpid());
	memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
	d->manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(d->manager, 0);
	ASSERT_EQ(bind(d->manager, (struct sockaddr *)&addr,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				   strlen(name))),
		  0);
	ASSERT_EQ(setenv("NOTIFY_SOCKET", name, 1), 0);
}

static void daemon_remove(struct daemon *d)
{
	unlink(d->control_path);
	unlink(d->vhost_user_path);
	unlink(d->far_path);
	EXPECT_EQ(rmdir(d->dir), 0);
}

/* Runs in the child: pass the descriptors kept for vmemd. */
static void pass_descriptors(const struct daemon *d)
{
	static const char *const names[MAX_DEVICES] = {
		"region:memory", "region:memory:region-far:memory-far"};
	int fds[2 * MAX_DEVICES], nr = 0;
	char text[16];

	for (int i = 0; i < MAX_DEVICES && d->region[i] >= 0; i++) {
		fds[nr++] = dup(d->region[i]);
		fds[nr++] = dup(d->memory[i]);
	}
	if (!nr)
		return;
	/* Duplicates must be above all target numbers. */
	for (int i = 0; i < nr; i++)
		if (fds[i] < LISTEN_FDS_START + nr)
			_exit(126);
	for (int i = 0; i < nr; i++)
		dup2(fds[i], LISTEN_FDS_START + i);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	snprintf(text, sizeof(text), "%d", nr);
	setenv("LISTEN_FDS", text, 1);
	setenv("LISTEN_FDNAMES", names[nr / 2 - 1], 1);
}

/* Runs in the child, which becomes vmemd. */
static void become_daemon(const struct daemon *d)
{
	const char *argv[20] = {
		"vmemd",	"--control",	    d->control_path,
		"--vhost-user", d->vhost_user_path, "--log-level",
		"warning",
	};
	int nr = 7;

	pass_descriptors(d);
	if (d->nobody)
		become_nobody(NOBODY);
	for (int i = 0; d->options[i]; i++)
		argv[nr++] = d->options[i];
	if (d->several) {
		argv[nr++] = "--device";
		argv[nr++] = "far";
		argv[nr++] = "--vhost-user";
		argv[nr++] = d->far_path;
	}
	if (d->mixed) {
		argv[nr++] = "--backing";
		argv[nr++] = "vmm";
		argv[nr++] = "--region-size";
		argv[nr++] = "1G";
	}
	execvp(argv[0], (char *const *)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Start vmemd with the descriptors kept for it, if any. */
static void daemon_start(struct daemon *d)
{
	d->pid = fork();
	ASSERT_GE(d->pid, 0);
	if (!d->pid)
		become_daemon(d);
}

/* Receive a notification of vmemd. @fd: the descriptor with it, or -1. */
static void daemon_told(const struct daemon *d, char text[TEXT_MAX], int *fd)
{
	union {
		char space[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {text, TEXT_MAX - 1};
	struct msghdr mh = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg;
	ssize_t length;

	length = recvmsg(d->manager, &mh, MSG_CMSG_CLOEXEC);
	ASSERT_GE(length, 0);
	text[length] = '\0';
	*fd = -1;
	cmsg = CMSG_FIRSTHDR(&mh);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(fd, CMSG_DATA(cmsg), sizeof(*fd));
}

/*
 * Wait for a notification that contains @what, and keep descriptors it sends.
 */
static void daemon_wait(struct daemon *d, const char *what)
{
	char text[TEXT_MAX];
	int fd;

	do {
		daemon_told(d, text, &fd);
		if (strstr(text, "FDSTORE=1")) {
			int far = strstr(text, "-far") != NULL;

			ASSERT_GE(fd, 0);
			if (strstr(text, "FDNAME=region"))
				d->region[far] = fd;
			else if (strstr(text, "FDNAME=memory"))
				d->memory[far] = fd;
		}
	} while (!strstr(text, what));
}

static void daemon_kill(struct daemon *d)
{
	int status;

	if (d->control >= 0)
		close(d->control);
	d->control = -1;
	ASSERT_EQ(kill(d->pid, SIGKILL), 0);
	ASSERT_EQ(waitpid(d->pid, &status, 0), d->pid);
	EXPECT_TRUE(WIFSIGNALED(status));
	d->pid = 0;
}

static void connect_control(struct daemon *d)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};

	strcpy(addr.sun_path, d->control_path);
	d->control = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_GE(d->control, 0);
	ASSERT_EQ(connect(d->control, (struct sockaddr *)&addr, sizeof(addr)),
		  0);
}

/*
 * Send a line with descriptors to the control socket. @text receives the
 * answer.
 */
static void ask(struct daemon *d, const char *line, const int fds[2],
		char text[TEXT_MAX])
{
	union {
		char space[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = {0};
	struct iovec iov = {(void *)line, strlen(line)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
	struct cmsghdr *cmsg;
	size_t have = 0;

	if (d->control < 0)
		connect_control(d);
	if (fds) {
		mh.msg_control = &control;
		mh.msg_controllen = sizeof(control);
		cmsg = CMSG_FIRSTHDR(&mh);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(2 * sizeof(int));
		memcpy(CMSG_DATA(cmsg), fds, 2 * sizeof(int));
	}
	ASSERT_EQ(sendmsg(d->control, &mh, MSG_NOSIGNAL), strlen(line));
	do {
		ssize_t got =
			recv(d->control, text + have, TEXT_MAX - 1 - have, 0);

		ASSERT_GT(got, 0);
		have += (size_t)got;
	} while (text[have - 1] != '\n');
	text[have] = '\0';
}

static void expect_said(const char *text, const char *part)
{
	if (!strstr(text, part))
		tap_fail(__FILE__, __LINE__, "no %s in: %s", part, text);
}

#define ATTACH "{\"id\":1,\"method\":\"attach\"}\n"
#define STATUS "{\"id\":2,\"method\":\"status\"}\n"
#define BLOCKS "{\"id\":3,\"method\":\"blocks\"}\n"

static void need_vmemd(void)
{
	char *const argv[] = {(char *)"vmemd", (char *)"--version", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int ret;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null",
					 O_WRONLY, 0);
	ret = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (ret)
		tap_skip("vmemd: %s", strerror(ret));
	expect_exit(pid);
}

static void the_same_region_is_attached_again(const void *arg)
{
	struct region r, other;
	char text[TEXT_MAX];
	struct daemon d;

	(void)arg;
	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	daemon_prepare(&d);
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"result\":{\"region_id\":");
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"result\":{\"region_id\":");
	ask(&d, ATTACH, NULL, text);
	expect_said(text, "EINVAL");
	/* Not a region, and another region. */
	ask(&d, ATTACH, (const int[]){r.mem.fd, r.mem.fd}, text);
	expect_said(text, "EBUSY");
	region_init(&other, AS_MASK_NORMAL);
	ask(&d, ATTACH, (const int[]){other.fd, other.mem.fd}, text);
	expect_said(text, "EBUSY");
	ask(&d, STATUS, NULL, text);
	expect_said(text, "\"plugged_size\":0");
	daemon_kill(&d);
	daemon_remove(&d);
}

/* vmemd learns from an event of blocks that others plug, some time later. */
static void wait_plugged(struct daemon *d, const char *status, uint64_t size)
{
	char text[TEXT_MAX], plugged[64];

	snprintf(plugged, sizeof(plugged), "\"plugged_size\":%llu,",
		 (unsigned long long)size);
	do
		ask(d, status, NULL, text);
	while (!strstr(text, plugged));
}

static void what_is_left_with_the_manager_brings_it_back(const void *arg)
{
	char text[TEXT_MAX], before[TEXT_MAX], requested[64];
	struct daemon d;
	struct region r;

	(void)arg;
	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	daemon_prepare(&d);
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	daemon_wait(&d, "FDNAME=region");
	ASSERT_GE(d.region[0], 0);
	snprintf(
		requested, sizeof(requested),
		"{\"id\":4,\"method\":\"resize\",\"params\":{\"size\":%llu}}\n",
		(unsigned long long)(8 * r.args.block_size));
	ask(&d, requested, NULL, text);
	expect_said(text, "result");
	ASSERT_OK(region_plug(&r, 1, 3));
	ASSERT_OK(region_plug(&r, 6, 1));
	memset(region_block_hva(&r, 2), 0x5a, r.args.block_size);
	wait_plugged(&d, STATUS, 4 * r.args.block_size);
	for (int i = 0; i < 3; i++) {
		tap_context("kill %d", i);
		ask(&d, BLOCKS, NULL, before);
		expect_said(before, "\"runs\":[{");
		daemon_kill(&d);
		/* The descriptors suffice: the VMM need not do anything. */
		daemon_start(&d);
		daemon_wait(&d, "READY=1");
		ask(&d, BLOCKS, NULL, text);
		EXPECT_EQ(strcmp(text, before), 0);
	}
	ask(&d, STATUS, NULL, text);
	snprintf(requested, sizeof(requested), "\"requested_size\":%llu,",
		 (unsigned long long)(8 * r.args.block_size));
	expect_said(text, requested);
	/* The memory is unchanged. */
	for (uint64_t i = 0; i < r.args.block_size; i += GUEST_PAGE)
		ASSERT_EQ(region_block_hva(&r, 2)[i], 0x5a);
	/* The VMM may attach it again. */
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "result");
	daemon_kill(&d);
	daemon_remove(&d);
}

static void with_a_region_whose_vm_is_gone_it_ends_well(const void *arg)
{
	struct daemon d;
	int pair[2], status;
	pid_t vmm;

	(void)arg;
	need_vmemd();
	daemon_prepare(&d);
	process_pair(pair);
	vmm = fork();
	ASSERT_GE(vmm, 0);
	if (!vmm) {
		struct region r;

		region_init(&r, AS_MASK_NORMAL);
		send_fd(pair[1], r.fd);
		send_fd(pair[1], r.mem.fd);
		_exit(0);
	}
	d.region[0] = receive_fd(pair[0]);
	d.memory[0] = receive_fd(pair[0]);
	expect_exit(vmm);
	daemon_start(&d);
	daemon_wait(&d, "READY=1");
	ASSERT_EQ(waitpid(d.pid, &status, 0), d.pid);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(WEXITSTATUS(status), 0);
	daemon_remove(&d);
}

#define CALL(method, device, more)                                             \
	"{\"id\":5,\"method\":\"" method "\",\"params\":{\"device\":\"" device \
	"\"" more "}}\n"

/* For a region of one block. */
#define FAR_PLAN \
	",\"region_size\":65536,\"block_size\":65536,\"kvm_limit\":32764"

/* Create a second region of @r's VM, above it. */
static void add_region(struct region *far, const struct region *r)
{
	*far = *r;
	backing_create(&far->mem, r->args.region_size);
	far->args.guest_phys_addr += GIB(1);
	far->args.first_slot += r->nr_slots;
	far->args.userspace_addr = (uintptr_t)far->mem.hva;
	region_create(far);
}

/* Does the device have this requested size? */
static void expect_requested(struct daemon *d, const char *line, uint64_t size)
{
	char text[TEXT_MAX], said[64];

	ask(d, line, NULL, text);
	snprintf(said, sizeof(said), "\"requested_size\":%llu,",
		 (unsigned long long)size);
	expect_said(text, said);
}

static void two_devices_are_kept_apart(const void *arg)
{
	char text[TEXT_MAX], line[128];
	struct region r, far;
	struct daemon d;

	(void)arg;
	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	add_region(&far, &r);
	daemon_prepare(&d);
	d.several = true;
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	/* With several devices, the request must name one. */
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "EINVAL");
	expect_said(text, "one of: 0, far");
	ask(&d, CALL("attach", "near", ""), (const int[]){r.fd, r.mem.fd},
	    text);
	expect_said(text, "ENOENT");
	ask(&d, CALL("attach", "0", ""), (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"region_id\":");
	ask(&d, STATUS, NULL, text);
	expect_said(text, "{\"device\":\"far\",\"attached\":false}");
	ask(&d, CALL("status", "far", ""), NULL, text);
	expect_said(text, "ENODEV");
	/* The seven memslots of the other device are reserved. */
	ask(&d, CALL("plan", "far", FAR_PLAN ",\"used\":32756"), NULL, text);
	expect_said(text, "\"nr_slots\":1,");
	ask(&d, CALL("plan", "far", FAR_PLAN ",\"used\":32757"), NULL, text);
	expect_said(text, "no memslot is free");
	/* A region cannot have two devices. */
	ask(&d, CALL("attach", "far", ""), (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "is that of device 0");
	ask(&d, CALL("attach", "far", ""), (const int[]){far.fd, far.mem.fd},
	    text);
	expect_said(text, "\"region_id\":");
	/* Ready when the last device is attached. */
	daemon_wait(&d, "READY=1");
	daemon_wait(&d, "FDNAME=region-far");

	snprintf(line, sizeof(line), CALL("resize", "far", ",\"size\":%llu"),
		 (unsigned long long)(8 * far.args.block_size));
	ask(&d, line, NULL, text);
	expect_said(text, "\"device\":\"far\"");
	ASSERT_OK(region_plug(&r, 1, 3));
	ASSERT_OK(region_plug(&far, 6, 1));
	wait_plugged(&d, CALL("status", "0", ""), 3 * r.args.block_size);
	wait_plugged(&d, CALL("status", "1", ""), far.args.block_size);
	for (int i = 0; i < 2; i++) {
		tap_context("start %d", i);
		expect_requested(&d, CALL("status", "0", ""), 0);
		/* The index also names the device. */
		expect_requested(&d, CALL("status", "1", ""),
				 8 * far.args.block_size);
		ask(&d, CALL("blocks", "far", ""), NULL, text);
		snprintf(line, sizeof(line),
			 "\"runs\":[{\"gpa\":%llu,\"size\":%llu}]",
			 (unsigned long long)region_block_gpa(&far, 6),
			 (unsigned long long)far.args.block_size);
		expect_said(text, line);
		ask(&d, CALL("slots", "0", ""), NULL, text);
		snprintf(line, sizeof(line), "\"slots\":[{\"id\":%u",
			 r.args.first_slot);
		expect_said(text, line);
		EXPECT_GUEST_AS_MODEL(&r);
		daemon_kill(&d);
		if (i)
			break;
		daemon_start(&d);
		daemon_wait(&d, "READY=1");
	}
	daemon_remove(&d);
}

/*
 * One device uses a region of the module, the front end maps the other's
 * memory.
 */
static void both_backings_side_by_side(const void *arg)
{
	char text[TEXT_MAX], line[128];
	struct region r;
	struct daemon d;

	(void)arg;
	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	daemon_prepare(&d);
	d.several = true;
	d.mixed = true;
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	/*
	 * The second device has no use for a region, the first takes only one.
	 */
	ask(&d, CALL("attach", "far", ""), (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "EOPNOTSUPP");
	ask(&d, CALL("attach", "0", ""), (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"region_id\":");
	daemon_wait(&d, "READY=1");
	/* The descriptors for the restart. */
	daemon_wait(&d, "FDNAME=region");
	ASSERT_OK(region_plug(&r, 1, 3));
	wait_plugged(&d, CALL("status", "0", ""), 3 * r.args.block_size);
	for (int i = 0; i < 2; i++) {
		tap_context("start %d", i);
		ask(&d, STATUS, NULL, text);
		expect_said(text, "\"backing\":\"vmm\"");
		expect_said(text, "\"region_id\":");
		ask(&d, CALL("resize", "far", ",\"size\":268435456"), NULL,
		    text);
		expect_said(text, "\"requested_size\":268435456,");
		snprintf(line, sizeof(line),
			 CALL("resize", "0", ",\"size\":%llu"),
			 (unsigned long long)(4 * r.args.block_size));
		ask(&d, line, NULL, text);
		expect_said(text, "\"populated_slots\":");
		ask(&d, CALL("dirty-log", "far", ",\"on\":true"), NULL, text);
		expect_said(text, "EOPNOTSUPP");
		ask(&d, CALL("hold", "far", ",\"on\":true"), NULL, text);
		expect_said(text, "\"held\":true");
		expect_requested(&d, CALL("status", "0", ""),
				 4 * r.args.block_size);
		EXPECT_GUEST_AS_MODEL(&r);
		daemon_kill(&d);
		if (i)
			break;
		daemon_start(&d);
		daemon_wait(&d, "READY=1");
	}
	daemon_remove(&d);
}

#define SUBSCRIBE(device, memslots) \
	CALL("subscribe", device,   \
	     ",\"name\":\"vhost-net0\",\"used\":6,\"memslots\":" memslots)

/*
 * A vhost device's table contains the memslots of all devices and of the VMM.
 */
static void a_consumer_has_room_for_all_devices(const void *arg)
{
	struct region r, far;
	char text[TEXT_MAX];
	struct daemon d;
	int consumer;

	(void)arg;
	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	add_region(&far, &r);
	ASSERT_EQ(r.nr_slots, 7);
	daemon_prepare(&d);
	d.several = true;
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	ask(&d, CALL("attach", "0", ""), (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"region_id\":");
	ask(&d, SUBSCRIBE("0", "12"), NULL, text);
	expect_said(text, "vhost-net0 can have 12 memslots, 6 are used and 7 "
			  "reserved");
	ask(&d, SUBSCRIBE("0", "19"), NULL, text);
	expect_said(text, "\"result\":{\"gpa\":");
	consumer = d.control;
	d.control = -1;

	/*
	 * It has space for the planned region, but not for the one that is
	 * attached.
	 */
	ask(&d, CALL("plan", "far", FAR_PLAN ",\"used\":6"), NULL, text);
	expect_said(text, "\"nr_slots\":1,");
	ask(&d, CALL("attach", "far", ""), (const int[]){far.fd, far.mem.fd},
	    text);
	expect_said(text, "vhost-net0 can have 19 memslots, 6 are used and 14 "
			  "reserved");
	close(consumer);
	do
		ask(&d, CALL("consumers", "0", ""), NULL, text);
	while (strstr(text, "vhost-net0"));
	ask(&d, CALL("attach", "far", ""), (const int[]){far.fd, far.mem.fd},
	    text);
	expect_said(text, "\"region_id\":");

	/* A consumer of any device must have space for all devices. */
	ask(&d, SUBSCRIBE("0", "19"), NULL, text);
	expect_said(text, "6 are used and 14 reserved");
	ask(&d, SUBSCRIBE("far", "19"), NULL, text);
	expect_said(text, "6 are used and 14 reserved");
	ask(&d, SUBSCRIBE("far", "20"), NULL, text);
	expect_said(text, "\"result\":{\"gpa\":");
	daemon_kill(&d);
	daemon_remove(&d);
}

/* /proc/PID/status must contain this line. */
static void expect_status(pid_t pid, const char *line)
{
	static char text[TEXT_MAX];
	char path[64];
	size_t got;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "r");
	ASSERT_TRUE(file);
	got = fread(text, 1, sizeof(text) - 1, file);
	fclose(file);
	text[got] = '\0';
	expect_said(text, line);
}

static bool same_namespace(pid_t pid, const char *kind)
{
	char path[64], ours[64] = "", its[64] = "";

	snprintf(path, sizeof(path), "/proc/%d/ns/%s", (int)pid, kind);
	ASSERT_GT(readlink(path, its, sizeof(its) - 1), 0);
	snprintf(path, sizeof(path), "/proc/self/ns/%s", kind);
	ASSERT_GT(readlink(path, ours, sizeof(ours) - 1), 0);
	return !strcmp(ours, its);
}

static unsigned int count_root(pid_t pid)
{
	unsigned int nr = 0;
	char path[64];
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/root/", (int)pid);
	dir = opendir(path);
	ASSERT_TRUE(dir);
	while (readdir(dir))
		nr++;
	closedir(dir);
	return nr;
}

static void nothing_but_its_descriptors_is_left(const void *arg)
{
	char text[TEXT_MAX], requested[64];
	const bool *nobody = arg;
	struct region r;
	struct daemon d;

	need_vmemd();
	region_init(&r, AS_MASK_NORMAL);
	daemon_prepare(&d);
	d.nobody = *nobody;
	if (d.nobody)
		ASSERT_EQ(chown(d.dir, NOBODY, NOBODY), 0);
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	ask(&d, ATTACH, (const int[]){r.fd, r.mem.fd}, text);
	expect_said(text, "\"result\":{\"region_id\":");

	expect_status(d.pid, "\nCapPrm:\t0000000000000000\n"
			     "CapEff:\t0000000000000000\n");
	expect_status(d.pid, "\nCapAmb:\t0000000000000000\n"
			     "NoNewPrivs:\t1\nSeccomp:\t2\n");
	/*
	 * Without privileges vmemd cannot create namespaces, and remains in
	 * these.
	 */
	EXPECT_EQ(same_namespace(d.pid, "mnt"), d.nobody);
	EXPECT_EQ(same_namespace(d.pid, "net"), d.nobody);
	EXPECT_TRUE(same_namespace(d.pid, "user"));
	if (!d.nobody)
		EXPECT_EQ(count_root(d.pid), 2); /* "." and ".." */

	/* vmemd still works: this process, as root, is served. */
	snprintf(
		requested, sizeof(requested),
		"{\"id\":4,\"method\":\"resize\",\"params\":{\"size\":%llu}}\n",
		(unsigned long long)(8 * r.args.block_size));
	ask(&d, requested, NULL, text);
	expect_said(text, "result");
	ASSERT_OK(region_plug(&r, 1, 3));
	wait_plugged(&d, STATUS, 3 * r.args.block_size);
	snprintf(requested, sizeof(requested), "\"requested_size\":%llu,",
		 (unsigned long long)(8 * r.args.block_size));
	ask(&d, STATUS, NULL, text);
	expect_said(text, requested);
	snprintf(requested, sizeof(requested), "\"plugged_size\":%llu,",
		 (unsigned long long)(3 * r.args.block_size));
	expect_said(text, requested);
	snprintf(requested, sizeof(requested), "\"vmm_pid\":%d,",
		 (int)getpid());
	expect_said(text, requested);
	daemon_kill(&d);
	daemon_remove(&d);
}

#define PLAN(more)                                                \
	"{\"id\":6,\"method\":\"plan\",\"params\":{" more         \
	"\"region_size\":1703936,\"block_size\":65536,\"gpa\":0," \
	"\"kvm_limit\":32764}}\n"

/* Attach the usual region with another slot size. */
static void attach_cut(struct daemon *d, struct region *r, uint64_t slot_size,
		       const char *said)
{
	char text[TEXT_MAX];

	region_prepare(r);
	r->args.slot_size = slot_size;
	region_create(r);
	ask(d, ATTACH, (const int[]){r->fd, r->mem.fd}, text);
	expect_said(text, said);
}

static void a_region_is_cut_as_planned(const void *arg)
{
	struct region many, few;
	char text[TEXT_MAX];
	struct daemon d;

	(void)arg;
	need_vmemd();
	daemon_prepare(&d);
	d.options[0] = "--memslots";
	d.options[1] = "3";
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	attach_cut(&d, &many, REGION_BLOCKS_PER_SLOT * REGION_BLOCK,
		   "has 7 memslots, --memslots allows 3");
	ask(&d, PLAN(""), NULL, text);
	expect_said(text, "\"slot_size\":134217728,\"nr_slots\":1,");
	ask(&d, PLAN("\"used\":32764,"), NULL, text);
	expect_said(text, "no memslot is free");
	/* A refused region can still be attached elsewhere. */
	attach_cut(&d, &few, 16 * REGION_BLOCK, "\"region_id\":");
	ask(&d, STATUS, NULL, text);
	expect_said(text, "\"reason\":\"as the VMM created the region\"");
	ask(&d, PLAN(""), NULL, text);
	expect_said(text, "EBUSY");
	daemon_kill(&d);
	daemon_remove(&d);
}

static void an_isolated_region_has_a_memslot_for_each_block(const void *arg)
{
	struct region coarse, fine;
	char text[TEXT_MAX];
	struct daemon d;

	(void)arg;
	need_vmemd();
	daemon_prepare(&d);
	d.options[0] = "--isolate";
	daemon_start(&d);
	daemon_wait(&d, "waiting for a region");
	ask(&d, PLAN(""), NULL, text);
	expect_said(text, "\"slot_size\":65536,\"nr_slots\":26,");
	attach_cut(&d, &coarse, 2 * REGION_BLOCK, "--isolate needs");
	attach_cut(&d, &fine, REGION_BLOCK, "\"region_id\":");
	ask(&d, STATUS, NULL, text);
	expect_said(text, "by --isolate");
	/* The guest can access exactly the plugged blocks. */
	ASSERT_OK(region_plug(&fine, 3, 2));
	ASSERT_OK(region_plug(&fine, 8, 1));
	EXPECT_AS_MODEL(&fine);
	daemon_kill(&d);
	daemon_remove(&d);
}

int main(void)
{
	static const bool root = false, nobody = true;
	static const struct tap_case cases[] = {
		{.name = "only the same region may be attached again",
		 .run = the_same_region_is_attached_again},
		{.name = "after a kill it restores its state from the manager's descriptors",
		 .run = what_is_left_with_the_manager_brings_it_back},
		{.name = "with a region whose VM is gone it becomes ready and exits",
		 .run = with_a_region_whose_vm_is_gone_it_ends_well},
		{.name = "two devices are separate, and both are restored",
		 .run = two_devices_are_kept_apart},
		{.name = "both backings in one daemon",
		 .run = both_backings_side_by_side},
		{.name = "a consumer must have space for all devices",
		 .run = a_consumer_has_room_for_all_devices},
		{.name = "it keeps no privileges except its descriptors",
		 .run = nothing_but_its_descriptors_is_left,
		 .arg = &root},
		{.name = "it needs no privileges",
		 .run = nothing_but_its_descriptors_is_left,
		 .arg = &nobody},
		{.name = "a region has the planned memslots, or is refused",
		 .run = a_region_is_cut_as_planned},
		{.name = "with --isolate each block has a memslot",
		 .run = an_isolated_region_has_a_memslot_for_each_block},
	};

	return tap_run(cases, ARRAY_SIZE(cases));
}
