#!/bin/sh
# weft-infer compare BASE TUNED where they are models: it samples both, then compares.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
ADAPTER=tests/golden/lora
SMALL="--preset demo --device cpu --jobs 1 --num-frames 9 --width 32 --height 48 --steps 2"
printf '{"prompt": "A red dress.", "category": "dress"}\n{"prompt": "A coat.", "seed": 9}\n' >"$T/prompts.jsonl"
compare() { # OUT OPTION...
    compare_out=$1
    shift
    "$INFER" compare $SMALL "$@" --out "$T/$compare_out"
}
# A folder's files, but for times and for what compare says of its arguments.
same_run() { # NAME A B
    same "$1" "$T/$2" "$T/$3"
}

runs "what would be done" 0 compare dry $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --dry-run
stdout_has "base, in '$T/dry/base': would sample 2 videos"
stdout_has "tuned, in '$T/dry/tuned': would sample 2 videos"
check "nothing is written" test ! -e "$T/dry"

# ---- a model against an adapter on it: as sampled and compared one by one ----
runs "a model and an adapter" 0 compare out $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4
stdout_has "2 pairs of 2 prompts"
stderr_has "base: 2 sampled, 0 reused"
for file in quality_comparison.json report.html pairs.csv base/index.html tuned/dress/a-red-dress-4.mp4; do
    check "$file is there" test -s "$T/out/$file"
done
check "the model is named" grep -q "\"model\": \"$ADAPTER\"" "$T/out/quality_comparison.json"
for side in base "tuned --lora $ADAPTER"; do
    set -- $side
    side=$1
    shift
    runs "sample $side" 0 "$INFER" sample $SMALL --model $MODEL --prompts "$T/prompts.jsonl" --seed 4 "$@" \
        --out "$T/apart/$side"
    same_run "is what sample makes" "out/$side" "apart/$side"
done
cp -r "$T/out" "$T/first"
runs "again" 0 compare out $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4
stderr_has "tuned: 0 sampled, 2 reused"
same_run "the same files" first out

runs "another prompt into the same folder" 0 compare out $MODEL $ADAPTER --prompt "A hat."
stdout_has "1 pair of 1 prompt"
check "the others still lie there" test "$(grep -c '"id"' "$T/out/base/index.json")" = 3
runs "other settings" 2 compare out $MODEL $ADAPTER:0.5 --prompts "$T/prompts.jsonl" --seed 4
stderr_has "give --overwrite"
runs "with --overwrite" 0 compare out $MODEL $ADAPTER:0.5 --prompts "$T/prompts.jsonl" --seed 4 --overwrite
stderr_has "tuned: 2 sampled, 0 reused"
rm -r "$T/out"
cp -r "$T/first" "$T/out"

# ---- other kinds of sides ----
runs "half the adapter" 0 compare half $MODEL $ADAPTER:0.5 --prompt "A coat."
check "with its scale" grep -q '"scale": 0.5' "$T/half/tuned/"*.json
cp -r $MODEL/transformer "$T/checkpoint"
runs "a run and a checkpoint" 0 compare mixed "$T/out/base" "$T/checkpoint" --model $MODEL --seed 4 \
    --prompts "$T/prompts.jsonl"
check "of the same weights: no difference" test "$(sed -n 's/^ *"difference": \(.*\),/\1/p' "$T/mixed/quality_comparison.json" | sort -u)" = 0.0
check "the run is left where it is" test ! -e "$T/mixed/base"

# ---- kept latents for the copy check ----
runs "a cache that is not there" 1 compare none $MODEL $ADAPTER --prompt x --train-cache "$T/nowhere"
check "nothing is sampled" test ! -e "$T/none"

# ---- refused before anything is sampled ----
refused() { # TEXT STATUS ARGUMENT...
    refused_text=$1
    refused_status=$2
    shift 2
    runs "$refused_text" "$refused_status" compare none "$@"
    stderr_has "$refused_text"
    check "nothing is written" test ! -e "$T/none"
}
refused "is a model: say what it is to show" 2 $MODEL $ADAPTER
refused "prompts are for models" 2 "$T/out/base" "$T/out/tuned" --prompt "A coat."
refused "does not exist" 1 $MODEL "$T/nowhere" --prompt "A coat."
refused "no-owner/no-model" 1 no-owner/no-model $ADAPTER --prompt "A coat."
stderr_has "Weft downloads nothing"
mkdir -p "$T/run/final"
echo '{}' >"$T/run/run.json"
refused "give '$T/run/final' or one of its checkpoints" 2 $MODEL "$T/run" --prompt "A coat."
refused "no two videos belong together" 2 "$T/out/base" $MODEL --prompt "A coat." --seed 77
cp -r $MODEL "$T/broken"
rm "$T/broken/vae/"*.safetensors
refused "tuned: " 1 $MODEL "$T/broken" --prompt "A coat."
refused "'$T/no-weights' does not exist" 1 $MODEL $ADAPTER --prompt "A coat." --references "$T/no-weights"

# ---- a disk that is full midway; then the same command goes on ----
(
    ulimit -f 12
    compare full $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4 >"$T/stdout" 2>"$T/stderr" && exit 1
    test ! -e "$T/full/quality_comparison.json" -a -z "$(find "$T/full" -name '*.tmp-*')"
) && pass "a full disk" || fail "a full disk" "$(tail -2 "$T/stderr")"
runs "with room again" 0 compare full $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4
for side in base tuned; do same_run "a full disk: the same $side" "full/$side" "first/$side"; done
status=0
compare full $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4 >/dev/full 2>"$T/stderr" || status=$?
check "no room for the summary" test $status = 1

# ---- stopped on the way, twenty times, and run again: the same files ----
counts "how many calls" 0 "$INFER" compare $SMALL $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4 --out "$T/whole"
if can_trace; then
    killed_often 20 "$calls" "$INFER" compare $SMALL $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4 --out "$T/killed"
fi
runs "to the end" 0 compare killed $MODEL $ADAPTER --prompts "$T/prompts.jsonl" --seed 4
sed "s|$T/killed|$T/whole|g" "$T/killed/quality_comparison.json" >"$T/renamed" && mv "$T/renamed" "$T/killed/quality_comparison.json"
sed "s|$T/killed|$T/whole|g" "$T/killed/pairs.csv" >"$T/renamed" && mv "$T/renamed" "$T/killed/pairs.csv"
same_run "the same files" whole killed
finish
