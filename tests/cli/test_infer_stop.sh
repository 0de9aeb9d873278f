#!/bin/sh
# weft-infer sample asked to stop: one line, soon, its own exit status; what was reached is kept,
# and the same command ends in the same files.
. tests/cli/lib.sh
INFER=$B/weft-infer
SMALL="--preset demo --device cpu --jobs 1 --model tests/golden/pipeline/model --set sampling.num_frames=9 \
    --set sampling.width=32 --set sampling.height=48"
STEPS="--seed 9 --set sampling.scheduler=dpm --set sampling.num_inference_steps=120"
sample() { # OUT [OPTION...]
    out=$1
    shift
    "$INFER" sample $SMALL $STEPS --out "$out" --latents-out "$out.st" --prompt one --prompt two "$@"
}
RUN="$INFER sample $SMALL $STEPS --prompt one --prompt two"
start=$(date +%s%N)
counts "undisturbed" 0 $RUN --out "$T/whole" --latents-out "$T/whole.st"
took=$((($(date +%s%N) - start) / 1000000))

# Sends SIGTERM that many milliseconds after it began its work: $status.
stopped_after() { # MILLISECONDS
    $RUN --out "$T/cut" --latents-out "$T/cut.st" >"$T/stdout" 2>"$T/stderr" &
    pid=$!
    while [ ! -e "$T/cut/.lock" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
    sleep "$(awk "BEGIN { print $1 / 1000 }")"
    kill -TERM $pid 2>/dev/null
    status=0
    wait $pid || status=$?
}
stops=0
silent=0
count_stop() { # SIGNAL: after a run that got it
    case $1$status in
    INT130 | TERM143)
        stops=$((stops + 1))
        [ "$(grep -c "stopping; what is done is kept" "$T/stderr")" = 1 ] || silent=1
        ;;
    INT0 | TERM0 | *125) ;;
    *) fail "SIG$1: exit $status" "$(tail -3 "$T/stderr")" ;;
    esac
}

# Between two steps nothing is written, so a moment among the first sample's is found by halves of a run's time.
kept=0
early=0
late=$took
for round in $(seq 20); do
    at=$(((early + late) / 2))
    rm -rf "$T/cut" "$T/cut.st"
    stopped_after $at
    count_stop TERM
    if [ $status = 0 ] || [ -f "$T/cut/one-9.json" ]; then
        late=$at
    elif [ ! -f "$T/cut/one-9.partial.safetensors" ]; then
        early=$at
    else
        kept=1
        cp "$T/cut/one-9.partial.safetensors" "$T/partial"
        cp "$T/stderr" "$T/kept.txt"
        break
    fi
    if [ $((late - early)) -lt 3 ]; then # others left the machine to it, or took it away
        early=0
        late=$((2 * took))
    fi
done
for k in 1 2 3 4; do
    signal=$([ $((k % 2)) = 0 ] && echo INT || echo TERM)
    at_call "$(seeded $k $((calls / 2)))" "kill -$signal \$PID" $RUN --out "$T/cut" --latents-out "$T/cut.st"
    count_stop $signal
done
check "stopped on the way" test $stops -ge 1
check "each time one line said so" test $silent = 0
runs "the same command again" 0 sample "$T/cut"
same "stopped $stops times and gone on with: the same files" "$T/whole" "$T/cut"
same "stopped $stops times and gone on with: the same latents" "$T/whole.st" "$T/cut.st"

if [ $kept = 1 ]; then
    check "the last line says what is kept" grep -q \
        "'one-9' is kept after step .* of 120; the same command goes on from there" "$T/kept.txt"
    rm "$T/cut/one-9.json" "$T/cut.st"
    cp "$T/partial" "$T/cut/one-9.partial.safetensors"
    rm -rf "$T/fresh"
    mkdir "$T/fresh"
    cp "$T/partial" "$T/fresh/one-9.partial.safetensors"
    runs "other settings are refused" 2 sample "$T/fresh" --set sampling.guidance_scale=5
    stderr_has "unfinished sample"
    runs "it goes on" 0 sample "$T/cut"
    stderr_has "sample 'one-9' goes on from step"
    same "the same files" "$T/whole" "$T/cut"
    rm "$T/cut/one-9.json" "$T/cut.st"
    head -c 1000 "$T/partial" >"$T/cut/one-9.partial.safetensors"
    runs "a damaged partial file" 0 sample "$T/cut"
    stderr_has "is damaged; the sample is made from its first step"
    same "damaged or not: the same files" "$T/whole" "$T/cut"
else
    skip "stopped within a sample" "no run was stopped there"
fi

# Killed at several moments instead.
rm -rf "$T/cut" "$T/cut.st"
killed_often 3 $((calls / 2)) $RUN --out "$T/cut" --latents-out "$T/cut.st"
runs "killed and run again" 0 sample "$T/cut"
same "killed: the same files" "$T/whole" "$T/cut"
same "killed: the same latents" "$T/whole.st" "$T/cut.st"

# The latents file: what it holds of other samples is never lost, samples may be added to it.
runs "one of two" 0 "$INFER" sample $SMALL $STEPS --out "$T/few" --latents-out "$T/one.st" --prompt one
runs "latents of other samples" 2 "$INFER" sample $SMALL $STEPS --out "$T/other" --latents-out "$T/one.st" \
    --prompt three
stderr_has "holds latents ('one-9') that are not of this run's samples"
runs "the second one is added" 0 "$INFER" sample $SMALL $STEPS --out "$T/few" --latents-out "$T/one.st" --prompt one \
    --prompt two
stderr_has "1 sampled, 1 reused"
same "added one by one: the same latents" "$T/whole.st" "$T/one.st"
finish
