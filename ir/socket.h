/* socket.h - all of a message, between processes of ours. */
#ifndef GPTOSS_SOCKET_H
#define GPTOSS_SOCKET_H

#include <stdbool.h>
#include <stddef.h>

/* All n bytes. false, with errno: the other end is gone (an error, not a signal), or took nothing for longer than socket_limit allows
 * (ETIMEDOUT). */
bool socket_put(int fd, const void *from, size_t n);
bool socket_limit(int fd, int seconds); /* of socket_put, which waits without end otherwise. false: errno says why */
/* All n bytes. false, with errno: the other end is gone (EPIPE), or said nothing for `seconds` (ETIMEDOUT; -1: waits). */
bool socket_get(int fd, void *to, size_t n, int seconds);

#endif
