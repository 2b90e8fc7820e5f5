/* mapped.h - files that are mapped rather than read.
 *
 * A mapped file that shrinks, or whose disk fails, is met as SIGBUS at some load from memory: no function can return an error
 * there, and to go on with zeros would give wrong numbers. So the program ends with one line that names the file, exit status 1;
 * what it was writing keeps its old content (base.h's FileOut). Where reading ends, mapped_unchanged asks for what a signal does
 * not tell: bytes that were written meanwhile, a size that ends within the last page. */
#ifndef GPTOSS_MAPPED_H
#define GPTOSS_MAPPED_H

#include "base.h"

#include <sys/stat.h>

typedef struct MappedFile MappedFile;
struct MappedFile {
    const uint8_t *at; /* NULL: closed */
    size_t size;
    int fd;
    struct stat was; /* when it was opened */
};

bool mapped_open(MappedFile *f, const char *path, Err *e); /* a regular file, read only; symbolic links are followed */
void mapped_close(MappedFile *f);                          /* zeros are fine */
bool mapped_unchanged(const MappedFile *f, const char *path, Err *e); /* false: it has changed, or that cannot be seen */

#endif
