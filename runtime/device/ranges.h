/* ranges.h - names for rocprof's and nsys's time lines: GPTOSS_RANGES=roctx or nvtx puts each node's launches into a range of its name.
 * A captured graph is launched as a whole, outside of them: -f captures none. */
#ifndef GPTOSS_RANGES_H
#define GPTOSS_RANGES_H

typedef struct Ranges Ranges; /* push NULL: nobody asked, or the library is not there */
struct Ranges {
    int (*push)(const char *name);
    int (*pop)(void);
};

/* What GPTOSS_RANGES asks for; what cannot be had is a warning on stderr. The library stays loaded. */
Ranges ranges_open(void);

#endif
