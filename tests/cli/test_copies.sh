#!/bin/sh
# The copy check of evaluate and compare: each sample's closest training clip.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
small="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 --set clip.height=48 \
    --set clip.min_side=16 --set clip.model_frames=9 --set clip.num_frames=8 --set cache.dtype=fp32 --quiet"
mkdir "$T/src"
for i in 1 2 3 4; do
    "$B/tests/tools/make_clip" "$T/src/c$i.mp4" 32 48 30 40 "$i" || fail "make c$i"
    echo "A dress, number $i." >"$T/src/c$i.txt"
done
runs "ingest" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep" $small
runs "tokenize" 0 "$B/weft-prep" tokenize "$T/prep" --tokenizer $MODEL/tokenizer $small
runs "build" 0 "$B/weft-cache" build "$T/prep" --out "$T/cache" --model $MODEL --device cpu $small
sample() { # OUT OPTION...
    sample_out=$1
    shift
    runs "sample" 0 "$INFER" sample -q --preset demo --device cpu --model $MODEL --num-frames 8 --width ${width:-32} \
        --height 48 --steps 1 --prompt "A red dress." --prompt "A coat." --out "$T/$sample_out" "$@"
}
row() { grep -o '^[^,]*,'"$1"',.*' "$T/out/closest_clips.csv" | sed 's/.*,\(c[0-9],[^,]*\),\([^,]*\),\([01]\),/\1 \2 \3 /'; }
near() { awk "BEGIN {d = $1 - $2; exit !(d < $3 && d > -$3)}"; }

# ---- the training clips themselves: at distance 0, and marked ----
runs "training clips" 0 "$INFER" evaluate "$T/prep/clips" --train-cache "$T/cache" --model $MODEL --out "$T/out" \
    --device cpu --jobs 1
stdout_has "copy check, videos: 4 of 4 closer to a training clip"
check "each is its own closest clip" test "$(awk -F, 'NR > 1 && $2 == $4 && $5 == 0 && $7 == 1' "$T/out/closest_clips.csv" | wc -l)" = 4
check "the page shows both" test "$(grep -o 'data:image/bmp' "$T/out/evaluate.html" | wc -l)" = 8
check "few clips are said" grep -q 'too few for a percentile' "$T/out/evaluate.html"
cp -r "$T/out" "$T/first"
runs "again, with two" 0 "$INFER" evaluate "$T/prep/clips" --train-cache "$T/cache" --model $MODEL --out "$T/out" \
    --device cpu --jobs 2
same "the same files" "$T/first" "$T/out"

# ---- samples: kept latents, or encoded ones, which H.264 and a frame that was dropped move a little ----
sample base --latents-out "$T/base.safetensors" --seed 3
runs "kept latents" 0 "$INFER" evaluate "$T/base" --train-cache "$T/cache" --latents "$T/base.safetensors" --out "$T/out"
check "were used" test "$(grep -c ',kept$' "$T/out/closest_clips.csv")" = 2
runs "encoded videos" 0 "$INFER" evaluate "$T/base" --train-cache "$T/cache" --model $MODEL --out "$T/out" --device cpu
check "are said to be" test "$(grep -c ',encoded$' "$T/out/closest_clips.csv")" = 2
sample tuned --set sampling.guidance_scale=1 --seed 3
runs "compare" 0 "$INFER" compare "$T/base" "$T/tuned" --train-cache "$T/cache" --latents "$T/base.safetensors" \
    --model $MODEL --out "$T/out" --device cpu
stdout_has "copy check, base: "
stdout_has "copy check, tuned: "
check "one side's latents had been kept" test "$(cut -d, -f1,8 "$T/out/closest_clips.csv" | tr '\n' ' ')" = \
    "side,latents base,kept base,kept tuned,encoded tuned,encoded "
check "a picture a sample" test "$(grep -o 'data:image/bmp' "$T/out/report.html" | wc -l)" = 4
check "in quality_comparison.json" grep -q '"copy_check": {' "$T/out/quality_comparison.json"

# ---- models that compare samples: their latents are kept for it ----
compare_models() {
    "$INFER" compare $MODEL tests/golden/lora --preset demo --device cpu --num-frames 8 --width 32 --height 48 --steps 1 \
        --prompt "A coat." --train-cache "$T/cache" --out "$T/models"
}
runs "what would be done" 0 "$INFER" compare $MODEL tests/golden/lora --preset demo --device cpu --num-frames 8 \
    --width 32 --height 48 --steps 1 --prompt "A coat." --train-cache "$T/cache" --out "$T/models" --dry-run
runs "two models" 0 compare_models
check "their latents were kept" test "$(grep -c ',kept$' "$T/models/closest_clips.csv")" = 2
cp -r "$T/models" "$T/first-models"
runs "again" 0 compare_models
same "the same files" "$T/first-models" "$T/models"
rm "$T/models/base.safetensors"
runs "without what one side had kept" 0 compare_models
stderr_has "base: 0 sampled, 1 reused"
check "its video is encoded" test "$(cut -d, -f1,8 "$T/models/closest_clips.csv" | tr '\n' ' ')" = \
    "side,latents base,encoded tuned,kept "

runs "models at another size" 2 "$INFER" compare $MODEL tests/golden/lora --preset demo --device cpu --num-frames 8 \
    --width 48 --height 48 --steps 1 --prompt "A coat." --train-cache "$T/cache" --out "$T/none"
stderr_has "has 8 frames of 48x48, and no training clip"
check "nothing is sampled" test ! -e "$T/none"
check "another model" "$B/tests/tools/make_encoders" "$T/other"
cp -r $MODEL "$T/mixed"
rm -r "$T/mixed/vae"
cp -r "$T/other/vae" "$T/mixed/vae"
runs "a model with another VAE" 2 "$INFER" compare "$T/mixed" $MODEL --preset demo --device cpu --num-frames 8 \
    --width 32 --height 48 --steps 1 --prompt "A coat." --train-cache "$T/cache" --out "$T/none"
stderr_has "another VAE than the one"
check "nothing is sampled then" test ! -e "$T/none"

# ---- refused before anything is measured ----
refused() { # TEXT OPTION...
    refused_text=$1
    shift
    runs "$refused_text" 2 "$INFER" evaluate --out "$T/none" "$@"
    stderr_has "$refused_text"
    check "nothing is written" test ! -e "$T/none"
}
refused "give --model FOLDER" "$T/tuned" --train-cache "$T/cache"
refused "give --train-cache too" "$T/base" --latents "$T/base.safetensors"
width=48 sample wide
refused "has 8 frames of 48x48, and no training clip" "$T/wide" --train-cache "$T/cache" --model $MODEL
refused "the videos before it 9 frames of 32x48" "$T/base" "$T/wide" --train-cache "$T/cache" --model $MODEL
refused "another VAE than the one" "$T/base" --train-cache "$T/cache" --model "$T/other"
runs "no cache" 1 "$INFER" evaluate "$T/base" --train-cache "$T/nowhere" --out "$T/none"
"$B/tests/tools/make_clip" "$T/long.mp4" 32 48 8 12 1
runs "a video of unknown length" 2 "$INFER" evaluate "$T/long.mp4" --train-cache "$T/cache" --model $MODEL --out "$T/none"
stderr_has "12 frames of 32x48"
check "leaves nothing" test ! -e "$T/none"
finish
