/* ledger.c - what was tried so far: each run appends a line of JSON (docs/formats.md), --ledger prints them as a table.
 * A line is appended by one write, so runs side by side do not mix; a line that is no JSON is skipped, and counted. */
#include "lab.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>

#include "ir/json.h"
#include "ir/kept.h"

static const char *ledger_path(Arena *a, const LabOptions *o) { return o->ledger_file ? o->ledger_file : kept_path(a, "lab.jsonl"); }

/* --- a line -------------------------------------------------------------------------------------------------------------- */

static void add_hash(json_t *to, Arena *a, const char *name, const char *path) {
    Err e;
    size_t n;
    const char *bytes = file_read(a, path, &n, &e);
    char hash[24];
    if (!bytes) return;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)hash64(bytes, n));
    json_object_set_new(to, name, json_string(hash));
}

static json_t *rule_hashes(const Lab *lab) {
    json_t *to = json_object();
    for (size_t i = 0; i < lab->o->rules.n; i++) add_hash(to, lab->a, lab->o->rules.at[i], lab->o->rules.at[i]);
    return to;
}

static json_t *template_hashes(const Lab *lab) {
    json_t *to = json_object();
    for (size_t i = 0; i < lab->o->templates.n; i++) {
        DIR *d = opendir(lab->o->templates.at[i]);
        for (struct dirent *f; d && (f = readdir(d));)
            if (f->d_name[0] != '.')
                add_hash(to, lab->a, f->d_name, arena_printf(lab->a, "%s/%s", lab->o->templates.at[i], f->d_name));
        if (d) closedir(d);
    }
    return to;
}

static json_t *plan_hashes(const json_t *page) {
    json_t *list = json_array(), *p;
    size_t i;
    json_array_foreach(json_object_get(page, "plans"), i, p) json_array_append(list, json_object_get(p, "hash"));
    return list;
}

/* Of each test on the device its ratio and interval; of each on emu how instructions and bytes changed. */
static json_t *figures(const json_t *page) {
    json_t *to = json_object(), *t;
    size_t i;
    json_array_foreach(json_object_get(json_object_get(page, "speed"), "tests"), i, t)
        json_object_set_new(to, json_text(t, "name"),
                            json_pack("{s:O, s:O, s:O, s:O, s:O}", "ratio", json_object_get(t, "ratio"), "low",
                                      json_object_get(t, "low"), "high", json_object_get(t, "high"), "a_us",
                                      json_object_get(t, "a_us"), "b_us", json_object_get(t, "b_us")));
    json_array_foreach(json_object_get(page, "tests"), i, t) {
        const json_t *a = json_object_get(t, "a"), *b = json_object_get(t, "b");
        static const char *const names[] = {"launches", "instructions", "bytes_asked", "predicted_us"};
        json_t *o = json_object();
        for (size_t k = 0; k < LEN(names); k++)
            if (json_is_number(json_object_get(a, names[k])))
                json_object_set_new(o, names[k],
                                    json_pack("[O, O]", json_object_get(a, names[k]), json_object_get(b, names[k])));
        json_object_set_new(to, json_text(t, "test"), o);
    }
    return to;
}

static json_t *line_json(const Lab *lab) {
    static const char *const kept[] = {"date",  "machine", "device",    "first",  "second", "tried",
                                       "model", "arch",    "precision", "result", "bisect"};
    json_t *j = json_object();
    for (size_t i = 0; i < LEN(kept); i++)
        if (json_object_get(lab->page, kept[i])) json_object_set(j, kept[i], json_object_get(lab->page, kept[i]));
    json_object_set_new(j, "plans", plan_hashes(lab->page));
    json_object_set_new(j, "rules", rule_hashes(lab));
    json_object_set_new(j, "templates", template_hashes(lab));
    json_object_set_new(j, "figures", figures(lab->page));
    json_t *with = json_object_get(json_object_get(lab->page, "end_to_end"), "with_ref");
    if (with) json_object_set(j, "with_ref", with);
    return j;
}

bool ledger_append(const Lab *lab, Err *e) {
    const char *path = ledger_path(lab->a, lab->o);
    if (!path) return err_set(e, "no ledger: --ledger-file names one (neither HOME nor XDG_STATE_HOME is set)");
    json_t *j = line_json(lab);
    char *s = json_dumps(j, JSON_COMPACT);
    json_decref(j);
    if (!s) die("lab: the ledger's line cannot be written as JSON");
    bool ok = kept_append(lab->a, path, s, e) || err_wrap(e, "ledger");
    free(s);
    return ok;
}

