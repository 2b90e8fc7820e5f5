/* json_memory.h - what jansson does when there is no memory.
 *
 * Its parser does not look at every allocation: a text may come out with letters missing, and be taken for what the file says. So running
 * out ends the program, with a line that says so, as it does for arenas and texts (base.h). */
#ifndef GPTOSS_JSON_MEMORY_H
#define GPTOSS_JSON_MEMORY_H

void json_memory(void); /* from here on; before any use of jansson */

#endif
