/* coverage.h - before every file of `make coverage`: what a process ran is kept also where it ends without exit handlers (the emulator's
 * reader of code objects, the JIT's workers, die). */
#ifndef GPTOSS_COVERAGE_H
#define GPTOSS_COVERAGE_H

#include <stdlib.h>
#include <unistd.h>

void __gcov_dump(void); /* gcc's */
#define _exit(status) (__gcov_dump(), (_exit)(status))
#define abort() (__gcov_dump(), (abort)())

#endif
