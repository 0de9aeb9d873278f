/* make_networks clip FOLDER | inception FILE | i3d FILE: the weights of a network of evaluate, made of their names
 * (tests/golden/named_weights.h), as safetensors.  FOLDER holds a config.json already. */
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
        snprintf(file, sizeof file, "%s/model.safetensors", path);
        rc = write_weights(clip_params(clip), file, err);
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
        fprintf(stderr, "usage: make_networks clip|inception|i3d PATH\n");
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
