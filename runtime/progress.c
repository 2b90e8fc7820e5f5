/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { BAR = 24 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

void progress_begin(Progress *p, const char *what) { *p = (Progress){.what = what, .on = isatty(2), .begin = now()}; }

bool progress_due(const Progress *p) { return p->on && now() - p->last >= 0.1 && now() - p->begin >= 0.3; }

static void time_left(char *to, size_t n, double seconds) {
    long s = seconds < 1e7 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(to, n, "%ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
    else snprintf(to, n, "%ld:%02ld left", s / 60, s % 60);
}

void progress_draw(Progress *p, double done, const char *detail) {
    char bar[BAR + 1], left[48] = "", line[256];
    struct winsize size = {0};
    double t = now();
    if (!p->on) return;
    done = done < 0 ? 0 : done > 1 ? 1 : done;
    for (int i = 0; i < BAR; i++) bar[i] = i < done * BAR ? '#' : '.';
    bar[BAR] = 0;
    if (done > 0.01) time_left(left, sizeof left, (t - p->begin) * (1 - done) / done);
    int n = snprintf(line, sizeof line, "%s [%s] %3.0f%%  %s  %s", p->what, bar, 100 * done, detail, left);
    if (!ioctl(2, TIOCGWINSZ, &size) && size.ws_col && n >= size.ws_col)
        line[size.ws_col - 1] = 0; /* a second line would stay */
    fprintf(stderr, "\r%s\033[K", line);
    p->last = t;
}

void progress_end(Progress *p) {
    if (p->on && p->last > 0) fputs("\r\033[K", stderr);
    p->on = false;
}
