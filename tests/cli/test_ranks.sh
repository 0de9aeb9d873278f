# weft-train in several processes (mpirun): the same data, losses and, where asked for, bits as in
# one; checkpoints that any number of ranks continues; a rank that dies, differs, fails or is asked
# to stop.
. tests/cli/lib.sh
. tests/cli/train_lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
if ! have_mpi; then
    skip "several ranks" "no mpirun, or no libweft-mpi.so (libopenmpi-dev)"
    finish
fi
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
SETS="--cache $T/a --cache $T/b --model $P --preset demo --jobs 1 --set training.batch_size=2 \
    --set training.gradient_accumulation_steps=2
    --set training.max_steps=8 --set training.num_epochs=9 --set training.checkpointing_steps=3 --set validation.every=4"
TREE="--set training.deterministic_reduction=true"
train() { # RANKS OUT OPTION...; 0 ranks: no mpirun
    train_n=$1
    train_out=$2
    shift 2
    if [ "$train_n" = 0 ]; then
        "$W" run $SETS --out "$T/$train_out" "$@"
    else
        mpi -n "$train_n" "$W" run $SETS --out "$T/$train_out" "$@"
    fi
}
quiet() { train "$@" --quiet; }
curve() { sed 's/"held_out[a-z_]*":[^,]*,//g; s/"time":.*//' "$T/$1/log.jsonl"; }
held() { sed 's/"time":.*//' "$T/$1/held_out.jsonl"; }
# The two runs' losses and gradient norms agree to 1e-5.
near() { # NAME A B
    if paste -d' ' "$T/$2/log.jsonl" "$T/$3/log.jsonl" | tr '{},:' '    ' | tr -d '"' |
        awk -v want="$(wc -l <"$T/$2/log.jsonl")" '
        function value(name, which,    i, k) { for (i = 1; i <= NF; i++) if ($i == name && ++k == which) return $(i + 1) }
        function apart(name,    a, b) { a = value(name, 1); b = value(name, 2); return b == "" || (a > b ? a - b : b - a) > 1e-5 * a }
        { n++; bad = bad || apart("loss") || apart("grad_norm") }
        END { exit bad || n != want || n < 1 }'; then pass "$1"; else fail "$1" "$(curve "$2" | tail -1)" "$(curve "$3" | tail -1)"; fi
}

# ---- the same run with any number of ranks
runs "one process" 0 train 0 one
for n in 1 2 4; do
    runs "$n ranks" 0 train $n plain-$n
    check "$n ranks: rank 0 alone reports" test "$(grep -c final "$T/stdout")" = 1
    near "$n ranks: losses and norms" one plain-$n
    check "$n ranks: the same steps are logged" test "$(wc -l <"$T/plain-$n/log.jsonl")" = 8
    check "$n ranks: the same folders" test "$(ls "$T/plain-$n")" = "$(ls "$T/one")"
done
same "mpirun -n 1 is one process" "$T/one/final" "$T/plain-1/final"
runs "samples one after another" 0 quiet 0 tree $TREE
near "samples one after another: losses and norms" one tree
sums "$T/tree" >"$T/tree-sums"
for n in 2 3 4; do
    runs "$n ranks, fixed order" 0 quiet $n tree-$n $TREE
    sums "$T/tree-$n" >"$T/sums"
    same "$n ranks, fixed order: every file but those with times" "$T/tree-sums" "$T/sums"
    curve tree >"$T/curve-1"
    curve tree-$n >"$T/curve-n"
    same "$n ranks, fixed order: losses and norms" "$T/curve-1" "$T/curve-n"
    held tree >"$T/held-1"
    held tree-$n >"$T/held-n"
    same "$n ranks, fixed order: held-out losses" "$T/held-1" "$T/held-n"
done
SMALL="--set training.use_8bit_adam=true --set training.ema=true --set training.ema_decay=0.9"
runs "8-bit moments and averaged weights" 0 quiet 0 small $TREE $SMALL
runs "8-bit moments and averaged weights, 3 ranks" 0 quiet 3 small-3 $TREE $SMALL
for part in final checkpoint-8/transformer checkpoint-8/transformer_ema \
    checkpoint-8/weft_state/optimizer.safetensors; do
    same "8-bit moments and averaged weights, 3 ranks: $part" "$T/small/$part" "$T/small-3/$part"