/* --- the table ----------------------------------------------------------------------------------------------------------- */

static const char *ratio_text(char to[32], const json_t *figures, bool prefill) {
    const char *key;
    json_t *v;
    snprintf(to, 32, "-");
    json_object_foreach((json_t *)figures, key,
                        v) if (!strncmp(key, prefill ? "pp" : "tg", 2) && !isnan(json_figure(v, "ratio")))
        snprintf(to, 32, "%.3f [%.3f,%.3f]", json_figure(v, "ratio"), json_figure(v, "low"), json_figure(v, "high"));
    return to;
}

static const char *change_text(char to[32], const json_t *figures, const char *test, const char *key) {
    const json_t *pair = json_object_get(json_object_get(figures, test), key);
    double a = json_number_value(json_array_get(pair, 0)), b = json_number_value(json_array_get(pair, 1));
    if (!pair || !(a > 0)) snprintf(to, 32, "-");
    else if (!strcmp(key, "launches")) snprintf(to, 32, "%.0f>%.0f", a, b);
    else snprintf(to, 32, "%.3f", b / a);
    return to;
}

static void add_line(const json_t *j, Text *to) {
    Text line = {0}, *t = &line;
    char b[6][32];
    const json_t *f = json_object_get(j, "figures"), *result = json_object_get(j, "result"),
                 *why = json_object_get(result, "why");
    const char *tried = json_string_value(json_array_get(json_object_get(j, "tried"), 0)), *slash;
    if (!tried) tried = json_object_get(j, "bisect") ? "(all rules)" : json_text(j, "second");
    if ((slash = strrchr(tried, '/'))) tried = slash + 1;
    bool right = json_is_true(json_object_get(result, "right"));
    text_add(t, "%-20.19s %-10s %-7s %-6s %-24.24s %-11s %9s %9s %9s %22s %22s  %s", json_text(j, "date"),
             json_text(j, "model"), json_text(j, "arch"), *json_text(j, "device") ? json_text(j, "device") : "-", tried,
             json_text(result, "is"), change_text(b[0], f, "decode", "launches"),
             change_text(b[1], f, "prefill", "instructions"), change_text(b[2], f, "decode", "instructions"),
             ratio_text(b[3], f, true), ratio_text(b[4], f, false), json_text(j, "machine"));
    text_add(to, "%s\n", printable(t->at, false)); /* the file is others' too */
    t->n = 0;
    if (!right && json_array_size(why)) {
        text_add(t, "%21s%s", "", json_is_string(json_array_get(why, 0)) ? json_string_value(json_array_get(why, 0)) : "");
        text_add(to, "%s\n", printable(t->at, false));
    }
    text_free(t);
}

bool ledger_print(const LabOptions *o, Err *e) {
    Arena *a = arena_new();
    Text t = {0};
    size_t bad = 0;
    const char *path = ledger_path(a, o), *text = path ? file_read_text(a, path, NULL, e) : NULL;
    bool json = o->format && !strcmp(o->format, "json"),
         ok = text || (!path && err_set(e, "no ledger: --ledger-file names one"));
    if (ok && !json)
        text_add(&t, "%-20s %-10s %-7s %-6s %-24s %-11s %9s %9s %9s %22s %22s  %s\n", "date", "model", "arch", "device",
                 "tried", "", "launches", "instr pp", "instr tg", "time prefill", "time decode", "machine");
    for (const char *at = text; ok && *at; at += strcspn(at, "\n"), at += *at == '\n') {
        size_t n = strcspn(at, "\n");
        Err why;
        json_t *j = json_parse(at, n, 0, JSON_MOST, &why);
        if (!j) bad++;
        else if (json) text_add(&t, "%.*s\n", (int)n, at);
        else add_line(j, &t);
        json_decref(j);
    }
    ok = ok && file_write("-", t.at ? t.at : "", t.n, e);
    if (ok && bad) fprintf(stderr, "gptoss-lab: warning: %s: %zu lines are no JSON\n", path, bad);
    text_free(&t);
    arena_free(a);
    return ok;
}
