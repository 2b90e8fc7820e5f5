/* dtype.c - the table of element types. See dtype.h. */
#include "dtype.h"

static const struct {
    const char *name;
    size_t bits;
    const char *ctype;
} table[DT_COUNT] = {
#define X(e, name, bits, ctype) [DT_##e] = {name, bits, ctype},
    DTYPES(X)
#undef X
};

const char *dtype_name(DType d) { return table[d].name; }
const char *dtype_ctype(DType d) { return table[d].ctype; }

bool dtype_parse(const char *name, DType *d) {
    for (int i = 0; i < DT_COUNT; i++)
        if (!strcmp(table[i].name, name)) return *d = (DType)i, true;
    return false;
}

bool dtype_bytes(DType d, size_t n, size_t *bytes) {
    if (d == DT_MXFP4) return n % 32 == 0 && size_mul(n / 32, 17, bytes);
    return size_mul(n, table[d].bits / 8, bytes);
}
