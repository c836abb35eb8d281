/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text tables that fit the width of the terminal. */
#ifndef VMEMCTL_TABLE_H
#define VMEMCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Maximum number of columns. */
#define TABLE_COLUMNS_MAX 16

/**
 * struct table_column - a column
 * @head: heading
 * @width: width in characters
 * @rank: columns with the highest rank are omitted first; 0: never omitted
 * @text: a text, aligned left; otherwise a number, aligned right
 */
struct table_column {
	const char *head;
	unsigned int width;
	unsigned int rank;
	bool text;
};

/**
 * struct table - a table
 * @columns: the columns
 * @nr: number of columns
 * @room: characters of a line, 0: no limit
 * @shown: a bit for each column that is printed
 */
struct table {
	const struct table_column *columns;
	size_t nr;
	unsigned int room;
	uint32_t shown;
};

void table_init(struct table *table, const struct table_column *columns,
		size_t nr, unsigned int room);
void table_head(const struct table *table);
void table_row(const struct table *table, const char *const *cells);

#endif /* VMEMCTL_TABLE_H */
