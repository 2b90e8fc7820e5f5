/* sources.c - see sources.h.
 *
 * An emitted file begins with "// NAME for ARCH, --precision P. Made by gptoss-compile …", by which a later --emit knows its own,
 * and one line of identity (identity.c) for each of its kernels. */
#include "sources.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

static const char made_by[] = " Made by gptoss-compile;", identity[] = "// identity ";

static const char *line_end(const char *s) { return s + strcspn(s, "\n"); }

static const char *next_line(const char *s) { return *(s = line_end(s)) ? s + 1 : s; }

/* --- --emit ------------------------------------------------------------------------------------------------------- */

static bool holds(const Plan *p, const char *name) {
    for (int i = 0; i < p->n_modules; i++)
        if (!strcmp(p->modules[i].name, name)) return true;
    return false;
}

/* Did --emit write this file? Its first line says so, under this name. */
static bool is_ours(const char *path, const char *name) {
    char line[512] = "";
    size_t n = strlen(name);
    Err none;
    FILE *f = file_open(path, &none);
    bool read = f && fgets(line, sizeof line, f);
    if (f) fclose(f);
    const char *at = line + text_mark(line, strlen(line));
    return read && !strncmp(at, "// ", 3) && !strncmp(at + 3, name, n) && !strncmp(at + 3 + n, " for ", 5) &&
           strstr(at, made_by);
}

/* Calls use for every file of dir that some --emit wrote and that is no source of this plan. False: the folder cannot be read (errno). */
static bool each_other(Arena *a, const Plan *p, const char *dir, void (*use)(void *ctx, const char *path), void *ctx) {
    struct dirent **files;
    int n = scandir(dir, &files, NULL, alphasort);
    if (n < 0) return false;
    for (int i = 0; i < n; i++) {
        const char *name = files[i]->d_name, *path = arena_printf(a, "%s/%s", dir, name);
        if (*name != '.' && !holds(p, name) && is_ours(path, name)) use(ctx, path);
        free(files[i]);
    }
    free(files);
    return true;
}

static void remove_one(void *ctx, const char *path) {
    if (unlink(path)) err_set(ctx, "%s, a source of an older plan, cannot be removed: %s", path, strerror(errno));
}

bool sources_write(const Plan *p, const char *dir, Err *e) {
    for (int i = 0; i < p->n_modules; i++) {
        const PlanModule *m = &p->modules[i];
        if (!file_write(arena_printf(p->arena, "%s/%s", dir, m->name), m->source, strlen(m->source), e)) return false;
    }
    Err why = {""};
    if (!each_other(p->arena, p, dir, remove_one, &why)) err_set(&why, "%s: %s", dir, strerror(errno));
    if (*why.msg) *e = why;
    return !*why.msg;
}

/* --- is it of this plan? -------------------------------------------------------------------------------------------- */

/* The next line of identity from *at on, without its end; NULL when there is none. */
static const char *next_identity(Arena *a, const char **at) {
    for (const char *s = *at; *s; s = next_line(s)) {
        if (strncmp(s, identity, strlen(identity))) continue;
        *at = next_line(s);
        s += strlen(identity);
        size_t n = (size_t)(line_end(s) - s);
        return arena_strndup(a, s, text_chomp(s, n));
    }
    return NULL;
}

/* "linear_K64_N128", the line's first word, at the beginning of both? */
static bool same_kernel(const char *x, const char *y) {
    size_t n = strcspn(x, " ");
    return n == strcspn(y, " ") && !strncmp(x, y, n);
}

static const char *identity_of(Arena *a, const char *source, const char *kernel) {
    for (const char *line; (line = next_identity(a, &source));)
        if (same_kernel(line, kernel)) return line;
    return NULL;
}

static bool differs(Err *e, const char *path, const char *there, const char *here) {
    return err_set(e,
                   "%s was emitted for something else:\n  the file:         %s\n  this compilation: %s\n--emit the "
                   "sources anew and edit those",
                   path, there ? there : "no such kernel", here ? here : "no such kernel");
}

static bool check_identity(Arena *a, const char *path, const char *ours, const char *theirs, Err *e) {
    const char *at = theirs, *first = next_identity(a, &at);
    if (!first)
        return err_set(e, "%s has no \"%s…\" line, with which --emit says what a file was made for: --emit writes them",
                       path, identity);
    at = ours;
    for (const char *here; (here = next_identity(a, &at));) {
        const char *there = identity_of(a, theirs, here);
        if (!there || strcmp(here, there)) return differs(e, path, there, here);
    }
    at = theirs;
    for (const char *there; (there = next_identity(a, &at));)
        if (!identity_of(a, ours, there)) return differs(e, path, there, NULL);
    return true;
}

