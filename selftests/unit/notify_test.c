// SPDX-License-Identifier: GPL-2.0-or-later
/* Notifications to a service manager. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "fd_message.h"
#include "notify.h"
#include "unit.h"

/* Longest abstract socket name of this process. */
#define NAME_MAX_SIZE 64

/* Open a manager's socket and set it in the environment. Return: the socket. */
static int new_manager(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	char name[NAME_MAX_SIZE];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	snprintf(name, sizeof(name), "@vmemd-notify-%d", (int)getpid());
	memcpy(addr.sun_path + 1, name + 1, strlen(name) - 1);
	assert_int_equal(
		bind(fd, (struct sockaddr *)&addr,
		     (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				 strlen(name))),
		0);
	assert_int_equal(setenv("NOTIFY_SOCKET", name, 1), 0);
	return fd;
}

static void assert_told(int fd, const char *text)
{
	char got[NOTIFY_TEXT_MAX] = "";

	assert_true(recv(fd, got, sizeof(got) - 1, 0) > 0);
	assert_string_equal(got, text);
}

static void messages_arrive(void **state)
{
	struct notify notify;
	int fd = new_manager();
	sd_event *event;

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	notify_ready(&notify);
	notify_send(&notify, "STATUS=%d of %d", 1, 2);
	assert_told(fd, "READY=1");
	assert_told(fd, "STATUS=1 of 2");
	/* More messages than the manager reads, and a manager that has left. */
	for (int i = 0; i < 10000; i++)
		notify_send(&notify, "STATUS=%d", i);
	close(fd);
	notify_send(&notify, "STATUS=nobody");
	notify_close(&notify);
	/* A failed start closes it before the daemon does. */
	assert_int_equal(notify.fd, -1);
	notify_close(&notify);
	sd_event_unref(event);
}

static volatile sig_atomic_t interrupted;

static void on_alarm(int signal)
{
	(void)signal;
	interrupted = 1;
}

/*
 * A descriptor that the manager does not forget would be passed again, beside
 * another of its name.
 */
static void forgetting_waits_for_a_manager_that_is_busy(void **state)
{
	/* Without SA_RESTART, so that the signal ends the wait. */
	const struct sigaction action = {.sa_handler = on_alarm};
	const struct itimerval soon = {.it_value.tv_usec = 100000};
	char got[NOTIFY_TEXT_MAX] = "";
	struct notify notify;
	int fd = new_manager();
	sd_event *event;

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	while (send(notify.fd, "", 1, MSG_DONTWAIT) == 1)
		;
	assert_int_equal(sigaction(SIGALRM, &action, NULL), 0);
	assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
	notify_forget(&notify, "memory");
	assert_true(interrupted);
	while (recv(fd, got, sizeof(got) - 1, 0) > 0)
		;
	notify_forget(&notify, "memory");
	assert_told(fd, "FDSTOREREMOVE=1\nFDNAME=memory");
	close(fd);
	notify_close(&notify);
	sd_event_unref(event);
}

static void a_descriptor_is_left_with_the_manager(void **state)
{
	char text[NOTIFY_TEXT_MAX];
	int fd = new_manager(), left = eventfd(7, EFD_CLOEXEC), got[2];
	size_t nr_fds = 2;
	struct notify notify;
	sd_event *event;
	uint64_t value;
	ssize_t length;

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	notify_store(&notify, "region", left);
	length = fd_message_receive(fd, text, sizeof(text), got, &nr_fds, 0);
	assert_true(length > 0);
	text[length] = '\0';
	assert_string_equal(text, "FDSTORE=1\nFDPOLL=0\nFDNAME=region");
	assert_int_equal(nr_fds, 1);
	/* The received descriptor is the same file; the original stays open. */
	assert_int_equal(read(got[0], &value, sizeof(value)), sizeof(value));
	assert_int_equal(value, 7);
	close(got[0]);
	assert_true(fcntl(left, F_GETFD) >= 0);
	close(left);
	notify_close(&notify);
	sd_event_unref(event);
	close(fd);
}

static void without_a_manager_nothing_is_sent(void **state)
{
	struct notify notify;

	(void)state;
	unsetenv("NOTIFY_SOCKET");
	assert_int_equal(notify_open(&notify, NULL), 0);
	notify_ready(&notify);
	notify_store(&notify, "region", STDIN_FILENO);
	notify_close(&notify);
	setenv("NOTIFY_SOCKET", "relative", 1);
	assert_int_equal(notify_open(&notify, NULL), -EAFNOSUPPORT);
	setenv("NOTIFY_SOCKET", "@vmemd-notify-nobody", 1);
	assert_int_equal(notify_open(&notify, NULL), -ECONNREFUSED);
}

