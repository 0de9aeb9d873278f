#!/bin/sh
# run.sh BUILD TEST...   runs every test (programs and .sh files), three at a time, and sums up.
# Each prints TAP ("ok", "not ok", "# SKIP"); one that dies without a failing line counts as one failure.
# The very last line is "N passed, N failed, N skipped".
B=$1; shift
export WEFT_BUILD="$B" CMOCKA_MESSAGE_OUTPUT=TAP OMP_WAIT_POLICY=passive # programs share the cores
# What the programs choose for OpenBLAS themselves, so that none of a thousand has to start twice for it.
core=$("$B/weft-train" --version 2>/dev/null | sed -n 's/^ *blas .*(\(SkylakeX\))$/\1/p')
[ -z "$core" ] || export OPENBLAS_CORETYPE="$core"
export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=1:abort_on_error=1:allocator_may_return_null=1}"
export LSAN_OPTIONS="${LSAN_OPTIONS:-suppressions=$PWD/tests/leaks.supp:print_suppressions=0}"
export TSAN_OPTIONS="${TSAN_OPTIONS:-allocator_may_return_null=1}"
export UBSAN_OPTIONS="${UBSAN_OPTIONS:-print_stacktrace=1}"
out="$B/test-output"; rm -rf "$out"; mkdir -p "$out"
one='
t=$1; out=$2
name=$(echo "$t" | sed "s#^build/[^/]*/##; s#/#_#g")
start=$(date +%s)
case "$t" in *.sh) sh "$t" >"$out/$name.tap" 2>"$out/$name.err" ;; *) "$t" >"$out/$name.tap" 2>"$out/$name.err" ;; esac
rc=$?
bad=$(grep -c "^not ok" "$out/$name.tap" | head -1); skip=$(grep -c "^not ok.*# SKIP" "$out/$name.tap" | head -1)
ok=$(grep "^ok" "$out/$name.tap" | grep -vc "# SKIP"); skip2=$(grep "^ok" "$out/$name.tap" | grep -c "# SKIP")
fail=$((bad - skip))
[ $rc -ne 0 ] && [ $fail -eq 0 ] && fail=1
[ $((ok + fail + skip + skip2)) -eq 0 ] && fail=1
echo "$ok $fail $((skip + skip2)) $t" >"$out/$name.sum"
secs=$(( $(date +%s) - start ))
if [ $fail -ne 0 ]; then
    echo "FAIL  $t (exit $rc, ${secs}s)"; grep -A3 "^not ok" "$out/$name.tap" | grep -v "# SKIP" | head -40; tail -25 "$out/$name.err"
else
    echo "pass  $t: $ok passed, $((skip + skip2)) skipped (${secs}s)"
fi
'
printf '%s\n' "$@" | xargs -P "${TEST_JOBS:-3}" -I{} sh -c "$one" run {} "$out"
grep -h "# SKIP" "$out"/*.tap 2>/dev/null | sed 's/^.*# SKIP/skipped:/' | sort | uniq -c | sort -rn | head -40
ran=$(ls "$out" | grep -c '\.sum$')
[ "$ran" = $# ] || echo "FAIL  only $ran of $# test programs ran to their end"
cat "$out"/*.sum | awk -v missing=$(($# - ran)) '{p+=$1; f+=$2; s+=$3}
    END {f+=missing; printf "%d passed, %d failed, %d skipped\n", p, f, s; exit (f > 0 || p == 0)}'
