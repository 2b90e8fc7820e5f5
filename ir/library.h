/* library.h - a shared library that may be missing, or there and broken: the two want different words. */
#ifndef GPTOSS_LIBRARY_H
#define GPTOSS_LIBRARY_H

#include <stdbool.h>

/* Why the first library that is there does not load, in dlopen's words; "" so far. */
typedef struct LibraryFault LibraryFault;
struct LibraryFault {
    char why[600];
};

/* dlopen(path, flags). NULL when there is no such file, or when it does not load: then *fault says so, unless an earlier one did. */
void *library_open(const char *path, int flags, LibraryFault *fault);

#endif
