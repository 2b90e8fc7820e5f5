/* page.c - --report html: plan/sheet.h's object, and besides
 *   all that report_object has
 *   explain    as --report json --explain has it
 *   measured   with --measured FILE what gptoss-exec -m bench --kernels --json printed there, of a plan with the same kernels */
#include "ir/json.h"
#include "plan/sheet.h"
#include "report.h"

static bool has_kernel(const Plan *p, const char *label) {
    for (int i = 0; i < p->n_kernels; i++)
        if (!strncmp(label, p->kernels[i].symbol, strcspn(label, " ")) && strlen(p->kernels[i].symbol) == strcspn(label, " ")) return true;
    return false;
}

/* What the page reads of a line of it; "all", the whole step, has no microseconds of its own. */
static const char *missing(const json_t *k) {
    static const char *const figures[] = {"tokens", "launches", "microseconds_in_step", "microseconds"};
    static const char *const texts[] = {"kernel", "test"};
    for (size_t i = 0; i < LEN(texts); i++)
        if (!json_is_string(json_object_get(k, texts[i]))) return texts[i];
    for (size_t i = 0; i < LEN(figures); i++) {
        const json_t *x = json_object_get(k, figures[i]);
        if (!json_is_number(x) && !(json_is_null(x) && i == LEN(figures) - 1)) return figures[i];
    }
    return NULL;
}

/* One kernel at least is of this plan. */
static bool check_measured(const Compile *c, const json_t *kernels, Err *e) {
    size_t i;
    json_t *k;
    bool any = false;
    json_array_foreach(kernels, i, k) {
        if (missing(k)) return err_set(e, "--measured %s: its kernel %zu has no %s", c->o.measured, i + 1, missing(k));
        any = any || has_kernel(&c->plan, json_string_value(json_object_get(k, "kernel")));
    }
    if (!json_array_size(kernels)) return err_set(e, "--measured %s: it has no kernels: gptoss-exec -m bench --kernels --json prints them", c->o.measured);
    return any || err_set(e, "--measured %s: none of its kernels is in this plan: it is of another model, arch or precision", c->o.measured);
}

static bool add_measured(const Compile *c, json_t *top, Err *e) {
    if (!c->o.measured) return true;
    size_t n;
    const char *text = file_read_text(c->a, c->o.measured, &n, e);
    if (!text) return err_wrap(e, "--measured");
    json_t *j = json_parse(text, n, 0, JSON_MOST, e);
    if (!j) return err_wrap(e, "--measured %s", c->o.measured);
    json_object_set_new(top, "measured", j);
    return check_measured(c, json_object_get(j, "kernels"), e);
}

bool report_html(const Compile *c, Text *t, Err *e) {
    const Target *m = c->target;
    const Sheet s = {.plan = &c->plan, .before = c->before, .machine = m->machine, .bandwidth = m->bandwidth,
                     .peak = !strcmp(c->o.precision, "fast") ? m->peak_fast : m->peak_strict};
    json_t *top = report_object(c);
    json_object_set_new(top, "explain", report_events(c));
    sheet_add(&s, top);
    bool ok = add_measured(c, top, e) && sheet_html(c->home, top, t, e);
    json_decref(top);
    return ok;
}
