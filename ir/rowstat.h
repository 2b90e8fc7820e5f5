/* rowstat.h - how far two rows of logits lie apart, in the three measures that people compare models by. */
#ifndef GPTOSS_ROWSTAT_H
#define GPTOSS_ROWSTAT_H

#include <stddef.h>

double judge_nmse(const double *got, const double *want, size_t n); /* |got - want|² / |want|²; 0 / 0 is 0 */
double judge_kl(const double *got, const double *want, size_t n);   /* of softmax(got) from softmax(want), in nats */
size_t judge_top1(const double *row,
                  size_t n); /* the largest value's index, the lowest of equals; n where a NaN stands */

#endif
