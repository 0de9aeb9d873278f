#!/bin/sh
# weft-prep ingest killed at random moments, the parent and its workers, and asked to stop: nothing
# is lost, and the end is the bytes of an undisturbed run.
. tests/cli/lib.sh
prep="$B/weft-prep"
clip="$B/tests/tools/make_clip"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=reject --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16 --set clip.max_reject_ratio=1"
rounds=20
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
if ! can_trace; then
    skip "killed or stopped at any moment" "$no_trace"
    finish
fi
counts "an undisturbed run" 3 "$prep" ingest "$T/src" --out "$T/one" $fast --jobs 2 --quiet
check "an undisturbed run: finished" test -s "$T/one/dataset.json"

# ---- the parent ----
kills=0 lost=0
for k in $(seq $rounds); do
    rm -rf "$T/killed"
    killed_at_call "$(seeded $k "$calls")" "$prep" ingest "$T/src" --out "$T/killed" $fast --jobs $((k % 2 + 1)) --quiet &&
        kills=$((kills + 1))
    [ ! -f "$T/killed/dataset.json" ] || diff -r -x .sources "$T/one" "$T/killed" >"$T/diff.txt" || lost=$((lost + 1))
    ingest "$T/killed"
    diff -r -x .sources "$T/one" "$T/killed" >"$T/diff.txt" || { lost=$((lost + 1));
        fail "killed before call $lib_call" "$(head -5 "$T/diff.txt")"; }
done
echo "# $kills of $rounds runs were killed on the way"
check "the parent killed at random moments: the same bytes in the end" test "$lost" = 0 -a "$kills" -gt $((rounds / 4))
rm -rf "$T/killed"
killed_often 5 $((calls / 3)) "$prep" ingest "$T/src" --out "$T/killed" $fast --jobs 1 --quiet
ingest "$T/killed"
same "killed five times in a row and run again" "$T/one" "$T/killed"

# ---- the workers: at most two of a run, since an item is given up when its worker was killed three times ----
shot=0 lost=0
for k in $(seq 40); do
    [ "$shot" -lt $rounds ] || break
    rm -rf "$T/shot"
    first=$(seeded $k $((calls / 2)))
    : >"$T/shots"
    at_call "$first,$((first + $(seeded $((100 + k)) $((calls / 3)))))" \
        "[ \$CALLER != \$PID ] && kill -9 \$CALLER && echo >>$T/shots" \
        "$prep" ingest "$T/src" --out "$T/shot" $fast --jobs 2 --quiet
    shot=$((shot + $(wc -l <"$T/shots")))
    diff -r -x .sources "$T/one" "$T/shot" >"$T/diff.txt" || { lost=$((lost + 1));
        fail "workers killed, round $k" "$(head -5 "$T/diff.txt")"; }
done
echo "# $shot workers were killed"
check "workers killed at random moments: the same bytes" test "$lost" = 0 -a "$shot" -gt $((rounds / 2))

# ---- asked to stop ----
done_one="[ -s $T/asked/journal.jsonl ] && kill -s" # once something is done
for signal in INT TERM HUP; do
    lib_name="SIG$signal"
    rm -rf "$T/asked"
    # to the workers too, as a terminal does
    at_call when "$done_one $signal -- -\$PID" "$prep" ingest "$T/src" --out "$T/asked" $fast --jobs 1
    case $signal$status in
    INT130 | TERM143 | HUP129) pass "SIG$signal ends it with exit status $status" ;;
    *) fail "SIG$signal: exit status $status" ;;
    esac
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
at_call when "$done_one HUP \$PID" sh -c 'trap "" HUP; exec "$@"' sh "$prep" ingest "$T/src" --out "$T/asked" $fast \
    --jobs 1
same "under nohup SIGHUP stops nothing" "$T/one" "$T/asked"
finish
