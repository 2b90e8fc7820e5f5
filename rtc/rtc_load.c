/* rtc_load.c - find a compiler's shared library. See rtc_internal.h. */
#include "rtc_internal.h"

#include <dlfcn.h>

bool rtc_load(Arena *a, const char *const *dirs, size_t n_dirs, const char *const *names, size_t n_names,
              bool (*resolve)(void *to, void *lib), void *to, const char **name, LibraryFault *fault) {
    for (size_t d = 0; d < n_dirs; d++)
        for (size_t i = 0; dirs[d] && i < n_names; i++) {
            void *lib = library_open(arena_printf(a, "%s%s", dirs[d], names[i]), RTLD_LAZY | RTLD_LOCAL, fault);
            *name = names[i];
            if (lib && resolve(to, lib)) return true;
            if (lib) dlclose(lib);
        }
    return false;
}
