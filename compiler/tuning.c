/* tuning.c - see tuning.h. */
#include "tuning.h"

#include "ir/json.h"

#include <math.h>

static const char *text_of(const json_t *o, const char *key) {
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* --- the file ------------------------------------------------------------------------------------------------------------ */

static bool is_for(const json_t *entry, const char *arch, const char *precision, const char *compiler) {
    return !strcmp(text_of(entry, "arch"), arch) && !strcmp(text_of(entry, "precision"), precision) &&
           !strcmp(text_of(entry, "compiler"), compiler);
}

static bool add_line(Tuning *t, const char *at, size_t n, int line, const char *arch, const char *precision, const char *compiler, Err *e) {
    json_t *j = json_parse(at, n, 0, JSON_MOST, e);
    if (!j) return err_wrap(e, "%s:%d", t->path, line);
    bool ok = json_is_object(json_object_get(j, "choice")) && (json_object_get(j, "kernel") || json_object_get(j, "fusions"));
    if (ok && is_for(j, arch, precision, compiler)) {
        json_object_set_new(j, "line", json_integer(line));
        json_array_append(t->entries, j);
    }
    json_decref(j);
    return ok || err_set(e, "%s:%d: no choice: \"kernel\" or \"fusions\", and \"choice\", are missing (docs/formats.md, Tuning)", t->path, line);
}

bool tuning_open(Tuning *t, Arena *a, const char *path, const char *arch, const char *precision, const char *compiler, Err *e) {
    *t = (Tuning){.a = a, .path = path, .entries = json_array()};
    const char *text = path ? file_read_text(a, path, NULL, e) : "";
    if (!text) return err_wrap(e, "--tuning");
    for (int line = 1; *text; line++) {
        size_t n = strcspn(text, "\n");
        if (n && !add_line(t, text, n, line, arch, precision, compiler ? compiler : "", e)) return false;
        text += n + (text[n] != 0);
    }
    return true;
}

void tuning_close(Tuning *t) {
    json_decref(t->entries);
    t->entries = NULL;
}

/* --- looking up ---------------------------------------------------------------------------------------------------------- */

typedef struct Want Want;
struct Want {
    const char *name, *value;
};

/* The last that has all of it; one that was measured before one that was counted. */
static json_t *find(const Tuning *t, const Want *want, size_t n) {
    json_t *best = NULL, *entry;
    size_t i;
    json_array_foreach(t->entries, i, entry) {
        bool fits = true;
        for (size_t k = 0; k < n; k++) fits = fits && !strcmp(text_of(entry, want[k].name), want[k].value);
        bool counted = json_is_true(json_object_get(entry, "counted"));
        if (fits && (!best || !counted || json_is_true(json_object_get(best, "counted")))) best = entry;
    }
    return best;
}

json_t *tuning_entry(const Tuning *t, const TuneKey *k) {
    const Want want[] = {{"kernel", k->kernel}, {"version", k->version}, {"ops", k->ops}, {"shape", k->shape}};
    return find(t, want, LEN(want));
}

bool tuning_value(const json_t *entry, const char *name, int64_t *value) {
    const json_t *v = json_object_get(json_object_get(entry, "choice"), name);
    if (!json_is_integer(v)) return false;
    *value = json_integer_value(v);
    return true;
}

json_t *tuning_fusions(const Tuning *t, const char *version, const char *shape) {
    const Want want[] = {{"fusions", version}, {"shape", shape}};
    return find(t, want, LEN(want));
}

/* --- telling ------------------------------------------------------------------------------------------------------------- */

void tuning_see(Tuning *t, const char *symbol, const Binding *b) { PUSH(t->a, t->seen, ((Tunable){symbol, b->tune, b->t, b})); }

static void add_list(Text *t, const json_t *list) {
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) {
        text_add(t, i ? ", " : " ");
        if (json_is_string(v)) text_add(t, "%s", json_string_value(v));
        else if (json_integer_value(v) >= TUNE_ALWAYS) text_add(t, "always");
        else if (json_is_integer(v)) text_add(t, "%lld", (long long)json_integer_value(v));
        else text_add(t, "?");
    }
    if (!json_array_size(list)) text_add(t, " none");
}

/* "STAGES=8", "off router", "recipes head 16": up to so many rows its first alternative, and so on. */
static void add_choice(Text *t, const json_t *choice) {
    const char *name, *rule;
    json_t *v, *bounds;
    json_object_foreach((json_t *)choice, name, v) {
        text_add(t, "%s%s", t->n ? " " : "", name);
        if (json_is_integer(v)) text_add(t, "=%lld", (long long)json_integer_value(v));
        if (json_is_array(v)) add_list(t, v);
        json_object_foreach(v, rule, bounds) text_add(t, " %s", rule), add_list(t, bounds);
    }
}

const char *tuning_says(Arena *a, const json_t *entry) {
    Text t = {0};
    const json_t *ratio = json_object_get(entry, "ratio");
    add_choice(&t, json_object_get(entry, "choice"));
    bool counted = json_is_true(json_object_get(entry, "counted"));
    if (json_equal(json_object_get(entry, "choice"), json_object_get(entry, "default"))) text_add(&t, ": the default, nothing was better");
    else text_add(&t, ": %.3f of the default's %s", json_number_value(ratio), counted ? "counted cost" : "time");
    text_add(&t, ", %s on %s", counted ? "counted" : "measured", text_of(entry, "device"));
    const char *s = arena_strdup(a, t.at);
    text_free(&t);
    return s;
}

static void note(const Tuning *t, Plan *p, const char *of, const json_t *entry) {
    if (entry) p->choices[p->n_choices++] = (PlanChoice){of, tuning_says(t->a, entry)};
}

void tuning_note(const Tuning *t, Plan *p) {
    p->choices = arena_array(t->a, t->seen.n + 1, sizeof *p->choices);
    p->n_choices = 0;
    note(t, p, "fusions", t->fusions);
    for (size_t i = 0; i < t->seen.n; i++) note(t, p, t->seen.at[i].symbol, tuning_entry(t, t->seen.at[i].key));
}

json_t *tuning_json(const Tuning *t, const Tunable *of) {
    json_t *values = json_object(), *candidates = json_object();
    for (size_t i = 0; i < of->t->tunes.n; i++) {
        const Tune *tune = &of->t->tunes.at[i];
        json_t *list = json_array();
        for (int k = 0; k < tune->n; k++) json_array_append_new(list, json_integer(tune->at[k]));
        json_object_set_new(candidates, tune->name, list);
        json_object_set_new(values, tune->name, json_integer(binding_const(of->b, tune->name)->i));
    }
    return json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:b}", "kernel", of->key->kernel, "version", of->key->version, "ops", of->key->ops, "shape",
                     of->key->shape, "values", values, "candidates", candidates, "kept", tuning_entry(t, of->key) != NULL);
}
