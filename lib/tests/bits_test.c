// SPDX-License-Identifier: MIT
/* Sets of blocks, compared with an array of bytes. */
#include "bits.h"

#include <stdlib.h>
#include <string.h>

#include "random.h"
#include "unit.h"

#define NR     200
#define ROUNDS 20000

static uint64_t expected_next(const uint8_t *model, uint64_t from, uint64_t end,
			      bool value)
{
	while (from < end && model[from] != value)
		from++;
	return from < end ? from : end;
}

static void sets_agree_with_an_array(void **state)
{
	uint8_t model[NR] = {0};
	struct kvmvmem_bits bits;
	uint64_t random = 1;

	(void)state;
	assert_int_equal(kvmvmem_bits_init(&bits, NR), 0);
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t first = random_below(&random, NR + 1);
		uint64_t end = first + random_below(&random,
						    (uint32_t)(NR + 1 - first));
		bool value = random_below(&random, 2);

		kvmvmem_bits_fill(&bits, first, end, value);
		memset(model + first, value, end - first);
		first = random_below(&random, NR + 1);
		end = first + random_below(&random, (uint32_t)(NR + 1 - first));
		value = random_below(&random, 2);
		assert_int_equal(kvmvmem_bits_next(&bits, first, end, value),
				 expected_next(model, first, end, value));
	}
	kvmvmem_bits_free(&bits);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(sets_agree_with_an_array),
	};

	return unit_run(tests, NULL, NULL);
}
