/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A 16550A serial port, the guest's console.
 *
 * Its other end is stdin and stdout, a file (output only), or a Unix socket
 * with one client at a time. The last BACKLOG_SIZE bytes of output are kept
 * while no client is connected, or if the client reads more slowly, so that a
 * client may connect late. All output also goes to a log file if there is one.
 *
 * vCPU threads call serial_io(), the main loop calls the other functions. The
 * port has its own lock, so a device that waits for its backend never blocks
 * the console.
 */
#ifndef SERIAL_H
#define SERIAL_H

#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <termios.h>

#define SERIAL_NR_POLL 3

#define RX_FIFO_SIZE 16
#define BACKLOG_SIZE (256 * 1024)

struct serial {
	pthread_mutex_t lock;
	int vm_fd;
	bool irq_level;

	uint8_t ier;
	uint8_t lcr;
	uint8_t mcr;
	uint8_t scr;
	uint8_t dll;
	uint8_t dlm;
	bool fifo_enabled;
	bool thr_interrupt;
	uint8_t rx[RX_FIFO_SIZE];
	size_t rx_head;
	size_t rx_len;

	int in_fd;
	int out_fd;
	int listen_fd;
	int log_fd;
	int wake_fd;
	const char *unlink_path;
	bool restore_terminal;
	struct termios saved_terminal;

	char *backlog;
	size_t backlog_head;
	size_t backlog_len;
};

/**
 * serial_open() - open the port and its other end
 * @serial: the port
 * @vm_fd: the VM, for the interrupt
 * @spec: "stdio", "unix:PATH" or the path of a file
 * @log_path: file that gets all output, or NULL
 *
 * Return: 0 or a negative errno, with a message.
 */
int serial_open(struct serial *serial, int vm_fd, const char *spec,
		const char *log_path);
void serial_close(struct serial *serial);

/**
 * serial_reset() - restore the initial state of the guest's side
 * @serial: the port
 *
 * Output of the guest is kept; input that the guest has not read is dropped.
 */
void serial_reset(struct serial *serial);

/**
 * serial_io() - the guest's access to one register
 * @serial: the port
 * @offset: register, 0 to SERIAL_PORT_SIZE - 1
 * @is_write: direction
 * @value: the value written, or the place for the value read
 */
void serial_io(struct serial *serial, unsigned int offset, bool is_write,
	       uint8_t *value);

/**
 * serial_prepare_poll() - set the events to poll for
 * @serial: the port
 * @fds: filled in
 */
void serial_prepare_poll(struct serial *serial,
			 struct pollfd fds[SERIAL_NR_POLL]);

/**
 * serial_handle_poll() - handle the events
 * @serial: the port
 * @fds: from serial_prepare_poll(), after poll()
 */
void serial_handle_poll(struct serial *serial,
			const struct pollfd fds[SERIAL_NR_POLL]);

#endif /* SERIAL_H */
