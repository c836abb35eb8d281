/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Standard input, output and error of both programs. */
#ifndef STANDARD_FDS_H
#define STANDARD_FDS_H

int standard_fds_open(void);
void standard_output_put(const char *text);
int standard_output_flush(void);
int standard_output_close(const char *program);

#endif /* STANDARD_FDS_H */
