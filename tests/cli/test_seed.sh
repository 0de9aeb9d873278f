#!/bin/sh
# Seeds go up to 2^53 in all four programs, given either way: beyond, a double could not tell two of them apart.
. tests/cli/lib.sh
M="--model tests/golden/pipeline/model"
check "caches for the test" "$B/tests/tools/train_fixture" tests/golden/pipeline/model "$T"
refused() { # COMMAND...: with a seed too large
    runs "$1: --seed" 2 "$B/$@" --out "$T/x" --seed 9007199254740993
    stderr_has "9007199254740993 is not within"
    runs "$1: --set seed" 2 "$B/$@" --out "$T/x" --set seed=9007199254740993
    stderr_has "at most 9007199254740992, found 9007199254740993"
}
refused weft-prep ingest "$T"
refused weft-cache build "$T" $M
refused weft-train run --cache "$T/a" $M
refused weft-infer sample --prompt x $M
runs "the largest" 0 "$B/weft-train" plan --preset demo --cache "$T/a" $M --seed 9007199254740992
finish
