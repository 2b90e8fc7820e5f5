/* table.h - results as rows under named columns, printed as text, csv, json or md. */
#ifndef GPTOSS_TABLE_H
#define GPTOSS_TABLE_H

#include <jansson.h>

#include "ir/base.h"

typedef struct Column Column;
struct Column {
    const char *head; /* "tok/s"; in text and md */
    const char *key;  /* "tokens_per_second"; in csv and json */
    int decimals;     /* in text and md; -1: not a number */
};

enum { TABLE_COLUMNS = 20 };
typedef union Cell Cell;
union Cell {
    const char *text; /* the caller's */
    double number;    /* NaN: there is none */
};

typedef struct Table Table;
struct Table {
    Arena *arena;
    const Column *columns;
    size_t n_columns;
    struct {
        Cell (*at)[TABLE_COLUMNS];
        size_t n, cap;
    } rows;
};

Cell *table_row(Table *t); /* a new one, its cells empty */
void table_text(const Table *t, Text *to);
void table_md(const Table *t, Text *to);
void table_csv(const Table *t, Text *to);
json_t *table_json(const Table *t); /* an array of objects */

#endif
