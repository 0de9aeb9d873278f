#include "common/base/schema_lines.h"
#include <errno.h>
#include <string.h>
#include <unistd.h>
#include "common/base/file.h"
#include "common/base/json.h"
#include "common/base/lines.h"
#include "common/base/mem.h"
#include "common/base/schema_internal.h"

/* ---- the part of a schema that judges some members alone ------------------------------------- */

/* The names that lead below `key`, without it; [0] NULL when `key` itself is wanted whole, or no name
 * leads below it (*wanted 0).  mem_free. */
static const char **names_below(const char *const *names, const char *key, int *wanted, Err *err)
{
    int64_t n = 0, all = 0;
    size_t length = strlen(key);
    for (const char *const *name = names; *name; name++)
        n++;
    const char **below = mem_calloc(n + 1, sizeof *below, err);
    *wanted = 0;
    for (n = 0; below && *names; names++) {
        const char *rest = *names + length;
        if (strncmp(*names, key, length) != 0 || (*rest && *rest != '.'))
            continue;
        *wanted = 1;
        all |= *rest == 0;
        if (*rest)
            below[n++] = rest + 1;
    }
    if (below && all)
        below[0] = NULL;
    return below;
}

static json_t *cut_node(const Schema *s, const json_t *node, const char *const *names, Err *err);

/* 0, or negative.  Members that are not wanted, and demands for them, are left out. */
static int cut_object(const Schema *s, json_t *out, const char *const *names, Err *err)
{
    const json_t *properties = json_object_get(out, "properties"), *required = json_object_get(out, "required");
    json_t *kept = json_object(), *needed = json_array(), *member;
    const char *key;
    int rc = kept && needed ? 0 : ERR_NOMEM;
    json_object_foreach ((json_t *)properties, key, member) {
        int wanted;
        const char **below = rc == 0 ? names_below(names, key, &wanted, err) : NULL;
        if (!below || (wanted && json_object_set_new(kept, key, cut_node(s, member, below, err)) < 0))
            rc = ERR_NOMEM;
        mem_free(below);
    }
    for (size_t i = 0; rc == 0 && i < json_array_size(required); i++) {
        json_t *name = json_array_get(required, i);
        if (json_object_get(kept, json_string_value(name)) && json_array_append(needed, name) < 0)
            rc = ERR_NOMEM;
    }
    if (rc == 0 && (json_object_set(out, "properties", kept) < 0 || json_object_set(out, "required", needed) < 0))
        rc = ERR_NOMEM;
    json_decref(kept);
    json_decref(needed);
    return rc;
}

static int cut_branches(const Schema *s, json_t *out, const char *keyword, const char *const *names, Err *err)
{
    const json_t *branches = json_object_get(out, keyword);
    json_t *kept = branches ? json_array() : NULL;
    int rc = !branches || kept ? 0 : ERR_NOMEM;
    for (size_t i = 0; rc == 0 && i < json_array_size(branches); i++)
        if (json_array_append_new(kept, cut_node(s, json_array_get(branches, i), names, err)) < 0)
            rc = ERR_NOMEM;
    if (rc == 0 && kept && json_object_set(out, keyword, kept) < 0)
        rc = ERR_NOMEM;
    json_decref(kept);
    return rc;
}

/* A new reference, NULL without memory.  Nodes below the last name are shared with the schema: its
 * compiled patterns are found by their place. */
static json_t *cut_node(const Schema *s, const json_t *node, const char *const *names, Err *err)
{
    const json_t *target = schema_resolve(s, node);
    if (!names[0] || !json_is_object(target))
        return json_incref((json_t *)node);
    json_t *out = json_copy((json_t *)target);
    int rc = out ? 0 : ERR_NOMEM;
    if (rc == 0 && json_object_get(out, "properties"))
        rc = cut_object(s, out, names, err);
    if (rc == 0)
        rc = cut_branches(s, out, "anyOf", names, err);
    if (rc == 0)
        rc = cut_branches(s, out, "oneOf", names, err);
    if (rc < 0) {
        json_decref(out);
        return NULL;
    }
    return out;
}

int schema_part(const Schema *s, const char *const *members, json_t **out, Err *err)
{
    *out = cut_node(s, schema_json(s), members, err);
    return *out ? 0 : err_set(err, ERR_NOMEM, "no memory for a schema");
}

int schema_read_part(const Schema *s, const json_t *part, const char *const *members, const char *text, int64_t size,
                     const char *name, json_t **out, Err *err)
{
    int rc = json_parse_members(out, text, size, members, name, err);
    if (rc == 0 && (rc = schema_validate_at(s, part, "", *out, err)) < 0) {
        json_decref(*out);
        *out = NULL;
    }
    return rc;
}

