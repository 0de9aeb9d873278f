/* The containers: zip archives (through libzip) and the older stream. */
#include "common/store/torch_file.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <zip.h>

#include "common/base/file.h"
#include "common/base/mem.h"
#include "common/base/str.h"
#include "common/store/torch_internal.h"

enum {
    MAX_PICKLE = 32 << 20, /* bytes of one; a large model's takes 300 KB */
    MAX_MEMBERS = 1000000
};

/* The first pickle of a stream: a number that says what the file is. */
static const uint8_t stream_magic[15] = {0x80, 2, 0x8a, 10, 'l', 0xfc, 0x9c, 'F', 0xf9, ' ', 'j', 0xa8, 'P', 0x19, '.'};
static const uint8_t zip_magic[4] = {'P', 'K', 3, 4};

static int begins_with(const void *bytes, int64_t size, const uint8_t *magic, int64_t n)
{
    return size >= n && memcmp(bytes, magic, (size_t)n) == 0;
}

/* ---- archives -------------------------------------------------------------------------------- */

/* The member at `index`, `n` bytes of it, into `to`; its checksum is compared. */
static int read_member(TorchFile *f, zip_uint64_t index, const char *name, void *to, int64_t n)
{
    zip_file_t *member = zip_fopen_index(f->zip, index, 0);
    char beyond;
    int64_t done = 0, got = 1;
    if (!member)
        return err_set(f->err, ERR_FORMAT, "member '%s': %s", name, zip_strerror(f->zip));
    while (done < n && (got = zip_fread(member, (char *)to + done, (zip_uint64_t)(n - done))) > 0)
        done += got;
    if (done == n)
        got = zip_fread(member, &beyond, 1); /* the end: libzip compares the checksum there */
    int rc = 0;
    if (got < 0)
        rc = err_set(f->err, ERR_FORMAT, "member '%s': %s", name, zip_file_strerror(member));
    else if (done < n || got > 0)
        rc = err_set(f->err, ERR_FORMAT, "member '%s' is %s than it says", name, done < n ? "shorter" : "longer");
    zip_fclose(member);
    return rc;
}

/* Index and size of a member that is there and not encrypted.  `stored`: it must not be compressed, so
 * that it cannot be larger than the file. */
static int find_member(TorchFile *f, const char *name, int stored, zip_stat_t *st)
{
    zip_int64_t index = zip_name_locate(f->zip, name, 0);
    const zip_uint64_t need = ZIP_STAT_SIZE | ZIP_STAT_COMP_SIZE | ZIP_STAT_COMP_METHOD | ZIP_STAT_ENCRYPTION_METHOD;
    if (index < 0)
        return err_set(f->err, ERR_FORMAT, "member '%s' is missing", name);
    if (zip_stat_index(f->zip, (zip_uint64_t)index, 0, st) || (st->valid & need) != need)
        return err_set(f->err, ERR_FORMAT, "member '%s' is not described", name);
    if (st->encryption_method != ZIP_EM_NONE)
        return err_set(f->err, ERR_UNSUPPORTED, "member '%s' is encrypted", name);
    if (stored && (st->comp_method != ZIP_CM_STORE || st->comp_size != st->size || st->size > (uint64_t)f->size))
        return err_set(f->err, ERR_FORMAT, "member '%s' is compressed, or larger than the file; PyTorch stores weights",
                       name);
    st->index = (zip_uint64_t)index;
    return 0;
}

int torch_load_storage(TorchFile *f, Storage *s)
{
    const PickleValue *v = s->described;
    zip_stat_t st;
    void *block;
    if (!f->zip)
        return err_set(f->err, ERR_FORMAT, "storage '%.*s' is not in the file", (int)v->n, v->text);
    char *name = mem_printf(f->err, "%s%.*s", f->folder, (int)v->n, v->text);
    int rc = name ? find_member(f, name, 1, &st) : ERR_NOMEM;
    if (!rc && st.size != (uint64_t)s->size)
        rc = err_set(f->err, ERR_FORMAT, "member '%s' has %" PRIu64 " bytes, expected %" PRId64, name,
                     (uint64_t)st.size, s->size);
    if (!rc && !(rc = torch_block(f, s->size, &block)) && !(rc = read_member(f, st.index, name, block, s->size)))
        s->bytes = block;
    mem_free(name);
    return rc;
}

