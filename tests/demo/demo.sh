#!/bin/sh
# demo.sh BUILD [demo|quick|measure] [OUT]   what make demo, demo-quick and demo-measure do.
#
# Draws clips of figures in garments, fine-tunes the small trained model tests/demo/base on them with the four
# programs, and compares it with what it was on captions whose combinations of colour, pattern and garment no clip
# of training shows.
#   demo     8 captions; OUT is demo/
#   quick    a few clips, steps and captions, for CI; OUT is demo/quick/
#   measure  60 captions with demo's model, which is made if it is not there; OUT is demo/
# A second run reuses what the first one finished.
# DEVICE, from the environment: cpu (default), cuda, or sim, which executes the GPU's kernels on the CPU: a few
# steps at a smaller size; OUT is demo/sim/.
set -eu
B=$1; MODE=${2:-demo}; DEVICE=${DEVICE:-cpu}
CLIPS=180; VAL=20; PROMPTS=8; OUT=demo; BASE=tests/demo/base
RECIPE="--preset demo --config tests/demo/recipe.json"
case $MODE in
demo) ;;
quick) OUT=demo/quick CLIPS=24 VAL=4 PROMPTS=4
    RECIPE="$RECIPE --set training.max_steps=12 --set training.checkpointing_steps=4 --set validation.every=4" ;;
measure) PROMPTS=60 ;;
*) echo "demo.sh: '$MODE' is none of demo, quick and measure" >&2; exit 2 ;;
esac
case $DEVICE in
cpu) TRAINING= ;;
cuda | sim) TRAINING="--set training.mixed_precision=bf16" ;;
*) echo "demo.sh: DEVICE '$DEVICE' is none of cpu, cuda and sim" >&2; exit 2 ;;
esac
if [ "$DEVICE" = sim ]; then
    OUT=demo/sim; CLIPS=3; VAL=1; PROMPTS=2
    RECIPE="$RECIPE --set clip.width=32 --set clip.height=48 --set clip.min_side=32"
    RECIPE="$RECIPE --set training.max_steps=4 --set training.checkpointing_steps=2 --set training.batch_size=2"
    RECIPE="$RECIPE --set training.warmup_steps=1 --set validation.every=2"
    RECIPE="$RECIPE --set sampling.num_inference_steps=3 --set sampling.width=32 --set sampling.height=48"
fi
OUT=${3:-$OUT}
export OMP_WAIT_POLICY=passive # idle threads sleep: other programs may be running
start=$(date +%s)
say() { printf '\n== %s  (%d s)\n' "$*" $(( $(date +%s) - start )); }
run() { printf '$ %s\n' "$*" >&2; rc=0; "$@" || rc=$?; [ $rc -eq 0 ] || [ $rc -eq 3 ] ||
    { echo "demo: '$*' failed with status $rc" >&2; exit 1; }; }
sample() { # MODEL OUT
    run "$B/weft-infer" sample $RECIPE --device "$DEVICE" --model "$1" --out "$2" --prompts "$OUT/prompts-$PROMPTS.jsonl"
    run "$B/tests/demo/read_garments" "$2" --out "$2/scores.csv"
}
mkdir -p "$OUT"

say "1. Clips: draws walking and turning figures as H.264 videos with captions"
[ -f "$OUT/clips/metadata.jsonl" ] ||
    run "$B/tests/demo/draw_clips" "$OUT/clips" --clips $CLIPS --val $VAL
head -n $PROMPTS "$OUT/clips/prompts.jsonl" >"$OUT/prompts-$PROMPTS.jsonl"
say "2. weft-prep: brings every clip to the model's size and rate; turns captions into tokens"
run "$B/weft-prep" ingest "$OUT/clips" $RECIPE --out "$OUT/prepared"
run "$B/weft-prep" tokenize "$OUT/prepared" $RECIPE --tokenizer "$BASE/tokenizer"
say "3. weft-cache: computes VAE latents and T5 embeddings once, into an LMDB directory"
run "$B/weft-cache" build "$OUT/prepared" $RECIPE --device "$DEVICE" --model "$BASE" --out "$OUT/cache"
say "4. weft-train: fine-tunes the transformer from that cache"
run "$B/weft-train" run $RECIPE $TRAINING --device "$DEVICE" --cache "$OUT/cache" --model "$BASE" --out "$OUT/run"
SAMPLES=$OUT/samples; COMPARED=$OUT/compared
[ "$MODE" = measure ] && SAMPLES=$OUT/measured/samples COMPARED=$OUT/measured
say "5. weft-infer: $PROMPTS captions that training never saw, by the base model and by the tuned one, same seeds"
sample "$BASE" "$SAMPLES/base"
sample "$OUT/run/final" "$SAMPLES/tuned"
say "6. weft-infer: both side by side"
run "$B/weft-infer" compare $RECIPE "$SAMPLES/base" "$SAMPLES/tuned" --out "$COMPARED" \
    --scores "$SAMPLES/base/scores.csv" --scores "$SAMPLES/tuned/scores.csv" \
    --train-cache "$OUT/cache" --train-clips "$OUT/clips/clips" --model "$BASE" --run "$OUT/run" >"$OUT/table.txt"
run "$B/tests/demo/draw_sheet" "$SAMPLES/base" "$SAMPLES/tuned" "$COMPARED/sheet.png"

say "What was made"
while read -r path what; do
    [ -e "$path" ] && printf '  %-32s %6s  %s\n' "$path" "$(du -sh "$path" | cut -f1)" "$what"
done <<END
$OUT/clips/clips the source clips
$OUT/prepared/report.html the prepared dataset
$OUT/cache latents and embeddings (LMDB)
$OUT/run/report.html loss and held-out loss
$OUT/run/final the fine-tuned pipeline; diffusers opens it too
$SAMPLES/tuned/index.html new videos
$COMPARED/sheet.png a picture of them: base above, tuned below
END
printf '\nOf %d captions with combinations that training never saw, read from the pixels:\n' "$PROMPTS"
sed -n '/^scores/,$p' "$OUT/table.txt"
printf '\nBase and tuned model side by side: %s\n' "$COMPARED/report.html"
