/* comgr_said.c - what comgr's process wrote of a code object, checked, as tables. See comgr_said.h. */
#include "comgr_said.h"

typedef struct Reader Reader;
struct Reader {
    const char *at;
    size_t left;
};

static bool take(Reader *r, void *to, size_t n) {
    if (n > r->left) return false;
    memcpy(to, r->at, n);
    r->at += n, r->left -= n;
    return true;
}

static bool take_args(Arena *a, Reader *r, ComgrKernel *k) {
    if (!take(r, &k->n_args, sizeof k->n_args) || k->n_args > COMGR_MAX_ARGS) return false;
    k->args = arena_array(a, k->n_args, sizeof *k->args);
    for (uint32_t i = 0; i < k->n_args; i++) {
        if (!take(r, &k->args[i], sizeof *k->args)) return false;
        k->args[i].kind[sizeof k->args[i].kind - 1] = 0;
    }
    return true;
}

static bool take_kernels(Arena *a, Reader *r, ComgrText *t) {
    uint32_t n;
    if (!take(r, &n, sizeof n) || n > COMGR_MAX_KERNELS) return false;
    t->n_kernels = n;
    t->kernels = arena_array(a, n, sizeof *t->kernels);
    for (uint32_t i = 0; i < n; i++) {
        ComgrKernel *k = &t->kernels[i];
        if (!take(r, k, sizeof *k)) return false;
        k->args = NULL;
        k->pub.name[sizeof k->pub.name - 1] = k->symbol[sizeof k->symbol - 1] = 0;
        if (!take_args(a, r, k)) return false;
    }
    return true;
}

static size_t count_lines(Reader r) {
    size_t n = 0;
    for (LineHead h; take(&r, &h, sizeof h) && h.length <= r.left; n++) r.at += h.length, r.left -= h.length;
    return n;
}

static bool take_lines(Arena *a, Reader *r, uint32_t bytes, ComgrText *t) {
    t->n_lines = count_lines(*r);
    t->lines = arena_array(a, t->n_lines, sizeof *t->lines);
    for (size_t i = 0; i < t->n_lines; i++) {
        LineHead h;
        if (!take(r, &h, sizeof h) || h.length > r->left || !h.size || h.size % 4 || h.size > bytes) return false;
        t->lines[i] = (ComgrLine){arena_strndup(a, r->at, h.length), h.size};
        r->at += h.length, r->left -= h.length, bytes -= h.size;
    }
    return !r->left && !bytes;
}

bool comgr_said(Arena *a, const Text *said, const ComgrCode *code, ComgrText *t, Err *e) {
    *t = (ComgrText){0};
    Reader r = {said->at, said->n};
    Err of;
    if (!take(&r, &of, sizeof of)) return err_set(e, "comgr said nothing of this code object");
    of.msg[sizeof of.msg - 1] = 0;
    if (*of.msg) return err_set(e, "%s", of.msg);
    return (take_kernels(a, &r, t) && take_lines(a, &r, code->hi - code->lo, t)) ||
           err_set(e, "comgr did not finish with this code object");
}
