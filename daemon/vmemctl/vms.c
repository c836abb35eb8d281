// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Finding the VMs of this host by name.
 *
 * The control socket of a VM is DIR/NAME/control. DIR is /run/vmemd, which the
 * systemd units use, or $XDG_RUNTIME_DIR/vmemd, for VMs that a user starts
 * without these units. The environment variable VMEMD_RUN_DIR replaces both. A
 * vmemd whose control socket is elsewhere is found by its command line in /proc
 * and has no name.
 *
 * Any user can start a process with the command line of vmemd that names a
 * socket of another user. Such a path is accepted only if the socket belongs to
 * the user of the process. After connecting, the caller checks that this
 * process listens there.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "vmemctl.h"
#include "vms.h"

#define SYSTEM_DIR   "/run/vmemd"
#define CONTROL_NAME "control"

/* Maximum number of directories: that of the system and that of the user. */
#define DIRS_MAX 2

/* Number of bytes of a command line that are read. */
#define COMMAND_LINE_MAX 16384

/* --- Names --- */

static void free_dirs(char *dirs[DIRS_MAX])
{
	for (size_t i = 0; i < DIRS_MAX; i++)
		free(dirs[i]);
}

/* The directories that contain VMs; unused entries are NULL. */
static int find_dirs(char *dirs[DIRS_MAX])
{
	const char *given = getenv("VMEMD_RUN_DIR");
	const char *user = getenv("XDG_RUNTIME_DIR");

	dirs[0] = strdup(given && *given ? given : SYSTEM_DIR);
	dirs[1] = NULL;
	if (dirs[0] && !(given && *given) && user && *user == '/' &&
	    asprintf(&dirs[1], "%s/vmemd", user) < 0) {
		free(dirs[0]);
		dirs[0] = NULL;
	}
	return dirs[0] ? 0 : -ENOMEM;
}

/* Is the text valid as the name of one directory? */
static bool is_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

/**
 * vms_path() - find the control socket of a VM
 * @name: name of the VM
 * @path: out: path of the socket, which the caller frees
 *
 * Return: 0; a negative errno after printing an error.
 */
int vms_path(const char *name, char **path)
{
	char *dirs[DIRS_MAX];
	int ret = -ENOENT;

	if (!is_name(name)) {
		ctl_complain("--vm %s: not a name", name);
		return -EINVAL;
	}
	if (find_dirs(dirs)) {
		ctl_complain("out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < DIRS_MAX && dirs[i] && ret == -ENOENT; i++) {
		struct stat st;

		if (asprintf(path, "%s/%s/" CONTROL_NAME, dirs[i], name) < 0) {
			ret = -ENOMEM;
			ctl_complain("out of memory");
		} else if (!lstat(*path, &st)) {
			ret = 0;
		} else if (errno != ENOENT && errno != ENOTDIR) {
			ret = -errno;
			ctl_complain("%s: %s", *path, strerror(errno));
			free(*path);
		} else {
			free(*path);
		}
	}
	if (ret == -ENOENT)
		ctl_complain("no VM \"%s\" below %s%s%s: see 'vmemctl list'",
			     name, dirs[0], dirs[1] ? " and " : "",
			     dirs[1] ? dirs[1] : "");
	free_dirs(dirs);
	return ret;
}

/* The name of the VM in a path below @dir; NULL: the path is elsewhere. */
static char *name_below(const char *dir, const char *path)
{
	size_t length = strlen(dir);
	const char *name, *end;

	if (strncmp(path, dir, length) != 0 || path[length] != '/')
		return NULL;
	name = path + length + 1;
	end = strchr(name, '/');
	if (!end || end == name || strcmp(end + 1, CONTROL_NAME) != 0)
		return NULL;
	return strndup(name, end - name);
}

/**
 * vms_name() - get the name of the VM of a control socket
 * @path: path of the socket
 *
 * Return: the name, which the caller frees; NULL: the VM has no name.
 */
char *vms_name(const char *path)
{
	char *dirs[DIRS_MAX], *name = NULL;

	if (find_dirs(dirs))
		return NULL;
	for (size_t i = 0; i < DIRS_MAX && dirs[i] && !name; i++)
		name = name_below(dirs[i], path);
	free_dirs(dirs);
	return name;
}

/* --- Finding --- */

static struct vm_place *find_path(const struct vms *vms, const char *path)
{
	for (size_t i = 0; i < vms->nr; i++)
		if (!strcmp(vms->vms[i].path, path))
			return &vms->vms[i];
	return NULL;
}

/* Add a VM. Copies @path and @name; @name may be NULL. @pid: see struct vms. */
static int add(struct vms *vms, const char *path, const char *name, pid_t pid,
	       bool idle)
{
	struct vm_place *grown, *vm;

	grown = reallocarray(vms->vms, vms->nr + 1, sizeof(*grown));
	if (!grown)
		return -ENOMEM;
	vms->vms = grown;
	vm = &grown[vms->nr];
	*vm = (struct vm_place){
		.path = strdup(path),
		.name = name ? strdup(name) : NULL,
		.pid = pid,
		.idle = idle,
	};
	if (!vm->path || (name && !vm->name)) {
		free(vm->path);
		free(vm->name);
		return -ENOMEM;
	}
	vms->nr++;
	return 0;
}

/*
 * Is the systemd service of this VM running? systemd keeps a link with the
 * invocation id of a service while the service runs.
 */
static bool service_runs(const char *name)
{
	struct stat st;
	char *link;
	bool runs;

	if (asprintf(&link, "/run/systemd/units/invocation:vmemd@%s.service",
		     name) < 0)
		return false;
	/* The link does not point to a file. */
	runs = !lstat(link, &st);
	free(link);
	return runs;
}

/* Add the VM of a directory. An unreadable directory may have a socket. */
static int add_folder(struct vms *vms, const char *dir, const char *name,
		      bool systemd)
{
	struct stat st;
	char *path;
	int ret = 0;

	if (asprintf(&path, "%s/%s/" CONTROL_NAME, dir, name) < 0)
		return -ENOMEM;
	if ((!lstat(path, &st) || errno == EACCES) && !find_path(vms, path))
		ret = add(vms, path, name, 0, systemd && !service_runs(name));
	free(path);
	return ret;
}

static int add_dir(struct vms *vms, const char *dir)
{
	bool systemd = !strcmp(dir, SYSTEM_DIR) &&
		       !access("/run/systemd/system", F_OK);
	struct dirent *entry;
	DIR *folder = opendir(dir);
	int ret = 0;

	if (!folder) {
		/* A directory that does not exist has no VMs. */
		vms->hidden |= errno == EACCES;
		if (errno == EACCES)
			ctl_complain("%s: %s", dir, strerror(errno));
		return 0;
	}
	while (!ret && (entry = readdir(folder)))
		if (is_name(entry->d_name))
			ret = add_folder(vms, dir, entry->d_name, systemd);
	closedir(folder);
	return ret;
}

/* The control socket in a command line, whose words end with a zero byte. */
static const char *control_option(const char *words, size_t length)
{
	static const char option[] = "--control";
	const char *end = words + length;
	bool next = false;

	for (; words < end; words += strlen(words) + 1) {
		if (next)
			return words;
		next = !strcmp(words, option);
		if (!strncmp(words, option, sizeof(option) - 1) &&
		    words[sizeof(option) - 1] == '=')
			return words + sizeof(option);
	}
	return NULL;
}

/*
 * Read the command line of a process whose name is vmemd.
 *
 * Return: its length; 0: the process has a different name, or has gone.
 */
static size_t read_command(const char *pid, char words[COMMAND_LINE_MAX])
{
	char path[64], name[32] = "";
	size_t length = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(name, sizeof(name), f))
		*name = '\0';
	fclose(f);
	if (strcmp(name, "vmemd\n") != 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%.16s/cmdline", pid);
	f = fopen(path, "re");
	if (!f)
		return 0;
	length = fread(words, 1, COMMAND_LINE_MAX - 1, f);
	fclose(f);
	words[length] = '\0';
	return length;
}

/* Read the effective user id of a process. Return: 0, or a negative errno. */
static int read_user(const char *pid, uid_t *user)
{
	char path[64], line[128];
	unsigned int effective;
	int ret = -ESRCH;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%.16s/status", pid);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (ret && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "Uid: %*u %u", &effective) != 1)
			continue;
		*user = effective;
		ret = 0;
	}
	fclose(f);
	return ret;
}

