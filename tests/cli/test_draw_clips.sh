# The demo's clip generator: complete, and the same bytes each run.
. tests/cli/lib.sh
D="$B/tests/demo/draw_clips"
small="--clips 6 --val 2 --prompts 4 --size 32x48 --frames 3"

runs "no folder is wrong usage" 2 "$D"
runs "a number that is none is wrong usage" 2 "$D" "$T/x" --clips 3x
stderr_has "--clips"
runs "a size that is none is wrong usage" 2 "$D" "$T/x" --size 33x48
stderr_has "--size is '33x48', expected WIDTHxHEIGHT, both even"
runs "a small set" 0 "$D" "$T/a" $small
runs "a small set again" 0 env OMP_NUM_THREADS=1 "$D" "$T/b" $small
same "two runs give the same bytes" "$T/a" "$T/b"
check "eight clips" test "$(ls "$T/a/clips/"*.mp4 | wc -l)" = 8
check "eight captions" test "$(grep -c '"text": "a woman in a ' "$T/a/metadata.jsonl")" = 8
check "four prompts" test "$(grep -c '"prompt": "a woman in a ' "$T/a/prompts.jsonl")" = 4
runs "another seed" 0 "$D" "$T/c" $small --seed 1
check "draws other clips" sh -c "! cmp -s '$T/a/metadata.jsonl' '$T/c/metadata.jsonl'"

# What is held out is never trained on, and all of it is asked for.
runs "a large set" 0 "$D" "$T/large" --clips 180 --val 30 --size 16x16 --frames 1
looks() { sed -n "/\"split\": \"$1\"/s/.*\"text\": \"a woman in a \([a-z]* [a-z]* [a-z]*\).*/\1/p" "$T/large/metadata.jsonl" |
    sort -u; }
looks train >"$T/train.txt"
looks val >"$T/val.txt"
sed 's/.*"a woman in a \([a-z]* [a-z]* [a-z]*\).*/\1/' "$T/large/prompts.jsonl" | sort -u >"$T/asked.txt"
check "90 combinations are trained on" test "$(wc -l <"$T/train.txt")" = 90
check "30 others are held out" test "$(wc -l <"$T/val.txt")" = 30
check "none is both" test -z "$(comm -12 "$T/train.txt" "$T/val.txt")"
check "the prompts ask for those held out" cmp "$T/val.txt" "$T/asked.txt"
check "60 different prompts" test "$(sort -u "$T/large/prompts.jsonl" | wc -l)" = 60
runs "the plain set" 0 "$D" "$T/plain" $small --set plain
check "names no colours, patterns and sleeves" test \
    "$(grep -c '"text": "a woman in a [a-z]* \(walks\|turns\)"' "$T/plain/metadata.jsonl")" = 8
finish
