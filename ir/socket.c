/* socket.c - see socket.h. */
#include "socket.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

bool socket_put(int fd, const void *from, size_t n) {
    const char *at = from;
    while (n) {
        ssize_t k = send(fd, at, n, MSG_NOSIGNAL);
        if (k < 0 && errno == EINTR) continue;
        if (k < 0 && errno == EAGAIN) errno = ETIMEDOUT;
        if (k <= 0) return false;
        at += k, n -= (size_t)k;
    }
    return true;
}

bool socket_limit(int fd, int seconds) {
    const struct timeval limit = {.tv_sec = seconds};
    return !setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool socket_get(int fd, void *to, size_t n, int seconds) {
    char *at = to;
    while (n) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, seconds < 0 ? -1 : seconds * 1000);
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) return errno = ETIMEDOUT, false;
        ssize_t k = ready < 0 ? -1 : read(fd, at, n);
        if (k < 0 && errno == EINTR) continue;
        if (k == 0) errno = EPIPE;
        if (k <= 0) return false;
        at += k, n -= (size_t)k;
    }
    return true;
}