done
held small >"$T/held-1"
held small-3 >"$T/held-n"
same "averaged weights, 3 ranks: held-out losses" "$T/held-1" "$T/held-n"
check "averaged weights: a held-out loss of their own" grep -q '"step":8,.*"ema":{"loss":' "$T/held-n"
runs "averaged weights, 3 ranks, no clip held out" 0 quiet 3 unheld-3 $TREE $SMALL --set validation.clips=0
rm "$T"/*held-3/final/weft_state/state.json "$T/small-3/final/weft_state/state.json" # has the recipe's digest
same "averaged weights, 3 ranks: measuring changes no bit" "$T/unheld-3/final" "$T/small-3/final"
runs "more ranks than samples" 0 train 5 tree-5 $TREE
stderr_has "a step has 4 samples (batch_size x gradient_accumulation_steps), fewer than the 5 ranks: 1 of them only update weights"
sums "$T/tree-5" >"$T/sums"
same "more ranks than samples: every file" "$T/tree-sums" "$T/sums"
check "the log tells what the exchange took" grep -q '"exchange":[0-9.e-]*,"waited":' "$T/plain-2/log.jsonl"
check "one process has none" sh -c "! grep -q exchange '$T/one/log.jsonl'"

# ---- devices: sums go through the stand-in for NCCL, or by the tree through the host
SIM="--device sim --quiet --set training.mixed_precision=bf16 --set training.max_steps=1 --set training.warmup_steps=0 --set validation.every=null"
runs "one simulated device" 0 train 0 sim-1 $SIM
runs "two simulated devices" 0 train 2 sim-2 $SIM
near "two simulated devices: losses and norms" sim-1 sim-2
check "two simulated devices: nothing went through the host" sh -c "! grep -q 'host memory' '$T/stderr'"
runs "two simulated devices, fixed order" 0 train 2 sim-tree-2 $SIM $TREE
runs "three simulated devices, fixed order" 0 train 3 sim-tree-3 $SIM $TREE
same "simulated devices, fixed order: the same checkpoint" "$T/sim-tree-2/checkpoint-1" "$T/sim-tree-3/checkpoint-1"

# ---- cores: Open MPI binds one rank to one core
if [ "$(nproc)" -gt 1 ] && mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    runs "one rank, bound to one core" 0 mpi -n 1 "$W" run $(echo "$SETS" | sed 's/--jobs 1//') --out "$T/bound" \
        --device cpu
    stderr_has "it uses its share of the machine instead, $(nproc)"
    same "one rank, bound to one core: final" "$T/one/final" "$T/bound/final"
else
    skip "one rank, bound to one core" "one core, or not Open MPI"
fi

# ---- memory
plan() { "$W" plan --cache "$T/a" --cache "$T/b" --model $P --preset demo --set training.batch_size=2 \
    --set training.gradient_accumulation_steps=2 "$@"; }
runs "a plan for two ranks" 0 plan --ranks 2 $TREE
stdout_has "; rank 1 of 2"
stdout_has "partial sums"
runs "two ranks use what was planned" 0 train 2 memory
as_planned
runs "the tree uses what was planned" 0 train 2 memory-tree $TREE
as_planned

# ---- other optimisers, and adapters
for kind in "--set training.use_8bit_adam=true" "--set training.lora_rank=4"; do
    name=$(echo "$kind" | sed 's/.*training.//; s/=.*//')
    runs "$name" 0 quiet 0 "$name" $TREE $kind
    runs "$name on two ranks" 0 quiet 2 "$name-2" $TREE $kind
    same "$name on two ranks: final" "$T/$name/final" "$T/$name-2/final"
    same "$name on two ranks: checkpoint" "$T/$name/checkpoint-8" "$T/$name-2/checkpoint-8"
done

# ---- going on with another number of ranks
runs "three steps on two ranks" 0 quiet 2 moved $TREE --set training.max_steps=3
runs "then on four" 0 quiet 4 moved $TREE --set training.max_steps=6
runs "then in one process" 0 quiet 0 moved $TREE
curve moved >"$T/curve-n"
same "on 2, 4, 1 ranks: losses" "$T/curve-1" "$T/curve-n"
same "on 2, 4, 1 ranks: final" "$T/tree/final" "$T/moved/final"
same "on 2, 4, 1 ranks: moments" "$T/tree/checkpoint-8" "$T/moved/checkpoint-8"

# ---- a rank that dies
LONG="--quiet --set training.num_epochs=1000 --set training.max_steps=120 --set training.checkpointing_steps=20 \
    --set validation.every=null"
runs "undisturbed" 0 train 2 long $LONG
two_until() { # STEP ACTION OUT OPTION...: ACTION once the step is in the log
    two_log="$T/$3/log.jsonl"
    two_action="grep -q '\"step\":$1,' $two_log && $2"
    two_out=$3
    shift 3
    two_ranks_at when "$two_action" "$W" run $SETS --out "$T/$two_out" "$@"
}
if can_trace; then
    for at in 7:ZERO 33:ONE 64:ZERO 90:ONE 101:ZERO; do
        two_until ${at%:*} "kill -9 \$${at#*:}" killed $LONG
        check "killed at step ${at%:*}: the job ends" test "$status" = 137 -o "$status" = 9 # of MPICH's mpirun
        check "killed at step ${at%:*}: the rank is named, or its process" \
            grep -qi "rank [01]\|PID [0-9]* RUNNING AT" "$T/stderr"
    done
else
    skip "a rank that dies" "$no_trace"
fi
runs "killed, then to the end" 0 train 2 killed $LONG
same "killed: final" "$T/long/final" "$T/killed/final"
same "killed: checkpoint" "$T/long/checkpoint-120" "$T/killed/checkpoint-120"
curve long >"$T/curve-1"
curve killed >"$T/curve-n"
same "killed: losses" "$T/curve-1" "$T/curve-n"

