#!/bin/sh
# weft-prep ingest of 1,000 small clips: its memory grows by little more than their manifest lines.
. tests/cli/lib.sh
prep="$B/weft-prep"
n=1000
per_clip=8 # kB; one with 9 pictures of 32x48 that were not given back would be 41
small="--preset demo --jobs 2 --quiet --set clip.width=32 --set clip.height=48 --set clip.min_side=16 \
    --set clip.model_frames=9 --set clip.num_frames=9 --set quality.mode=warn --set quality.duplicates=ignore"
if [ ! -r /proc/self/status ]; then
    skip "memory over $n clips" "there is no /proc"
    finish
fi
mkdir "$T/src"
"$B/tests/tools/make_clip" "$T/m.mp4" 32 48 8 9 1
for i in $(seq $n); do
    ln "$T/m.mp4" "$T/src/c$i.mp4"
    echo "A dress." >"$T/src/c$i.txt"
done
"$prep" ingest "$T/src" --out "$T/out" $small >"$T/stdout" 2>"$T/stderr" </dev/null &
parent=$!
first=0 last=0
while kill -0 $parent 2>/dev/null; do # the most it had so far, in kB: after the first 200 clips, and at last
    kb=$(awk '/^VmHWM/ {print $2}' "/proc/$parent/status" 2>/dev/null)
    [ -z "$kb" ] || last=$kb
    [ "$first" != 0 ] || [ "$(cat "$T/out/journal.jsonl" 2>/dev/null | wc -l)" -lt 200 ] || first=$last
    sleep 0.1
done
status=0
wait $parent || status=$?
check "$n clips are taken" grep -q "^$n sources: $n accepted" "$T/stdout"
check "exit status 0" test $status = 0
echo "# $first kB after 200 clips, $last kB in the end"
check_memory "memory grows by less than $per_clip kB a clip" test "$first" -gt 0 -a $(((last - first) / (n - 200))) \
    -lt $per_clip
finish
