/* limits_test.c - the kernels that measure a machine's limits compile, for each target whose compiler is here. */
#include "runtime/device/limits.h"

int main(void) {
    static const char *const archs[] = {"gfx90a", "sm_90", "host"};
    int failures = 0;
    for (size_t i = 0; i < LEN(archs); i++) {
        Arena *a = arena_new();
        const Plan p = {.arch = archs[i]};
        Limits l;
        limits_compile(&l, a, "auto", &p);
        bool matrix = l.matrix_flops > 0, gpu = strcmp(archs[i], "host") != 0;
        if (!l.code.code && strstr(l.why, "not measured: no ")) printf("skip limits_%s: %s\n", archs[i], l.why);
        else if (l.code.code && l.read_grid && matrix == gpu && !*l.why == gpu) printf("ok limits_%s\n", archs[i]);
        else printf("FAIL limits_%s: %s\n", archs[i], l.why), failures++;
        arena_free(a);
    }
    return failures != 0;
}
