/* damage_tool PLAN - a plan for several devices, damaged in memory in every way that would let a device use what it has not: the verifier
 * must refuse each, saying why (docs/plan-verifier.md). A line per case: "ok NAME", "FAIL NAME: why". */
#include "plan/plan.h"

static PlanBuf *buf_of(const Plan *p, const char *name) {
    for (int i = 0; i < p->n_bufs; i++)
        if (!strcmp(p->bufs[i].name, name)) return &p->bufs[i];
    die("the plan has no %s", name);
}

static void d_step(Plan *p) { buf_of(p, "step")->hold = HOLD_FIRST; }
static void d_share(Plan *p) { buf_of(p, "share")->hold = HOLD_FIRST; }
static void d_weight(Plan *p) { buf_of(p, "layer0.mlp.mlp1.b")->hold = HOLD_FIRST, buf_of(p, "layer0.mlp.mlp1.b")->share = 0; }
static void d_temp(Plan *p) { /* behind all others */
    PlanBuf *b = buf_of(p, "layer0.mlp.ids.own");
    b->hold = HOLD_FIRST, b->offset = (p->arena_of[HOLD_FIRST] + 255) / 256 * 256;
    p->arena_of[HOLD_FIRST] = b->offset + b->size;
}
static void d_begins(Plan *p) { buf_of(p, "layer0.mlp.mlp2")->first++; }
static void d_ends(Plan *p) { buf_of(p, "layer0.mlp.ids")->last--; }
static void d_devices(Plan *p) { p->devices++; }
static void d_one(Plan *p) { p->devices = 1; }

static const struct {
    const char *name;
    void (*damage)(Plan *p);
    const char *says;
} cases[] = {
    {"step", d_step, "runs on each device, step is on the first"},
    {"share", d_share, "runs on each device, share is on the first"},
    {"weight", d_weight, "runs on each device, layer0.mlp.mlp1.b is on the first"},
    {"temp", d_temp, "runs on each device, layer0.mlp.ids.own is on the first"},
    {"begins", d_begins, "layer0.mlp.mlp2 is common to all devices and lives from node"},
    {"ends", d_ends, "layer0.mlp.ids is common to all devices and lives from node"},
    {"devices", d_devices, "which are dealt out over 4 devices"},
    {"one", d_one, "is on several devices, the plan is for one"},
};

int main(int argc, char **argv) {
    int failed = 0;
    for (size_t i = 0; argc == 2 && i < LEN(cases); i++) {
        Err e = {""};
        Plan *p = plan_open(argv[1], &e);
        if (!p) die("%s", e.msg);
        cases[i].damage(p);
        bool refused = !plan_check(p, &e) && strstr(e.msg, cases[i].says);
        if (refused) printf("ok damage_%s\n", cases[i].name);
        else printf("FAIL damage_%s: \"%s\", expected: %s\n", cases[i].name, e.msg, cases[i].says);
        failed += !refused;
        plan_close(p);
    }
    return failed != 0;
}
