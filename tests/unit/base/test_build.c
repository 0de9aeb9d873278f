/* The facts about this build: named, stored and compared. */
#include "check.h"
#include <string.h>
#include "common/base/build.h"
#include "common/base/mem.h"

static const char *fact(const BuildIdentity *identity, const char *name)
{
    for (int i = 0; i < BUILD_FACTS; i++)
        if (strcmp(identity->fact[i].name, name) == 0)
            return identity->fact[i].value;
    fail_msg("no fact '%s'", name);
    return NULL;
}

static void facts_of_this_build(void **state)
{
    (void)state;
    BuildIdentity identity;
    build_identity(&identity);
    assert_string_equal(fact(&identity, "version"), WEFT_VERSION);
#if defined(__clang__)
    assert_memory_equal(fact(&identity, "compiler"), "clang ", 6);
#else
    assert_string_equal(fact(&identity, "compiler"), "gcc " __VERSION__);
#endif
    assert_non_null(strstr(fact(&identity, "flags"), "-ffp-contract=fast"));
    assert_null(strchr(fact(&identity, "flags"), '/')); /* a path would make two equal builds differ */
    assert_true(strlen(fact(&identity, "blas")) > 0);
    assert_true(strlen(fact(&identity, "processor")) > 0);
    assert_true(strlen(fact(&identity, "jansson")) > 0);
}

static void stored_and_compared(void **state)
{
    (void)state;
    Err err = {0};
    Str text = {0};
    BuildIdentity identity;
    json_t *stored = NULL;
    build_identity(&identity);
    assert_int_equal(build_identity_json(&identity, &stored, &err), 0);
    assert_string_equal(json_string_value(json_object_get(stored, "version")), WEFT_VERSION);
    assert_int_equal(build_identity_changes(&identity, stored, &text, &err), 0);
    assert_null(text.data);

    /* Another FFmpeg decodes other pixels, but training reads none. */
    json_object_set_new(stored, "ffmpeg", json_string("another"));
    assert_int_equal(build_identity_changes(&identity, stored, &text, &err), 0);

    json_object_set_new(stored, "compiler", json_string("gcc 1.0"));
    json_object_del(stored, "blas");
    assert_int_equal(build_identity_changes(&identity, stored, &text, &err), 2);
    assert_non_null(strstr(text.data, "compiler 'gcc 1.0' before, '"));
    assert_non_null(strstr(text.data, "; blas 'unknown' before, '"));
    str_fini(&text);

    assert_int_equal(build_identity_changes(&identity, NULL, &text, &err), 5);
    str_fini(&text);
    json_decref(stored);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(facts_of_this_build),
        cmocka_unit_test(stored_and_compared),
    };
    return check_run_live("base_build", tests);
}
