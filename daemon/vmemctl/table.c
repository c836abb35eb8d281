// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Tables for people. Where a line has not room for all columns, those that say
 * least are left out, so that no line wraps.
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

/* Leave out one column. Return: whether there was one that may be. */
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
 * table_init() - decide what is shown
 * @nr: at most TABLE_COLUMNS_MAX
 * @room: characters of a line; 0: as many as it takes
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

/* @at: characters of the line so far. Return: those after the cell. */
static unsigned int print_cell(const struct table *table, size_t column,
			       const char *text, unsigned int at, bool last)
{
	unsigned int width = table->columns[column].width, pad;
	size_t columns = printable_width(text), fit;

	at += printf("%s", at ? " " : "");
	/* Cut where it would make the line wrap, whole where it can be. */
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

/** table_row() - print a line; @cells: one for each column, shown or not */
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