/*
 * May the socket belong to this process? A socket of a user other than the user
 * of the process is not touched, unless the process runs as root or as our own
 * user.
 */
static bool may_listen(const char *pid, const char *path)
{
	struct stat st;
	uid_t user = 0;

	return !lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	       !read_user(pid, &user) &&
	       (!user || user == geteuid() || user == st.st_uid);
}

/* Add vmemds by their command lines. Relative paths are not resolved. */
static int add_processes(struct vms *vms)
{
	char words[COMMAND_LINE_MAX];
	struct dirent *entry;
	DIR *proc = opendir("/proc");
	int ret = 0;

	if (!proc)
		return 0;
	while (!ret && (entry = readdir(proc))) {
		struct vm_place *known;
		const char *path;
		size_t length;

		if (!isdigit((unsigned char)*entry->d_name))
			continue;
		length = read_command(entry->d_name, words);
		path = length ? control_option(words, length) : NULL;
		if (!path || *path != '/')
			continue;
		if (!may_listen(entry->d_name, path))
			continue;
		known = find_path(vms, path);
		if (known)
			known->idle = false;
		else
			ret = add(vms, path, NULL,
				  (pid_t)strtol(entry->d_name, NULL, 10),
				  false);
	}
	closedir(proc);
	return ret;
}

static int by_name(const void *a, const void *b)
{
	const struct vm_place *left = a, *right = b;

	/* Those without a name come last. */
	if (!left->name != !right->name)
		return !left->name - !right->name;
	return left->name ? strcmp(left->name, right->name)
			  : strcmp(left->path, right->path);
}

/**
 * vms_find() - find all VMs of this host
 * @vms: out: the VMs; the caller calls vms_free() also on failure
 *
 * Return: 0; -ENOMEM after printing an error.
 */
int vms_find(struct vms *vms)
{
	char *dirs[DIRS_MAX];
	int ret;

	*vms = (struct vms){0};
	ret = find_dirs(dirs);
	if (!ret) {
		for (size_t i = 0; i < DIRS_MAX && dirs[i] && !ret; i++)
			ret = add_dir(vms, dirs[i]);
		free_dirs(dirs);
	}
	if (!ret)
		ret = add_processes(vms);
	if (ret)
		ctl_complain("out of memory");
	else if (vms->nr)
		qsort(vms->vms, vms->nr, sizeof(*vms->vms), by_name);
	return ret;
}

void vms_free(struct vms *vms)
{
	for (size_t i = 0; i < vms->nr; i++) {
		free(vms->vms[i].name);
		free(vms->vms[i].path);
	}
	free(vms->vms);
	*vms = (struct vms){0};
}
