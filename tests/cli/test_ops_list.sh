#!/bin/sh
# Every entry of the table of operations has a case in tests/ops that runs on ref, cpu, sim and cuda and is held to a naive bf16 version
# (tests/ops/naive.c): an operation that is added cannot be forgotten.
. tests/cli/lib.sh
for source in $(grep -l "cmocka_unit_test(ops_summary)" tests/ops/test_*.c); do
    check "${source%.c} lists its operations" env WEFT_OPS_LIST=1 sh -c '"$1" >>"$2"' run "$B/${source%.c}" "$T/list"
done
entries=$(sed -n 's/^    int (\*\([a-z0-9_]*\))(Backend \*.*/\1/p' common/ops/ops_table.h)
check "the table was read" test "$(echo "$entries" | wc -l)" = "$(grep -c '(\*[a-z0-9_]*)(Backend' common/ops/ops_table.h)"
for op in $entries; do
    check "op_$op has a case" grep -qx "op $op" "$T/list"
done
# Nothing is allocated in a step: tests/golden/test_device.c counts what goes through this one file.
check "device memory is asked for in one file" test "$(grep -l "cudaMalloc" common/ops/cuda/*.cu)" = common/ops/cuda/device.cu
finish
