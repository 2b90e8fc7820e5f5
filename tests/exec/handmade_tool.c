/* handmade_tool.c - handmade_tool PLAN [NAME [POSITIONS]]: writes the hand-made plan; NAME: what its input "rows" is called instead,
 * or --cuda: with kernels for tests/cuda/fake. */
#include "handmade.h"

#include <stdlib.h>

/* Kernels that no device could run, for a driver that does not run them either (tests/cuda/fake): a launch a node, every other
 * one of a kernel that overlaps and has 60,000 bytes of dynamic shared memory. */
static void hand_kernels(Plan *p) {
    static const PlanKernel kernels[] = {
        {.symbol = "plain", .template_name = "", .reduction = "", .block = 64},
        {.symbol = "early", .template_name = "", .reduction = "", .block = 64, .lds = 60000, .overlaps = true},
    };
    p->arch = "sm_90", p->target_id = "sm_90a";
    p->modules = arena_array(p->arena, 1, sizeof *p->modules);
    p->modules[p->n_modules++] = (PlanModule){.name = "none", .source = "", .code = "none", .code_size = 4};
    p->kernels = arena_array(p->arena, LEN(kernels), sizeof *kernels);
    memcpy(p->kernels, kernels, sizeof kernels);
    p->n_kernels = LEN(kernels);
    for (int i = 0; i < p->n_graphs; i++) {
        PlanGraph *g = &p->graphs[i];
        g->n_launches = (int)p->program->graphs.at[i]->nodes.n;
        g->launches = arena_array(p->arena, (size_t)g->n_launches, sizeof *g->launches);
        for (int n = 0; n < g->n_launches; n++) {
            PlanLaunch *l = &g->launches[n];
            *l = (PlanLaunch){.kernel = n % 2, .node = n, .n_args = 1, .args = {plan_buf(p, "step")}};
            l->grid = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->grid);
            l->lds = arena_array(p->arena, (size_t)g->n_buckets, sizeof *l->lds);
            for (int b = 0; b < g->n_buckets; b++) l->lds[b] = kernels[n % 2].lds;
            for (int b = 0; b < g->n_buckets; b++)
                for (int d = 0; d < 3; d++) l->grid[b][d] = (uint32_t)d + 1;
        }
    }
}

int main(int argc, char **argv) {
    Err e;
    bool cuda = argc > 2 && !strcmp(argv[2], "--cuda");
    if (argc > 2 && !cuda) hand_rows = argv[2];
    if (argc > 3) hand_seq = atoi(argv[3]);
    Plan *p = argc > 1 ? hand_plan() : NULL;
    if (p && cuda) hand_kernels(p);
    if (!p || !plan_write(p, argv[1], &e)) return fprintf(stderr, "handmade_tool: %s\n", p ? e.msg : "PLAN?"), 1;
    arena_free(p->arena);
    return 0;
}
