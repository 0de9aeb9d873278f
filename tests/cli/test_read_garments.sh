# The demo's reader of drawn garments: right on drawn clips, and the same table each run.
. tests/cli/lib.sh
D="$B/tests/demo/draw_clips"
R="$B/tests/demo/read_garments"
share() { sed -n "s/^  $1 *\([0-9]*\)\..*/\1/p" "$T/stdout"; } # NAME: the whole percent of right answers

runs "nothing to read is wrong usage" 2 "$R"
runs "draws every combination" 0 "$D" "$T/clips" --clips 90 --val 30 --seed 3
runs "reads them" 0 "$R" "$T/clips/clips/videos.jsonl" --out "$T/clips/scores.csv" --readings "$T/readings.csv"
for what in figure colour pattern garment sleeve; do
    check "$what: at least 97 % are right, of $(share $what)" test "$(share $what)" -ge 97
done
check "one line a video, the header and chance" test "$(wc -l <"$T/clips/scores.csv")" = 122
check "chance" grep -q '^chance,,0.166666667,0.2,0.25,0.333333333$' "$T/clips/scores.csv"
check "paths as the table's folder has them" grep -q '^clips/fashion-val-00029.mp4,1,' "$T/clips/scores.csv"
check "a coat has no sleeves to be read" grep -q ',coat,.*coat walks$' "$T/readings.csv"
cp "$T/stdout" "$T/before.txt"
runs "with one thread" 0 env OMP_NUM_THREADS=1 "$R" "$T/clips/clips/videos.jsonl" --out "$T/clips/again.csv"
check "the same table" cmp "$T/clips/scores.csv" "$T/clips/again.csv"

printf '%s\n' '{"video": "gone.mp4", "prompt": "a woman in a red plain dress walks"}' \
    '{"video": "clips/clips/fashion-val-00000.mp4"}' >"$T/list.jsonl"
runs "a video that cannot be read is named" 0 "$R" "$T/list.jsonl" --out "$T/list.csv"
stderr_has "gone.mp4"
check "its line has no scores" grep -q '^gone.mp4,,,,,$' "$T/list.csv"
check "without a prompt there is a figure, and nothing to be right about" grep -q '^clips/.*,1,,,,$' "$T/list.csv"
finish
