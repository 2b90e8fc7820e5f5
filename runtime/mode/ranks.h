/* ranks.h - getp's requests shared out to the ranks of a Slurm step, each a process with devices of its own.
 *
 * They meet in a folder beside the output, OUT.parts, on a file system that all of them see. Each rank appends what it has
 * finished, request by request, to a part of its own; rank 0 waits for the others and merges. A rank that dies takes along what it
 * had in flight only: the next run in that folder, with any number of ranks or without Slurm, does what is missing.
 * docs/formats.md says what a part is. */
#ifndef GPTOSS_RANKS_H
#define GPTOSS_RANKS_H

#include "mode.h"

#include <pthread.h>

typedef struct Ranks Ranks;
struct Ranks {
    int n, rank;        /* 1 and 0 without Slurm */
    const char *folder; /* NULL: neither ranks nor parts: mine is all of them */
    const char *run;    /* names this run's parts */
    char head[64];      /* a part's first line begins so: of what run it is part */
    Session *s;
    Requests *all;
    Requests mine; /* of all: this rank's, their results in the same memory; n_out and done are brought back by ranks_end */
    size_t *from;  /* [mine.n] which of all */
    size_t *of_prompt; /* [prompts] which of all; SIZE_MAX: none */
    size_t prompts;
    int fd; /* the own part */
    Err lost; /* why it could not be written */
    bool beats, stop; /* a thread touches the part: the process lives */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t stopped;
};

/* Reads what earlier runs have left of these requests, and says which this rank is to run: k->mine. */
bool ranks_open(Ranks *k, Session *s, const char *output, const Prompts *p, Requests *r, Err *e);
void ranks_finished(void *ranks, size_t request); /* mine.at[request] is done */
/* This rank's work is over; ok, or why not (e). Rank 0: waits for the others, and true means that all requests are done, with
 * their results; the others: that theirs are. */
bool ranks_end(Ranks *k, bool ok, Err *e);
void ranks_remove(const Ranks *k); /* the output is written: the parts may go */

#endif
