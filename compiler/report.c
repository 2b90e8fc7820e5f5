/* report.c - what the compiler did: kernels and their registers, rules, sizes. See compile.h. */
#include "report.h"

#include "plan/sheet.h"

#include <inttypes.h>
#include <stdlib.h>

#include "rules.h"

static const RtcKernel *rtc_kernel(const Compile *c, const PlanKernel *k) {
    const RtcJob *j = c->jobs ? &c->jobs[k->module] : NULL;
    for (int i = 0; j && i < j->n_kernels; i++)
        if (!strcmp(j->kernels[i].symbol, k->symbol)) return &j->kernels[i];
    return NULL;
}

void report_text(const Compile *c, Text *t) {
    const Plan *p = &c->plan;
    text_add(t, "%s for %s, %s: %d kernels from %d sources, compiled in %.1f s by %s\n", p->model_name, p->arch,
             p->precision, p->n_kernels, p->n_modules, c->seconds_jit,
             c->compiler ? c->compiler : "nothing (no compiler found)");
    text_add(t,
             "weights %.2f GB (%.2f GB of them repacked when loaded), scratch %.1f MB, KV %.1f KB a 64-token page of "
             "all layers\n",
             (double)plan_bytes(p, BUF_WEIGHT) / 1e9, (double)plan_bytes(p, BUF_PACKED) / 1e9, (double)plan_scratch(p, 0) / 1e6,
             (double)plan_page_bytes(p) / 1e3);
    for (int g = 0; g < p->n_graphs; g++)
        text_add(t, "%s: %d launches a step\n", p->graphs[g].name, plan_launches(&p->graphs[g], -1, -1));
    text_add(t, "\n%-52s %4s %5s %5s %5s %6s %7s %6s %5s %7s\n", "kernel", "uses", "vgprs", "agprs", "sgprs", "lds",
             "scratch", "spills", "mfma", "loads16");
    const int *uses = plan_uses(p, c->a);
    for (int i = 0; i < p->n_kernels; i++) {
        const PlanKernel *k = &p->kernels[i];
        const RtcKernel *r = rtc_kernel(c, k);
        if (!r) text_add(t, "%-52s %4d  (source only)\n", k->symbol, uses[i]);
        else
            text_add(t, "%-52s %4d %5u %5u %5u %6u %7u %6u %5u %7u\n", k->symbol, uses[i], r->vgprs, r->agprs,
                     r->sgprs, r->lds, r->scratch, r->vgpr_spills + r->sgpr_spills, r->mfma, r->loads16);
    }
    if (p->n_choices) text_add(t, "\nchoices of %s\n", c->tuning.path);
    for (int i = 0; i < p->n_choices; i++) text_add(t, "%-52s %s\n", p->choices[i].of, p->choices[i].says);
}

static json_t *kernel_json(const Compile *c, int i) {
    const PlanKernel *k = &c->plan.kernels[i];
    const RtcKernel *r = rtc_kernel(c, k);
    json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:s}", "symbol", k->symbol, "template", k->template_name, "module",
                          c->plan.modules[k->module].name, "uses", plan_uses(&c->plan, c->a)[i], "block", (int)k->block, "lds_dynamic", (int)k->lds,
                          "reduction", k->reduction);
    for (size_t t = 0; t < c->tuning.seen.n; t++)
        if (!strcmp(c->tuning.seen.at[t].symbol, k->symbol)) json_object_set_new(j, "tune", tuning_json(&c->tuning, &c->tuning.seen.at[t]));
    if (!r) return j;
    const struct {
        const char *name;
        uint32_t value;
    } fields[] = {{"vgprs", r->vgprs},
                  {"agprs", r->agprs},
                  {"sgprs", r->sgprs},
                  {"lds", r->lds},
                  {"scratch", r->scratch},
                  {"vgpr_spills", r->vgpr_spills},
                  {"sgpr_spills", r->sgpr_spills},
                  {"kernarg", r->kernarg},
                  {"mfma", r->mfma},
                  {"loads16", r->loads16},
                  {"code_bytes", r->code_bytes}};
    for (size_t f = 0; f < LEN(fields); f++) json_object_set_new(j, fields[f].name, json_integer(fields[f].value));
    return j;
}

static const char *const outcomes[] = {[FUSE_DONE] = "fused", [FUSE_REFUSED] = "refused", [FUSE_MISSED] = "missed"};

/* Of a rule that fits nowhere, only where it came nearest. */
static bool is_told(const Compile *c, const FuseEvent *v) {
    return v->outcome != FUSE_MISSED || v == rules_nearest(&c->log, v->rule);
}

json_t *report_events(const Compile *c) {
    json_t *list = json_array();
    for (size_t i = 0; i < c->log.n; i++) {
        const FuseEvent *v = &c->log.at[i];
        if (is_told(c, v))
            json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "outcome", outcomes[v->outcome], "rule", v->rule, "graph",
                                                  v->graph, "node", v->node, "why", v->why));
    }
    return list;
}

/* What was chosen, and under what a choice of fusions would be kept. */
static void add_choices(const Compile *c, json_t *top) {
    const Plan *p = &c->plan;
    json_t *choices = json_array();
    for (int i = 0; i < p->n_choices; i++) json_array_append_new(choices, json_pack("{s:s, s:s}", "of", p->choices[i].of, "says", p->choices[i].says));
    json_object_update_new(top, json_pack("{s:o, s:{s:s, s:s, s:b}}", "choices", choices, "fusions", "version", rules_version(c), "shape", rules_shape(c), "kept",
                                          c->tuning.fusions != NULL));
}

/* given; recipe, of a rule with alternatives: the bounds of all but the last. */
static void add_rule(json_t *to, const Rule *r) {
    json_t *bounds = json_array();
    for (int i = 0; i < r->n_kernel - 1; i++) json_array_append_new(bounds, json_integer(r->kernel[i].max_t));
    json_object_set_new(to, "given", json_boolean(r->given));
    if (r->n_kernel > 1) json_object_set(to, "recipe", bounds);
    json_decref(bounds);
}

json_t *report_object(const Compile *c) {
    const Plan *p = &c->plan;
    json_t *top = sheet_sizes(p), *kernels = json_array();
    for (int i = 0; i < p->n_kernels; i++) json_array_append_new(kernels, kernel_json(c, i));
    for (int i = 0; i < p->n_rules; i++) add_rule(json_array_get(json_object_get(top, "rules"), (size_t)i), c->rules.at[i]);
    json_object_update_new(top, json_pack("{s:s?, s:f, s:o}", "compiler", c->compiler, "jit_seconds", c->seconds_jit, "kernels", kernels));
    add_choices(c, top);
    return top;
}

void report_json(const Compile *c, Text *t) {
    json_t *top = report_object(c);
    if (c->o.explain) json_object_set_new(top, "explain", report_events(c));
    char *s = json_dumps(top, JSON_INDENT(2));
    if (!s) die("report: cannot make JSON");
    text_add(t, "%s\n", s);
    free(s);
    json_decref(top);
}

void report_explain(const Compile *c, Text *t) {
    for (size_t i = 0; i < c->log.n; i++) {
        const FuseEvent *v = &c->log.at[i];
        size_t at = t->n;
        if (!is_told(c, v)) continue;
        text_add(t, "%-7s %-20s %-7s %s: %s\n", outcomes[v->outcome], v->rule, v->graph, v->node, v->why);
        printable(t->at + at, true); /* it quotes what a rule's file says */
    }
}
