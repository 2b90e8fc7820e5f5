/* safetensors.h - tensors that lie in a mapped file, and the reader of .safetensors.
 *
 * Nothing in the file is trusted: header length, offsets, shapes and types are verified against each other and against
 * the file's size before a tensor is handed out. The data are not aligned: read them with memcpy. */
#ifndef GPTOSS_SAFETENSORS_H
#define GPTOSS_SAFETENSORS_H

#include "ir/mapped.h"

/* X(enum, name in the file, bits per element). Types that no layout uses are known so that a file holding one opens. */
#define FILE_DTYPES(X)                                                                                                 \
    X(BF16, "BF16", 16)                                                                                                \
    X(F32, "F32", 32)                                                                                                  \
    X(U8, "U8", 8)                                                                                                     \
    X(BOOL, "BOOL", 8)                                                                                                 \
    X(I8, "I8", 8)                                                                                                     \
    X(F8_E4M3, "F8_E4M3", 8)                                                                                           \
    X(F8_E5M2, "F8_E5M2", 8)                                                                                           \
    X(F8_E8M0, "F8_E8M0", 8)                                                                                           \
    X(F16, "F16", 16)                                                                                                  \
    X(I16, "I16", 16)                                                                                                  \
    X(U16, "U16", 16)                                                                                                  \
    X(I32, "I32", 32)                                                                                                  \
    X(U32, "U32", 32)                                                                                                  \
    X(F64, "F64", 64)                                                                                                  \
    X(I64, "I64", 64)                                                                                                  \
    X(U64, "U64", 64)                                                                                                  \
    X(C64, "C64", 64)

typedef enum FileDType {
#define X(e, name, bits) FT_##e,
    FILE_DTYPES(X)
#undef X
        FT_COUNT
} FileDType;

const char *file_dtype_name(FileDType d);
bool file_dtype_parse(const char *name, FileDType *d);
size_t file_dtype_size(FileDType d); /* bytes per element */

enum { FILE_MAX_RANK = 8 };

typedef struct FileTensor FileTensor;
struct FileTensor {
    const char *name, *file; /* file: the path it lies in */
    FileDType dtype;
    int rank;
    int64_t shape[FILE_MAX_RANK];
    const uint8_t *at; /* row-major, not aligned */
    size_t size;       /* bytes */
};

typedef struct SafeTensors SafeTensors;
struct SafeTensors {
    const char *path;
    MappedFile file;
    FileTensor *at; /* ascending offsets */
    const FileTensor **by_name;
    size_t n;
};

/* Maps and verifies the file; names and the table live in the arena. On error nothing stays mapped. */
bool safetensors_open(SafeTensors *s, Arena *a, const char *path, Err *e);
void safetensors_close(SafeTensors *s);
const FileTensor *safetensors_find(const SafeTensors *s, const char *name); /* NULL: no such tensor */

#endif
