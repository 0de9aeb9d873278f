#!/bin/sh
# Every entry of the table of operations has a case in tests/ops that runs on ref, cpu, sim and cuda
# and is held to a naive bf16 version (tests/ops/naive.c): an operation that is added cannot be
# forgotten.
. tests/cli/lib.sh
for source in $(grep -l "cmocka_unit_test(ops_summary)" tests/ops/test_*.c); do
    check "${source%.c} lists its operations" env WEFT_OPS_LIST=1 sh -c '"$1" >>"$2"' run "$B/${source%.c}" "$T/list"
done
entries=$(sed -n 's/^    int (\*\([a-z0-9_]*\))(Backend \*.*/\1/p' common/ops/ops_table.h)
check "the table was read" test "$(echo "$entries" | wc -l)" = \
    "$(grep -c '(\*[a-z0-9_]*)(Backend' common/ops/ops_table.h)"
for op in $entries; do
    check "op_$op has a case" grep -qx "op $op" "$T/list"
done
# The simulator's own test, which the thread sanitizer runs too, launches every kernel, and all but
# those made for one block with several.
cat common/ops/cuda/*.cu | tr '\n' ' ' >"$T/sources" # one line: declarations and launches may be broken over several
kernels=$(sed 's/__launch_bounds__([^)]*)//g' "$T/sources" | grep -oE '__global__ +void +[a-z0-9_]+' | sed 's/.* //')
nm -C "$B/tests/ops/test_sim" | sed 's/^0*//' >"$T/symbols"
base=$(sed -n 's/ . sim_list_launched$//p' "$T/symbols")
check "the simulator's test lists what it launches" env WEFT_OPS_LIST=1 sh -c '"$1" >"$2"' run "$B/tests/ops/test_sim" \
    "$T/launched"
grep -v '^#' "$T/launched" >"$T/pairs" # without the test runner's remarks
while read -r offset blocks; do
    at=$(printf '%x' $((offset + 0x$base)))
    sed -n "s/^$at [a-zA-Z] /$blocks /p" "$T/symbols"
done <"$T/pairs" >"$T/kernels"
check "the kernels were read" test "$(echo "$kernels" | wc -l)" = "$(cat common/ops/cuda/*.cu | grep -c __global__)"
for kernel in $kernels; do
    if grep -qE "LAUNCH\(\($kernel[<)][^;]*, +dim3\(1\)," "$T/sources"; then least=1; else least=2; fi
    check "$kernel runs, with $least blocks or more" awk -v k="$kernel" -v n=$least \
        '$0 ~ "(^| |:)" k "[<(]" && $1 >= n {found = 1} END {exit !found}' "$T/kernels"
done
# Nothing is allocated in a step: tests/golden/test_device.c counts what goes through this one file.
check "device memory is asked for in one file" test "$(grep -l "cudaMalloc" common/ops/cuda/*.cu)" = \
    common/ops/cuda/device.cu
finish
