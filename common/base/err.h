/* Error values: a code to act on and a sentence to read.
 *
 * A function that can fail returns 0 or one of the negative codes below and takes an `Err *` last.
 * The caller owns the Err; NULL is allowed everywhere.  The first cause wins: err_set leaves an Err
 * that already holds a message alone, err_wrap puts "while ..." context in front of it.
 * A sentence names the thing, what was expected and what was found.
 * Only main.c prints errors and ends the process.
 *
 * An int64_t is printed with PRId64, never cast: err_set(err, ERR_LIMIT, "%" PRId64 " bytes", n). */
#ifndef WEFT_COMMON_BASE_ERR_H
#define WEFT_COMMON_BASE_ERR_H
#include <inttypes.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ERR_NOMEM = -1,       /* memory could not be had */
    ERR_IO = -2,          /* the operating system refused to read or write */
    ERR_FORMAT = -3,      /* the data is bad */
    ERR_USAGE = -4,       /* the request is bad */
    ERR_NOTFOUND = -5,    /* a named thing does not exist */
    ERR_LIMIT = -6,       /* a stated limit is passed (size, count, time, memory plan) */
    ERR_UNSUPPORTED = -7, /* well-formed, but not something Weft does */
    ERR_DEVICE = -8,      /* the accelerator failed */
    ERR_INTERRUPTED = -9  /* asked to stop (signal) */
};

#define ERR_MSG_MAX 2048

typedef struct Err {
    int code;
    char msg[ERR_MSG_MAX];
} Err;

#if defined(__GNUC__)
#define WEFT_PRINTF(f, a) __attribute__((format(printf, f, a)))
/* On every function that can fail: a call that ignores the result is a warning. */
#define WEFT_MUST_CHECK __attribute__((warn_unused_result))
#else
#define WEFT_PRINTF(f, a)
#define WEFT_MUST_CHECK
#endif

/* Marks a failure that changes nothing for the caller: `err_ignore(dir_remove(temporary, NULL));` */
static inline void err_ignore(int code)
{
    (void)code;
}

/* Empties the error so that it can be used again. */
void err_clear(Err *err);
/* Records code and message unless one is recorded already; returns `code` either way. */
int err_set(Err *err, int code, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* Puts the formatted context and ": " in front of the recorded message (or records it as the
 * message when there is none); returns `code`.  `return err_wrap(err, rc, "reading '%s'", path);` */
int err_wrap(Err *err, int code, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* As err_set with ": strerror(errnum)" at the end; ENOMEM becomes ERR_NOMEM, ENOENT ERR_NOTFOUND,
 * else ERR_IO. */
int err_errno(Err *err, int errnum, const char *fmt, ...) WEFT_PRINTF(3, 4);
/* "bad data", "not found", ...: a constant string for a code. */
const char *err_name(int code);

#ifdef __cplusplus
}
#endif
#endif
