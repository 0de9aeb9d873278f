#!/bin/sh
# What every program does alike: lost output, help, manual pages, completion, keys, machine-readable logs.
. tests/cli/lib.sh
M=tests/golden/pipeline/model
small="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 \
    --set clip.height=64 --set clip.min_side=16 --set clip.model_frames=9 --set clip.num_frames=8 \
    --set model.text_length=32"
check "caches" "$B/tests/tools/train_fixture" $M "$T"
check "encoders" "$B/tests/tools/make_encoders" "$T/model"
mkdir "$T/src"
check "a clip" "$B/tests/tools/make_clip" "$T/src/c1.mp4" 32 64 30 40 1
echo "A dress." >"$T/src/c1.txt"
check "a prepared dataset" "$B/weft-prep" ingest "$T/src" --out "$T/prep" $small

# ---- output that does not reach its reader: exit 1 and a sentence, from every command ----
full() { # NAME COMMAND...: with its output on a full device
    full_name=$1
    shift
    full_status=0
    "$@" >/dev/full 2>"$T/stderr" </dev/null || full_status=$?
    if [ "$full_status" = 1 ] && grep -q "error: writing " "$T/stderr"; then pass "$full_name to a full disk"
    else fail "$full_name to a full disk" "exit $full_status" "$(tail -2 "$T/stderr")"; fi
}
for program in prep cache train infer; do
    W=$B/weft-$program
    for option in --help --version --help-man --help-completion "--selftest --device ref" "keys" "keys seed"; do
        full "weft-$program $option" "$W" $option
    done
    for command in $("$W" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do full "weft-$program $command --help" "$W" \
        $command --help; done
done
check "a longer clip" "$B/tests/tools/make_clip" "$T/long.mp4" 32 64 30 190 1
longer="--preset demo --set clip.width=32 --set clip.height=64 --set clip.min_side=16"
full "probe (more than one buffer, in one write)" "$B/weft-prep" probe --json "$T/long.mp4" $longer
full "probe of many" "$B/weft-prep" probe --json "$T/long.mp4" "$T/src/c1.mp4" "$T/long.mp4" $longer
full "ingest" "$B/weft-prep" ingest "$T/src" --out "$T/prep2" $small
full "ingest --dry-run" "$B/weft-prep" ingest "$T/src" --out "$T/prep3" $small --dry-run
full "tokenize" "$B/weft-prep" tokenize "$T/prep" --tokenizer "$T/model/tokenizer" $small
full "report" "$B/weft-prep" report "$T/prep"
full "build --dry-run" "$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" $small --dry-run
full "build" "$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" $small
full "ls" "$B/weft-cache" ls "$T/a"
full "show" "$B/weft-cache" show "$T/a"
full "verify" "$B/weft-cache" verify "$T/a"
full "plan" "$B/weft-train" plan --preset demo --cache "$T/a" --model $M
full "run --dry-run" "$B/weft-train" run --preset demo --cache "$T/a" --model $M --out "$T/run" --dry-run
full "sample --dry-run" "$B/weft-infer" sample --preset demo --model $M --prompt x --out "$T/samples" --dry-run
full "compare" "$B/weft-infer" compare "$T/src/c1.mp4" "$T/src/c1.mp4" --out "$T/measured"
full "evaluate" "$B/weft-infer" evaluate "$T/src/c1.mp4" --out "$T/measured"

# ---- OpenMP's threads do not spin for long at a barrier, unless the user wants it ----
spins() { env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_DISPLAY_ENV=verbose "$@" "$B/weft-train" --version 2>&1 |
    sed -n "s/.*GOMP_SPINCOUNT = '\(.*\)'.*/\1/p" | tail -n 1; } # a program started again says it twice
if [ -z "$(spins A=b)" ]; then
    skip "short spin" "this OpenMP library does not say"
elif sanitized; then
    skip "short spin" "sanitizers' builds do not start again"
else
    check "barriers spin shortly" [ "$(spins A=b)" = 2000 ]
    check "the user's spin count stays" [ "$(spins GOMP_SPINCOUNT=77)" = 77 ]
    check "the user's wait policy stays" [ "$(spins OMP_WAIT_POLICY=active)" != 2000 ]
    check "weft-prep, which has no use for it, starts once" [ "$(env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT \
        OMP_DISPLAY_ENV=verbose "$B/weft-prep" --version 2>&1 | grep -c GOMP_SPINCOUNT)" = 1 ]
fi

# ---- OpenBLAS's kernels use the processor's AVX-512, unless the user wants others ----
kernels() { env -u OPENBLAS_CORETYPE "$@" "$B/weft-train" --version | sed -n 's/^ *blas *OpenBLAS .*(\(.*\))$/\1/p'; }
slow="Prescott Core2 Nehalem Sandybridge Haswell Zen"
if sanitized || [ -z "$(kernels A=b)" ] || ! grep -q '^flags.* avx512vl' /proc/cpuinfo; then
    skip "kernels of AVX-512" "a sanitizer, no OpenBLAS, or a processor without AVX-512"
else
    check "OpenBLAS's kernels are no older than the processor" eval '! echo "$slow" | grep -qw "$(kernels A=b)"'
    check "the user's kernels stay" [ "$(kernels OPENBLAS_CORETYPE=Haswell)" = Haswell ]
fi

# ---- an address space smaller than BLAS's buffers: a sentence at the start, never a program that spins ----
limited() { # KILOBYTES COMMAND...
    limited_kb=$1
    shift
    (ulimit -v "$limited_kb" && export OPENBLAS_NUM_THREADS=2 && exec timeout -s KILL 20 "$@")
}
if sanitized; then
    skip "small address space" "sanitizers need more"
else
    # the least limit under which the libraries load and BLAS starts its threads, in steps of 20 MB
    least=200000
    while [ "$least" -lt 900000 ] && { limited "$least" "$B/weft-infer" --version >"$T/stdout" 2>"$T/stderr" || true;
        grep -q "error while loading\|pthread_create failed" "$T/stderr"; }; do
        least=$((least + 20000))
    done
    runs "just enough for the libraries" 1 limited "$least" "$B/weft-infer" --version
    stderr_has "MB that BLAS needs for "
    stderr_has ": raise the limit"
    # below, at and above what BLAS takes while it is loaded, before main: it may refuse or work, never wait for ever
    hung=
    for more in 0 60000 120000 180000 240000 300000 360000 420000; do
        limited $((least + more)) "$B/weft-infer" --version >"$T/stdout" 2>"$T/stderr"
        [ $? = 137 ] && hung="$hung $((least + more))"
    done
    check "no limit makes a program wait for ever" test -z "$hung"
    runs "enough for one thread, not for 64" 1 limited $((least + 1200000)) "$B/weft-infer" sample --preset demo \
        --device cpu --jobs 64 --model $M --prompt x --out "$T/limited"
    stderr_has "BLAS needs for 64 threads: raise the limit, or give fewer with --jobs"
    runs "enough for one thread" 0 limited $((least + 1200000)) "$B/weft-train" plan --preset demo --jobs 1 \
        --cache "$T/a" --model $M
fi

# ---- help, manual pages, completion ----
for program in prep cache train infer; do
    W=$B/weft-$program
    runs "weft-$program --help" 0 "$W" --help
    stdout_has "  keys         list the recipe's keys"
    stdout_has "  selftest     check"
    runs "weft-$program --version" 0 "$W" --version
    stdout_has "weft-$program 0."
    stdout_has "  compiler "
    runs "weft-$program --help-man" 0 "$W" --help-man
    cp "$T/stdout" "$T/weft-$program.1"
    for section in NAME SYNOPSIS DESCRIPTION COMMANDS "EXIT STATUS" FILES EXAMPLES "SEE ALSO"; do
        grep -qx ".SH $section" "$T/weft-$program.1" || fail "weft-$program.1 has the section $section"
    done
    # every option of every command stands in it
    for command in $("$W" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
        for option in $("$W" $command --help | sed -n 's/.* --\([a-z-]*\).*/\1/p' | grep -v '^help$' | sort -u); do
            grep -qF "$(printf %s "--$option" | sed 's/-/\\-/g')" "$T/weft-$program.1" ||
                fail "weft-$program.1: $command --$option"
        done
    done
    pass "weft-$program.1 is whole"
    if command -v groff >/dev/null; then
        groff -man -Tutf8 -ww -z "$T/weft-$program.1" >"$T/groff" 2>&1
        if [ -s "$T/groff" ]; then
            fail "weft-$program.1 without warnings" "$(head -3 "$T/groff")"
        else
            pass "weft-$program.1 without warnings"
        fi
    else
        skip "weft-$program.1 without warnings" "no groff here"
    fi
    # whatever a line of roff must not be
    if grep -qv '^\(\.\(TH\|SH\|SS\|TP\|br\)\|[^.'"'"']\)' "$T/weft-$program.1"; then
        fail "weft-$program.1: only known requests"
    else
        pass "weft-$program.1: only known requests"
    fi
done
if command -v bash >/dev/null; then
    cat >"$T/complete.sh" <<'BASH'
program=$1 function=_$(echo "$1" | tr - _)
source <("$program" --help-completion) || exit 1
shift
COMP_WORDS=("$program" "$@") COMP_CWORD=$#
$function
printf '%s\n' "${COMPREPLY[@]}" | LC_ALL=C sort
BASH
    completes() { # WANT PROGRAM WORD...: the last WORD is being typed
        complete_want=$1
        shift
        complete_got=$(PATH=$B:$PATH bash "$T/complete.sh" "$@" 2>&1 | tr '\n' ' ')
        if [ "$complete_got" = "$complete_want " ]; then
            pass "completion: $*"
        else
            fail "completion: $*" "$complete_got" "expected $complete_want"
        fi
    }
    completes "ingest" weft-prep in
    completes "--pad" weft-prep ingest SOURCE --pa
    completes "hold reject" weft-prep ingest --pad ""
    completes "captions fashion-t2v lists metadata pairs table trees ubc" weft-prep ingest --layout ""
    completes "demo fashion-2b" weft-cache build --preset ""
    completes "clip.width=" weft-prep ingest --set clip.wid
    completes "$T/src/c1.mp4 $T/src/c1.txt" weft-prep ingest "$T/src/c1"
    completes "$T/model" weft-infer sample --model "$T/mod"
    completes "report run" weft-train r
    completes "auto cpu cuda ref sim" weft-train run --device ""
else
    skip "completion" "no bash here"
fi
runs "keys" 0 "$B/weft-infer" keys
stdout_has "clip.width = 480   (integer, at least 16, at most 8192, a multiple of 16)"
runs "keys WORD" 0 "$B/weft-infer" keys adam_beta
check "keys WORD shows those alone" test "$(grep -c '^training.adam_beta' "$T/stdout")" = \
    "$(grep -c '^[a-z]' "$T/stdout")"
runs "keys of nothing" 1 "$B/weft-infer" keys xyzzy
stderr_has "no key of the recipe has 'xyzzy' in its name or description"

# ---- the log as JSON: every line of standard error is one object, errors and progress too ----
json_lines() { # NAME
    if grep -qv '^{.*"level":.*"message":.*}$' "$T/stderr"; then fail "$1: every line is JSON" \
        "$(grep -v '^{' "$T/stderr" | head -3)"
    else pass "$1: every line is JSON"; fi
}
rm -rf "$T/prep4" "$T/cache4"
runs "ingest --log-json" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep4" $small --log-json
json_lines "ingest"
grep -q '"message":"recipe: preset demo, changed in:"' "$T/stderr" && pass "ingest shows the recipe" ||
    fail "ingest shows the recipe"
runs "tokenize --log-json" 0 "$B/weft-prep" tokenize "$T/prep4" --tokenizer "$T/model/tokenizer" $small --log-json
json_lines "tokenize"
runs "build --log-json" 0 "$B/weft-cache" build "$T/prep4" --out "$T/cache4" --model "$T/model" $small --device cpu \
    --log-json
json_lines "build"
check "build: few lines" test "$(wc -l <"$T/stderr")" -le 24
runs "train --log-json" 0 "$B/weft-train" run --preset demo --cache "$T/a" --model $M --out "$T/run4" --device cpu \
    --set training.max_steps=2 --log-json
json_lines "train"
runs "sample --log-json" 0 "$B/weft-infer" sample --preset demo --device cpu --model $M --set sampling.num_frames=9 \
    --set sampling.width=32 --set sampling.height=48 --set sampling.num_inference_steps=2 --prompt x \
    --out "$T/samples4" --log-json
json_lines "sample"
runs "evaluate --log-json" 0 "$B/weft-infer" evaluate "$T/src/c1.mp4" --out "$T/measured" --log-json
json_lines "evaluate"
for case in "prep ingest $T/nothing --out $T/x" "prep merge $T/prep4 --out $T/x" "prep ingest --bad" "prep frob" \
    "cache build $T/nothing --out $T/x --model $M" \
    "train run --cache $T/nothing --out $T/x" "infer sample --model $T/nothing --prompt x --out $T/x" \
        "prep ingest $T/src --out $T/x --set clip.widht=3"; do
    status=0
    "$B/weft-"$case --log-json >"$T/stdout" 2>"$T/stderr" </dev/null || status=$?
    json_lines "weft-$case (exit $status)"
    grep -q '"level":"error"' "$T/stderr" || fail "weft-$case: an error"
done
runs "--print-recipe" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep4" $small --print-recipe
stderr_has "  training.learning_rate = "
runs "without it" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep4" $small
check "differences alone" test "$(grep -c ' = ' "$T/stderr")" -le 10
finish
