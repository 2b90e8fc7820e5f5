/* interrupt.c - see interrupt.h. */
#include "interrupt.h"
#include "runtime/device/device.h"

#include <signal.h>
#include <unistd.h>

static const int signals[] = {SIGINT, SIGTERM};
static struct sigaction before[LEN(signals)];
static volatile sig_atomic_t came; /* read by other threads: it only ever goes from 0 to one of signals */

static void by_default(void) {
    for (size_t i = 0; i < LEN(signals); i++) sigaction(signals[i], &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
}

static void note(int sig) {
    if (device_is_stuck()) { /* there is no step's end to wait for */
        by_default();
        raise(sig);
        return;
    }
    static const char say[] = "\ngptoss-exec: ends after this step (once more: at once)\n";
    ssize_t ignored = write(STDERR_FILENO, say, sizeof say - 1);
    (void)ignored;
    __atomic_store_n(&came, sig, __ATOMIC_RELAXED);
    by_default();
}

void interrupt_watch(void) {
    came = 0;
    for (size_t i = 0; i < LEN(signals); i++)
        sigaction(signals[i], &(struct sigaction){.sa_handler = note, .sa_flags = SA_RESTART}, &before[i]);
}

void interrupt_leave(void) {
    for (size_t i = 0; i < LEN(signals); i++) sigaction(signals[i], &before[i], NULL);
}

const char *interrupt_came(void) {
    int sig = __atomic_load_n(&came, __ATOMIC_RELAXED);
    return !sig ? NULL : sig == SIGINT ? "Ctrl-C (SIGINT)" : "SIGTERM";
}
