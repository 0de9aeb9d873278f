#include "cache/seen.h"
#include <stdlib.h>
#include <string.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/mem.h"
#include "common/base/str.h"

#define SEEN_MAX ((int64_t)1 << 30)
enum { LINE = 130 };

static int by_name(const void *a, const void *b)
{
    const SeenFile *x = a, *y = b;
    return memcmp(&x->name, &y->name, sizeof x->name);
}

/* What path is now: 1, or 0 when that cannot be said, or when it changed so late that what this run reads of it may
 * be older. */
static int name_of(const Seen *s, const char *path, Digest *name)
{
    Str text = {0};
    FileStamp stamp;
    file_stamp_begin(&stamp);
    stamp.now = s->start;
    int rc = file_stamp_add(&stamp, path, NULL);
    if (rc == 0)
        rc = file_stamp_end(&stamp, NULL);
    file_stamp_fini(&stamp);
    int settled = rc == 0 && stamp.settled && stamp.size > 0;
    if (settled)
        settled = str_printf(&text, NULL, "%s\n%s", path, stamp.hex) == 0 &&
                  sha256_bytes(text.data, text.len, name, NULL) == 0;
    str_fini(&text);
    return settled;
}

static SeenFile *add(Seen *s)
{
    if (s->n == s->room) {
        int64_t room = s->room ? 2 * s->room : 256;
        SeenFile *grown = mem_realloc(s->file, room, sizeof *grown, NULL);
        if (!grown)
            return NULL;
        s->file = grown;
        s->room = room;
    }
    s->file[s->n] = (SeenFile){0};
    return &s->file[s->n++];
}

/* 1 with a line's file; cuts the line. */
static int parse(char *line, SeenFile *out)
{
    if (line[64] != ' ' || line[LINE - 1] != '\n')
        return 0;
    line[64] = line[LINE - 1] = '\0';
    *out = (SeenFile){0};
    return digest_parse(line, &out->name, NULL) == 0 && digest_parse(line + 65, &out->sha256, NULL) == 0;
}

static void read_lines(Seen *s, char *text, int64_t size)
{
    SeenFile one, *file;
    int sound = size % LINE == 0;
    for (int64_t at = 0; sound && at < size; at += LINE) {
        sound = parse(text + at, &one) && (file = add(s)) != NULL;
        if (sound)
            *file = one;
    }
    if (!sound)
        s->n = 0;
    if (s->n > 0)
        qsort(s->file, (size_t)s->n, sizeof *s->file, by_name);
    s->known = s->n;
}

int seen_open(Seen *s, const char *cache, Err *err)
{
    char *path = path_join(cache, ".seen", err), *text = NULL;
    int64_t size = 0;
    FileStamp stamp;
    file_stamp_begin(&stamp);
    *s = (Seen){.start = stamp.now};
    if (path && file_read(path, SEEN_MAX, &text, &size, NULL) == 0)
        read_lines(s, text, size);
    mem_free(text);
    mem_free(path);
    return path ? 0 : ERR_NOMEM;
}

/* Of an earlier run, or NULL. */
static SeenFile *find(const Seen *s, const Digest *name)
{
    SeenFile key = {.name = *name};
    return s->known ? bsearch(&key, s->file, (size_t)s->known, sizeof key, by_name) : NULL;
}

int seen_get(Seen *s, const char *path, char hex[65])
{
    Digest name;
    SeenFile *file = name_of(s, path, &name) ? find(s, &name) : NULL;
    if (!file)
        return 0;
    file->asked = 1;
    digest_hex(&file->sha256, hex);
    return 1;
}

void seen_put(Seen *s, const char *path, const char *sha256)
{
    Digest name, digest;
    if (!name_of(s, path, &name) || digest_parse(sha256, &digest, NULL) < 0)
        return;
    SeenFile *file = find(s, &name);
    if (!file && !(file = add(s)))
        return;
    *file = (SeenFile){name, digest, 1};
    s->changed = 1;
}

void seen_save(const Seen *s, const char *cache)
{
    AtomicFile *f = NULL;
    int changed = s->changed;
    for (int64_t i = 0; i < s->n; i++)
        changed |= !s->file[i].asked;
    char *path = changed ? path_join(cache, ".seen", NULL) : NULL;
    if (path && atomic_open(&f, path, NULL) == 0) {
        for (int64_t i = 0; i < s->n; i++) {
            char name[65], digest[65];
            digest_hex(&s->file[i].name, name);
            digest_hex(&s->file[i].sha256, digest);
            if (s->file[i].asked)
                fprintf(atomic_stream(f), "%s %s\n", name, digest);
        }
        err_ignore(atomic_commit(&f, NULL));
    }
    mem_free(path);
}

void seen_close(Seen *s)
{
    mem_free(s->file);
    *s = (Seen){0};
}