/* "STEM/" of the one member STEM/data.pkl, for mem_free. */
static int find_stem(TorchFile *f, char **stem)
{
    zip_int64_t n = zip_get_num_entries(f->zip, 0);
    *stem = NULL;
    if (n > MAX_MEMBERS)
        return err_set(f->err, ERR_LIMIT, "more than %d members", MAX_MEMBERS);
    for (zip_int64_t i = 0; i < n; i++) {
        const char *name = zip_get_name(f->zip, (zip_uint64_t)i, 0), *slash = name ? strchr(name, '/') : NULL;
        if (!slash || strcmp(slash, "/data.pkl") != 0)
            continue;
        if (*stem)
            return err_set(f->err, ERR_FORMAT, "several members are called data.pkl");
        if (!(*stem = mem_strndup(name, slash - name + 1, f->err)))
            return ERR_NOMEM;
    }
    return *stem ? 0 : err_set(f->err, ERR_FORMAT, "a zip archive without data.pkl: not a file of torch.save");
}

/* The member STEM/byteorder, where there is one, must say "little". */
static int check_byteorder(TorchFile *f, const char *stem)
{
    char *name = mem_printf(f->err, "%sbyteorder", stem), word[8] = "";
    zip_stat_t st;
    int rc = name ? 0 : ERR_NOMEM;
    if (!rc && zip_name_locate(f->zip, name, 0) >= 0 && !(rc = find_member(f, name, 1, &st))) {
        rc = st.size < sizeof word ? read_member(f, st.index, name, word, (int64_t)st.size) : 0;
        if (!rc && strcmp(word, "little") != 0)
            rc = err_set(f->err, ERR_UNSUPPORTED, "its numbers are not little-endian");
    }
    mem_free(name);
    return rc;
}

static int read_archive_pickle(TorchFile *f, const char *stem, uint8_t **pickle)
{
    char *name = mem_printf(f->err, "%sdata.pkl", stem);
    zip_stat_t st;
    int64_t used;
    int rc = name ? find_member(f, name, 0, &st) : ERR_NOMEM;
    if (!rc && st.size > MAX_PICKLE)
        rc = err_set(f->err, ERR_LIMIT, "data.pkl has more than %d bytes", MAX_PICKLE);
    if (!rc && !(*pickle = mem_calloc((int64_t)st.size + 1, 1, f->err)))
        rc = ERR_NOMEM;
    if (!rc && !(rc = read_member(f, st.index, name, *pickle, (int64_t)st.size)) &&
        !(rc = pickle_read(&f->pickle, *pickle, (int64_t)st.size, &used, f->err)))
        rc = torch_list_storages(f);
    mem_free(name);
    return rc;
}

static int read_archive(TorchFile *f)
{
    zip_error_t why;
    uint8_t *pickle = NULL;
    char *stem = NULL, *folder = NULL;
    int rc = 0;
    zip_error_init(&why);
    zip_source_t *source = zip_source_buffer_create(f->bytes, (zip_uint64_t)f->size, 0, &why);
    f->zip = source ? zip_open_from_source(source, ZIP_RDONLY, &why) : NULL;
    if (!f->zip) {
        zip_source_free(source);
        rc = err_set(f->err, zip_error_code_zip(&why) == ZIP_ER_MEMORY ? ERR_NOMEM : ERR_FORMAT, "zip archive: %s",
                     zip_error_strerror(&why));
        goto fail;
    }
    if ((rc = find_stem(f, &stem)) || (rc = check_byteorder(f, stem)))
        goto fail;
    if (!(folder = mem_printf(f->err, "%sdata/", stem))) {
        rc = ERR_NOMEM;
        goto fail;
    }
    f->folder = folder;
    if (!(rc = read_archive_pickle(f, stem, &pickle)))
        rc = torch_list_tensors(f);
fail:
    if (f->zip)
        zip_discard(f->zip);
    zip_error_fini(&why);
    mem_free(pickle);
    mem_free(folder);
    mem_free(stem);
    return rc;
}

/* ---- the older stream ------------------------------------------------------------------------ */

/* One of the stream's pickles, from *at on. */
static int next_pickle(TorchFile *f, Pickle *p, int64_t *at)
{
    int64_t used, left = f->size - *at;
    int rc = pickle_read(p, f->bytes + *at, left < MAX_PICKLE ? left : MAX_PICKLE, &used, f->err);
    *at += used;
    return rc;
}

/* Its version and the machine that wrote it. */
static int check_system(TorchFile *f, int64_t *at)
{
    Pickle version = {0}, system = {0};
    int rc = next_pickle(f, &version, at);
    if (!rc && (version.value[version.top].kind != PICKLE_INT || version.value[version.top].number != 1001))
        rc = err_set(f->err, ERR_UNSUPPORTED, "the stream's version is not 1001");
    if (!rc && !(rc = next_pickle(f, &system, at))) {
        const PickleValue *top = &system.value[system.top];
        const PickleValue *little = top->kind == PICKLE_DICT ? pickle_get(&system, top, "little_endian") : NULL;
        if (!little || little->kind != PICKLE_INT || !little->number)
            rc = err_set(f->err, ERR_UNSUPPORTED, "its numbers are not little-endian");
    }
    pickle_fini(&version);
    pickle_fini(&system);
    return rc;
}

