#!/bin/sh
# weft-train when something goes wrong during a run: numbers that are not finite, losses that grow,
# a full disk, two signals.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
SETS="--preset demo --model $P --quiet --jobs 1 --set training.batch_size=1 --set training.num_epochs=100 \
    --set training.checkpointing_steps=5"
train() { # OUT CACHE OPTION...
    train_out=$1
    train_cache=$2
    shift 2
    "$W" run --cache "$T/$train_cache" --out "$T/$train_out" $SETS "$@"
}
untimed() { sed 's/,"time":.*//' "$1"; }

# ---- a latent that is not a number: alone, and one clip of three
runs "all clips are bad" 1 train bad nan
stderr_has "3 steps in a row were not finite (training.max_nonfinite): at step 3 the loss is nan and"
stderr_has "first not finite: the latents; samples 'clip-0' (timestep "
check "all clips are bad: each skipped step is in the log" test "$(grep -c '"skipped":[123],' "$T/bad/log.jsonl")" = 3
check "all clips are bad: without a loss" sh -c "! grep -q '\"loss\":' $T/bad/log.jsonl"
check "all clips are bad: the page says why" grep -q "Failed at step 3:</b>.*first not finite: the latents; samples" \
    "$T/bad/report.html"
check "all clips are bad: no checkpoint" sh -c "! ls -d $T/bad/checkpoint-* $T/bad/final"
runs "stop at the first one" 1 train first nan --set training.max_nonfinite=1
stderr_has "1 step in a row was not finite"

MIXED="$W run --cache $T/nan --cache $T/b --out $T/mixed $SETS --set training.max_steps=30"
counts "one clip of three is bad" 0 $MIXED
stderr_has "was skipped: its loss is"
check "one clip of three is bad: ten steps of thirty are skipped" grep -q '"step":30,.*"skipped":10,' \
    "$T/mixed/log.jsonl"
check "one clip of three is bad: weights are finite" "$W" run --cache "$T/b" --out "$T/after" $SETS \
    --set training.max_steps=1 \
    --set training.pretrained_weights="$T/mixed/final"
mv "$T/mixed" "$T/whole"
killed_often 3 $((calls / 2)) $MIXED
runs "one clip of three is bad: killed, then run again" 0 $MIXED
same "one clip of three is bad: killed: final" "$T/whole/final" "$T/mixed/final"
same "one clip of three is bad: killed: last checkpoint" "$T/whole/checkpoint-30" "$T/mixed/checkpoint-30"
untimed "$T/whole/log.jsonl" >"$T/log-a"
untimed "$T/mixed/log.jsonl" >"$T/log-b"
same "one clip of three is bad: killed: log" "$T/log-a" "$T/log-b"

# ---- a loss that grows (here: one that does not fall to a tenth at once)
runs "the loss grows" 1 train grown a --set training.max_loss_ratio=0.1
stderr_has "error: the loss, smoothed, is"
stderr_has " at step 11: more than 0.1 times the "
stderr_has "(training.max_loss_ratio); samples 'clip-"
check "the loss grows: the last checkpoint is whole" test \
    "$(cd "$T/grown" && ls -d checkpoint-* final 2>/dev/null | tr '\n' ' ')" = "checkpoint-10 checkpoint-5 "
check "the loss grows: the page says why" grep -q "Failed at step 11:</b> *<bdi[^>]*>the loss, smoothed.*(training.max_loss_ratio)" "$T/grown/report.html"
rm "$T/grown/report.html"
runs "the loss grows: the page once more" 0 "$W" report "$T/grown"
check "the loss grows: the page still says why" grep -q "Failed at step 11:</b>" "$T/grown/report.html"
runs "the loss grows: goes on with another limit" 0 train grown a --set training.max_steps=15 \
    --set training.max_loss_ratio=0
check "the loss grows: gone on: the page says it no more" sh -c "! grep -q 'Failed at' $T/grown/report.html"

# ---- a rate that breaks the model in its first steps, before there is a mean to compare with
runs "the loss explodes at once" 1 train exploded a --set training.learning_rate=1 --set training.warmup_steps=0
stderr_has " of its start (training.max_loss_ratio, a hundred times that in the first ten steps)"
check "the loss explodes at once: and stops at once" test "$(wc -l <"$T/exploded/log.jsonl")" -le 3
runs "the loss explodes at once: without a limit" 0 train unlimited a --set training.learning_rate=1 \
    --set training.warmup_steps=0 --set training.max_steps=12 --set training.max_loss_ratio=0

# ---- SIGTERM twice within three seconds, as Slurm sends it: the step is finished and saved all the same
twice="[ -s $T/twice/log.jsonl ] && kill -TERM \$PID && { [ -e $T/once ] || ! : >$T/once; }" # at two calls in a row
at_call when "$twice" "$W" run --cache "$T/a" --out "$T/twice" $SETS --set training.max_steps=100000 \
    --set training.num_epochs=100000
lib_name="SIGTERM twice"
if [ $status = 125 ]; then skip "SIGTERM twice" "$no_trace"; else
    check "SIGTERM twice: exit status" test $status = 0
    stderr_has "is saved, and the same command goes on from there"
    last=$(tail -1 "$T/twice/log.jsonl" | sed 's/{"step":\([0-9]*\),.*/\1/')
    check "SIGTERM twice: the last step is saved" test -f "$T/twice/checkpoint-$last/weft_state/state.json"
fi

# ---- SIGINT twice: the second ends the program at once; and a step that cannot be saved
FOREVER="--set training.max_steps=100000 --set training.num_epochs=100000 --set training.checkpointing_steps=100000"
again="if grep -q stopping $T/stderr; then kill -INT \$PID
    else [ -e $T/asked ] || { [ -s $T/interrupted/log.jsonl ] && : >$T/asked && kill -INT \$PID; }; false; fi"
at_call when "$again" "$W" run --cache "$T/a" --out "$T/interrupted" $SETS $FOREVER
if [ $status = 125 ]; then skip "SIGINT twice" "$no_trace"; else
    check "SIGINT twice: exit status" test $status = 130
fi
lib_name="asked to stop, and no room"
if command -v prlimit >/dev/null; then # a file may not grow beyond 200 KiB; the moments take 285 kB
    at_call when "[ -s $T/no-room/log.jsonl ] && prlimit --pid \$PID --fsize=204800 && kill -TERM \$PID" \
        "$W" run --cache "$T/a" --out "$T/no-room" $SETS $FOREVER
else
    status=125
fi
if [ $status = 125 ]; then skip "$lib_name" "$no_trace, or there is no prlimit"; else
    check "$lib_name: exit status" test $status = 143
    stderr_has "error: stopped by SIGTERM after step "
    stderr_has ", which could not be saved: saving checkpoint-"
    check "$lib_name: nothing unfinished is left" test -z "$(cd "$T/no-room" && ls -d *checkpoint* .??*checkpoint* 2>/dev/null)"
fi
finish
