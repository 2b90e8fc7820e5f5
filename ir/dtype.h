/* dtype.h - the element types of tensors. Add one: a row here, then whatever -Wswitch names. */
#ifndef GPTOSS_DTYPE_H
#define GPTOSS_DTYPE_H

#include "base.h"

/* X(enum, name, bits per element, C type in a kernel) */
#define DTYPES(X)                                                                                                 \
    X(F32, "f32", 32, "float")                                                                                    \
    X(BF16, "bf16", 16, "bf16")                                                                                   \
    X(I32, "i32", 32, "int")                                                                                      \
    X(MXFP4, "mxfp4", 0, "mxfp4") /* blocks of 32 along the last dimension; see dtype_bytes */

typedef enum DType {
#define X(e, name, bits, ctype) DT_##e,
    DTYPES(X)
#undef X
        DT_COUNT
} DType;

const char *dtype_name(DType d);
const char *dtype_ctype(DType d);
bool dtype_parse(const char *name, DType *d); /* false when there is no such type */

/* Bytes of n elements. MXFP4: one buffer holds all 16-byte blocks (n/32 of them, row after row, low nibble first),
 * then all n/32 e8m0 scale bytes: 17 bytes for each 32 elements. n must be a multiple of 32 there.
 * False on overflow or such an n. */
bool dtype_bytes(DType d, size_t n, size_t *bytes);

#endif