# ---- a rank that is asked to stop
lib_name="one rank is asked to stop"
if can_trace; then
    two_until 5 'kill -TERM $ONE' stopped $LONG --set training.max_steps=100000 --set training.checkpointing_steps=100000
    check "one rank is asked to stop: all do" test "$status" = 0
    lib_name="one rank is asked to stop"
    stderr_has "stopped by SIGTERM at step "
    check "one rank is asked to stop: one checkpoint" test "$(cd "$T/stopped" && ls -d checkpoint-* | wc -l)" = 1
    check "one rank is asked to stop: said once" test "$(grep -c "stopped by" "$T/stderr")" = 1
    step=$(cd "$T/stopped" && ls -d checkpoint-* | sed 's/checkpoint-//')
    check "the log ends with that step" test "$(tail -1 "$T/stopped/log.jsonl" | sed 's/,.*//')" = "{\"step\":$step"
else
    skip "$lib_name" "$no_trace"
fi

# ---- a full disk (here: from step 4 on rank 0 may write no file beyond 200 KiB; the moments take 285 kB)
logged() { echo "grep -q '\"step\":$1,' $T/full/log.jsonl"; }
full() { # ACTION
    two_ranks_at when "$1" sh -c 'trap "" XFSZ; exec "$@"' sh "$W" run $SETS --quiet --out "$T/full"
}
no_room="$(logged 4) && prlimit --pid \$ZERO --fsize=204800:unlimited"
if can_trace && command -v prlimit >/dev/null; then
    full "if $(logged 7); then prlimit --pid \$ZERO --fsize=unlimited; else $no_room; false; fi"
    check "a full disk until step 7: exit status" test "$status" = 0
    check "a full disk until step 7: warned once" \
        test "$(grep -c "saving checkpoint-6.*training goes on without" "$T/stderr")" = 1
    check "a full disk until step 7: checkpoints" \
        test "$(cd "$T/full" && echo checkpoint-*)" = "checkpoint-3 checkpoint-8"
    for part in final checkpoint-3 checkpoint-8; do
        same "a full disk until step 7: $part" "$T/plain-2/$part" "$T/full/$part"
    done
    rm -r "$T/full"
    full "$no_room"
    check "a full disk to the end: exit status" test "$status" = 1
    lib_name="a full disk to the end"
    stderr_has "rank 0 on"
    stderr_has "saving checkpoint-8"
    check "a full disk to the end: said once" test "$(grep -c "error:.*saving checkpoint-8" "$T/stderr")" = 1
    same "a full disk to the end: the old checkpoint" "$T/plain-2/checkpoint-3" "$T/full/checkpoint-3"
    runs "room again" 0 quiet 2 full
    same "room again: final" "$T/plain-2/final" "$T/full/final"
else
    skip "a full disk" "$no_trace, or there is no prlimit"
fi

# ---- started by the launcher of another MPI than libweft-mpi.so was built for
if mpirun --version 2>/dev/null | grep -q 'Open MPI'; then
    runs "another MPI's launcher" 1 env PMI_RANK=0 PMI_SIZE=2 \
        ASAN_OPTIONS="${ASAN_OPTIONS:-}:detect_leaks=0" "$W" run $SETS --out "$T/x"
    stderr_has "the launcher started 2 processes, but Open MPI, which libweft-mpi.so was built for, counts 1: start them \
with its mpirun, or with 'srun --mpi=pmix'"
else
    skip "another MPI's launcher" "not Open MPI"
fi

# ---- a rank that differs or fails
differ() { mpi -n 1 "$W" run $SETS --out "$T/x" : -n 1 "$W" run $SETS --out "$T/x" "$@"; }
runs "another recipe" 2 differ --seed 99
stderr_has "rank 1 on"
stderr_has "differs from rank 0 on"
stderr_has "in the recipe ("
check "another recipe: said once" test "$(grep -c "differs from" "$T/stderr")" = 1
check "another recipe: no step was made" sh -c "! ls -d $T/x/checkpoint-* 2>/dev/null"
runs "a rank without a model" 1 mpi -n 1 "$W" run $SETS --out "$T/x" : -n 1 "$W" run \
    $(echo "$SETS" | sed "s,--model $P,--model $T/nowhere,") --out "$T/x"
stderr_has "rank 1 on"
stderr_has "$T/nowhere"
runs "a loss that is no number" 1 mpi -n 2 "$W" run --cache "$T/nan" --model $P --preset demo --jobs 1 --quiet \
    --set training.batch_size=1 --set training.max_nonfinite=2 --out "$T/nan-run"
stderr_has "samples 'clip-0'"
check "a loss that is no number: told once, and what was the first" \
    test "$(grep -c "in a row.*first not finite: [^u]" "$T/stderr")" = 1
runs "a wrong key is reported once" 2 train 2 x --set training.no_such_key=1
check "a wrong key is reported once: by rank 0" test "$(grep -c no_such_key "$T/stderr")" = 1
finish
