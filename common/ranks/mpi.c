/* Ranks over MPI: the whole of libweft-mpi.so, the only file that knows MPI.
 *
 * While a rank waits it tests for completion, at first without a pause, then with short sleeps, so
 * that the cores belong to those who compute; MPI_Wait would spin. */
#include <mpi.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/ranks/ranks.h"

enum { PIECE = 64 << 20 /* bytes of one call: MPI counts with int */, SPINS = 2000, NAP_NS = 20000, MESSAGE = 7 };

/* Programs built for one of them find one process where another one's launcher started several. */
#if defined(OPEN_MPI)
#define LIBRARY "Open MPI"
#elif defined(MPICH_VERSION)
#define LIBRARY "MPICH"
#else
#define LIBRARY "MPI"
#endif

typedef struct Mpi {
    Ranks r; /* first */
    MPI_Comm world;
    MPI_Op add_bf16;
    int cancelled;
} Mpi;

static Mpi *mpi_of(Ranks *r)
{
    return (Mpi *)r;
}

static int check(int rc, const char *what, Err *err)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int n = 0;
    if (rc == MPI_SUCCESS)
        return 0;
    MPI_Error_string(rc, text, &n);
    return err_set(err, ERR_IO, "MPI: %s: %s", what, text);
}

static int finish(Mpi *m, MPI_Request *request, const char *what, Err *err)
{
    int done = 0, rc = MPI_SUCCESS;
    for (int64_t i = 0; !done && rc == MPI_SUCCESS; i++) {
        if (__atomic_load_n(&m->cancelled, __ATOMIC_RELAXED)) /* the request is left as it is: the job ends */
            return err_set(err, ERR_IO, "MPI: %s: given up", what);
        rc = MPI_Test(request, &done, MPI_STATUS_IGNORE);
        if (!done && i > SPINS)
            nanosleep(&(struct timespec){.tv_nsec = NAP_NS}, NULL);
    }
    return check(rc, what, err);
}

static int piece_of(int64_t left)
{
    return left < PIECE ? (int)left : PIECE;
}

/* ---- sums ------------------------------------------------------------------------------------ */

/* MPI_User_function: b[n] += a[n] in bfloat16. */
static void add_bf16(void *a, void *b, int *n, MPI_Datatype *type)
{
    const uint16_t *from = a;
    uint16_t *to = b;
    (void)type;
    for (int i = 0; i < *n; i++)
        to[i] = float_to_bfloat(bfloat_to_float(to[i]) + bfloat_to_float(from[i]));
}

static int sum_piece(Mpi *m, void *data, int n, MPI_Datatype type, MPI_Op op, int64_t root, Err *err)
{
    MPI_Request request = MPI_REQUEST_NULL;
    int rc;
    if (root == RANKS_ALL)
        rc = MPI_Iallreduce(MPI_IN_PLACE, data, n, type, op, m->world, &request);
    else if (root == m->r.rank)
        rc = MPI_Ireduce(MPI_IN_PLACE, data, n, type, op, (int)root, m->world, &request);
    else
        rc = MPI_Ireduce(data, NULL, n, type, op, (int)root, m->world, &request);
    rc = check(rc, "reduce", err);
    return rc < 0 ? rc : finish(m, &request, "reduce", err);
}

static int mpi_sum(Ranks *r, void *data, int64_t n, DType type, int64_t root, Err *err)
{
    Mpi *m = mpi_of(r);
    MPI_Datatype kind = type == DT_F64 ? MPI_DOUBLE : type == DT_F32 ? MPI_FLOAT : MPI_UINT16_T;
    MPI_Op op = type == DT_BF16 ? m->add_bf16 : MPI_SUM;
    int64_t size = dtype_size(type), most = PIECE / size;
    int rc = 0;
    for (int64_t at = 0; at < n && rc == 0; at += most) {
        int64_t k = n - at < most ? n - at : most;
        rc = sum_piece(m, (char *)data + at * size, (int)k, kind, op, root, err);
    }
    return rc;
}

/* ---- bytes ----------------------------------------------------------------------------------- */

static int mpi_send(Ranks *r, const void *data, int64_t bytes, int64_t to, Err *err)
{
    int rc = 0;
    for (int64_t at = 0; at < bytes && rc == 0; at += PIECE) {
        MPI_Request request = MPI_REQUEST_NULL;
        rc = check(MPI_Isend((const char *)data + at, piece_of(bytes - at), MPI_BYTE, (int)to, MESSAGE,
                             mpi_of(r)->world, &request),
                   "send", err);
        if (rc == 0)
            rc = finish(mpi_of(r), &request, "send", err);
    }
    return rc;
}

