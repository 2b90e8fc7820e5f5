/* json.c - see json.h. */
#include "json.h"

#include <stdlib.h>

static void *allocate(size_t n) {
    void *p = malloc(n);
    if (!p) out_of_memory(n, "a JSON text");
    return p;
}

void json_memory(void) { json_set_alloc_funcs(allocate, free); }

/* About what jansson needs for it, or more: commas and colons in strings count too. */
static size_t parsed_bytes(const char *text, size_t n) {
    size_t lists = 0, items = 0, members = 0;
    for (const char *s = text, *end = text + n; s < end; s++) lists += *s == '{' || *s == '[', items += *s == ',', members += *s == ':';
    return 200 * lists + 48 * items + 64 * members;
}

json_t *json_parse(const char *text, size_t n, size_t flags, size_t most, Err *e) {
    json_error_t why;
    size_t bytes = parsed_bytes(text, n);
    if (bytes > most) return err_set(e, "JSON of so many items that it takes about %zu bytes, at most %zu are possible", bytes, most), NULL;
    json_t *j = json_loadb(text, n, flags, &why);
    if (!j && why.line > 1) err_set(e, "bad JSON at line %d, column %d: %s", why.line, why.column, why.text);
    else if (!j) err_set(e, "bad JSON at column %d: %s", why.column, why.text);
    return j;
}
