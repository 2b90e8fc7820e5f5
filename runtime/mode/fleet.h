/* fleet.h - the devices of -g at work: each has a session, a scheduler and a thread of its own; all take from one queue of
 * requests. One device is a fleet of one. Where the plan is for several devices (--ep), a member is a group of so many.
 *
 * The first reads the weights from disk; the others copy them, once they are in place, from its memory: straight, or through the
 * host's where one cannot reach the other. All begin when all are loaded. A device that fails, at whatever, is left out and
 * named; what it had not finished goes back into the queue and is begun anew by another, whose tokens are the same. Where the driver lets a
 * fault of one device end the others' contexts too, all fail; what was finished has been told (FleetWork.finished). */
#ifndef GPTOSS_FLEET_H
#define GPTOSS_FLEET_H

#include "ir/progress.h"
#include "mode.h"

#include <jansson.h>
#include <pthread.h>

typedef struct FleetWork FleetWork;
struct FleetWork {
    const char *what; /* for the bar */
    AfterStep *after; /* NULL, or called in each step, on the thread of its session */
    void (*finished)(void *ctx, size_t request); /* NULL, or called for each that is done, one at a time */
    void *ctx;
    bool stops; /* Ctrl-C ends it after the current step, with an error: what is finished is */
};

typedef struct Fleet Fleet;
typedef struct FleetMember FleetMember;
struct FleetMember {
    Fleet *fleet;
    Session *s; /* the caller's, or its own */
    Session own;
    pthread_t thread;
    bool started; /* the thread */
    DeviceInfo *before, *after; /* [plan->devices] their memory before weights and KV cache, and with them */
    const char *weights;      /* where they came from: "disk", "peer", "host"; NULL: it did not get so far */
    Sched *sched;
    SchedStats begun; /* of schedulers before this one: the session began anew */
    SchedStats stats; /* of what it finished; while it works, of what it has done: under the fleet's lock */
    double busy;      /* seconds until nothing was left for it, or it failed */
    bool failed;
    Err why;
};

struct Fleet {
    Session *first;
    Requests *requests;
    FleetWork work;
    bool *told; /* [requests] finished was called */
    Queue *queue;
    FleetMember *at; /* [n] */
    int n;
    double load_seconds, seconds; /* until all were loaded; from then to the end */
    double cpu_seconds;           /* of the host's processors in that time, all threads, user and system */

    pthread_mutex_t lock; /* of all that follows, and of the members' failed and stats */
    pthread_cond_t changed;
    const Session *source; /* has the weights */
    int arrived, n_failed;
    bool said_host;
    double started, begin;
    Progress bar;
    double said;
    const FleetMember *first_failed;
};

/* Loads the weights onto s->devices devices and runs the requests to their end. False: every device has failed (e says how the first did), or it was stopped. fleet_close follows in any case. */
bool fleet_run(Fleet *f, Session *s, Requests *r, const FleetWork *w, Err *e);
/* Did all devices last to the end? False, with e naming those that did not: the work is done all the same. */
bool fleet_whole(const Fleet *f, Err *e);
SchedStats fleet_stats(const Fleet *f); /* of all; what is in flight, and pages, added up */
double fleet_tail(const Fleet *f); /* seconds at the end in which not all were busy */
void fleet_print(const Fleet *f);   /* a line a device, where there are several, to stderr */
void fleet_profile(const Fleet *f); /* -f: of each device, to stderr */
json_t *fleet_json(const Fleet *f); /* an object a device, with -f its profile */
void fleet_close(Fleet *f);         /* before session_close; zeros are fine */

#endif
