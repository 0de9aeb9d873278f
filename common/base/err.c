#include "common/base/err.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void err_clear(Err *err)
{
    if (!err)
        return;
    err->code = 0;
    err->msg[0] = 0;
}

int err_set(Err *err, int code, const char *fmt, ...)
{
    if (!err || err->msg[0])
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    err->code = code;
    return code;
}

int err_wrap(Err *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    char front[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(front, sizeof front, fmt, ap);
    va_end(ap);
    if (err->msg[0]) { /* what does not fit is cut from the cause's end */
        char cause[ERR_MSG_MAX];
        memcpy(cause, err->msg, sizeof cause);
        size_t n = strnlen(front, sizeof front - 3);
        memcpy(err->msg, front, n);
        memcpy(err->msg + n, ": ", 3);
        strncat(err->msg, cause, sizeof err->msg - n - 3);
    } else {
        memcpy(err->msg, front, sizeof front);
    }
    err->code = code;
    return code;
}

int err_errno(Err *err, int errnum, const char *fmt, ...)
{
    int code = errnum == ENOMEM ? ERR_NOMEM : errnum == ENOENT ? ERR_NOTFOUND : ERR_IO;
    char text[ERR_MSG_MAX], why[128];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    /* The GNU strerror_r, which may return a constant instead of filling the buffer. */
    return err_set(err, code, "%s: %s", text, strerror_r(errnum, why, sizeof why));
}

const char *err_name(int code)
{
    switch (code) {
    case 0: return "no error";
    case ERR_NOMEM: return "out of memory";
    case ERR_IO: return "input/output error";
    case ERR_FORMAT: return "bad data";
    case ERR_USAGE: return "bad request";
    case ERR_NOTFOUND: return "not found";
    case ERR_LIMIT: return "limit passed";
    case ERR_UNSUPPORTED: return "not supported";
    case ERR_DEVICE: return "device failed";
    case ERR_INTERRUPTED: return "interrupted";
    default: return "unknown error";
    }
}
