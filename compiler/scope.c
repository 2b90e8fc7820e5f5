/* scope.c - see scope.h. */
#include "scope.h"

#include <stdlib.h>

typedef struct Step Step; /* of a path or a part: "layer0..11" */
struct Step {
    const char *name;
    size_t n_name;
    bool numbered;
    int64_t first, last;
};

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

static int64_t digits(const char **p) {
    char *end;
    long long n = strtoll(*p, &end, 10);
    *p = end;
    return n;
}

/* Reads the step at *p and goes on to the next one, or to the end. */
static Step next_step(const char **p) {
    Step s = {.name = *p, .n_name = strcspn(*p, ".")};
    const char *end = *p + s.n_name;
    while (s.n_name && is_digit(s.name[s.n_name - 1])) s.n_name--;
    const char *number = s.name + s.n_name;
    s.numbered = number < end;
    if (s.numbered) s.first = s.last = digits(&number);
    if (s.numbered && !strncmp(end, "..", 2) && is_digit(end[2])) end += 2, s.last = digits(&end);
    *p = end + (*end == '.');
    return s;
}

bool scope_number(const char *path, const char *name, int64_t *n) {
    while (*path) {
        Step s = next_step(&path);
        if (s.numbered && s.n_name == strlen(name) && !strncmp(s.name, name, s.n_name)) return *n = s.first, true;
    }
    return false;
}

bool scope_check(const char *part, Err *e) {
    const char *p = part;
    do {
        Step s = next_step(&p);
        if (!s.n_name || s.first > s.last || (!*p && p > part && p[-1] == '.'))
            return err_set(e, "%s is no scope; one is written layer7, layer0..11, layer0..11.attn or layer.attn",
                           *part ? part : "\"\"");
    } while (*p);
    return true;
}

bool scope_within(const char *path, const char *part) {
    while (*part) {
        if (!*path) return false;
        Step at = next_step(&path), want = next_step(&part);
        if (at.n_name != want.n_name || strncmp(at.name, want.name, at.n_name)) return false;
        if (want.numbered && (!at.numbered || at.first < want.first || at.first > want.last)) return false;
    }
    return true;
}

/* --- what there is ---------------------------------------------------------------------------------------------------- */

typedef struct Seen Seen; /* paths that differ in their first number only */
struct Seen {
    Step first;
    const char *rest;
};
typedef struct SeenList SeenList;
struct SeenList {
    Seen *at;
    size_t n, cap;
};

static void see(Arena *a, SeenList *l, const char *path) {
    Seen s = {.rest = path};
    s.first = next_step(&s.rest);
    for (size_t i = 0; i < l->n; i++) {
        Step *t = &l->at[i].first;
        if (t->n_name != s.first.n_name || strncmp(t->name, s.first.name, t->n_name) ||
            t->numbered != s.first.numbered || strcmp(l->at[i].rest, s.rest))
            continue;
        if (s.first.first < t->first) t->first = s.first.first;
        if (s.first.last > t->last) t->last = s.first.last;
        return;
    }
    PUSH(a, *l, s);
}

const char *scope_list(Arena *a, const Program *p) {
    SeenList l = {0};
    const char *text = "";
    for (size_t g = 0; g < p->graphs.n; g++)
        for (size_t i = 0; i < p->graphs.at[g]->nodes.n; i++) {
            const char *path = loc_path(a, &p->graphs.at[g]->nodes.at[i]->loc);
            if (*path) see(a, &l, path);
        }
    for (size_t i = 0; i < l.n && i < 12; i++) {
        const Step *s = &l.at[i].first;
        text = arena_printf(a, "%s%s%.*s", text, i ? ", " : "", (int)s->n_name, s->name);
        if (s->numbered) text = arena_printf(a, "%s%lld", text, (long long)s->first);
        if (s->first != s->last) text = arena_printf(a, "%s..%lld", text, (long long)s->last);
        if (*l.at[i].rest) text = arena_printf(a, "%s.%s", text, l.at[i].rest);
    }
    return *text ? text : "none";
}
