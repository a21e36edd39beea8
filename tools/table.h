/* table: text in columns: the width of a column is its longest cell. For listings on stdout. */
#ifndef TARN_TOOLS_TABLE_H
#define TARN_TOOLS_TABLE_H
#include <stdbool.h>

#define TABLE_COLUMNS_MAX 16

struct table;
/* columns: comma-separated heads; one that begins with '>' is aligned to the right. NULL without
 * memory. */
struct table *table_create(const char *columns);
/* Next cell, row by row; the text is copied. */
void table_cell(struct table *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Print to stdout, each line after indent spaces, and free. */
void table_print(struct table *t, int indent);

#endif
