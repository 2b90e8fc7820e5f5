/* page.c - --report html: plan/sheet.h's object, and besides
 *   all that report_object has
 *   explain    as --report json --explain has it */
#include "plan/sheet.h"
#include "report.h"

bool report_html(const Compile *c, Text *t, Err *e) {
    const Target *m = c->target;
    const Sheet s = {.plan = &c->plan, .before = c->before, .machine = m->machine, .bandwidth = m->bandwidth,
                     .peak = !strcmp(c->o.precision, "fast") ? m->peak_fast : m->peak_strict};
    json_t *top = report_object(c);
    json_object_set_new(top, "explain", report_events(c));
    sheet_add(&s, top);
    bool ok = sheet_html(c->home, top, t, e);
    json_decref(top);
    return ok;
}
