/* One mapping: a head with a lock, a letter a rank, then the windows. */
#include "common/base/hub.h"
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "common/base/mem.h"

typedef struct Letter {
    int64_t to, bytes; /* to: -1 while the sender's window is free */
} Letter;

typedef struct Head {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int64_t arrived, round; /* of the barrier */
    int aborted, ready;     /* ready: the lock was made */
    Letter letter[];
} Head;

struct Hub {
    Head *head;
    char *windows;
    int64_t size, window, bytes;
};

/* ---- making ---------------------------------------------------------------------------------- */

static int layout(Hub *h, int64_t size, int64_t window, Err *err)
{
    int64_t head = ((int64_t)sizeof(Head) + size * (int64_t)sizeof(Letter) + 4095) / 4096 * 4096, all;
    if (size < 1 || window < 1 || mem_mul(size, window, &all) < 0 || mem_add(all, head, &h->bytes) < 0)
        return err_set(err, ERR_LIMIT, "shared memory for %" PRId64 " ranks of %" PRId64 " bytes", size, window);
    h->size = size;
    h->window = window;
    return 0;
}

static int map(Hub *h, int flags, int file, Err *err)
{
    void *p = mmap(NULL, (size_t)h->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | flags, file, 0);
    if (p == MAP_FAILED)
        return err_errno(err, errno, "shared memory of %" PRId64 " bytes", h->bytes);
    h->head = p;
    h->windows = (char *)p + (h->bytes - h->size * h->window);
    return 0;
}

static int start(Hub *h, Err *err)
{
    pthread_mutexattr_t lock;
    pthread_condattr_t changed;
    int rc = pthread_mutexattr_init(&lock);
    if (rc == 0)
        rc = pthread_condattr_init(&changed);
    if (rc == 0)
        rc = pthread_mutexattr_setpshared(&lock, PTHREAD_PROCESS_SHARED);
    if (rc == 0) /* a rank that dies while it holds the lock must not stop the others for ever */
        rc = pthread_mutexattr_setrobust(&lock, PTHREAD_MUTEX_ROBUST);
    if (rc == 0)
        rc = pthread_condattr_setpshared(&changed, PTHREAD_PROCESS_SHARED);
    if (rc == 0)
        rc = pthread_condattr_setclock(&changed, CLOCK_MONOTONIC);
    if (rc == 0)
        rc = pthread_mutex_init(&h->head->lock, &lock);
    if (rc == 0)
        rc = pthread_cond_init(&h->head->changed, &changed);
    for (int64_t i = 0; i < h->size; i++)
        h->head->letter[i].to = -1;
    __atomic_store_n(&h->head->ready, 1, __ATOMIC_RELEASE);
    return rc ? err_errno(err, rc, "locks in shared memory") : 0;
}

int hub_new(Hub **out, int64_t size, int64_t window, Err *err)
{
    Hub *h = mem_calloc(1, sizeof *h, err);
    int rc = h ? layout(h, size, window, err) : ERR_NOMEM;
    if (rc == 0)
        rc = map(h, MAP_ANONYMOUS, -1, err);
    if (rc == 0)
        rc = start(h, err);
    if (rc < 0)
        hub_close(&h);
    *out = h;
    return rc;
}

