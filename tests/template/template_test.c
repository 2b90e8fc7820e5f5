/* template_test.c - the heads of templates: their expressions, what a wrong head is told, and what attr and cast bind to. */
#include "compiler/fuse.h"
#include "compiler/part.h"

#include <stdlib.h>
#include <unistd.h>

static int failed;

static void report(const char *name, bool ok, const char *got) {
    printf(ok ? "ok %s\n" : "FAIL %s: %s\n", name, got);
    failed += !ok;
}

/* --- expressions: as C computes them --- */

#pragma GCC diagnostic ignored "-Wparentheses" /* that is the point */
#pragma GCC diagnostic ignored "-Wint-in-bool-context"

#define C(expr)                                                                                                        \
    { #expr, expr }
static const struct {
    const char *expr;
    int64_t value;
} values[] = {
    /* spelt as a head spells them */
    /* clang-format off */
    C(1 || 0 && 0), C(0 && 0 || 1), C(1 + 2 * 3 == 7), C(3 > 2 > 1), C(1 == 1 == 2), C(2 == 2 != 0), C(1 < 2 == 1), C(0 == 1 < 2),
    C(7 - 2 - 3), C(100 / 7 / 2), C(100 / 7 * 7), C(100 % 7 * 2), C(-7 / 2), C(-7 % 3), C(!0 + 1), C(-2 * -3), C(!1 == 0),
    C(1 ? 2 : 0 ? 3 : 4), C(0 ? 2 : 0 ? 3 : 4), C(0x10 + 010), C((1 || 0) && 0), C(2 + 3 >= 5 && 4 <= 3 + 1), C(1 - -1),
    C(0 || 0 || 3 && 2), {"1 || 1 / 0", 1}, {"0 && 1 % 0", 0}, {"1 ? 5 : 1 / 0", 5}, {"0 ? 1 / 0 : 6", 6},
    /* clang-format on */
    {"K * 2 + N", 160},
    {"min(K, N) + max(K, N)", 96},
    {"ceil(K, 10)", 7},
    {"K == 64 && N", 1},
    {"T + 1", 6},
};
static const struct {
    const char *expr, *error;
} wrong[] = {
    {"1 / 0", "division by zero"},
    {"1 % (N - 32)", "division by zero"},
    {"ceil(1, 0)", "ceil divides by"},
    {"M", "M is not an integer constant here"},
    {"1 || M", "M is not an integer constant here"},
    {"E", "E is not an integer constant here"},
    {"(1", "expected )"},
    {"1 2", "unexpected text"},
    {"1 +", "expected a value"},
    {"1 ? 2", "expected :"},
    {"cube(1, 2)", "the functions are min, max and ceil"},
    {"9223372036854775807 + 1", "too large"},
    {"9223372036854775808", "too large"},
    {"4611686018427387904 * 2", "too large"},
    {"08", "unexpected text"},
};

static void test_expressions(Arena *a) {
    Const at[] = {{.name = "K", .i = 64}, {.name = "N", .i = 32}, {.name = "E", .is_float = true, .f = 0.5}};
    Template t = {.file = "t.hip"};
    Binding b = {.t = &t, .consts = {at, LEN(at), LEN(at)}};
    for (size_t i = 0; i < LEN(values); i++) {
        Err e = {""};
        int64_t x = 0;
        bool ok = binding_eval(&b, values[i].expr, 5, &x, &e);
        report(arena_printf(a, "value/%s", values[i].expr), ok && x == values[i].value,
               arena_printf(a, "%lld, C says %lld %s", (long long)x, (long long)values[i].value, e.msg));
    }
    for (size_t i = 0; i < LEN(wrong); i++) {
        Err e = {""};
        int64_t x;
        bool ok = binding_eval(&b, wrong[i].expr, 5, &x, &e);
        report(arena_printf(a, "no-value/%s", wrong[i].expr), !ok && strstr(e.msg, wrong[i].error),
               ok ? "taken" : e.msg);
    }
}

/* --- heads --- */

static char dir[] = "/tmp/template-test-XXXXXX";

/* The templates of a folder that holds this one file. */
static bool load(Arena *a, TemplateList *list, const char *text, Err *e) {
    const char *path = arena_printf(a, "%s/k.hip", dir);
    *list = (TemplateList){0};
    return file_write(path, text, strlen(text), e) && templates_load(a, list, dir, ".hip", e);
}

#define KERNEL "//! kernel k(x: f32[T,K], w: f32[E,N,K]) -> (y: f32[T,N])\n"
static const struct {
    const char *text, *error;
} heads[] = {
    {KERNEL "//! gird 1\n//! block 64\n",
     "k.hip:2: error: \"gird\" is no word of a template's head (did you mean grid?)"},
    {KERNEL "//! frobnicate 1\n//! block 64\n", "k.hip:2: error: \"frobnicate\" is no word of a template's head"},
    {KERNEL "//! block 64\n//! block 128\n", "k.hip:3: error: block again: line 2 has one"},
    {KERNEL "//! precision fsat\n", "\"fsat\" is no precision (fast, strict) (did you mean fast?)"},
    {KERNEL "//! arch gfx90\n", "\"gfx90\" is no arch (gfx90a, "},
    {KERNEL "//! priority ten\n", "expected an integer"},
    {KERNEL "//! priority 10x\n", "unexpected text"},
    {KERNEL "//! tokens 16x\n", "k.hip:2: error: expected a number of tokens"},
    {KERNEL "//! over many\n", "k.hip:2: error: expected a number of tokens"},
    {KERNEL "//! attr EPS = rmsnom.eps\n", "k.hip:2: error: there is no op rmsnom (did you mean rmsnorm?)"},
    {KERNEL "//! attr EPS = rmsnorm.epz\n", "rmsnorm has no attribute epz (did you mean eps?)"},
    {KERNEL "//! attr EPS = rmsnorm\n", "expected an attribute: rmsnorm.NAME"},
    {KERNEL "//! attr OFFSET = slice[0].offset\n", "expected slice[1], slice[2]"},
    {KERNEL "//! cast XN = rmsnrm\n", "there is no op rmsnrm (did you mean rmsnorm?)"},
    {KERNEL "//! cast XN = rmsnorm.eps\n", "unexpected text"},
    {KERNEL "//! group perm, tiles = idz, TILE\n", "\"idz\" is no input of the kernel"},
    {"//! kernel k(x: f23[T,K]) -> (y: f32[T,N])\n", "\"f23\" is no type (did you mean f32?)"},
    {"//! kernel k(x: f32[]) -> (y: f32[T,N])\n", "expected a dimension"},
    {KERNEL "//! hook ouut\n", "the hook is called out"},
    {KERNEL "//! tol fats 1\n", "\"fats\" is no tolerance: strict, fast, an arch, or an op that is composed (did you mean fast?)"},
    {KERNEL "//! tol fast 1e-16, swigul 1e-12\n", "(did you mean swiglu?)"},
    {KERNEL "//! tol fast 1e-16, linear 1e-12\n", "\"linear\" is no tolerance"},
    {KERNEL "//! tol fast 1e-16, swiglu\n", "expected a tolerance"},
    {KERNEL, "needs kernel and block"},
    {KERNEL "//! block 64\n//! body linear.hip\n", "body linear.hip: there is no such template"},
    {KERNEL "//! block 64\n//! body k.hip\n", "body k.hip: that one's is another's, too"},
    {KERNEL "//! block 64\n//! body linear.hip\n// why\nDEVICE void run() {}\n", "k.hip:4: error: its body is linear.hip's, here is another"},
};

static void test_heads(Arena *a) {
    for (size_t i = 0; i < LEN(heads); i++) {
        Err e = {""};
        TemplateList list;
        bool ok = load(a, &list, heads[i].text, &e);
        report(arena_printf(a, "head/%s", heads[i].error), !ok && strstr(e.msg, heads[i].error), ok ? "taken" : e.msg);
    }
}

/* --- binding: three slices of one value, fused into a node of three results --- */

static Type rows_of(int64_t n) { return (Type){DT_F32, 2, {dim_sym(SYM_T), dim_const(n)}}; }

static Node *slice(Graph *g, Value *x, int64_t offset, const char *name) {
    Attr attr[] = {{.name = "offset", .type = ATTR_INT, .i = offset}, {.name = "width", .type = ATTR_INT, .i = 4}};
    Err e;
    Node *n = graph_add(g, OP_slice, &x, 1, attr, 2, name, (Loc){.file = "g.lua", .line = 7}, &e);
    if (!n) die("%s", e.msg);
    return n;
}

/* offset: of each slice. chain: the first result's is followed by another slice, as a chain behind the hook would be. */
static Node *fused(Arena *a, const int64_t *offset, int n, bool chain) {
    Graph *g = graph_new(a, "step"), *body = graph_new(a, "split");
    Node *f = arena_alloc(a, sizeof *f);
    *f = (Node){.op = OP_FUSED, .n_in = 1, .n_kernel_in = 1, .n_body_in = 1, .rule = "split", .body = body, .n_out = n};
    f->loc = (Loc){.file = "g.lua", .line = 9};
    f->in[0] = graph_input(g, "x", rows_of(12));
    Value *x = graph_input(body, "x", rows_of(12));
    for (int i = 0; i < n; i++) {
        f->out[i] = slice(body, x, offset[i], arena_printf(a, "s%d", i))->out[0];
        graph_output(body, f->out[i]);
    }
    f->hook = f->out[0];
    f->kernel[f->n_kernel++] = (KernelChoice){INT64_MAX, "k"};
    if (chain) graph_set_output(body, 0, f->out[0] = slice(body, f->hook, 0, "behind")->out[0]);
    return f;
}

#define SPLIT "//! kernel k(x: f32[T,N]) -> (a: f32[T,W], b: f32[T,W], c: f32[T,W])\n//! block 64\n"

static void bind(Arena *a, const char *name, const char *text, const Node *n, const char *error, int64_t offset) {
    Err e = {""};
    TemplateList list;
    Binding b;
    if (!load(a, &list, text, &e)) die("%s", e.msg);
    Maker m = {a, &list, "fast", target_find("gfx90a")};
    Range r = {0, 0, 0};
    PartList parts;
    bool ok = range_next(&m, n, &r) && parts_make(&m, n, &r, &parts, &e) && template_bind(&m, parts.at[0], &parts, &b, &e);
    const Const *c = ok ? binding_const(&b, "OFFSET") : NULL;
    if (error) report(name, !ok && strstr(e.msg, error), ok ? "taken" : e.msg);
    else report(name, ok && c && c->i == offset, ok ? "another offset" : e.msg);
}

static void test_binding(Arena *a) {
    const int64_t differ[] = {0, 4, 8}, same[] = {4, 4, 4};
    Node *three = fused(a, differ, 3, false), *alike = fused(a, same, 3, false);
    bind(a, "attr/ambiguous", SPLIT "//! attr OFFSET = slice.offset\n", three,
         "OFFSET = slice.offset: the body has 3 of slice, say which: slice[1].offset is s0's (0), slice[2].offset is "
         "s1's (4), slice[3].offset is s2's (8)\n  for s0 (g.lua:9)",
         0);
    bind(a, "attr/ambiguous-line", SPLIT "//! attr OFFSET = slice.offset\n", three, "k.hip:3: error: OFFSET", 0);
    bind(a, "attr/second", SPLIT "//! attr OFFSET = slice[2].offset\n", three, NULL, 4);
    bind(a, "attr/third", SPLIT "//! attr OFFSET = slice[3].offset\n", three, NULL, 8);
    bind(a, "attr/past", SPLIT "//! attr OFFSET = slice[4].offset\n", three, "the body has 3 of slice", 0);
    bind(a, "attr/absent", SPLIT "//! attr OFFSET = rmsnorm.eps\n", three, "the body has no rmsnorm", 0);
    bind(a, "attr/alike", SPLIT "//! attr OFFSET = slice.offset\n", alike, NULL, 4);
    const int64_t four[] = {4};
    bind(a, "attr/behind-the-hook",
         "//! kernel k(x: f32[T,N]) -> (y: f32[T,W])\n//! block 64\n//! attr OFFSET = slice.offset\n",
         fused(a, four, 1, true), NULL, 4);
    bind(a, "results/fewer", "//! kernel k(x: f32[T,N]) -> (a: f32[T,W], b: f32[T,W])\n//! block 64\n", three,
         "k.hip: gives 2 results, the node has 3", 0);
    bind(a, "results/more", "//! kernel k(x: f32[T,N]) -> (a: f32[T,W], b: f32[T,W])\n//! block 64\n",
         fused(a, four, 1, false), "b is missing", 0);
    bind(a, "where/precedence", SPLIT "//! const OFFSET = 1 || 0 && 0\n//! where 1 || 0 && 0\n", three, NULL, 1);
    bind(a, "where/no", SPLIT "//! where N == 12 && W == 5\n", three, "k.hip: needs N == 12 && W == 5", 0);
    bind(a, "where/fault", SPLIT "//! where N ==\n", three, "k.hip:3: error: \"N ==\": expected a value", 0);
}

int main(void) {
    Arena *a = arena_new();
    if (!mkdtemp(dir)) die("mkdtemp");
    test_expressions(a);
    test_heads(a);
    test_binding(a);
    unlink(arena_printf(a, "%s/k.hip", dir));
    rmdir(dir);
    arena_free(a);
    return failed != 0;
}
