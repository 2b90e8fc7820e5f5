/* interrupt.h - Ctrl-C (SIGINT) and SIGTERM while work is under way: the first is noted, so that what is done can be kept, the second
 * ends the program at once; so does the first where a kernel does not come back and cannot be ended. */
#ifndef GPTOSS_INTERRUPT_H
#define GPTOSS_INTERRUPT_H

void interrupt_watch(void);      /* begins; also where the shell had the signal ignored, as it does behind & in a script */
void interrupt_leave(void);      /* as it was before */
const char *interrupt_came(void); /* the signal's name; NULL: none came since interrupt_watch */

#endif
