/* rtc_load.c - find a compiler's shared library. See rtc_internal.h. */
#include "rtc_internal.h"

#include <dlfcn.h>

bool rtc_load(Arena *a, const char *const *dirs, size_t n_dirs, const char *const *names, size_t n_names,
              bool (*resolve)(void *to, void *lib), void *to, const char **name, const char **broken) {
    for (size_t d = 0; d < n_dirs; d++)
        for (size_t i = 0; dirs[d] && i < n_names; i++) {
            const char *path = arena_printf(a, "%s%s", dirs[d], names[i]);
            void *lib = dlopen(path, RTLD_LAZY | RTLD_LOCAL);
            *name = names[i];
            if (lib && resolve(to, lib)) return true;
            const char *why = lib ? NULL : dlerror();
            if (why && strncmp(why, path, strlen(path))) *broken = arena_printf(a, " (%s)", why);
            if (lib) dlclose(lib);
        }
    return false;
}
