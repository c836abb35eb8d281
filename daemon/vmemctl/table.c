// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Text tables. If a line is too short for all columns, the least important
 * columns are omitted, so that no line wraps.
 */
#include <stdio.h>

#include "common/printable.h"
#include "table.h"

static unsigned int width_of(const struct table *table)
{
	unsigned int width = 0;

	for (size_t i = 0; i < table->nr; i++)
		if (table->shown & (1U << i))
			width += (width ? 1 : 0) + table->columns[i].width;
	return width;
}

/* Omit one column. Return: whether there was one that may be omitted. */
static bool leave_one_out(struct table *table)
{
	size_t out = table->nr;
	unsigned int rank = 0;

	for (size_t i = 0; i < table->nr; i++) {
		if (!(table->shown & (1U << i)) ||
		    table->columns[i].rank <= rank)
			continue;
		rank = table->columns[i].rank;
		out = i;
	}
	if (out == table->nr)
		return false;
	table->shown &= ~(1U << out);
	return true;
}

/**
 * table_init() - choose the columns to print
 * @table: out: the table
 * @columns: the columns
 * @nr: number of columns, at most TABLE_COLUMNS_MAX
 * @room: characters of a line, 0: no limit
 */
void table_init(struct table *table, const struct table_column *columns,
		size_t nr, unsigned int room)
{
	*table = (struct table){
		.columns = columns,
		.nr = nr,
		.room = room,
		.shown = (1U << nr) - 1,
	};
	while (room && width_of(table) > room && leave_one_out(table))
		;
}

/*
 * Print a cell.
 *
 * @at: number of characters of the line so far
 *
 * Return: number of characters of the line after the cell.
 */
static unsigned int print_cell(const struct table *table, size_t column,
			       const char *text, unsigned int at, bool last)
{
	unsigned int width = table->columns[column].width, pad;
	size_t columns = printable_width(text), fit;

	at += printf("%s", at ? " " : "");
	/* Cut a cell only if the line would wrap otherwise. */
	if (table->room &&
	    ((last && table->columns[column].text) || at + width > table->room))
		width = at < table->room ? table->room - at : 0;
	if (table->room && columns > width)
		columns = width;
	fit = printable_fit(text, &columns);
	pad = width > columns ? width - (unsigned int)columns : 0;
	if (!table->columns[column].text)
		printf("%*s%.*s", (int)pad, "", (int)fit, text);
	else
		printf("%.*s%*s", (int)fit, text, last ? 0 : (int)pad, "");
	return at + (unsigned int)columns + pad;
}

static size_t last_shown(const struct table *table)
{
	size_t last = 0;

	for (size_t i = 0; i < table->nr; i++)
		if (table->shown & (1U << i))
			last = i;
	return last;
}

/**
 * table_row() - print a line
 * @table: the table
 * @cells: a text for each column, including those that are not printed
 */
void table_row(const struct table *table, const char *const *cells)
{
	size_t last = last_shown(table);
	unsigned int at = 0;

	for (size_t i = 0; i <= last; i++)
		if (table->shown & (1U << i))
			at = print_cell(table, i, cells[i], at, i == last);
	putchar('\n');
}

void table_head(const struct table *table)
{
	const char *heads[TABLE_COLUMNS_MAX];

	for (size_t i = 0; i < table->nr; i++)
		heads[i] = table->columns[i].head;
	table_row(table, heads);
}
