/* coverage.h - before every file of `make coverage`. What a process ran is kept also where it ends without exit handlers (the emulator's
 * reader of code objects, the JIT's workers, die). And each place that says an error leaves its name in the file COVERAGE_SAID, once a
 * process: lines alone do not tell whether `ok || err_set(…)` ever failed. */
#ifndef GPTOSS_COVERAGE_H
#define GPTOSS_COVERAGE_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ir/base.h"

void __gcov_dump(void); /* gcc's */
#define _exit(status) (__gcov_dump(), (_exit)(status))
#define abort() (__gcov_dump(), (abort)())

/* No library call that tests/faults would count, or let fail. */
static inline void coverage_said(const char *file, int line) {
    int kept = errno;
    const char *path = getenv("COVERAGE_SAID");
    int fd = path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    char name[256];
    int n = snprintf(name, sizeof name, "%s:%d\n", file, line);
    if (fd >= 0) syscall(SYS_write, fd, name, n), syscall(SYS_close, fd);
    errno = kept;
}
#define err_set(...)                                                                                                   \
    (__extension__({                                                                                                   \
         static char once;                                                                                             \
         if (!once) once = 1, coverage_said(__FILE__, __LINE__);                                                       \
     }),                                                                                                               \
     (err_set)(__VA_ARGS__))

#endif
