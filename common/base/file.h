/* Files: whole reads, atomic writes, paths, directories.
 *
 * Nothing half-written is ever left looking finished: an AtomicFile is written under a temporary
 * name in the same directory ("NAME.tmp-XXXXXX"), synced, and renamed on commit; the directory is
 * synced after the rename. */
#ifndef WEFT_COMMON_BASE_FILE_H
#define WEFT_COMMON_BASE_FILE_H
#include <stdint.h>
#include <stdio.h>
#include "common/base/err.h"

/* Opens a file to read from; *out is the caller's to fclose.  ERR_FORMAT for what is not a regular
 * file (a pipe in its place would hang the program); only under /dev/ and /proc/, where standard input
 * and the shell's "<(...)" lie, pipes and devices open. */
WEFT_MUST_CHECK int file_open(FILE **out, const char *path, Err *err);
/* The whole file, opened so, as a NUL-terminated block (size excludes the NUL).  Refuses more than max_bytes
 * (ERR_LIMIT).
 * *out is the caller's to mem_free. */
WEFT_MUST_CHECK int file_read(const char *path, int64_t max_bytes, char **out, int64_t *size, Err *err);

/* ERR_FORMAT when the bytes, the beginning of `path`, are a Git LFS pointer: what a clone made
 * without git-lfs has in a large file's place.  file_read does this itself. */
#define FILE_LFS_HEAD 64 /* bytes that are enough to decide */
WEFT_MUST_CHECK int file_check_lfs(const char *path, const void *bytes, int64_t size, Err *err);

typedef struct AtomicFile AtomicFile;
WEFT_MUST_CHECK int atomic_open(AtomicFile **out, const char *path, Err *err);
/* The stream to write to; owned by the AtomicFile. */
FILE *atomic_stream(AtomicFile *f);
/* The temporary path (for libraries that open by name). */
const char *atomic_path(const AtomicFile *f);
/* Flush, fsync, rename, fsync the directory.  Frees *f in every case; on failure the temporary is
 * removed and an older file of that name is untouched. */
WEFT_MUST_CHECK int atomic_commit(AtomicFile **f, Err *err);
/* Drop: removes the temporary.  Accepts NULL inside. */
void atomic_abort(AtomicFile **f);
/* All of the above for one block of bytes. */
WEFT_MUST_CHECK int file_write_atomic(const char *path, const void *bytes, int64_t size, Err *err);

/* 1 when something has this name, 0 when nothing has, negative when that cannot be known: a folder
 * on the way may not be searched, the disk fails, or the name is a link to nothing (an unmounted
 * disk).  For decisions that would lose something if "cannot look" passed for "does not exist". */
WEFT_MUST_CHECK int file_look(const char *path, Err *err);
int file_exists(const char *path);
int file_is_dir(const char *path);
/* Size in bytes, or a negative code. */
WEFT_MUST_CHECK int64_t file_size(const char *path, Err *err);
/* Makes the directory and its parents; 0 when it exists already. */
WEFT_MUST_CHECK int dir_make(const char *path, Err *err);
/* Removes a directory tree (or a file).  Absent: 0. */
WEFT_MUST_CHECK int dir_remove(const char *path, Err *err);
WEFT_MUST_CHECK int dir_sync(const char *path, Err *err);
/* Sorted (bytewise) names in a directory without "." and ".."; caller frees with dir_list_free. */
WEFT_MUST_CHECK int dir_list(const char *path, char ***names, int64_t *n, Err *err);
void dir_list_free(char ***names, int64_t n);
/* "a/b" joined; a NULL or "" gives a copy of b.  mem_free. */
WEFT_MUST_CHECK char *path_join(const char *a, const char *b, Err *err);
const char *path_base(const char *path);
/* Directory part without the last slash ("." when there is none).  mem_free. */
WEFT_MUST_CHECK char *path_dir(const char *path, Err *err);
/* ERR_USAGE with a sentence when `path` is absolute, empty, or has a ".." component. */
WEFT_MUST_CHECK int path_check_relative(const char *path, Err *err);
/* Removes leftovers "*.tmp-??????" in a directory (from a killed run). */
WEFT_MUST_CHECK int dir_sweep_temporaries(const char *path, Err *err);

/* An advisory lock on a directory ("DIR/.lock", flock): one writer.  ERR_LIMIT with a sentence when
 * held by another process.  The operating system drops it when the process dies. */
typedef struct DirLock {
    int fd;
} DirLock; /* zero-initialise; 0: not held */
WEFT_MUST_CHECK int dir_lock(DirLock *lock, const char *dir, Err *err);
/* The same, waiting for as long as another process holds it. */
WEFT_MUST_CHECK int dir_lock_wait(DirLock *lock, const char *dir, Err *err);
void dir_unlock(DirLock *lock);
#endif
