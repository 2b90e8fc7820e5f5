/* line.h - lines that a person types: with editing and history on a terminal (libedit), plain ones otherwise.
 * On a terminal a pasted text is one line, its line breaks and tabs included, and Ctrl-C gives the line up.
 * The history is kept in GPTOSS_HISTORY, else ~/.gptoss_history; an empty GPTOSS_HISTORY keeps none. */
#ifndef GPTOSS_LINE_H
#define GPTOSS_LINE_H

#include "ir/base.h"

typedef struct Line Line;
struct Line {
    FILE *f;
    bool terminal;    /* a person sits there */
    bool interrupted; /* the last line_read ended by Ctrl-C */
    int why;          /* the last line_read found no line, or half of one: an errno; 0: it did not fail */
    bool begun;       /* a line was read: no mark comes any more */
    const char *prompt;
    char *file; /* of the history; NULL: none */
    struct editline *editor;
    struct history *history;
};
void line_open(Line *l, FILE *f); /* f: stdin, or a file of lines. The Line must not move while it is open */
/* Appends the next line without its end; false at the end of f, on Ctrl-C, and when f cannot be read (why). The prompt shows
 * on a terminal: stdout, else stderr. */
bool line_read(Line *l, const char *prompt, Text *t);
void line_close(Line *l);

#endif
