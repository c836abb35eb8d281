/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other processes: passing descriptors, dropping privileges. */
#ifndef SELFTESTS_PROCESS_H
#define SELFTESTS_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* The user and group "nobody". */
#define NOBODY 65534

void process_pair(int fds[2]);
pid_t process_start(void (*run)(int socket), int *socket);
void send_byte(int socket);
void receive_byte(int socket);
void send_fd(int socket, int fd);
int receive_fd(int socket);

void become_nobody(gid_t gid);
void become_nobody_with(uint64_t caps);
void expect_exit(pid_t pid);
unsigned int kvm_vm_count(void);
char process_thread_state(const char *process, const char *thread);

#endif /* SELFTESTS_PROCESS_H */
