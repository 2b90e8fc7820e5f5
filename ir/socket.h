/* socket.h - all of a message, between processes of ours. */
#ifndef GPTOSS_SOCKET_H
#define GPTOSS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

/* All n bytes. false: the other end is gone (an error, not a signal), with errno. */
bool socket_put(int fd, const void *from, size_t n);
/* All n bytes. false, with errno: the other end is gone (EPIPE), or said nothing for `seconds` (ETIMEDOUT; -1: waits). */
bool socket_get(int fd, void *to, size_t n, int seconds);

#endif
