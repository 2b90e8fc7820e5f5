/* html.c - the page for a browser: compiler/report.html (plan/sheet.h) with the one plan on the left and the other on the right, and the
 * lab's page as its key "lab". Where the second plan could not be built the first stands alone. */
#include "lab.h"

#include <math.h>

#include "plan/sheet.h"
#include "step.h"

static double known(double x) { return isnan(x) ? 0 : x; }

/* What the compiler said of a plan that was built here says more of kernels than the plan does. */
static void add_report(const LabPlan *p, json_t *top) {
    static const char *const keys[] = {"kernels", "compiler", "explain"};
    for (size_t i = 0; i < LEN(keys); i++)
        if (json_object_get(p->report, keys[i])) json_object_set(top, keys[i], json_object_get(p->report, keys[i]));
    if (!json_object_get(top, "kernels")) json_object_set_new(top, "kernels", sheet_kernels(p->plan));
    if (!json_object_get(top, "explain")) json_object_set_new(top, "explain", json_array());
}

bool html_page(const Lab *lab, Text *t, Err *e) {
    const LabPlan *a = &lab->plan[0], *b = &lab->plan[1], *right = b->plan ? b : a;
    const Machine m = step_machine(right->plan->arch);
    const bool fast = !strcmp(right->plan->precision, "fast");
    const Sheet s = {.plan = right->plan,
                     .before = b->plan ? a->plan->program : NULL,
                     .before_plan = b->plan ? a->plan : NULL,
                     .machine = m.name,
                     .bandwidth = known(m.read),
                     .peak = known(fast ? m.matrix : m.vector)};
    const char *home = cli_home(lab->a, e);
    if (!home) return false;
    json_t *top = sheet_sizes(right->plan);
    add_report(right, top);
    sheet_add(&s, top);
    json_object_set(top, "lab", lab->page);
    bool ok = sheet_html(home, top, t, e);
    json_decref(top);
    return ok;
}
