#!/bin/sh
# weft-prep ingest killed at random moments, the parent and its workers, and asked to stop: nothing
# is lost, and the end is the bytes of an undisturbed run.
. tests/cli/lib.sh
prep="$B/weft-prep"
clip="$B/tests/tools/make_clip"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=reject --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16 --set clip.max_reject_ratio=1"
rounds=20
now() { date +%s%N; }
moment() { # SEED: a random part of an undisturbed run's time, in seconds
    awk -v s="$1" -v t="$whole" 'BEGIN {srand(s); printf "%.3f", rand() * t / 1e9}'
}
ingest() { # OUT [OPTION...]
    to=$1
    shift
    "$prep" ingest "$T/src" --out "$to" $fast "$@" >"$T/stdout" 2>"$T/stderr" </dev/null
}

mkdir "$T/src"
for i in 1 2 3 4 5 6 7 8; do
    "$clip" "$T/src/c$i.mp4" 48 80 30 190 "$i" || fail "make c$i"
    echo "Clip number $i, a dress." >"$T/src/c$i.txt"
done
cp "$T/src/c2.mp4" "$T/src/twin.mp4"
echo "A twin." >"$T/src/twin.txt"
echo "this is no video" >"$T/src/text.mp4"
echo "A text." >"$T/src/text.txt"
start=$(now)
ingest "$T/one" --jobs 2
whole=$(($(now) - start))
check "an undisturbed run" test -s "$T/one/dataset.json"

# ---- the parent ----
kills=0 lost=0
for k in $(seq $rounds); do
    rm -rf "$T/killed"
    delay=$(moment $k)
    killed_after "$delay" "$prep" ingest "$T/src" --out "$T/killed" $fast --jobs $((k % 2 + 1)) && kills=$((kills + 1))
    [ ! -f "$T/killed/dataset.json" ] || diff -r -x .sources "$T/one" "$T/killed" >"$T/diff.txt" || lost=$((lost + 1))
    ingest "$T/killed"
    diff -r -x .sources "$T/one" "$T/killed" >"$T/diff.txt" || { lost=$((lost + 1));
        fail "killed after $delay s" "$(head -5 "$T/diff.txt")"; }
done
echo "# $kills of $rounds runs were killed on the way"
check "the parent killed at random moments: the same bytes in the end" test "$lost" = 0 -a "$kills" -gt $((rounds / 4))
rm -rf "$T/killed"
for k in 21 22 23 24 25; do killed_after "$(moment $k)" "$prep" ingest "$T/src" --out "$T/killed" $fast --jobs 1; done
ingest "$T/killed"
same "killed five times in a row and run again" "$T/one" "$T/killed"

# ---- the workers: at most two of a run, since an item is given up when its worker was killed three times ----
shot=0 lost=0
for k in $(seq 40); do
    [ "$shot" -lt $rounds ] || break
    rm -rf "$T/shot"
    "$prep" ingest "$T/src" --out "$T/shot" $fast --jobs 2 --quiet >/dev/null 2>&1 &
    parent=$!
    for shoot in 1 2; do
        sleep "$(moment $((100 * shoot + k)) | awk '{print $1 / 2}')"
        worker=$(cut -d' ' -f1 "/proc/$parent/task/$parent/children" 2>/dev/null)
        [ -n "$worker" ] && kill -9 "$worker" 2>/dev/null && shot=$((shot + 1))
    done
    wait $parent
    diff -r -x .sources "$T/one" "$T/shot" >"$T/diff.txt" || { lost=$((lost + 1));
        fail "workers killed, round $k" "$(head -5 "$T/diff.txt")"; }
done
echo "# $shot workers were killed"
check "workers killed at random moments: the same bytes" test "$lost" = 0 -a "$shot" -gt $((rounds / 2))

# ---- asked to stop ----
asked() { # SIGNAL: once something is done, to the workers too, as a terminal does; 0 when it came before the end
    rm -rf "$T/asked"
    setsid "$prep" ingest "$T/src" --out "$T/asked" $fast --jobs 1 >"$T/stdout" 2>"$T/stderr" &
    parent=$!
    while [ ! -s "$T/asked/journal.jsonl" ] && kill -0 $parent 2>/dev/null; do sleep 0.01; done
    kill -s "$1" -- -$parent 2>/dev/null
    status=0
    wait $parent || status=$?
    [ "$1 $status" = "INT 130" ] || [ "$1 $status" = "TERM 143" ] || [ "$1 $status" = "HUP 129" ]
}
for signal in INT TERM HUP; do
    lib_name="SIG$signal"
    if asked $signal || asked $signal || asked $signal; then
        pass "SIG$signal ends it with exit status $status"
    else
        fail "SIG$signal: exit status $status"
    fi
    stderr_has "of 10 clips; the same command goes on from there"
    check "SIG$signal: it is not marked finished" test ! -e "$T/asked/dataset.json"
    check "SIG$signal: what was done is kept" test -s "$T/asked/journal.jsonl"
    kept=$(find "$T/asked/clips" -name '*.mkv' | head -1)
    inode=$(stat -c %i "$kept")
    ingest "$T/asked"
    same "SIG$signal and run again: the same bytes" "$T/one" "$T/asked"
    check "SIG$signal: the clip that was done is not made again" test "$(stat -c %i "$kept")" = "$inode"
done
rm -rf "$T/asked"
(trap '' HUP; exec "$prep" ingest "$T/src" --out "$T/asked" $fast --jobs 1 >"$T/stdout" 2>"$T/stderr") &
parent=$!
while [ ! -s "$T/asked/journal.jsonl" ] && kill -0 $parent 2>/dev/null; do sleep 0.01; done
kill -s HUP $parent 2>/dev/null
wait $parent
same "under nohup SIGHUP stops nothing" "$T/one" "$T/asked"
finish
