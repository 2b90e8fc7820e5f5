/* child.h - the other programs as children: what one of them does on an experimental kernel (crash, hang) costs its answer and
 * nothing else. Their names are looked up beside this program. */
#ifndef GPTOSS_CHILD_H
#define GPTOSS_CHILD_H

#include "ir/base.h"

typedef struct Args Args; /* a command line; at[0]: "gptoss-exec" */
struct Args {
    const char **at;
    size_t n, cap;
};
void args_add(Arena *a, Args *to, const char *arg);
void args_pair(Arena *a, Args *to, const char *option, const char *value); /* nothing where value is NULL */
void args_int(Arena *a, Args *to, const char *option, int64_t value);

/* From here on SIGINT, SIGTERM and SIGHUP end the child that runs, and no other is started: each says so in e. */
void child_watch(void);
/* Has one come? e says so. To be asked before what a program answered, or did not, is taken for its result. */
bool child_ended(Err *e);

typedef struct Said Said;
struct Said {
    Text out, err;
    bool ok; /* exit status 0 */
    char how
        [96]; /* how it ended otherwise: "exit status 1", "killed by signal 11 (Segmentation fault)", "not done within 60 s" */
};
/* Runs it to its end, or for so many seconds. False with e set only when it could not be started, or a signal came. */
bool child_run(Arena *a, const Args *args, double seconds, Said *said, Err *e);
void said_free(Said *s);
/* The last line of its stderr without the program's name, else how it ended. In the arena. */
const char *said_why(Arena *a, const Said *s);

/* One that answers each line with a line. */
typedef struct Partner Partner;
struct Partner {
    int pid, to, from;
    FILE *err; /* a temporary file */
    Text line;
};
bool partner_start(Arena *a, const Args *args, Partner *p, Err *e);
/* Its answer to an empty line, until the next call; NULL with e set when it ended, or did not answer within so many seconds. */
const char *partner_ask(Partner *p, double seconds, Err *e);
void partner_end(Partner *p);

#endif
