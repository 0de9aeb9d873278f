/* Confining a process that decodes bytes we did not write: from confine_process on it can open only
 * the files it was given, start no program and open no network connection (Linux: Landlock, 5.13 and
 * later where it was not switched off at boot; by the kernel's own system calls).
 *
 * What is open already stays usable.  It holds for the calling process and its children, for ever. */
#ifndef WEFT_COMMON_BASE_CONFINE_H
#define WEFT_COMMON_BASE_CONFINE_H
#include "common/base/err.h"

/* What a program says once where the kernel cannot. */
#define CONFINE_MISSING                                                                                             \
    "this kernel has no Landlock: the processes that decode have limits on time and memory, but can open any file " \
    "you can"

typedef struct ConfineRules { /* NULL-terminated lists; NULL: none.  Paths that are absent are skipped. */
    const char *const *read;  /* files, or folders with everything below them, that may be read */
    const char *const *write; /* folders in which files may be made, read, replaced and removed */
} ConfineRules;

/* Whether this kernel can do it. */
int confine_available(void);
/* 1 confined; 0 the kernel cannot, and nothing has changed; negative error. */
WEFT_MUST_CHECK int confine_process(const ConfineRules *rules, Err *err);
#endif
