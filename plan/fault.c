/* fault.c - see fault.h. */
#include "fault.h"

void plan_fault(PlanFault *f, const char *fmt, ...) {
    if (f->failed) return;
    char what[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof what, fmt, ap);
    va_end(ap);
    f->failed = true;
    if (f->list) err_set(f->e, "%s: damaged plan: %s[%d]: %s", f->path, f->list, f->item, what);
    else err_set(f->e, "%s: damaged plan: %s", f->path, what);
}
