#!/bin/sh
# kill -9 of weft-train at seeded moments: all weights, LoRA, 8-bit moments, averaged weights, two
# ranks.  Each run is killed once and run again; every file must be that of an undisturbed run.
# WEFT_KILLS (2) moments of each, SEED (1); `make train-kills` tries 50.
. tests/cli/lib.sh
. tests/cli/train_lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
rounds=${WEFT_KILLS:-2}
seed=${SEED:-1}
if ! can_trace; then
    skip "kill -9 at any moment" "$no_trace"
    finish
fi
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
# Twelve steps, a checkpoint every two of which the last three stay, the held-out loss every four.
SETS="--cache $T/a --cache $T/b --model $P --preset demo --jobs 1 --quiet --set training.max_steps=12 \
    --set training.checkpointing_steps=2 --set training.checkpoints_total_limit=3 --set validation.every=4"

# At even rounds the run dies before the call, at odd ones up to five milliseconds later: in a call, too.
action() { # ROUND PROCESS
    if [ $(($1 % 2)) = 0 ]; then echo "kill -9 $2"
    else echo "{ (sleep 0.00$(seeded "$seed$1" 5); kill -9 $2) >/dev/null 2>&1 & }"; fi
}
same_runs() { # A B: whether all files are the same, times aside
    sums "$1" >"$T/sums-a" && sums "$2" >"$T/sums-b" && cmp "$T/sums-a" "$T/sums-b" || return
    for log in log.jsonl held_out.jsonl; do
        untimed "$1/$log" >"$T/log-a"
        untimed "$2/$log" >"$T/log-b"
        cmp "$T/log-a" "$T/log-b" || return
    done
}
again() { # RANKS COMMAND...
    again_ranks=$1
    shift
    if [ "$again_ranks" = 1 ]; then "$@"; else mpi -n "$again_ranks" "$@"; fi >"$T/stdout" 2>"$T/stderr" </dev/null
}
survives() { # NAME RANKS OPTION...
    name=$1
    ranks=$2
    shift 2
    set -- "$W" run $SETS "$@" --out
    killed=0
    unlike=0
    counts "$name: one process, undisturbed" 0 "$@" "$T/whole"
    if [ "$ranks" -gt 1 ]; then
        rm -r "$T/whole"
        check "$name: undisturbed" again "$ranks" "$@" "$T/whole"
    fi
    for round in $(seq "$rounds"); do
        rm -rf "$T/cut"
        at=$(seeded "$seed$round" "$calls")
        if [ "$ranks" = 1 ]; then
            at_call "$at" "$(action "$round" '$PID')" "$@" "$T/cut"
        else
            victim=$([ $((round / 2 % 2)) = 0 ] && echo '$ZERO' || echo '$ONE')
            two_ranks_at "$at" "$(action "$round" "$victim")" "$@" "$T/cut"
        fi
        [ "$status" = 137 ] && killed=$((killed + 1))
        if ! again "$ranks" "$@" "$T/cut"; then
            unlike=$((unlike + 1))
            fail "$name, killed at call $at of $calls (round $round) and run again" "$(tail -3 "$T/stderr")"
        elif ! same_runs "$T/whole" "$T/cut" >"$T/diff.txt" 2>&1; then
            unlike=$((unlike + 1))
            fail "$name, killed at call $at of $calls (round $round): the same files" "$(cat "$T/diff.txt")" \
                "$(diff "$T/sums-a" "$T/sums-b" | head -4)"
        fi
    done
    if [ $unlike = 0 ]; then pass "$name: $killed of $rounds runs were killed on the way, all ended alike"; fi
    check "$name: most were killed" test $killed -ge $((rounds / 2))
    rm -r "$T/whole"
}

survives "all weights" 1
survives "LoRA" 1 --set training.lora_rank=4
survives "8-bit moments" 1 --set training.use_8bit_adam=true
survives "averaged weights" 1 --set training.ema=true --set training.ema_decay=0.9 --set training.ema_start=3
if have_mpi; then survives "two ranks" 2
else skip "two ranks" "no mpirun, or no libweft-mpi.so (libopenmpi-dev)"; fi
finish
