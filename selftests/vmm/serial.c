// SPDX-License-Identifier: GPL-2.0-or-later
#include "serial.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <linux/serial_reg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "layout.h"
#include "util.h"

/* Slots of the poll array. */
enum { POLL_DATA, POLL_LISTEN, POLL_WAKE };

static size_t rx_capacity(const struct serial *serial)
{
	return serial->fifo_enabled ? RX_FIFO_SIZE : 1;
}

static uint8_t interrupt_id(const struct serial *serial)
{
	if ((serial->ier & UART_IER_RDI) && serial->rx_len)
		return UART_IIR_RDI;
	if ((serial->ier & UART_IER_THRI) && serial->thr_interrupt)
		return UART_IIR_THRI;
	return UART_IIR_NO_INT;
}

/* OUT2 connects the interrupt to the PC's bus. */
static void update_irq(struct serial *serial)
{
	bool level = (serial->mcr & UART_MCR_OUT2) &&
		     interrupt_id(serial) != UART_IIR_NO_INT;
	struct kvm_irq_level line = {
		.irq = SERIAL_GSI,
		.level = level,
	};

	if (level == serial->irq_level)
		return;
	serial->irq_level = level;
	ioctl(serial->vm_fd, KVM_IRQ_LINE, &line);
}

static void wake_main_loop(struct serial *serial)
{
	eventfd_write(serial->wake_fd, 1);
}

static void rx_push(struct serial *serial, uint8_t byte)
{
	if (serial->rx_len == rx_capacity(serial))
		return;
	serial->rx[(serial->rx_head + serial->rx_len) % RX_FIFO_SIZE] = byte;
	serial->rx_len++;
}

static uint8_t rx_pop(struct serial *serial)
{
	uint8_t byte;

	if (!serial->rx_len)
		return 0;
	byte = serial->rx[serial->rx_head];
	serial->rx_head = (serial->rx_head + 1) % RX_FIFO_SIZE;
	serial->rx_len--;
	if (!serial->rx_len)
		wake_main_loop(serial);
	return byte;
}

static void disconnect(struct serial *serial)
{
	if (serial->listen_fd < 0)
		return; /* not a client, but stdio or a file */
	close(serial->in_fd);
	serial->in_fd = -1;
	serial->out_fd = -1;
}

/* Write as much of the backlog as the reader accepts. */
static void flush_backlog(struct serial *serial)
{
	size_t chunk;
	ssize_t len;

	while (serial->backlog_len && serial->out_fd >= 0) {
		chunk = BACKLOG_SIZE - serial->backlog_head;
		if (chunk > serial->backlog_len)
			chunk = serial->backlog_len;
		if (serial->listen_fd >= 0)
			len = send(serial->out_fd,
				   serial->backlog + serial->backlog_head,
				   chunk, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			len = write(serial->out_fd,
				    serial->backlog + serial->backlog_head,
				    chunk);
		if (len < 0) {
			if (errno != EAGAIN && errno != EINTR)
				disconnect(serial);
			return;
		}
		serial->backlog_head =
			(serial->backlog_head + (size_t)len) % BACKLOG_SIZE;
		serial->backlog_len -= (size_t)len;
	}
}

static void transmit(struct serial *serial, uint8_t byte)
{
	bool was_empty = !serial->backlog_len;

	if (serial->mcr & UART_MCR_LOOP) {
		rx_push(serial, byte);
		return;
	}
	if (serial->log_fd >= 0 && write(serial->log_fd, &byte, 1) < 0) {
		error_errno(errno, "console log ends");
		close(serial->log_fd);
		serial->log_fd = -1;
	}
	if (serial->backlog_len == BACKLOG_SIZE) {
		serial->backlog_head =
			(serial->backlog_head + 1) % BACKLOG_SIZE;
		serial->backlog_len--;
	}
	serial->backlog[(serial->backlog_head + serial->backlog_len) %
			BACKLOG_SIZE] = (char)byte;
	serial->backlog_len++;
	flush_backlog(serial);
	/* The rest waits for POLLOUT. */
	if (was_empty && serial->backlog_len && serial->out_fd >= 0)
		wake_main_loop(serial);
}

static uint8_t modem_status(const struct serial *serial)
{
	uint8_t mcr = serial->mcr, msr = 0;

	if (!(mcr & UART_MCR_LOOP))
		return UART_MSR_DCD | UART_MSR_DSR | UART_MSR_CTS;
	if (mcr & UART_MCR_DTR)
		msr |= UART_MSR_DSR;
	if (mcr & UART_MCR_RTS)
		msr |= UART_MSR_CTS;
	if (mcr & UART_MCR_OUT1)
		msr |= UART_MSR_RI;
	if (mcr & UART_MCR_OUT2)
		msr |= UART_MSR_DCD;
	return msr;
}

static void write_register(struct serial *serial, unsigned int offset,
			   uint8_t value)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;

	switch (offset) {
	case UART_TX:
		if (divisor) {
			serial->dll = value;
			break;
		}
		transmit(serial, value);
		/* The byte is sent immediately: the register is empty again. */
		serial->thr_interrupt = true;
		break;
	case UART_IER:
		if (divisor) {
			serial->dlm = value;
			break;
		}
		if ((value & UART_IER_THRI) && !(serial->ier & UART_IER_THRI))
			serial->thr_interrupt = true;
		serial->ier = value & 0x0f;
		break;
	case UART_FCR:
		serial->fifo_enabled = value & UART_FCR_ENABLE_FIFO;
		if (value & UART_FCR_CLEAR_RCVR) {
			serial->rx_len = 0;
			wake_main_loop(serial);
		}
		break;
	case UART_LCR:
		serial->lcr = value;
		break;
	case UART_MCR:
		serial->mcr = value & 0x1f;
		break;
	case UART_SCR:
		serial->scr = value;
		break;
	default:
		break; /* LSR and MSR are read-only */
	}
}

