/* make_networks clip FOLDER | clip-bin FOLDER | inception FILE | i3d FILE: the weights of a network of evaluate, made
 * of their names (tests/golden/named_weights.h), as safetensors; clip-bin as pytorch_model.bin.  FOLDER holds a
 * config.json already. */
#include <stdio.h>

#include "common/base/file.h"
#include "common/model/clip.h"
#include "common/model/i3d.h"
#include "common/model/inception.h"
#include "tests/golden/named_weights.h"

static int write_weights(const ParamSet *ps, const char *path, Err *err)
{
    NamedFile f = named_file(ps);
    int rc = safetensors_write(path, f.source, f.n, NULL, err);
    named_file_free(&f);
    return rc;
}

static void text(FILE *f, const char *word)
{
    uint32_t n = (uint32_t)strlen(word);
    fputc('X', f);
    fwrite(&n, 4, 1, f);
    fputs(word, f);
}

static void number(FILE *f, int64_t value)
{
    int32_t n = (int32_t)value;
    fputc('J', f);
    fwrite(&n, 4, 1, f);
}

/* A tuple of the extents, or of the strides of a packed tensor. */
static void shape(FILE *f, const Tensor *t, int strides)
{
    fputc('(', f);
    for (int a = 0; a < t->rank; a++) {
        int64_t value = strides ? 1 : t->dim[a];
        for (int b = a + 1; b < t->rank && strides; b++)
            value *= t->dim[b];
        number(f, value);
    }
    fputc('t', f);
}

/* PyTorch's older stream (_use_new_zipfile_serialization=False); each tensor has a storage, called as it is. */
static int write_stream(const ParamSet *ps, const char *path, Err *err)
{
    static const char head[] = "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2}";
    NamedFile named = named_file(ps);
    FILE *f = fopen(path, "wb");
    if (!f)
        return err_set(err, ERR_IO, "cannot write '%s'", path);
    fwrite(head, 1, sizeof head - 1, f);
    text(f, "little_endian");
    fputs("\x88s.\x80\2}(", f);
    for (int64_t i = 0; i < named.n; i++) {
        const Tensor *t = &named.source[i].tensor;
        text(f, named.source[i].name);
        fputs("ctorch._utils\n_rebuild_tensor_v2\n((", f);
        text(f, "storage");
        fputs("ctorch\nFloatStorage\n", f);
        text(f, named.source[i].name);
        text(f, "cpu");
        number(f, tensor_count(t));
        fputs("NtQ", f);
        number(f, 0);
        shape(f, t, 0);
        shape(f, t, 1);
        fputs("\x89"
              "ccollections\nOrderedDict\n)RtR",
              f);
    }
    fputs("u.\x80\2](", f);
    for (int64_t i = 0; i < named.n; i++)
        text(f, named.source[i].name);
    fputs("e.", f);
    for (int64_t i = 0; i < named.n; i++) {
        int64_t n = tensor_count(&named.source[i].tensor);
        fwrite(&n, 8, 1, f);
        fwrite(named.source[i].tensor.data, 4, (size_t)n, f);
    }
    named_file_free(&named);
    return fclose(f) ? err_set(err, ERR_IO, "cannot write '%s'", path) : 0;
}

static int make(const char *what, const char *path, Backend *plan, Err *err)
{
    Inception *inception = NULL;
    I3d *i3d = NULL;
    Clip *clip = NULL;
    char file[4096];
    int rc;
    if (!strcmp(what, "inception")) {
        if (!(rc = inception_open(&inception, plan, NULL, err)))
            rc = write_weights(inception_params(inception), path, err);
    } else if (!strcmp(what, "i3d")) {
        if (!(rc = i3d_open(&i3d, plan, NULL, 0, err)))
            rc = write_weights(i3d_params(i3d), path, err);
    } else if (!(rc = clip_open(&clip, plan, path, err))) {
        int bin = !strcmp(what, "clip-bin");
        snprintf(file, sizeof file, "%s/%s", path, bin ? "pytorch_model.bin" : "model.safetensors");
        rc = (bin ? write_stream : write_weights)(clip_params(clip), file, err);
    }
    inception_close(&inception);
    i3d_close(&i3d);
    clip_close(&clip);
    return rc;
}

int main(int argc, char **argv)
{
    Backend *plan = NULL;
    Err err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: make_networks clip|clip-bin|inception|i3d PATH\n");
        return 2;
    }
    int rc = backend_open(&plan, "plan", 1, NULL, &err);
    if (!rc)
        rc = make(argv[1], argv[2], plan, &err);
    if (rc)
        fprintf(stderr, "make_networks: %s\n", err.msg);
    backend_close(&plan);
    return rc ? 1 : 0;
}
