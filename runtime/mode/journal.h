/* journal.h - what getp has finished, kept beside its output: what ends a run (a kill, a device, Ctrl-C) takes along only what was
 * in flight, and --resume does the rest.
 *
 * OUT.parts is a folder. Each process that works for OUT, alone or as a rank of several (ranks.h), appends to a part of its own: a
 * line a request that is done, each with a checksum. The first line binds the part to what the tokens depend on: plan, model,
 * requests, options, kind of device. How many devices or ranks there are is no matter, nor the batch: the tokens are the same.
 * Parts are removed once the output is written. docs/formats.md says what a part is. */
#ifndef GPTOSS_JOURNAL_H
#define GPTOSS_JOURNAL_H

#include "mode.h"

#include <pthread.h>

typedef struct Journal Journal;
struct Journal {
    const char *folder; /* NULL: none is kept */
    const char *run;    /* names this run's parts */
    char head[64];      /* a part's first line begins so: of what run it is part */
    Session *s;
    Requests *all;
    size_t *of_prompt; /* [prompts] which of all; SIZE_MAX: none */
    size_t prompts;
    size_t earlier;      /* requests that were done before */
    const char *own;     /* the own part */
    int fd;              /* its; -1: it is not open */
    size_t kept;         /* requests in it */
    pthread_t thread;    /* brings it to disk, and shows that the process lives */
    pthread_mutex_t lock; /* of all that follows */
    pthread_cond_t stopped;
    bool stop;
    Err lost; /* why it cannot be written; "": it can */
};

typedef struct Part Part; /* what was read of one */
struct Part {
    enum { PART_DAMAGED, PART_OURS, PART_OTHER } of; /* damaged: its first line is not whole */
    bool shared; /* a rank's of several */
    bool ended, failed;
    char host[128];
    Err why; /* it failed */
    size_t done, damaged; /* requests; lines that are not whole */
};

/* Where the journal of this output lies, and what it is bound to. `run` names this run's parts. An output that is no file (a pipe,
 * a device) has none: j->folder is NULL. Nothing is written yet. */
void journal_bind(Journal *j, Session *s, const char *output, const char *run, const Prompts *p, Requests *r);
/* Reads the parts of other runs: requests that they finished are done then, if `resume` (else what ranks of several did is, and of the
 * rest is said that it is there). Parts of other requests, plans or options are an error, unless there are some of this run too or
 * nothing is to be resumed: then they are left alone, and that is said. */
bool journal_resume(Journal *j, bool resume, Err *e);
bool journal_begin(Journal *j, int rank, int ranks, Err *e); /* the own part */
void journal_add(Journal *j, size_t prompt, const Request *r); /* which is done; by one thread at a time */
/* Nothing is added any more; ok, or how it failed. Returns false, with e set, when what was done may not all be on disk. */
bool journal_end(Journal *j, bool ok, const Err *why, Err *e);
void journal_remove(Journal *j); /* the output is written: its parts may go. Those of other runs stay */
void journal_forget(const Journal *j); /* the own part, which has nothing in it */

const char *journal_part(const Journal *j, int rank); /* its path; of this run */
/* What is whole of a part; with `use` its requests are done. */
bool journal_read(Journal *j, const char *path, bool use, Part *p, Err *e);
bool journal_ended(const char *path, off_t size); /* is its last line one that ends it? */

#endif