static void the_watchdog_is_notified(void **state)
{
	struct notify notify;
	uint64_t now, next;
	sd_event *event;
	char pid[16];
	int fd = new_manager();

	(void)state;
	snprintf(pid, sizeof(pid), "%d", (int)getpid());
	setenv("WATCHDOG_PID", pid, 1);
	setenv("WATCHDOG_USEC", "20000", 1);
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	for (int i = 0; i < 3; i++) {
		assert_true(sd_event_run(event, UINT64_MAX) > 0);
		assert_told(fd, "WATCHDOG=1");
		/*
		 * The next one is not sent immediately, even if the loop never
		 * waits.
		 */
		assert_int_equal(sd_event_now(event, CLOCK_MONOTONIC, &now), 0);
		assert_int_equal(
			sd_event_source_get_time(notify.watchdog_source, &next),
			0);
		assert_int_equal(next - now, 10000);
	}
	notify_close(&notify);
	sd_event_unref(event);
	unsetenv("WATCHDOG_USEC");
	close(fd);
}

static unsigned int take_all(int fd, char last[NOTIFY_TEXT_MAX])
{
	unsigned int nr = 0;
	ssize_t got;

	while ((got = recv(fd, last, NOTIFY_TEXT_MAX - 1, MSG_DONTWAIT)) > 0) {
		last[got] = '\0';
		nr++;
	}
	return nr;
}

/* Status messages are rate-limited; the last status is always sent. */
static void the_status_is_sent_when_it_has_changed(void **state)
{
	char last[NOTIFY_TEXT_MAX] = "";
	struct notify notify;
	unsigned int nr = 0;
	sd_event *event;
	int fd = new_manager();

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	for (int i = 0; i < 1000; i++) {
		notify_status(&notify, "%d plugged", i);
		assert_true(sd_event_run(event, 0) >= 0);
		nr += take_all(fd, last);
	}
	/* The first message, and one for each second that this has taken. */
	assert_in_range(nr, 1, 100);
	while (strcmp(last, "STATUS=999 plugged")) {
		assert_true(sd_event_run(event, UINT64_MAX) > 0);
		assert_true(take_all(fd, last) <= 1);
	}
	/* An unchanged status is not sent again. */
	assert_true(sd_event_run(event, UINT64_MAX) > 0);
	for (int i = 0; i < 1000; i++)
		notify_status(&notify, "999 plugged");
	assert_int_equal(take_all(fd, last), 0);
	notify_status(&notify, "1000 plugged");
	assert_int_equal(take_all(fd, last), 1);
	assert_string_equal(last, "STATUS=1000 plugged");
	notify_close(&notify);
	sd_event_unref(event);
	close(fd);
}

/* A message that does not fit into the manager's socket is sent later. */
static void a_status_that_does_not_fit_is_sent_later(void **state)
{
	char last[NOTIFY_TEXT_MAX] = "";
	struct notify notify;
	sd_event *event;
	int fd = new_manager();

	(void)state;
	assert_true(sd_event_new(&event) >= 0);
	assert_int_equal(notify_open(&notify, event), 0);
	for (int i = 0; i < 10000; i++)
		notify_send(&notify, "X=%d", i);
	notify_status(&notify, "at last");
	take_all(fd, last);
	assert_null(strstr(last, "at last"));
	while (strcmp(last, "STATUS=at last")) {
		assert_true(sd_event_run(event, UINT64_MAX) > 0);
		take_all(fd, last);
	}
	notify_close(&notify);
	sd_event_unref(event);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(messages_arrive),
		cmocka_unit_test(forgetting_waits_for_a_manager_that_is_busy),
		cmocka_unit_test(a_descriptor_is_left_with_the_manager),
		cmocka_unit_test(without_a_manager_nothing_is_sent),
		cmocka_unit_test(the_watchdog_is_notified),
		cmocka_unit_test(the_status_is_sent_when_it_has_changed),
		cmocka_unit_test(a_status_that_does_not_fit_is_sent_later),
	};

	log_init(LOG_LEVEL_ERR);
	return unit_run(tests, NULL, NULL);
}
