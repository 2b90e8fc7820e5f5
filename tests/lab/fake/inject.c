/* inject.c - a profiler as NVTX 3 sees it: the structures and numbers of NVIDIA's header of types, written down a second time. BEGINS:
 * what it answers. */
#include <stddef.h>
#include <stdint.h>
int dprintf(int to, const char *fmt, ...);
typedef void (*Pointer)(void);
struct Callbacks { size_t struct_size; int (*GetModuleFunctionTable)(int module, Pointer ***table, unsigned *size); };
struct Version { size_t struct_size; uint32_t version, reserved0; void (*SetInjectionNvtxVersion)(uint32_t); };
static int push(const char *name) { return dprintf(2, "push %s\n", name); }
static int pop(void) { return dprintf(2, "pop\n"); }
int InitializeInjectionNvtx2(const void *(*get)(uint32_t)) {
    static const unsigned sizes[] = {0, 16, 9, 15, 7, 16, 7};
    const struct Callbacks *c = get(1);
    const struct Version *v = get(3);
    Pointer **table = NULL;
    unsigned size = 0;
    if (get(0) || get(2) || get(4) || !c || c->struct_size != sizeof *c || !v || v->struct_size < sizeof *v || v->version != 3) return 0;
    v->SetInjectionNvtxVersion(3);
    if (c->GetModuleFunctionTable(0, &table, &size) || c->GetModuleFunctionTable(7, &table, &size)) return 0;
    for (int m = 1; m < 7; m++) {
        if (!c->GetModuleFunctionTable(m, &table, &size) || size != sizes[m] || table[0] || table[size]) return 0;
        for (unsigned i = 1; i < size; i++) *table[i] = NULL; /* each can be written */
    }
    c->GetModuleFunctionTable(1, &table, &size);
    *table[9] = (Pointer)push, *table[11] = (Pointer)pop;
    return BEGINS;
}
