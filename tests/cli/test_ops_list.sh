#!/bin/sh
# Every entry of the table of operations has a case in tests/ops that runs on ref, cpu, sim and cuda and is held to a naive bf16 version
# (tests/ops/naive.c): an operation that is added cannot be forgotten.
. tests/cli/lib.sh
for test in "$B"/tests/ops/test_*; do
    case $test in *.o | *.d) continue ;; esac
    WEFT_OPS_LIST=1 "$test" >>"$T/list" 2>>"$T/errors" || { check "$test lists its operations" false; cat "$T/errors" >&2; }
done
entries=$(sed -n 's/^    int (\*\([a-z0-9_]*\))(Backend \*.*/\1/p' common/ops/ops_table.h)
check "the table was read" test "$(echo "$entries" | wc -l)" = "$(grep -c '(\*[a-z0-9_]*)(Backend' common/ops/ops_table.h)"
for op in $entries; do
    check "op_$op has a case" grep -qx "op $op" "$T/list"
done
finish