static int mpi_receive(Ranks *r, void *data, int64_t bytes, int64_t from, Err *err)
{
    int rc = 0;
    for (int64_t at = 0; at < bytes && rc == 0; at += PIECE) {
        MPI_Request request = MPI_REQUEST_NULL;
        rc = check(MPI_Irecv((char *)data + at, piece_of(bytes - at), MPI_BYTE, (int)from, MESSAGE, mpi_of(r)->world,
                             &request),
                   "receive", err);
        if (rc == 0)
            rc = finish(mpi_of(r), &request, "receive", err);
    }
    return rc;
}

static int mpi_broadcast(Ranks *r, void *data, int64_t bytes, int64_t root, Err *err)
{
    int rc = 0;
    for (int64_t at = 0; at < bytes && rc == 0; at += PIECE) {
        MPI_Request request = MPI_REQUEST_NULL;
        rc = check(MPI_Ibcast((char *)data + at, piece_of(bytes - at), MPI_BYTE, (int)root, mpi_of(r)->world, &request),
                   "broadcast", err);
        if (rc == 0)
            rc = finish(mpi_of(r), &request, "broadcast", err);
    }
    return rc;
}

static int mpi_gather(Ranks *r, void *all, const void *mine, int64_t bytes, Err *err)
{
    MPI_Request request = MPI_REQUEST_NULL;
    if (bytes > PIECE)
        return err_set(err, ERR_LIMIT, "gathering %" PRId64 " bytes a rank", bytes);
    int rc = check(MPI_Iallgather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, mpi_of(r)->world, &request),
                   "gather", err);
    return rc < 0 ? rc : finish(mpi_of(r), &request, "gather", err);
}

/* ---- opening --------------------------------------------------------------------------------- */

static void mpi_cancel(Ranks *r)
{
    __atomic_store_n(&mpi_of(r)->cancelled, 1, __ATOMIC_RELAXED);
}

static void mpi_abort(Ranks *r, int status)
{
    MPI_Abort(mpi_of(r)->world, status);
}

static void mpi_close(Ranks *r)
{
    Mpi *m = mpi_of(r);
    MPI_Op_free(&m->add_bf16);
    MPI_Comm_free(&m->world);
    MPI_Finalize();
    free(m);
}

/* A communicator of our own, whose failures are codes instead of the end of the process. */
static int start(Mpi *m, Err *err)
{
    int level = 0, rank = 0, size = 0;
    int rc = check(MPI_Init_thread(NULL, NULL, MPI_THREAD_SERIALIZED, &level), "start", err);
    if (rc == 0 && level < MPI_THREAD_SERIALIZED)
        rc = err_set(err, ERR_UNSUPPORTED,
                     "MPI gives thread level %d, expected MPI_THREAD_SERIALIZED (%d): sums run beside computing in a "
                     "thread of their own",
                     level, MPI_THREAD_SERIALIZED);
    if (rc == 0)
        rc = check(MPI_Comm_dup(MPI_COMM_WORLD, &m->world), "communicator", err);
    if (rc < 0)
        return rc;
    MPI_Comm_set_errhandler(m->world, MPI_ERRORS_RETURN);
    MPI_Comm_rank(m->world, &rank);
    MPI_Comm_size(m->world, &size);
    m->r.rank = rank;
    m->r.size = size;
    return check(MPI_Op_create(add_bf16, 1, &m->add_bf16), "sum of bfloat16", err);
}

/* What ranks.c finds by name. */
__attribute__((visibility("default"))) int weft_mpi_open(Ranks **out, Err *err);
int weft_mpi_open(Ranks **out, Err *err)
{
    Mpi *m = calloc(1, sizeof *m);
    *out = NULL;
    if (!m)
        return err_set(err, ERR_NOMEM, "no memory for MPI");
    m->r = (Ranks){.name = LIBRARY,
                   .sum = mpi_sum,
                   .send = mpi_send,
                   .receive = mpi_receive,
                   .broadcast = mpi_broadcast,
                   .gather = mpi_gather,
                   .cancel = mpi_cancel,
                   .abort = mpi_abort,
                   .close = mpi_close};
    gethostname(m->r.host, sizeof m->r.host - 1);
    int rc = start(m, err);
    if (rc < 0)
        free(m);
    else
        *out = &m->r;
    return rc;
}