static uint8_t read_register(struct serial *serial, unsigned int offset)
{
	bool divisor = serial->lcr & UART_LCR_DLAB;
	uint8_t value;

	switch (offset) {
	case UART_RX:
		return divisor ? serial->dll : rx_pop(serial);
	case UART_IER:
		return divisor ? serial->dlm : serial->ier;
	case UART_IIR:
		value = interrupt_id(serial);
		if (value == UART_IIR_THRI)
			serial->thr_interrupt = false;
		if (serial->fifo_enabled)
			value |= 0xc0;
		return value;
	case UART_LCR:
		return serial->lcr;
	case UART_MCR:
		return serial->mcr;
	case UART_LSR:
		return UART_LSR_TEMT | UART_LSR_THRE |
		       (serial->rx_len ? UART_LSR_DR : 0);
	case UART_MSR:
		return modem_status(serial);
	case UART_SCR:
		return serial->scr;
	default:
		return 0xff;
	}
}

void serial_reset(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	serial->ier = 0;
	serial->lcr = 0;
	serial->mcr = 0;
	serial->scr = 0;
	serial->dll = 0;
	serial->dlm = 0;
	serial->fifo_enabled = false;
	serial->thr_interrupt = false;
	serial->rx_len = 0;
	update_irq(serial);
	wake_main_loop(serial);
	pthread_mutex_unlock(&serial->lock);
}

