/* fuzz_head.c - heads of templates: the reader, and the expressions of what it accepts. */
#include <sys/stat.h>

#include "compiler/template.h"
#include "fuzz.h"

static char folder[64], path[96];
static void remove_folder(void) { rmdir(folder); }

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    if (!*folder) {
        snprintf(folder, sizeof folder, "/tmp/gptoss-fuzz-XXXXXX");
        if (!mkdtemp(folder)) abort();
        snprintf(path, sizeof path, "%s/x.hip", folder);
        atexit(remove_folder);
    }
    Arena *a = arena_new();
    Err e = {0};
    TemplateList list = {0};
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, n, f) != n || fclose(f)) abort();
    if (!templates_load(a, &list, folder, ".hip", &e)) fuzz_said(&e);
    for (size_t i = 0; i < list.n; i++) {
        const Template *t = list.at[i];
        Binding b = {.t = t};
        int64_t v;
        const char *exprs[] = {t->grid[0], t->grid[1], t->grid[2], t->block};
        for (size_t k = 0; k < LEN(exprs); k++)
            if (exprs[k] && !binding_eval(&b, exprs[k], 7, &v, &e)) fuzz_said(&e);
    }
    unlink(path);
    arena_free(a);
    return 0;
}