/* ---- lines ----------------------------------------------------------------------------------- */

struct SchemaFile {
    FILE *file;
    const char *path;
    Schema *schema;
    json_t *part; /* of the schema; NULL: lines are judged as a whole */
    const char *const *members;
    SchemaLineFn line;
    void *user;
    int64_t at;      /* of the line at hand */
    LinePlace place; /* the same */
    char *text;      /* [room] of a line that is read again */
    int64_t room;
};

/* A new reference. */
static int read_line(const SchemaFile *f, const char *text, int64_t size, const char *where, json_t **out, Err *err)
{
    Err in_part = {0};
    int rc = f->part ? schema_read_part(f->schema, f->part, f->members, text, size, where, out, &in_part) : ERR_FORMAT;
    if (rc == ERR_NOMEM) {
        err_set(err, rc, "%s", in_part.msg);
    } else if (rc < 0) { /* what is wrong is found in the line as it is written */
        if ((rc = json_parse(out, text, size, where, err)) == 0)
            rc = schema_validate(f->schema, *out, where, err);
    }
    return rc;
}

static int one_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    SchemaFile *f = user;
    json_t *line = NULL;
    if (f->at >= (int64_t)1 << 38)
        return err_set(err, ERR_LIMIT, "%s: the file has more than 256 GiB", where);
    f->place.at = (uint64_t)f->at;
    f->place.size = (uint64_t)size;
    f->place.check = hash_xxh3(text, size);
    int rc = read_line(f, text, size, where, &line, err);
    if (rc == 0)
        rc = f->line(f->user, line, where, err);
    json_decref(line);
    return rc;
}

int schema_file_open(SchemaFile **out, const char *path, const char *schema, const char *const *members, Err *err)
{
    SchemaFile *f = *out = mem_calloc(1, sizeof *f, err);
    if (!f)
        return ERR_NOMEM;
    f->path = path;
    f->members = members;
    int rc = schema_open(&f->schema, schema, err);
    if (rc == 0 && members)
        rc = schema_part(f->schema, members, &f->part, err);
    if (rc == 0)
        rc = file_open(&f->file, path, err);
    if (rc < 0)
        schema_file_close(out);
    return rc;
}

void schema_file_close(SchemaFile **out)
{
    SchemaFile *f = *out;
    if (!f)
        return;
    if (f->file)
        fclose(f->file);
    json_decref(f->part);
    schema_close(&f->schema);
    mem_free(f->text);
    mem_free(f);
    *out = NULL;
}

int schema_file_sha256(SchemaFile *f, Digest *out, Err *err)
{
    rewind(f->file);
    return sha256_stream(f->file, f->path, out, err);
}

int schema_file_each(SchemaFile *f, SchemaLineFn line, void *user, Err *err)
{
    f->line = line;
    f->user = user;
    rewind(f->file);
    return lines_read_file(f->file, f->path, RECORD_BYTES_MAX, &f->at, one_line, f, err);
}

LinePlace schema_file_place(const SchemaFile *f)
{
    return f->place;
}

/* f->text: the line's bytes, and a NUL. */
static int read_again(SchemaFile *f, const LinePlace *place, Err *err)
{
    int64_t n = 0, at = place->at, size = place->size;
    if (size >= f->room) {
        char *grown = mem_realloc(f->text, 2 * size + 1, 1, err);
        if (!grown)
            return ERR_NOMEM;
        f->text = grown;
        f->room = 2 * size + 1;
    }
    while (n < size) {
        ssize_t got = pread(fileno(f->file), f->text + n, (size_t)(size - n), at + n);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return err_errno(err, errno, "reading '%s'", f->path);
        if (got == 0)
            break;
        n += got;
    }
    f->text[n] = 0;
    if (n < size || hash_xxh3(f->text, size) != place->check)
        return err_set(err, ERR_FORMAT, "'%s' changed while it was being read (at byte %" PRId64 "): run this again",
                       f->path, at);
    return 0;
}

int schema_file_line(SchemaFile *f, const LinePlace *place, json_t **out, Err *err)
{
    const char *name = path_base(f->path);
    *out = NULL;
    int rc = read_again(f, place, err);
    if (rc < 0)
        return rc;
    return f->members ? json_parse_members(out, f->text, place->size, f->members, name, err)
                      : json_parse(out, f->text, place->size, name, err);
}

int schema_each_line(const char *path, const char *schema, const char *const *members, SchemaLineFn line, void *user,
                     Err *err)
{
    SchemaFile *f = NULL;
    int rc = schema_file_open(&f, path, schema, members, err);
    if (rc == 0)
        rc = schema_file_each(f, line, user, err);
    schema_file_close(&f);
    return rc;
}