/* --- do its kernels take what the plan passes? ------------------------------------------------------------------------ */

/* Without blanks and comments. */
static char *squeeze(Arena *a, const char *s, size_t n) {
    char *to = arena_alloc(a, n + 1), *out = to;
    for (const char *end = s + n; s < end;) {
        if (s + 1 < end && s[0] == '/' && s[1] == '/') {
            while (s < end && *s != '\n') s++;
        } else if (s + 1 < end && s[0] == '/' && s[1] == '*') {
            const char *close = strstr(s + 2, "*/");
            s = close && close < end ? close + 2 : end;
        } else {
            if (!strchr(" \t\r\n", *s)) *out++ = *s;
            s++;
        }
    }
    *out = 0;
    return to;
}

/* The piece of our source from `begin` to `end` stands in theirs too, however it is spaced. */
static bool check_piece(Arena *a, const char *path, const char *kernel, const char *ours, const char *theirs,
                        const char *begin, const char *end, Err *e) {
    const char *from = strstr(ours, begin), *to = from ? strstr(from, end) : NULL;
    if (!to) die("sources: the source of %s has no \"%s … %s\"", kernel, begin, end);
    size_t n = (size_t)(to - from) + strlen(end);
    if (strstr(squeeze(a, theirs, strlen(theirs)), squeeze(a, from, n))) return true;
    int line = 1;
    const char *at = strstr(theirs, begin);
    for (const char *s = theirs; at && s < at; s++) line += *s == '\n';
    return err_set(e, "%s:%d: error: %s: its arguments are those that the plan passes; here must stand\n%.*s", path,
                   line, kernel, (int)n, from);
}

/* In C the wrapper and the struct that it fills say what is passed; in HIP the kernel's own declaration. */
static bool check_arguments(Arena *a, const char *path, const char *ours, const char *theirs, Err *e) {
    const char *at = ours;
    for (const char *line; (line = next_identity(a, &at));) {
        const char *kernel = arena_strndup(a, line, strcspn(line, " ")), *begin = arena_printf(a, "void %s(", kernel);
        bool c = strstr(ours, arena_printf(a, "%svoid *const *p, ", begin));
        if (!check_piece(a, path, kernel, ours, theirs, begin, c ? "\n}\n" : ")", e)) return false;
        if (c && !check_piece(a, path, kernel, ours, theirs, "struct Args {", "};", e)) return false;
    }
    return true;
}

/* --- --override ----------------------------------------------------------------------------------------------------- */

/* #line would send the reader of a message to the template: it becomes a comment, each line stays where it is. */
static const char *without_line(Arena *a, const char *source) {
    Text t = {0};
    for (const char *s = source, *next; *s; s = next) {
        const char *hash = s + strspn(s, " \t");
        next = next_line(s);
        if (*hash == '#' && !strncmp(hash + 1 + strspn(hash + 1, " \t"), "line", 4)) text_add(&t, "//");
        text_put(&t, s, (size_t)(next - s));
    }
    const char *r = arena_strndup(a, t.at ? t.at : "", t.n);
    text_free(&t);
    return r;
}

static bool override_one(Arena *a, PlanModule *m, const char *path, Edited *edited, Err *e) {
    size_t n;
    const char *theirs = file_read_text(a, path, &n, e);
    if (!theirs) return false;
    if (strlen(theirs) != n) return err_set(e, "%s: it holds a zero byte, so it is no source", path);
    if (!check_identity(a, path, m->source, theirs, e) || !check_arguments(a, path, m->source, theirs, e)) return false;
    if (!strcmp(theirs, m->source)) return true;
    fprintf(stderr, "using %s\n", path);
    *edited = (Edited){path, without_line(a, theirs)};
    m->source = theirs;
    m->overridden = true;
    return true;
}

static void warn_unused(void *ctx, const char *path) {
    (void)ctx;
    fprintf(stderr, "warning: %s is not used: the plan has no source of this name\n", path);
}

bool sources_override(Arena *a, Plan *p, const char *dir, Edited *edited, Err *e) {
    int found = 0;
    for (int i = 0; i < p->n_modules; i++) {
        const char *path = arena_printf(a, "%s/%s", dir, p->modules[i].name);
        if (access(path, F_OK)) continue;
        if (!override_one(a, &p->modules[i], path, &edited[i], e)) return false;
        found++;
    }
    bool read = each_other(a, p, dir, warn_unused, NULL);
    if (!read) return err_set(e, "--override %s: %s", dir, strerror(errno));
    return found || err_set(e, "--override %s: it has none of this plan's sources; --emit writes them", dir);
}
