/* Writes the caches of tests/train_fixture.h for shell tests:  train_fixture PIPELINE OUT */
#include "tests/train_fixture.h"

int main(int argc, char **argv)
{
    Err err = {0};

    if (argc != 3) {
        fprintf(stderr, "usage: %s PIPELINE OUT\n", argv[0]);
        return 2;
    }
    if (fixture_make(argv[1], argv[2], &err) == 0)
        return 0;
    fprintf(stderr, "%s: %s\n", argv[0], err.msg);
    return 1;
}