void serial_io(struct serial *serial, unsigned int offset, bool is_write,
	       uint8_t *value)
{
	pthread_mutex_lock(&serial->lock);
	if (is_write)
		write_register(serial, offset, *value);
	else
		*value = read_register(serial, offset);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

void serial_prepare_poll(struct serial *serial,
			 struct pollfd fds[SERIAL_NR_POLL])
{
	short events = 0;

	pthread_mutex_lock(&serial->lock);
	if (serial->rx_len < rx_capacity(serial))
		events |= POLLIN;
	/* Standard output and files are written at once. */
	if (serial->backlog_len && serial->listen_fd >= 0)
		events |= POLLOUT;
	fds[POLL_DATA] = (struct pollfd){serial->in_fd, events, 0};
	fds[POLL_LISTEN] = (struct pollfd){
		serial->in_fd < 0 ? serial->listen_fd : -1, POLLIN, 0};
	fds[POLL_WAKE] = (struct pollfd){serial->wake_fd, POLLIN, 0};
	pthread_mutex_unlock(&serial->lock);
}

static void receive(struct serial *serial)
{
	uint8_t bytes[RX_FIFO_SIZE];
	size_t room = rx_capacity(serial) - serial->rx_len;
	ssize_t len, i;

	if (!room)
		return;
	len = read(serial->in_fd, bytes, room);
	if (len < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (len <= 0) {
		disconnect(serial);
		if (serial->listen_fd < 0)
			serial->in_fd = -1; /* end of standard input */
		return;
	}
	for (i = 0; i < len; i++)
		rx_push(serial, bytes[i]);
}

void serial_handle_poll(struct serial *serial,
			const struct pollfd fds[SERIAL_NR_POLL])
{
	eventfd_t count;

	pthread_mutex_lock(&serial->lock);
	if (fds[POLL_WAKE].revents)
		eventfd_read(serial->wake_fd, &count);
	if (fds[POLL_LISTEN].revents && serial->in_fd < 0) {
		serial->in_fd =
			accept4(serial->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		serial->out_fd = serial->in_fd;
	}
	if (fds[POLL_DATA].fd == serial->in_fd && serial->in_fd >= 0 &&
	    (fds[POLL_DATA].revents & (POLLIN | POLLHUP | POLLERR)))
		receive(serial);
	flush_backlog(serial);
	update_irq(serial);
	pthread_mutex_unlock(&serial->lock);
}

static int open_terminal(struct serial *serial)
{
	struct termios raw;

	serial->in_fd = STDIN_FILENO;
	serial->out_fd = STDOUT_FILENO;
	if (tcgetattr(STDIN_FILENO, &serial->saved_terminal))
		return 0; /* a pipe or a file */
	raw = serial->saved_terminal;
	/* The guest echoes and edits lines; ^C still ends the VMM. */
	raw.c_iflag &= (tcflag_t) ~(ICRNL | IXON);
	raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
	if (tcsetattr(STDIN_FILENO, TCSANOW, &raw))
		return -errno;
	serial->restore_terminal = true;
	return 0;
}

static int open_socket(struct serial *serial, const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof(address.sun_path))
		return -ENAMETOOLONG;
	strcpy(address.sun_path, path);
	serial->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (serial->listen_fd < 0)
		return -errno;
	if (bind(serial->listen_fd, (struct sockaddr *)&address,
		 sizeof(address)))
		return -errno;
	serial->unlink_path = path;
	if (listen(serial->listen_fd, 1))
		return -errno;
	return 0;
}

static int open_output(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	return fd < 0 ? -errno : fd;
}

int serial_open(struct serial *serial, int vm_fd, const char *spec,
		const char *log_path)
{
	int ret = 0;

	memset(serial, 0, sizeof(*serial));
	pthread_mutex_init(&serial->lock, NULL);
	serial->vm_fd = vm_fd;
	serial->in_fd = -1;
	serial->out_fd = -1;
	serial->listen_fd = -1;
	serial->log_fd = -1;
	serial->backlog = malloc(BACKLOG_SIZE);
	serial->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (!serial->backlog || serial->wake_fd < 0) {
		error_errno(errno, "console");
		return -errno;
	}
	if (log_path) {
		ret = open_output(log_path);
		if (ret < 0) {
			error_errno(-ret, "%s", log_path);
			return ret;
		}
		serial->log_fd = ret;
	}
	if (!strcmp(spec, "stdio")) {
		ret = open_terminal(serial);
	} else if (!strncmp(spec, "unix:", strlen("unix:"))) {
		ret = open_socket(serial, spec + strlen("unix:"));
	} else {
		ret = open_output(spec);
		if (ret >= 0) {
			serial->out_fd = ret;
			ret = 0;
		}
	}
	if (ret)
		error_errno(-ret, "console %s", spec);
	return ret;
}

void serial_close(struct serial *serial)
{
	pthread_mutex_lock(&serial->lock);
	flush_backlog(serial);
	pthread_mutex_unlock(&serial->lock);
	if (serial->restore_terminal)
		tcsetattr(STDIN_FILENO, TCSANOW, &serial->saved_terminal);
	if (serial->unlink_path)
		unlink(serial->unlink_path);
	if (serial->out_fd > STDERR_FILENO)
		close(serial->out_fd);
	if (serial->listen_fd >= 0)
		close(serial->listen_fd);
	if (serial->log_fd >= 0)
		close(serial->log_fd);
	if (serial->wake_fd >= 0)
		close(serial->wake_fd);
	free(serial->backlog);
	pthread_mutex_destroy(&serial->lock);
}
