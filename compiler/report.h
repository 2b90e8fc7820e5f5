/* report.h - what report.c (text, JSON) and page.c (the page) share. */
#ifndef GPTOSS_REPORT_H
#define GPTOSS_REPORT_H

#include <jansson.h>

#include "compile.h"

/* New objects, the caller's. */
json_t *report_object(const Compile *c); /* what --report json prints, without --explain */
json_t *report_events(const Compile *c); /* [{outcome, rule, graph, node, why}]: what --explain prints */

#endif
