/* Any JSON as each model's config.json: refused with a sentence, or its table of tensors and its
 * memory can be had, and for those that Weft writes, the config written from it reads back the
 * same. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "common/base/json.h"
#include "common/model/dit.h"
#include "common/model/text_encoder.h"
#include "common/model/vae.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(int holds)
{
    if (!holds)
        abort();
}

static void try_vae(const json_t *json, Backend *plan)
{
    Err err = {0};
    VaeConfig c, back;
    Vae *vae = NULL;
    int64_t bytes = 0;
    memset(&c, 0, sizeof c);
    memset(&back, 0, sizeof back);
    if (vae_config_parse(&c, json, "fuzz", &err) < 0) {
        expect(err.msg[0] != 0);
        return;
    }
    json_t *written = vae_config_json(&c, NULL);
    expect(written && vae_config_parse(&back, written, "written", &err) == 0 && memcmp(&c, &back, sizeof c) == 0);
    json_decref(written);
    VaeTiling t = vae_tiling_default(&c, 1);
    if (vae_new_filled(&vae, plan, &c, &err) == 0)
        expect(params_count(vae_params(vae)) > 0);
    vae_close(&vae);
    int rc = vae_plan_decode(&c, DT_F32, NULL, 3, 2, 2, &bytes, NULL); /* may fail: only crashes count */
    rc |= vae_plan_decode(&c, DT_F32, &t, 3, 9, 9, &bytes, NULL);
    (void)rc;
}

static void try_text(const json_t *json, Backend *plan)
{
    Err err = {0};
    T5Config t5_config, back;
    ClipConfig clip_config;
    Clip *clip = NULL;
    int64_t bytes = 0;
    memset(&t5_config, 0, sizeof t5_config);
    memset(&back, 0, sizeof back);
    if (t5_config_parse(&t5_config, json, "fuzz", &err) == 0) {
        json_t *written = t5_config_json(&t5_config, NULL);
        expect(written && t5_config_parse(&back, written, "written", &err) == 0 &&
               memcmp(&t5_config, &back, sizeof back) == 0);
        json_decref(written);
        expect(t5_plan(&t5_config, DT_F32, 226, &bytes, NULL) <= 0);
    }
    TextConfig text, again;
    err_clear(&err);
    memset(&again, 0, sizeof again);
    if (text_config_parse(&text, json, "fuzz", &err) == 0) {
        json_t *written = text_config_json(&text, NULL);
        expect(written && text_config_parse(&again, written, "written", &err) == 0 && again.kind == text.kind &&
               text_config_width(&again) == text_config_width(&text));
        json_decref(written);
        expect(text_plan(&text, DT_F32, 4, &bytes, NULL) <= 0);
    } else {
        expect(err.msg[0] != 0);
    }
    err_clear(&err);
    if (clip_config_parse(&clip_config, json, "fuzz", &err) == 0 &&
        clip_new_filled(&clip, plan, &clip_config, &err) == 0)
        expect(params_count(clip_params(clip)) > 0);
    clip_close(&clip);
}

static void try_dit(const json_t *json, Backend *plan)
{
    Err err = {0};
    DitConfig c;
    Dit *dit = NULL;
    if (dit_config_parse(&c, json, "fuzz", &err) == 0 && dit_new_filled(&dit, plan, &c, 0, &err) == 0)
        expect(params_count(dit_params(dit)) > 0);
    dit_close(&dit);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *json = NULL;
    Backend *plan = NULL;
    if (json_parse(&json, (const char *)data, (int64_t)size, "fuzz", NULL) < 0)
        return 0;
    expect(backend_open(&plan, "plan", 1, NULL, NULL) == 0);
    try_vae(json, plan);
    try_text(json, plan);
    try_dit(json, plan);
    backend_close(&plan);
    json_decref(json);
    return 0;
}
