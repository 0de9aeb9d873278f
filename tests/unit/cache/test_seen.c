/* Digests of files that have not changed, from one run to the next. */
#include "check.h"
#include <stdio.h>
#include <string.h>
#include "cache/seen.h"
#include "common/base/file.h"
#include "common/base/mem.h"

#define A "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define B "f123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

enum { FILES = 300, LATER = 10 }; /* LATER: seconds, so that a file just written counts as old */

static char *dir, path[FILES][512];

static void open_later(Seen *s)
{
    Err err = {0};
    CHECK_OK(seen_open(s, dir, &err), &err);
    s->start += LATER * (int64_t)1000000000;
}

static void expect(Seen *s, int i, const char *want)
{
    char hex[65] = "none";
    assert_int_equal(seen_get(s, path[i], hex), want ? 1 : 0);
    if (want)
        assert_string_equal(hex, want);
}

static void begin(const char *name)
{
    Err err = {0};
    Seen s;
    dir = check_tmp_path(name);
    CHECK_OK(dir_make(dir, &err), &err);
    for (int i = 0; i < FILES; i++) {
        char text[16];
        snprintf(path[i], sizeof path[i], "%.400s/f%d", dir, i);
        snprintf(text, sizeof text, "%d", i);
        CHECK_OK(file_write_atomic(path[i], text, (int64_t)strlen(text), &err), &err);
    }
    open_later(&s);
    for (int i = 0; i < FILES; i++)
        seen_put(&s, path[i], i % 2 ? A : B);
    seen_save(&s, dir);
    seen_close(&s);
}

static int64_t lines(void)
{
    Err err = {0};
    char *file = path_join(dir, ".seen", &err);
    int64_t size = file_size(file, &err);
    mem_free(file);
    assert_int_equal(size % 130, 0);
    return size / 130;
}

static void remembers(void **state)
{
    (void)state;
    Err err = {0};
    Seen s;
    begin("remembers");
    assert_int_equal(lines(), FILES);
    open_later(&s);
    CHECK_OK(file_write_atomic(path[7], "another", 7, &err), &err);
    for (int i = FILES - 1; i >= 0; i--)
        expect(&s, i, i == 7 ? NULL : i % 2 ? A : B);
    seen_save(&s, dir); /* without the one that has changed */
    seen_close(&s);
    assert_int_equal(lines(), FILES - 1);

    open_later(&s); /* a new digest takes the old one's place; what nobody asks for is forgotten */
    seen_put(&s, path[7], A);
    seen_put(&s, path[0], A);
    expect(&s, 1, A);
    expect(&s, 2, B);
    seen_save(&s, dir);
    seen_close(&s);
    assert_int_equal(lines(), 4);
    open_later(&s);
    expect(&s, 7, A);
    expect(&s, 0, A);
    expect(&s, 1, A);
    expect(&s, 2, B);
    expect(&s, 3, NULL);
    seen_close(&s);
}

/* What this run writes may be younger than what it has read. */
static void is_wary_of_new_files(void **state)
{
    (void)state;
    Err err = {0};
    Seen s;
    begin("new");
    CHECK_OK(seen_open(&s, dir, &err), &err);
    s.start -= 3600 * (int64_t)1000000000;
    expect(&s, 0, NULL);
    seen_close(&s);
}

static void damage(int64_t at, int64_t cut)
{
    Err err = {0};
    char *file = path_join(dir, ".seen", &err), *text;
    int64_t size;
    CHECK_OK(file_read(file, 1 << 20, &text, &size, &err), &err);
    text[at] = '!';
    CHECK_OK(file_write_atomic(file, text, size - cut, &err), &err);
    mem_free(text);
    mem_free(file);
}

static void reads_a_damaged_file_as_empty(void **state)
{
    (void)state;
    Err err = {0};
    Seen s;
    begin("damaged");
    damage(130 * 5 + 64, 0);
    open_later(&s);
    expect(&s, 0, NULL);
    seen_close(&s);
    begin("short");
    damage(0, 1);
    open_later(&s);
    expect(&s, 3, NULL);
    seen_close(&s);
    begin("gone");
    char *file = path_join(dir, ".seen", &err);
    CHECK_OK(dir_remove(file, &err), &err);
    mem_free(file);
    open_later(&s);
    expect(&s, 3, NULL);
    seen_close(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(remembers), cmocka_unit_test(is_wary_of_new_files),
                                       cmocka_unit_test(reads_a_damaged_file_as_empty)};
    return check_run_live("cache_seen", tests);
}
