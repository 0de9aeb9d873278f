#!/bin/sh
# Every key of the recipe's sampling section arrives (it stands in the sample's record) and matters
# (it changes the video).
. tests/cli/lib.sh
INFER=$B/weft-infer
BASE="--preset demo --device cpu --jobs 1 --quiet --model tests/golden/pipeline/model --prompt coat --seed 3 \
    --set sampling.num_frames=9 --set sampling.width=64 --set sampling.height=96 --set sampling.num_inference_steps=2"
digest() { sed -n 's/.*"rgb_sha256": "\(.*\)".*/\1/p' "$1/0000.json"; }

runs "the base" 0 "$INFER" sample $BASE --out "$T/base"
known=" "
while read -r key value written; do
    known="$known$key "
    runs "$key=$value" 0 "$INFER" sample $BASE --out "$T/$key" --set "sampling.$key=$value"
    check "$key arrives" grep -q "\"$key\": $written" "$T/$key/0000.json"
    case $key in
    fps) check "fps leaves the pictures as they are" test "$(digest "$T/fps")" = "$(digest "$T/base")" ;;
    *) check "$key matters" test "$(digest "$T/$key")" != "$(digest "$T/base")" ;;
    esac
done <<'END'
scheduler dpm "dpm"
num_inference_steps 3 3
guidance_scale 3 3.0
use_dynamic_cfg true true
num_frames 17 17
width 48 48
height 64 64
fps 4 4
negative_prompt blurry "blurry"
vae_tiling true true
END
# What a player sees: size, frames and rate of the file itself.
facts() { "$B/weft-prep" probe --json "$1/0000.mp4"; }
facts "$T/base" >"$T/base.txt"
for key in num_frames width height fps; do
    facts "$T/$key" >"$T/facts.txt"
    if cmp -s "$T/base.txt" "$T/facts.txt"; then
        fail "$key changes the file's own facts"
    else
        pass "$key changes the file's own facts"
    fi
done
"$INFER" keys sampling >"$T/keys.txt"
for key in $(sed -n 's/^ *sampling\.\([a-z_]*\).*/\1/p' "$T/keys.txt"); do
    case $known in
    *" $key "*) ;;
    *) fail "sampling.$key has no line in this test" ;;
    esac
done
check "keys lists the section" grep -q "sampling.fps" "$T/keys.txt"
finish
