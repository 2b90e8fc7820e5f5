/* kept.c - see kept.h. */
#include "kept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *kept_path(Arena *a, const char *name) {
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && *xdg == '/') return arena_printf(a, "%s/gptoss/%s", xdg, name);
    return home && *home ? arena_printf(a, "%s/.local/state/gptoss/%s", home, name) : NULL;
}

static void make_folders(char *path) {
    for (char *p = path + 1; *p; p++) {
        if (*p != '/') continue;
        *p = 0, mkdir(path, 0777), *p = '/';
    }
}

bool kept_append(Arena *a, const char *path, const char *line, Err *e) {
    struct stat st;
    char last = '\n';
    make_folders(arena_strdup(a, path));
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    bool ok = fd >= 0 && !fstat(fd, &st) && (st.st_size <= 0 || pread(fd, &last, 1, st.st_size - 1) >= 0);
    const char *whole = arena_printf(a, "%s%s\n", last == '\n' ? "" : "\n", line); /* what another could not end is a line of its own */
    ok = ok && write_all(fd, whole, strlen(whole), -1);
    if (!ok) err_set(e, "%s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return ok;
}
