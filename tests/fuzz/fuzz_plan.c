/* fuzz_plan.c - plans that someone made by hand, with a right checksum: opened and verified, each; of those that the verifier takes some
 * are inspected and compared as gptoss-lab does. fuzz_run runs them. */
#include <jansson.h>

#include "lab/lab.h"
#include "plan/sheet.h"
#include "plan_changes.h"

static void inspect(const Plan *p) {
    Text t = {0};
    plan_inspect(p, &t);
    text_free(&t);
    plan_inspect_json(p, &t);
    text_free(&t);
}

/* What a page for a browser shows of them. */
static void draw(const Plan *p, const Plan *before) {
    json_t *top = sheet_sizes(p);
    json_object_set_new(top, "kernels", sheet_kernels(p));
    sheet_add(&(Sheet){.plan = p, .before = before->program, .before_plan = before, .machine = "m"}, top);
    json_decref(top);
}

/* What gptoss-lab a.bin b.bin says of it and of a good one. */
static void compare(Plan *p) {
    static Plan *good;
    static const LabOptions o = {.format = "text"};
    Err e;
    Text t = {0};
    if (!good && !(good = plan_open("out/fuzz/seeds/run/strict.bin", &e))) abort();
    Lab lab = {.a = arena_new(), .o = &o, .plan = {{.name = "a", .plan = good}, {.name = "b", .plan = p}}, .page = json_object()};
    diff_graphs(&lab), diff_sources(&lab), diff_none(&lab);
    page_text(lab.page, &t);
    text_free(&t);
    json_decref(lab.page), arena_free(lab.a);
    draw(p, good), draw(good, p);
}

/* Where no sanitizer watches it, JSON's memory is one block, which begins anew for each input: else it takes half of the time. */
static char *block;
static size_t used;
enum { BLOCK = 256 << 20 };

static void *block_alloc(size_t n) {
    void *at = block + used;
    n = (n + 15) / 16 * 16;
    return n <= BLOCK - used ? used += n, at : NULL;
}
static void block_free(void *p) { (void)p; }

static Plan *open_plan(const char *path, Err *e) {
    if (!block && !fuzz_watched()) block = mmap(NULL, BLOCK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED) abort();
    used = 0;
    if (block) json_set_alloc_funcs(block_alloc, block_free);
    Plan *p = plan_open(path, e);
    json_set_alloc_funcs(malloc, free);
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    static int fd;
    char path[64];
    Err e = {0};
    uint64_t hash = hash64(data, n);
    Plan *p = open_plan(fuzz_file(&fd, path, data, n), &e);
    if (!p) return fuzz_said(&e), 0;
    if (hash % 4 == 0) inspect(p);
    if (hash % 64 == 1) compare(p);
    plan_close(p);
    return 0;
}
