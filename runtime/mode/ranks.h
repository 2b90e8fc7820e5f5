/* ranks.h - getp's requests shared out to the ranks of a Slurm step, each a process with devices of its own; without Slurm there is
 * one rank.
 *
 * They meet in the journal (journal.h), on a file system that all of them see. Each rank keeps what it has finished there, request by
 * request; rank 0 waits for the others and merges. A rank that dies takes along what it had in flight only: the next run, with any
 * number of ranks or without Slurm, does what is missing. Slurm begins a job anew by itself, so ranks resume without being asked to. */
#ifndef GPTOSS_RANKS_H
#define GPTOSS_RANKS_H

#include "journal.h"

typedef struct Ranks Ranks;
struct Ranks {
    int n, rank; /* 1 and 0 without Slurm */
    Session *s;
    Journal journal;
    Requests *all;
    Requests mine; /* of all: this rank's, their results in the same memory; n_out and done are brought back by ranks_end */
    size_t *from;  /* [mine.n] which of all */
};

/* Reads what earlier runs have left of these requests, and says which this rank is to run: k->mine. */
bool ranks_open(Ranks *k, Session *s, const char *output, const Prompts *p, Requests *r, Err *e);
void ranks_finished(void *ranks, size_t request); /* mine.at[request] is done */
/* This rank's work is over; ok, or why not (e). Rank 0: waits for the others, and true means that all requests are done, with
 * their results; the others: that theirs are. */
bool ranks_end(Ranks *k, bool ok, Err *e);
void ranks_kept(const Ranks *k, Err *e); /* adds to e what is kept, and how to go on */
void ranks_remove(Ranks *k); /* the output is written: the journal may go */

#endif
