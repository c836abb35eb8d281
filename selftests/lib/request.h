/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Requests that do not wait for the answer: when such a call returns, the
 * kernel has accepted the request, but may not have carried it out.
 */
#ifndef SELFTESTS_REQUEST_H
#define SELFTESTS_REQUEST_H

#include <stdbool.h>
#include <stdint.h>

#include "region.h"

struct mnl_socket;

struct mnl_socket *request_socket(unsigned int portid);
void request_explain(struct mnl_socket *socket);
void request_plug(struct mnl_socket *socket, const struct region *r,
		  unsigned int first, unsigned int nr, uint32_t seq);
void request_long_plug(struct mnl_socket *socket, const struct region *r,
		       uint32_t seq);
void request_set(struct mnl_socket *socket, const struct region *r,
		 unsigned int blocks, uint32_t seq);
void request_expect_answer(struct mnl_socket *socket, const struct region *r,
			   uint32_t seq);
int request_error(struct mnl_socket *socket, bool *blames_attr);

#endif /* SELFTESTS_REQUEST_H */
