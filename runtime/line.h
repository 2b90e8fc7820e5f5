/* line.h - lines that a person types: with editing and history on a terminal (libedit), plain ones otherwise.
 * The history is kept in GPTOSS_HISTORY, else ~/.gptoss_history; an empty GPTOSS_HISTORY keeps none. */
#ifndef GPTOSS_LINE_H
#define GPTOSS_LINE_H

#include <stdbool.h>
#include <stdio.h>

typedef struct Line Line;
struct Line {
    FILE *f;
    bool terminal; /* a person sits there */
    char *history; /* its file; NULL: none */
};
void line_open(Line *l, FILE *f); /* f: stdin, or a file of lines */
char *
line_read(Line *l,
          const char *prompt); /* malloc'ed, without its line break; NULL at the end. The prompt shows on a terminal */
void line_close(Line *l);

#endif
