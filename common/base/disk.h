/* What a program asks of the disk before it starts: that a folder can be written, and room in it. */
#ifndef WEFT_COMMON_BASE_DISK_H
#define WEFT_COMMON_BASE_DISK_H
#include <stdint.h>
#include "common/base/err.h"

/* Files can be made in `folder`, or it can be made itself; makes nothing.  `what` names the option in
 * the message ("--out"). */
WEFT_MUST_CHECK int disk_check_writable(const char *folder, const char *what, Err *err);
/* *bytes: that this user may still write where `path` is or will be; -1: not known.  Fails for want of
 * memory only. */
WEFT_MUST_CHECK int disk_free_bytes(const char *path, int64_t *bytes, Err *err);
/* *kind: "NFS", "SMB", ...: the network file system where `path` is or will be; NULL on a local one, and
 * where the system does not say.  Fails for want of memory only. */
WEFT_MUST_CHECK int disk_network(const char *path, const char **kind, Err *err);
#endif
