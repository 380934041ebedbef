/* libfaketime shifts what pthread_cond_timedwait is told of the time, but not C11's cnd_timedwait, by which librdkafka waits:
   with a clock that is an hour off each of its waits would take an hour. In glibc the types of both are the same. */
#include <errno.h>
#include <pthread.h>
#include <threads.h>
#include <time.h>

_Static_assert(sizeof(cnd_t) == sizeof(pthread_cond_t), "one layout");
_Static_assert(sizeof(mtx_t) == sizeof(pthread_mutex_t), "one layout");

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
    switch (pthread_cond_timedwait((pthread_cond_t *)cond, (pthread_mutex_t *)mutex, until)) {
    case 0:
        return thrd_success;
    case ETIMEDOUT:
        return thrd_timedout;
    default:
        return thrd_error;
    }
}
