/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Tables for people, as wide as there is room. */
#ifndef VMEMCTL_TABLE_H
#define VMEMCTL_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Most columns of a table. */
#define TABLE_COLUMNS_MAX 16

/**
 * struct table_column - a column
 * @head: its head
 * @width: characters
 * @rank: columns of the highest rank are left out first; 0: never
 * @text: to the left; else a number, to the right
 */
struct table_column {
	const char *head;
	unsigned int width;
	unsigned int rank;
	bool text;
};

/**
 * struct table - a table
 * @columns: @nr of them
 * @room: characters of a line, 0: as many as it takes
 * @shown: a bit for each column that has room
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
