/* hooks.h - the text of what is composed around a kernel's core, generated from the ops' CODE (ops.def).
 *
 * For each operand P that a template lets be computed in front of it ("front P" in its head):
 *     P_at(a, row, t, k)   element k of row t
 *     P_at(a, row, t, k, c)    with c = P_column(a, k), a P_Column: the weights of column k, which may be read before anything else is
 *                          there (not on the host)
 *     P_sum(a, t, q)       if P_ROW: a wave's q-th part of the sum behind row t's statistic (host: P_sum(a, t), all of it)
 *     P_stat(sum)          the statistic, `row` above, of the parts' sum in ascending order
 * Behind the core ("behind"): out(a, t, j, v) takes the results of row t in group j of columns: GROUP of them, v[m] of column
 * out_row(j, m). With RANKS, v[r] is column j of row t * GROUP + r. Where the template asks, Behind{a} has token(t), which reads what does
 * not depend on the column (a position, a slot, a page: a struct Token of ints), ask(token, t, j), which reads what else will be needed, and
 * give(token, t, j, v, what ask returned), which writes; column is out_row.
 * Where all is generated ("map", "row"): each(a, row, t, n) stores column n of every result; own_sum and own_stat as above. */
#ifndef GPTOSS_HOOKS_H
#define GPTOSS_HOOKS_H

#include "emit.h"

typedef struct Hooks Hooks; /* one kernel's */
struct Hooks {
    Arena *a;
    const Part *part;
    const PartList *parts;
    bool is_c; /* for the host */
    KernelArg *args; /* grows: what the hooks read and write */
    int *n_args;
};

void hooks_front(Hooks *h, Text *t, int input, const char *name);
void hooks_behind(Hooks *h, Text *text, const Template *t); /* hook: out(a, t, n, v) of one column; asks: struct Behind */
void hooks_each(Hooks *h, Text *t);

#endif
