#!/bin/sh
# demo.sh BUILD [OUT]   clips -> prepared dataset -> cache -> fine-tuned model -> new videos -> before and after.
# All files go to OUT (default demo/).  A second run reuses what the first one finished.
# DEVICE, from the environment: cpu (default), cuda, or sim, which executes the GPU's kernels on the
# CPU.  sim is slow, so it uses fewer and smaller clips and OUT defaults to demo/sim/.
set -eu
B=$1; DEVICE=${DEVICE:-cpu}; CLIPS=90; VAL=10; PROMPTS=8
RECIPE="--preset demo --config tests/demo/recipe.json"
case $DEVICE in
cuda|sim) TRAINING="--set training.mixed_precision=bf16" ;;
*) TRAINING= ;;
esac
if [ "$DEVICE" = sim ]; then
    OUT=${2:-demo/sim}; CLIPS=3; VAL=1; PROMPTS=2
    RECIPE="$RECIPE --set clip.width=32 --set clip.height=48 --set clip.min_side=32"
    RECIPE="$RECIPE --set training.max_steps=4 --set training.checkpointing_steps=2"
    RECIPE="$RECIPE --set sampling.num_inference_steps=3 --set sampling.width=32 --set sampling.height=48"
else
    OUT=${2:-demo}
fi
export OMP_WAIT_POLICY=passive # idle threads sleep: other programs may be running
start=$(date +%s)
say() { printf '\n== %s\n' "$*"; }
run() { printf '$ %s\n' "$*"; rc=0; "$@" || rc=$?; [ $rc -eq 0 ] || [ $rc -eq 3 ] ||
    { echo "demo: '$*' failed with status $rc" >&2; exit 1; }; }
mkdir -p "$OUT"

say "1. Clips: draws walking and turning figures as H.264 videos with captions"
[ -f "$OUT/clips/metadata.jsonl" ] ||
    run "$B/tests/demo/draw_clips" "$OUT/clips" --clips $CLIPS --val $VAL --prompts $PROMPTS
say "2. Model: makes a tiny CogVideoX with random weights, in diffusers' layout"
[ -f "$OUT/model/model_index.json" ] || run "$B/tests/demo/make_model" "$OUT/model" "$OUT/clips/metadata.jsonl"
say "3. weft-prep: brings every clip to the model's size and rate; turns captions into tokens"
run "$B/weft-prep" ingest "$OUT/clips" $RECIPE --out "$OUT/prepared"
run "$B/weft-prep" tokenize "$OUT/prepared" $RECIPE --tokenizer "$OUT/model/tokenizer"
say "4. weft-cache: computes VAE latents and T5 embeddings once, into an LMDB directory"
run "$B/weft-cache" build "$OUT/prepared" $RECIPE --device "$DEVICE" --model "$OUT/model" --out "$OUT/cache"
run "$B/weft-cache" stats "$OUT/cache"
say "5. weft-train: fine-tunes the transformer from that cache"
run "$B/weft-train" run $RECIPE $TRAINING --device "$DEVICE" --cache "$OUT/cache" --model "$OUT/model" --out "$OUT/run"
infer() { # COMMAND OPTION...: the same prompts and seeds for both models
    run "$B/weft-infer" "$@" $RECIPE --device "$DEVICE" --prompts "$OUT/clips/prompts.jsonl"
}
say "6. weft-infer: samples new videos from the fine-tuned model"
infer sample --model "$OUT/run/final" --out "$OUT/samples"
say "7. weft-infer: the same prompts through the model as it was, and both side by side"
infer compare "$OUT/model" "$OUT/samples" --train-cache "$OUT/cache" --out "$OUT/compared"

say "What was made, in $(( $(date +%s) - start )) s"
for what in "clips/clips:the source clips" "prepared/clips:normalised clips, lossless" \
    "prepared/manifest.jsonl:one line per clip: facts, source of each frame, decision" \
            "prepared/report.html:the same as a page with pictures" \
            "cache:latents and embeddings (LMDB)" \
                "run/log.jsonl:loss, learning rate, gradient norm and seconds of each step" \
                "run/final:the fine-tuned pipeline; diffusers opens it too" \
            "samples/index.html:new videos" \
            "compared/report.html:before and after training, side by side"; do
    p="$OUT/${what%%:*}"
    [ -e "$p" ] && printf '  %-28s %8s  %s\n' "$p" "$(du -sh "$p" | cut -f1)" "${what#*:}"
done
find "$OUT/samples" -name '*.mp4' | sort | sed 's/^/  video: /'
