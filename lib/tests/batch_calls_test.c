// SPDX-License-Identifier: MIT
/*
 * Batches and the module's calls, as far as the library implements them itself:
 * they fail on a descriptor of another file. library_test tests them with the
 * module, in the testbed.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "kvmvmem.h"
#include "unit.h"

static void a_batch_is_limited_to_the_modules_maximum(void **state)
{
	struct kvmvmem_batch *batch = kvmvmem_batch_new();
	struct kvmvmem_error error;
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);

	(void)state;
	assert_non_null(batch);
	assert_int_equal(kvmvmem_batch_bad_index(batch), KVM_VMEM_NO_INDEX);
	for (uint32_t i = 0; i < KVM_VMEM_MAX_BATCH; i++)
		assert_int_equal(kvmvmem_batch_delete(batch, i), 0);
	assert_int_equal(kvmvmem_batch_count(batch), KVM_VMEM_MAX_BATCH);
	/* After an entry was dropped, the batch cannot be submitted. */
	assert_int_equal(kvmvmem_batch_set(batch, 0, 0, 0, 4096, NULL),
			 -EMSGSIZE);
	assert_int_equal(kvmvmem_batch_submit(batch, null_fd, -1, 0, &error),
			 -EMSGSIZE);
	kvmvmem_batch_clear(batch);
	assert_int_equal(kvmvmem_batch_count(batch), 0);
	assert_int_equal(kvmvmem_batch_submit(batch, null_fd, -1, 0, &error),
			 -ENOTTY);
	assert_string_equal(
		error.text,
		"batch of 0 memslots: Inappropriate ioctl for device");
	kvmvmem_batch_free(batch);
	kvmvmem_batch_free(NULL);
	close(null_fd);
}

static void other_descriptors_are_refused(void **state)
{
	struct kvm_vmem_create_region create = {.size = sizeof(create)};
	struct kvm_vmem_query query = {.size = sizeof(query)};
	int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct kvmvmem_error error;

	(void)state;
	assert_int_equal(kvmvmem_query(null_fd, &query, &error), -ENOTTY);
	assert_string_equal(error.text,
			    "KVM_VMEM_QUERY: Inappropriate ioctl for device");
	assert_int_equal(kvmvmem_region_create(-1, &create, &error), -EBADF);
	assert_string_equal(error.text,
			    "KVM_VMEM_CREATE_REGION: Bad file descriptor");
	assert_int_equal(kvmvmem_region_create(null_fd, &create, NULL),
			 -ENOTTY);
	close(null_fd);
	if (access("/dev/kvm-vmem", F_OK)) {
		assert_int_equal(kvmvmem_open(&error), -ENOENT);
		assert_non_null(strstr(error.text, "is kvm_vmem.ko loaded?"));
	}
	assert_non_null(strchr(kvmvmem_version(), '.'));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_batch_is_limited_to_the_modules_maximum),
		cmocka_unit_test(other_descriptors_are_refused),
	};

	return unit_run(tests, NULL, NULL);
}
