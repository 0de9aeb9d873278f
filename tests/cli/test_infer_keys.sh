#!/bin/sh
# Every key of the recipe's sampling section arrives (it stands in the sample's record) and matters
# (it changes the video).
. tests/cli/lib.sh
INFER=$B/weft-infer
BASE="--preset demo --device cpu --jobs 1 --quiet --model tests/golden/pipeline/model --prompt coat --seed 3 \
    --set sampling.num_frames=9 --set sampling.width=64 --set sampling.height=96 --set sampling.num_inference_steps=2"
digest() { sed -n 's/.*"rgb_sha256": "\(.*\)".*/\1/p' "$1/coat-3.json"; }

runs "the base" 0 "$INFER" sample $BASE --out "$T/base"
known=" "
while read -r key value written; do
    known="$known$key "
    runs "$key=$value" 0 "$INFER" sample $BASE --out "$T/$key" --set "sampling.$key=$value"
    check "$key arrives" grep -q "\"$key\": $written" "$T/$key/coat-3.json"
    case $key in
    fps | vae_slicing) check "$key leaves the pictures as they are" test "$(digest "$T/$key")" = "$(digest "$T/base")" ;;
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
vae_slicing false false
vae_tiling true true
END
# The options of their own names: the same sample as --set makes.
while read -r key options; do
    eval "runs '$options' 0 '$INFER' sample $BASE --out '$T/option' $options"
    check "$options is --set sampling.$key" cmp "$T/option/coat-3.json" "$T/$key/coat-3.json"
    rm -r "$T/option"
done <<'END'
scheduler --scheduler dpm
num_inference_steps --steps 3
guidance_scale --guidance=3
use_dynamic_cfg --dynamic-cfg
num_frames --num-frames 17
width --width 48
height --height 64
fps --fps 4
negative_prompt --negative-prompt blurry
vae_tiling --vae-tiling
END
refused() { # TEXT OPTION...
    refused_text=$1
    shift
    runs "$* is refused" 2 "$INFER" sample $BASE --out "$T/refused" "$@"
    stderr_has "$refused_text"
}
refused "expected a multiple of 16 (the nearest are 32 and 48), found 40" --width 40
refused "expected a multiple of 16 (the nearest are 96 and 112), found 100" --height 100
refused "the nearest are 9 and 16" --num-frames 12
refused "--steps: 'sampling.num_inference_steps': expected at least 1, found 0" --steps 0
refused "--scheduler: 'sampling.scheduler': expected " --scheduler euler
refused "--steps is given twice" --steps 2 --steps 2
# What a player sees: size, frames and rate of the file itself.
facts() { "$B/weft-prep" probe --json "$1/coat-3.mp4"; }
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
