#include "common/base/schema_lines.h"
#include <string.h>
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

typedef struct Lines {
    Schema *schema;
    json_t *part; /* of the schema; NULL: lines are judged as a whole */
    const char *const *members;
    SchemaLineFn f;
    void *user;
} Lines;

static int one_line(void *user, const char *text, int64_t size, const char *where, Err *err)
{
    const Lines *l = user;
    json_t *line = NULL;
    Err in_part = {0};
    int rc = l->part ? schema_read_part(l->schema, l->part, l->members, text, size, where, &line, &in_part)
                     : ERR_FORMAT;
    if (rc == ERR_NOMEM) {
        err_set(err, rc, "%s", in_part.msg);
    } else if (rc < 0) { /* what is wrong is found in the line as it is written */
        if ((rc = json_parse(&line, text, size, where, err)) == 0)
            rc = schema_validate(l->schema, line, where, err);
    }
    if (rc == 0)
        rc = l->f(l->user, line, where, err);
    json_decref(line);
    return rc;
}

int schema_each_line(const char *path, const char *schema, const char *const *members, SchemaLineFn f, void *user,
                     Err *err)
{
    Lines l = {.members = members, .f = f, .user = user};
    int rc = schema_open(&l.schema, schema, err);
    if (rc == 0 && members)
        rc = schema_part(l.schema, members, &l.part, err);
    if (rc == 0)
        rc = lines_read(path, RECORD_BYTES_MAX, one_line, &l, err);
    json_decref(l.part);
    schema_close(&l.schema);
    return rc;
}
