// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The VMs of this host, by name.
 *
 * A VM's control socket is FOLDER/NAME/control. FOLDER is /run/vmemd, where the
 * systemd units have it; $XDG_RUNTIME_DIR/vmemd, for VMs of a user without
 * systemd's units; or what VMEMD_RUN_DIR says instead of both. A vmemd whose
 * control socket is elsewhere is found by its command line in /proc, and has no
 * name.
 *
 * Anybody may have a process whose command line looks so, and names a socket of
 * somebody else's. Such a path is kept only if the socket is its user's; who
 * connects sees whether that process listens there.
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

/* Folders at most: the system's and the user's. */
#define DIRS_MAX 2

/* Longest command line that is looked at. */
#define COMMAND_LINE_MAX 16384

/* --- Names --- */

static void free_dirs(char *dirs[DIRS_MAX])
{
	for (size_t i = 0; i < DIRS_MAX; i++)
		free(dirs[i]);
}

/* Where VMs have folders; NULL where there is none. */
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

/* Does it fit in a path as one folder's name? */
static bool is_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

/**
 * vms_path() - the control socket of a VM
 * @path: the caller's to free, on success
 *
 * Return: 0, or an errno with a message printed.
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

/* The name in a path of that folder; NULL if it is not there. */
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
 * vms_name() - the VM of a control socket
 *
 * Return: its name, or NULL if it has none; the caller's to free.
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

/* @path and @name are copied; @name may be NULL. @pid: as in struct vms. */
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
 * Has systemd a service that runs for this name? It keeps a link of the
 * service's invocation for as long as that runs.
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

/* A VM's folder. One that may not be looked into may have a socket. */
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
		/* What is not there has no VMs. */
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

/* The control socket in a command line, words that end with a zero byte. */
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

/* Words of a process that is called vmemd. Return: their length, 0: it is not */
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

/* The user that a process is, as for files. Return: 0, or an errno. */
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
 * May the socket be of that process? What it names is not to be touched if it is
 * another user's, but for what is said by the superuser and by ourselves.
 */
static bool may_listen(const char *pid, const char *path)
{
	struct stat st;
	uid_t user = 0;

	return !lstat(path, &st) && S_ISSOCK(st.st_mode) &&
	       !read_user(pid, &user) &&
	       (!user || user == geteuid() || user == st.st_uid);
}

/* vmemds whose sockets are anywhere; a relative path is not to be found. */
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
 * vms_find() - all VMs of this host that can be found
 * @vms: out, for vms_free(); also on error
 *
 * Return: 0, or -ENOMEM with a message printed.
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
