#!/bin/sh
# make_base.sh BUILD PYTHON [OUT]   makes the demo's pre-trained base again, in some hours on two cores: OUT/base
# (OUT's default: build/base).  BASE.md tells what the shipped one cost.  Every step goes on where it was stopped,
# also after kill -9; what is there already is not made again.  PYTHON has torch 2.15.0, diffusers 0.42.1,
# transformers, sentencepiece 0.2.3, av and Pillow; Weft itself needs none of it.
# From the environment: VAE_MINUTES (90), DECODER_MINUTES (60), RANKS (2: processes of the VAE's training),
# STEPS (30000).
set -eu
B=$1; PYTHON=$2; OUT=${3:-build/base}; HERE=tests/demo
RECIPE="--preset demo --config $HERE/pretrain.json"
export OMP_WAIT_POLICY=passive
mkdir -p "$OUT"
draw() { # SET OPTIONS...
    set=$1; shift
    [ -f "$OUT/$set/metadata.jsonl" ] || "$B/tests/demo/draw_clips" "$OUT/$set" --set "$set" "$@"
}
echo "== 1. clips: the fashion set for the VAE (no held-out combination in split train), the plain set for the rest"
draw fashion --clips 600 --seed 3
draw plain --clips 600 --val 24 --seed 5
echo "== 2. VAE: both halves, then the decoder alone"
[ -d "$OUT/vae/vae" ] ||
    "$PYTHON" $HERE/train_vae.py --clips "$OUT/fashion" --out "$OUT/vae" --minutes "${VAE_MINUTES:-90}" --frames 0.7 \
        --batch 1 --ranks "${RANKS:-2}"
mkdir -p "$OUT/vae-decoder"
[ -f "$OUT/vae-decoder/state.pt" ] || cp "$OUT/vae/state.pt" "$OUT/vae-decoder/state.pt"
[ -d "$OUT/vae-decoder/vae" ] ||
    "$PYTHON" $HERE/train_vae.py --clips "$OUT/fashion" --out "$OUT/vae-decoder" --decoder-only "$OUT/vae/vae" \
        --minutes "${DECODER_MINUTES:-60}" --batch 1 --lr 1.5e-3 --ranks "${RANKS:-2}"
echo "== 3. the other parts: tokenizer of whole words, random T5, untrained transformer"
[ -f "$OUT/filler/model_index.json" ] || "$B/tests/demo/make_model" "$OUT/filler" "$OUT/fashion/metadata.jsonl"
[ -f "$OUT/start/model_index.json" ] ||
    "$PYTHON" $HERE/make_parts.py "$OUT/filler/tokenizer/spiece.model" "$OUT/vae-decoder/vae" "$OUT/start"
echo "== 4. prep and cache of the plain set"
"$B/weft-prep" ingest "$OUT/plain" --layout metadata $RECIPE --out "$OUT/prepared"
"$B/weft-prep" tokenize "$OUT/prepared" $RECIPE --tokenizer "$OUT/start/tokenizer"
"$B/weft-cache" build "$OUT/prepared" $RECIPE --model "$OUT/start" --out "$OUT/cache"
echo "== 5. pre-training by weft-train"
"$B/weft-train" run $RECIPE --set training.max_steps="${STEPS:-30000}" \
    --cache "$OUT/cache" --model "$OUT/start" --out "$OUT/run"
echo "== 6. the base: the averaged weights, in half precision"
rm -rf "$OUT/base"
mkdir -p "$OUT/base/transformer"
for part in model_index.json scheduler text_encoder tokenizer vae; do cp -RL "$OUT/start/$part" "$OUT/base/$part"; done
cp "$OUT/run/final/transformer/config.json" "$OUT/base/transformer/"
"$PYTHON" $HERE/halve.py "$OUT/run/final/transformer_ema/diffusion_pytorch_model.safetensors" \
    "$OUT/base/transformer/diffusion_pytorch_model.safetensors"
du -sh "$OUT/base"
