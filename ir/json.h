/* json.h - JSON that others made, and what jansson does when there is no memory.
 *
 * Its parser does not look at every allocation: a text may come out with letters missing, and be taken for what the file says. So running
 * out ends the program, with a line that says so, as it does for arenas and texts (base.h). */
#ifndef GPTOSS_JSON_H
#define GPTOSS_JSON_H

#include "base.h"

#include <jansson.h>

enum { JSON_MOST = 256 << 20 }; /* bytes, once parsed, of what has no limit of its own */

void json_memory(void); /* from here on; before any use of jansson */
/* n bytes of text, with jansson's flags. It may take about `most` bytes once parsed: "{}", two of the text, takes two hundred. NULL on
 * error: e says what is bad, and where in the text. */
json_t *json_parse(const char *text, size_t n, size_t flags, size_t most, Err *e);

#endif