static void wait_a_little(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* Waits until rank 0 has made the file as large as it will be. */
static int open_file(const char *name, int64_t rank, int64_t bytes, Err *err)
{
    struct stat now = {0};
    int file = -1;
    if (rank == 0) {
        file = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
        if (file < 0 || ftruncate(file, bytes) != 0)
            return err_errno(err, errno, "shared memory '%s'", name);
        return file;
    }
    for (int i = 0; i < HUB_WAIT_S * 1000 && now.st_size < bytes; i++) {
        if (file < 0)
            file = shm_open(name, O_RDWR, 0);
        if (file < 0 || fstat(file, &now) != 0 || now.st_size < bytes)
            wait_a_little();
    }
    return file >= 0 && now.st_size >= bytes ? file : err_set(err, ERR_IO, "shared memory '%s' did not appear", name);
}

int hub_join(Hub **out, const char *name, int64_t rank, int64_t size, int64_t window, Err *err)
{
    Hub *h = mem_calloc(1, sizeof *h, err);
    int rc = h ? layout(h, size, window, err) : ERR_NOMEM, file = rc == 0 ? open_file(name, rank, h->bytes, err) : rc;
    if (rc == 0)
        rc = file < 0 ? file : map(h, 0, file, err);
    if (file >= 0)
        close(file);
    if (rc == 0 && rank == 0)
        rc = start(h, err);
    for (int i = 0; rc == 0 && !__atomic_load_n(&h->head->ready, __ATOMIC_ACQUIRE); i++) {
        wait_a_little();
        if (i == HUB_WAIT_S * 1000)
            rc = err_set(err, ERR_IO, "shared memory '%s' was not made ready", name);
    }
    if (rc == 0)
        rc = hub_barrier(h, err);
    if (rank == 0) /* all have it, or it is of no use */
        shm_unlink(name);
    if (rc < 0)
        hub_close(&h);
    *out = h;
    return rc;
}

void hub_close(Hub **hub)
{
    Hub *h = *hub;
    if (h && h->head)
        munmap(h->head, (size_t)h->bytes);
    mem_free(h);
    *hub = NULL;
}

/* ---- waiting --------------------------------------------------------------------------------- */

int64_t hub_size(const Hub *h)
{
    return h->size;
}

int64_t hub_window_bytes(const Hub *h)
{
    return h->window;
}

void *hub_window(Hub *h, int64_t rank)
{
    return h->windows + rank * h->window;
}

static void take_lock(Head *d)
{
    if (pthread_mutex_lock(&d->lock) == EOWNERDEAD) {
        d->aborted = 1;
        pthread_mutex_consistent(&d->lock);
    }
}

static void deadline(struct timespec *at)
{
    clock_gettime(CLOCK_MONOTONIC, at);
    at->tv_sec += HUB_WAIT_S;
}

/* With the lock held: waits for a change; the job is over when that takes too long. */
static void wait_for_change(Head *d, const struct timespec *until)
{
    int rc = pthread_cond_timedwait(&d->changed, &d->lock, until);
    if (rc == EOWNERDEAD)
        pthread_mutex_consistent(&d->lock);
    if (rc != 0) {
        d->aborted = 1;
        pthread_cond_broadcast(&d->changed);
    }
}

static int give_lock(Head *d, Err *err)
{
    int aborted = d->aborted;
    pthread_mutex_unlock(&d->lock);
    return aborted ? err_set(err, ERR_IO, "another rank has stopped, or did not answer within %d seconds", HUB_WAIT_S)
                   : 0;
}

int hub_barrier(Hub *h, Err *err)
{
    Head *d = h->head;
    struct timespec until;
    deadline(&until);
    take_lock(d);
    int64_t round = d->round;
    if (++d->arrived == h->size) {
        d->arrived = 0;
        d->round++;
        pthread_cond_broadcast(&d->changed);
    }
    while (d->round == round && !d->aborted)
        wait_for_change(d, &until);
    return give_lock(d, err);
}

/* ---- messages -------------------------------------------------------------------------------- */

/* Waits until the letter of `from` is for `to` (-1: free). */
static int wait_for_letter(Head *d, int64_t from, int64_t to, Err *err)
{
    struct timespec until;
    deadline(&until);
    take_lock(d);
    while (d->letter[from].to != to && !d->aborted)
        wait_for_change(d, &until);
    return give_lock(d, err);
}

static void put_letter(Head *d, int64_t from, int64_t to, int64_t bytes)
{
    take_lock(d);
    d->letter[from] = (Letter){to, bytes};
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->lock);
}

int hub_send(Hub *h, const void *data, int64_t bytes, int64_t from, int64_t to, Err *err)
{
    int rc = 0;
    for (int64_t at = 0; at < bytes && rc == 0; at += h->window) {
        int64_t n = bytes - at < h->window ? bytes - at : h->window;
        memcpy(hub_window(h, from), (const char *)data + at, (size_t)n);
        put_letter(h->head, from, to, n);
        rc = wait_for_letter(h->head, from, -1, err);
    }
    return rc;
}

int hub_receive(Hub *h, void *data, int64_t bytes, int64_t from, int64_t to, Err *err)
{
    for (int64_t at = 0; at < bytes; at += h->window) {
        int64_t n = bytes - at < h->window ? bytes - at : h->window;
        int rc = wait_for_letter(h->head, from, to, err);
        if (rc < 0)
            return rc;
        if (h->head->letter[from].bytes != n)
            return err_set(err, ERR_IO, "a message of %" PRId64 " bytes from rank %" PRId64 ", expected %" PRId64,
                           h->head->letter[from].bytes, from, n);
        memcpy((char *)data + at, hub_window(h, from), (size_t)n);
        put_letter(h->head, from, -1, 0);
    }
    return 0;
}

void hub_abort(Hub *h)
{
    take_lock(h->head);
    h->head->aborted = 1;
    pthread_cond_broadcast(&h->head->changed);
    pthread_mutex_unlock(&h->head->lock);
}