/* After the pickles: for each key an int64 count of elements, and the elements. */
static int locate_storages(TorchFile *f, const Pickle *keys, int64_t at)
{
    const PickleValue *list = &keys->value[keys->top];
    if (list->kind != PICKLE_LIST)
        return err_set(f->err, ERR_FORMAT, "no list of storages");
    for (int64_t i = 0; i < list->n; i++) {
        const PickleValue *key = pickle_item(keys, list, i);
        Storage *s = key->kind == PICKLE_TEXT ? torch_find_storage(f, key) : NULL;
        int64_t count = 0;
        if (!s)
            return err_set(f->err, ERR_FORMAT, "the bytes of a storage that no tensor uses");
        if (f->size - at >= 8)
            memcpy(&count, f->bytes + at, 8);
        if (f->size - at < 8 || s->size > f->size - at - 8)
            return err_set(f->err, ERR_FORMAT, "the file ends within storage '%.*s'", (int)key->n, key->text);
        if (count != s->described->number)
            return err_set(f->err, ERR_FORMAT, "storage '%.*s' has %" PRId64 " elements, expected %" PRId64,
                           (int)key->n, key->text, count, s->described->number);
        s->bytes = f->bytes + at + 8;
        at += 8 + s->size;
    }
    return at == f->size ? 0 : err_set(f->err, ERR_FORMAT, "%" PRId64 " bytes after the last storage", f->size - at);
}

static int read_stream(TorchFile *f)
{
    int64_t at = sizeof stream_magic;
    Pickle keys = {0};
    int rc = check_system(f, &at);
    if (!rc && !(rc = next_pickle(f, &f->pickle, &at)) && !(rc = torch_list_storages(f)) &&
        !(rc = next_pickle(f, &keys, &at)) && !(rc = locate_storages(f, &keys, at)))
        rc = torch_list_tensors(f);
    pickle_fini(&keys);
    return rc;
}

/* ---- files ----------------------------------------------------------------------------------- */

static int read_bytes(SafeTensors *out, const void *bytes, int64_t size, Err *err)
{
    TorchFile f = {.bytes = bytes, .size = size, .out = out, .err = err};
    int rc;
    if (mem_mul(size, 2, &f.allowance) < 0)
        return err_set(err, ERR_LIMIT, "%" PRId64 " bytes are too many", size);
    if (begins_with(bytes, size, zip_magic, sizeof zip_magic))
        rc = read_archive(&f);
    else if (begins_with(bytes, size, stream_magic, sizeof stream_magic))
        rc = read_stream(&f);
    else
        rc = err_set(err, ERR_FORMAT, "neither an archive nor a stream of torch.save");
    pickle_fini(&f.pickle);
    mem_free(f.storage);
    json_decref(f.by_key);
    return rc;
}

int torch_file_read(SafeTensors **out, const void *bytes, int64_t size, Err *err)
{
    SafeTensors *s = *out = mem_calloc(1, sizeof *s, err);
    int rc = s ? read_bytes(s, bytes, size, err) : ERR_NOMEM;
    if (rc)
        safetensors_close(out);
    return rc;
}

int torch_file_open(SafeTensors **out, const char *path, Err *err)
{
    SafeTensors *s = *out = mem_calloc(1, sizeof *s, err);
    int rc = s && (s->shard = mem_calloc(1, sizeof *s->shard, err)) ? 0 : ERR_NOMEM;
    if (!rc) {
        s->n_shard = 1;
        rc = shard_map(&s->shard[0], path, err);
    }
    if (!rc && (rc = read_bytes(s, s->shard[0].map, s->shard[0].size, err)))
        err_wrap(err, rc, "'%s'", path);
    if (rc)
        safetensors_close(out);
    return rc;
}

int weights_file_open(SafeTensors **out, const char *path, Err *err)
{
    uint8_t first[sizeof stream_magic];
    FILE *file;
    *out = NULL;
    int rc = file_open(&file, path, err);
    if (rc)
        return rc;
    int64_t n = (int64_t)fread(first, 1, sizeof first, file);
    fclose(file);
    int torch = begins_with(first, n, zip_magic, sizeof zip_magic) || begins_with(first, n, stream_magic, n);
    return torch && n ? torch_file_open(out, path, err) : safetensors_open(out, path, err);
}
