// SPDX-License-Identifier: GPL-2.0-or-later
#include "kernel.h"

#include <errno.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "tap.h"

/** kernel_is_at_least() - Is the running kernel of this version or newer? */
bool kernel_is_at_least(unsigned int major, unsigned int minor)
{
	unsigned int is_major, is_minor;
	struct utsname name;

	ASSERT_EQ(uname(&name), 0);
	ASSERT_EQ(sscanf(name.release, "%u.%u", &is_major, &is_minor), 2);
	return is_major > major || (is_major == major && is_minor >= minor);
}

/**
 * module_parameter() - Is a boolean module parameter on?
 *
 * Return: false also if there is no such module or parameter.
 */
bool module_parameter(const char *module, const char *parameter)
{
	char path[128], value = 0;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module,
		 parameter);
	f = fopen(path, "r");
	if (!f)
		return false;
	if (fscanf(f, "%c", &value) != 1)
		value = 0;
	fclose(f);
	return value == 'Y' || value == '1';
}

/** kernel_has_module() - Is this module loaded, or built in? */
bool kernel_has_module(const char *module)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/module/%s", module);
	return !access(path, F_OK);
}

/** kvm_nested_paging() - Does KVM map guests by AMD's NPT or Intel's EPT? */
bool kvm_nested_paging(void)
{
	return module_parameter("kvm_amd", "npt") ||
	       module_parameter("kvm_intel", "ept");
}

/**
 * kvm_tdp_mmu() - Does KVM use the TDP MMU, whose page tables shadow none of the
 * guest's?
 *
 * On 6.1 its parameter stays set without nested paging.
 */
bool kvm_tdp_mmu(void)
{
	return kvm_nested_paging() && module_parameter("kvm", "tdp_mmu");
}

/**
 * module_users() - Return: references to a module; -1 if no such module is
 * loaded.
 */
int module_users(const char *module)
{
	char path[128];
	int users = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/module/%s/refcnt", module);
	f = fopen(path, "r");
	if (!f)
		return -1;
	if (fscanf(f, "%d", &users) != 1)
		users = -1;
	fclose(f);
	return users;
}

/*
 * Make the kernel sum up its counters: each CPU has a part of up to 125 pages.
 * Only root can.
 */
static void sum_up_counters(void)
{
	FILE *f = fopen("/proc/sys/vm/stat_refresh", "r");

	if (!f)
		return;
	fgetc(f);
	fclose(f);
}

/**
 * meminfo() - Return: a value of /proc/meminfo in bytes; without root, that of
 * meminfo_quick().
 */
uint64_t meminfo(const char *name)
{
	sum_up_counters();
	return meminfo_quick(name);
}

/**
 * meminfo_quick() - Return: as meminfo(), for a loop: from 7.2 on, VmallocUsed may
 * be wrong by 500 KiB for each CPU.
 */
uint64_t meminfo_quick(const char *name)
{
	unsigned long long kib = 0;
	char key[64];
	bool found = false;
	FILE *f;

	f = fopen("/proc/meminfo", "r");
	ASSERT_TRUE(f);
	while (!found && fscanf(f, "%63[^:]: %llu%*[^\n]\n", key, &kib) == 2)
		found = !strcmp(key, name);
	fclose(f);
	ASSERT_TRUE(found);
	return kib << 10;
}

/* Return: false if the cache does not exist. */
static bool shrink_cache(const char *path)
{
	FILE *f = fopen(path, "w");

	if (!f)
		return false;
	fputs("1", f);
	fclose(f);
	return true;
}

/**
 * slab_bytes() - Unreclaimable slab memory.
 *
 * Every cache is shrunk first. This releases empty slabs, and objects in
 * KASAN's quarantine, which are most of it on a kernel with KASAN.
 *
 * Return: SUnreclaim of /proc/meminfo.
 */
uint64_t slab_bytes(void)
{
	glob_t caches;
	size_t i;

	ASSERT_EQ(glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches), 0);
	/* A cache may have been destroyed since glob(). */
	for (i = 0; i < caches.gl_pathc; i++)
		shrink_cache(caches.gl_pathv[i]);
	globfree(&caches);
	return meminfo("SUnreclaim");
}

/** slab_cache_bytes() - Return: bytes of the objects in use of a slab cache. */
uint64_t slab_cache_bytes(const char *name)
{
	unsigned long long nr, size, bytes = 0;
	char path[128], line[512], key[64];
	bool found = false;
	FILE *f;

	/* Free objects in per-CPU slabs count as used. */
	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", name);
	ASSERT_TRUE(shrink_cache(path));
	f = fopen("/proc/slabinfo", "r");
	ASSERT_TRUE(f);
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%63s %llu %*u %llu", key, &nr, &size) == 3 &&
		    !strcmp(key, name)) {
			bytes = nr * size;
			found = true;
		}
	fclose(f);
	ASSERT_TRUE(found);
	return bytes;
}

/** kernel_write() - write to one of the kernel's files, in one call */
void kernel_write(const char *path, const char *fmt, ...)
{
	FILE *f = fopen(path, "w");
	va_list ap;

	if (!f)
		tap_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
	ASSERT_TRUE(f);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	if (fclose(f))
		tap_fail(__FILE__, __LINE__, "%s: %s", path, strerror(errno));
}
