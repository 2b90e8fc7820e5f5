/* progress.c - see progress.h. */
#include "progress.h"

#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BAR = 24, BAR_LEAST = 6 };

void progress_begin(Progress *p, const char *what) { *p = (Progress){.what = what, .on = isatty(2), .begin = seconds_now()}; }

bool progress_due(const Progress *p) { return p->on && seconds_now() - p->last >= 0.1 && seconds_now() - p->begin >= 0.3; }

static void time_left(char *to, size_t n, double seconds) {
    long s = seconds < 1e7 ? (long)(seconds + 0.5) : 0;
    if (s >= 3600) snprintf(to, n, "%ld:%02ld:%02ld left", s / 3600, s / 60 % 60, s % 60);
    else snprintf(to, n, "%ld:%02ld left", s / 60, s % 60);
}

/* Columns of the terminal; a line that is longer would leave its rest behind. */
static int columns(void) {
    struct winsize size = {0};
    return ioctl(2, TIOCGWINSZ, &size) || !size.ws_col ? 80 : size.ws_col;
}

/* "getp [####....]  47%  12 tok/s  1:02 left": where room is short the bar shrinks, then goes; then detail is cut. */
void progress_draw(Progress *p, double done, const char *detail) {
    char bar[BAR + 4] = "", left[48] = "";
    double t = seconds_now();
    if (!p->on) return;
    done = done < 0 ? 0 : done > 1 ? 1 : done;
    if (done > 0.01) time_left(left, sizeof left, (t - p->begin) * (1 - done) / done);
    int room = columns() - 1 - (int)(strlen(p->what) + strlen(" 100%") + (*left ? 2 + strlen(left) : 0));
    int n = (int)strlen(detail) + 2, width = room - n - 3;
    if (width > BAR) width = BAR;
    if (width >= BAR_LEAST) {
        char *to = stpcpy(bar, " [");
        for (int i = 0; i < width; i++) *to++ = i < done * width ? '#' : '.';
        memcpy(to, "]", 2);
    }
    if (n > room) n = room > 2 ? room : 2;
    fprintf(stderr, "\r%s%s %3.0f%%  %.*s%s%s\033[K", p->what, bar, 100 * done, n - 2, detail, *left ? "  " : "", left);
    p->last = t;
}

void progress_end(Progress *p) {
    if (p->on && p->last > 0) fputs("\r\033[K", stderr);
    p->on = false;
}
