#include "cache/seen.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/file_stamp.h"
#include "common/base/mem.h"
#include "common/base/str.h"

enum { LINE = 130 };

static int by_name(const void *a, const void *b)
{
    const SeenLine *x = a, *y = b;
    return (x->name > y->name) - (x->name < y->name);
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

/* 1 with a line's file; cuts the line. */
static int parse(char *line, SeenFile *out)
{
    if (line[64] != ' ' || line[LINE - 1] != '\n')
        return 0;
    line[64] = line[LINE - 1] = '\0';
    return digest_parse(line, &out->name, NULL) == 0 && digest_parse(line + 65, &out->sha256, NULL) == 0;
}

static uint64_t short_name(const Digest *name)
{
    uint64_t word;
    memcpy(&word, name, sizeof word);
    return word;
}

static void read_lines(Seen *s)
{
    char line[LINE];
    SeenFile one;
    size_t got;
    int64_t room = 0;
    int sound = 1;
    while (sound && (got = fread(line, 1, LINE, s->old)) > 0) {
        sound = got == LINE && s->known < UINT32_MAX && parse(line, &one) &&
                mem_grow(&s->line, s->known, &room, sizeof *s->line, NULL) == 0;
        if (sound)
            s->line[s->known] = (SeenLine){short_name(&one.name), (uint32_t)s->known, 0};
        s->known += sound;
    }
    if (!sound || ferror(s->old))
        s->known = 0;
    if (s->known > 0)
        qsort(s->line, (size_t)s->known, sizeof *s->line, by_name);
}

int seen_open(Seen *s, const char *cache, Err *err)
{
    char *path = path_join(cache, ".seen", err);
    FileStamp stamp;
    file_stamp_begin(&stamp);
    *s = (Seen){.start = stamp.now};
    if (path && file_open(&s->old, path, NULL) == 0)
        read_lines(s);
    mem_free(path);
    return path ? 0 : ERR_NOMEM;
}

static int read_line(const Seen *s, const SeenLine *l, SeenFile *out)
{
    char line[LINE];
    ssize_t got;
    do
        got = pread(fileno(s->old), line, LINE, (off_t)l->number * LINE);
    while (got < 0 && errno == EINTR);
    return got == LINE && parse(line, out) && short_name(&out->name) == l->name;
}

/* Of an earlier run, with what its line says; or NULL. */
static SeenLine *find(const Seen *s, const Digest *name, SeenFile *out)
{
    SeenLine key = {.name = short_name(name)};
    SeenLine *l = s->known ? bsearch(&key, s->line, (size_t)s->known, sizeof key, by_name) : NULL;
    return l && read_line(s, l, out) && memcmp(&out->name, name, sizeof *name) == 0 ? l : NULL;
}

int seen_get(Seen *s, const char *path, char hex[65])
{
    Digest name;
    SeenFile file;
    SeenLine *l = name_of(s, path, &name) ? find(s, &name, &file) : NULL;
    if (!l)
        return 0;
    l->asked = 1;
    digest_hex(&file.sha256, hex);
    return 1;
}

void seen_put(Seen *s, const char *path, const char *sha256)
{
    SeenFile file, old;
    if (!name_of(s, path, &file.name) || digest_parse(sha256, &file.sha256, NULL) < 0 ||
        mem_grow(&s->file, s->n, &s->room, sizeof *s->file, NULL) < 0)
        return;
    SeenLine *l = find(s, &file.name, &old);
    if (l)
        l->asked = 0; /* the new line takes its place */
    s->file[s->n++] = file;
}

static void write_file(FILE *f, const SeenFile *file)
{
    char name[65], digest[65];
    digest_hex(&file->name, name);
    digest_hex(&file->sha256, digest);
    fprintf(f, "%s %s\n", name, digest);
}

void seen_save(const Seen *s, const char *cache)
{
    AtomicFile *f = NULL;
    SeenFile file;
    int changed = s->n > 0;
    for (int64_t i = 0; i < s->known; i++)
        changed |= !s->line[i].asked;
    char *path = changed ? path_join(cache, ".seen", NULL) : NULL;
    if (path && atomic_open(&f, path, NULL) == 0) {
        for (int64_t i = 0; i < s->known; i++)
            if (s->line[i].asked && read_line(s, &s->line[i], &file))
                write_file(atomic_stream(f), &file);
        for (int64_t i = 0; i < s->n; i++)
            write_file(atomic_stream(f), &s->file[i]);
        err_ignore(atomic_commit(&f, NULL));
    }
    mem_free(path);
}

void seen_close(Seen *s)
{
    if (s->old)
        fclose(s->old);
    mem_free(s->line);
    mem_free(s->file);
    *s = (Seen){0};
}
