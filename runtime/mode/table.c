/* table.c - see table.h. */
#include "table.h"

#include <math.h>

Cell *table_row(Table *t) {
    Cell row[1][TABLE_COLUMNS];
    for (size_t i = 0; i < TABLE_COLUMNS; i++) {
        row[0][i].number = NAN;
        if (i < t->n_columns && t->columns[i].decimals < 0) row[0][i].text = "";
    }
    if (t->n_columns > TABLE_COLUMNS) die("table: %zu columns", t->n_columns);
    if (t->rows.n == t->rows.cap) {
        size_t cap = t->rows.cap ? 2 * t->rows.cap : 32;
        Cell(*more)[TABLE_COLUMNS] = arena_alloc(t->arena, cap * sizeof *more);
        if (t->rows.n) memcpy(more, t->rows.at, t->rows.n * sizeof *more);
        t->rows.at = more, t->rows.cap = cap;
    }
    memcpy(t->rows.at[t->rows.n], row[0], sizeof row[0]);
    return t->rows.at[t->rows.n++];
}

static const char *shown(const Table *t, const Column *c, const Cell *cell) {
    if (c->decimals < 0) return cell->text;
    return isnan(cell->number) ? "-" : arena_printf(t->arena, "%.*f", c->decimals, cell->number);
}

/* Characters of UTF-8. */
static int length(const char *s) {
    int n = 0;
    for (; *s; s++) n += ((unsigned char)*s & 0xc0) != 0x80;
    return n;
}

static int width_of(const Table *t, size_t column) {
    int most = length(t->columns[column].head);
    for (size_t r = 0; r < t->rows.n; r++) {
        int n = length(shown(t, &t->columns[column], &t->rows.at[r][column]));
        if (n > most) most = n;
    }
    return most;
}

/* Numbers to the right. */
static void put(Text *to, const Table *t, size_t column, const char *s, int width) {
    int space = width - length(s);
    if (t->columns[column].decimals < 0) text_add(to, "%s%*s", s, space, "");
    else text_add(to, "%*s%s", space, "", s);
}

static void lines(const Table *t, Text *to, const char *before, const char *between, const char *behind, bool rule) {
    int width[TABLE_COLUMNS];
    for (size_t c = 0; c < t->n_columns; c++) width[c] = width_of(t, c);
    for (size_t r = 0; r <= t->rows.n; r++) {
        for (size_t c = 0; c < t->n_columns; c++) {
            text_add(to, "%s", c ? between : before);
            put(to, t, c, r ? shown(t, &t->columns[c], &t->rows.at[r - 1][c]) : t->columns[c].head, width[c]);
        }
        text_add(to, "%s\n", behind);
        for (size_t c = 0; rule && !r && c < t->n_columns; c++)
            text_add(to, "%s%s%s", c ? "" : "|", t->columns[c].decimals < 0 ? ":---|" : "---:|",
                     c + 1 == t->n_columns ? "\n" : "");
    }
}

void table_text(const Table *t, Text *to) { lines(t, to, "", "  ", "", false); }
void table_md(const Table *t, Text *to) { lines(t, to, "| ", " | ", " |", true); }

static void csv_text(Text *to, const char *s) {
    if (!strpbrk(s, ",\"\n")) {
        text_add(to, "%s", s);
        return;
    }
    text_add(to, "\"");
    for (; *s; s++) text_add(to, *s == '"' ? "\"\"" : "%c", *s);
    text_add(to, "\"");
}

void table_csv(const Table *t, Text *to) {
    for (size_t c = 0; c < t->n_columns; c++) text_add(to, "%s%s", c ? "," : "", t->columns[c].key);
    text_add(to, "\n");
    for (size_t r = 0; r < t->rows.n; r++) {
        for (size_t c = 0; c < t->n_columns; c++) {
            const Cell *cell = &t->rows.at[r][c];
            text_add(to, "%s", c ? "," : "");
            if (t->columns[c].decimals < 0) csv_text(to, cell->text);
            else if (!isnan(cell->number)) text_add(to, "%.9g", cell->number);
        }
        text_add(to, "\n");
    }
}

static json_t *value(const Column *c, const Cell *cell) {
    double v = cell->number;
    if (c->decimals < 0) return json_string(cell->text);
    if (isnan(v)) return json_null();
    return !c->decimals && v == floor(v) ? json_integer((json_int_t)v) : json_real(v);
}

json_t *table_json(const Table *t) {
    json_t *list = json_array();
    for (size_t r = 0; r < t->rows.n; r++) {
        json_t *row = json_object();
        for (size_t c = 0; c < t->n_columns; c++)
            json_object_set_new(row, t->columns[c].key, value(&t->columns[c], &t->rows.at[r][c]));
        json_array_append_new(list, row);
    }
    return list;
}
