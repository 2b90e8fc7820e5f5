/* near.c - see near.h. */
#include "near.h"

#include <string.h>

/* How many letters must be put in, left out or changed to make b of a (Levenshtein); two neighbours exchanged count as two.
 * 99 for words of more than 30 letters. */
static int near_distance(const char *a, const char *b) {
    int row[32], m = (int)strlen(b);
    if (strlen(a) > 30 || m > 30) return 99;
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 0; a[i]; i++) {
        int diagonal = row[0];
        row[0] = i + 1;
        for (int j = 0; j < m; j++) {
            int up = row[j + 1], best = diagonal + (a[i] != b[j]);
            if (up + 1 < best) best = up + 1;
            if (row[j] + 1 < best) best = row[j] + 1;
            row[j + 1] = best;
            diagonal = up;
        }
    }
    return row[m];
}

void near_try(Near *n, const char *known) {
    int d = near_distance(n->word, known), most = 2;
    if (d > most || (size_t)d >= strlen(n->word)) return;
    if (n->best && (d > n->distance || (d == n->distance && strcmp(known, n->best) >= 0))) return;
    n->best = known;
    n->distance = d;
}
