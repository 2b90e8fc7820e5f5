/* library.c - see library.h. */
#include "library.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

/* dlopen says "PATH: cannot open shared object file: No such file or directory" of path itself, and the same of a library that it
 * needs, whose name stands in front then. */
static bool is_missing(const char *path, const char *why) {
    size_t n = strlen(path);
    return !strncmp(why, path, n) && why[n] == ':' && strstr(why + n, "No such file or directory");
}

void *library_open(const char *path, int flags, LibraryFault *fault) {
    void *lib = dlopen(path, flags);
    const char *why = lib ? NULL : dlerror();
    if (!why || *fault->why || is_missing(path, why)) return lib;
    bool named = strstr(why, path); /* the library that is at fault is another one */
    snprintf(fault->why, sizeof fault->why, "%s%s%s", named ? "" : path, named ? "" : ": ", why);
    return NULL;
}
