/* handmade_tool.c - handmade_tool PLAN [NAME [POSITIONS]]: writes the hand-made plan; NAME: what its input "rows" is called instead. */
#include "handmade.h"

#include <stdlib.h>

int main(int argc, char **argv) {
    Err e;
    if (argc > 2) hand_rows = argv[2];
    if (argc > 3) hand_seq = atoi(argv[3]);
    Plan *p = argc > 1 ? hand_plan() : NULL;
    if (!p || !plan_write(p, argv[1], &e)) return fprintf(stderr, "handmade_tool: %s\n", p ? e.msg : "PLAN?"), 1;
    arena_free(p->arena);
    return 0;
}
