/* near.h - the word that somebody probably meant: for "did you mean". */
#ifndef GPTOSS_NEAR_H
#define GPTOSS_NEAR_H

#include <stddef.h>

/* A search: start with near = {word}, give it every known word, take near.best (NULL: none is near enough, that is within two
 * letters and fewer than the word has). Of equals the first in the alphabet. */
typedef struct Near Near;
struct Near {
    const char *word, *best;
    int distance; /* of best */
};
void near_try(Near *n, const char *known);

/* " (did you mean X?)", or "" without X: for printf's %s%s%s. */
#define NEAR_HINT(near) (near).best ? " (did you mean " : "", (near).best ? (near).best : "", (near).best ? "?)" : ""

#endif
