#!/bin/sh
# weft-infer decode: videos of kept latents, with the VAE alone.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
HOW="--preset demo --device cpu --jobs 1"
decode() { "$INFER" decode $HOW --model "$T/model" "$@"; }
mkdir "$T/model" && cp -r $MODEL/vae "$T/model"

printf '{"prompt": "one", "category": "dress"}\n{"prompt": "two"}\n' >"$T/prompts.jsonl"
runs "latents" 0 "$INFER" sample $HOW --model $MODEL --num-frames 9 --width 32 --height 48 --steps 2 --seed 4 \
    --prompts "$T/prompts.jsonl" --out "$T/sampled" --latents-out "$T/kept.safetensors"
runs "what would be decoded" 0 decode "$T/kept.safetensors" --out "$T/out" --dry-run
stdout_has "would decode 'dress/one-4' into $T/out/dress/one-4.mp4: 9 frames 32x48, working memory"
check "a dry run writes nothing" test ! -e "$T/out"
runs "decode" 0 decode "$T/kept.safetensors" --out "$T/out"
stdout_has "$T/out/two-5.mp4"
stderr_has "2 decoded, 0 reused"
# the title and the facts in front differ, the coded pictures that follow do not
for name in dress/one-4 two-5; do
    tail -c 4000 "$T/sampled/$name.mp4" >"$T/a"
    tail -c 4000 "$T/out/$name.mp4" >"$T/b"
    check "$name: the pictures that sample wrote" cmp "$T/a" "$T/b"
done
runs "again" 0 decode "$T/kept.safetensors" --out "$T/out"
stderr_has "0 decoded, 2 reused"
runs "another form of convolution" 2 decode "$T/kept.safetensors" --out "$T/out" --set model.vae_convolution=direct
stderr_has "was made otherwise; choose another --out or give --overwrite"
runs "another rate" 2 decode "$T/kept.safetensors" --out "$T/out" --fps 12
stderr_has "was made otherwise; choose another --out or give --overwrite"
runs "and replaced" 0 decode "$T/kept.safetensors" --out "$T/out" --fps 12 --overwrite
stderr_has "2 decoded, 0 reused"
runs "one frame less" 0 decode "$T/kept.safetensors" --out "$T/eight" --num-frames 8
"$B/weft-prep" probe --json "$T/eight/two-5.mp4" >"$T/probe.txt"
check "has eight" grep -q '"frames": 8' "$T/probe.txt"
runs "a count that the latents do not give" 2 decode "$T/kept.safetensors" --out "$T/x" --num-frames 7
stderr_has "the latents 'dress/one-4' give 9 frames, not the 7 of sampling.num_frames"

# Latents of other shapes in one run: those of a training run's samples have the file's name.
runs "larger ones" 0 "$INFER" sample $HOW --model $MODEL --num-frames 17 --width 48 --height 32 --steps 1 --prompt x \
    --out "$T/large" --latents-out "$T/large.safetensors"
runs "both" 0 "$INFER" decode $HOW --model "$T/model" "$T/kept.safetensors" "$T/large.safetensors" --out "$T/both"
"$B/weft-prep" probe --json "$T/both/x-0.mp4" >"$T/probe.txt"
check "all frames" grep -q '"frames": 17' "$T/probe.txt"
runs "one name in two files" 2 decode "$T/kept.safetensors" "$T/kept.safetensors" --out "$T/x"
stderr_has "both have latents 'dress/one-4'"

# A sample that was stopped.
if can_trace; then
    at_call when "test -e '$T/cut/x-0.partial.safetensors' && kill -9 \$PID" "$INFER" sample $HOW --model $MODEL \
        --num-frames 9 --width 32 --height 48 --steps 2 --prompt x --out "$T/cut" --latents-out "$T/cut.safetensors"
    runs "latents of a stopped sample" 0 decode "$T/cut/x-0.partial.safetensors" --out "$T/stopped"
    stderr_has "is a sample that was stopped after step 2"
    check "has the sample's name" test -s "$T/stopped/x-0.mp4"
else
    skip "latents of a stopped sample" "$no_trace"
fi
runs "no latents" 1 decode $MODEL/vae/diffusion_pytorch_model.safetensors --out "$T/x"
stderr_has "expected latents [1, frames, 4, height/8, width/8]"
printf '\002\000\000\000\000\000\000\000{}' >"$T/none.safetensors"
runs "a file of no tensors" 1 decode "$T/none.safetensors" --out "$T/x"
stderr_has "none.safetensors' holds no latents"
runs "a video" 1 decode "$T/out/two-5.mp4" --out "$T/x"
stderr_has "two-5.mp4': no safetensors file"
cp "$T/large.safetensors" "$T/nan.safetensors"
printf '\000\000\300\177' | dd of="$T/nan.safetensors" bs=1 seek=$(($(wc -c <"$T/nan.safetensors") - 4)) conv=notrunc 2>/dev/null
runs "latents that are not finite" 1 decode "$T/nan.safetensors" --out "$T/nan"
stderr_has "'x-0' of '$T/nan.safetensors': decoding gave a value that is not finite"
if [ -w /dev/full ]; then
    status=0
    decode "$T/kept.safetensors" --out "$T/full" >/dev/full 2>"$T/stderr" || status=$?
    check "output that cannot be written is an error" test "$status" = 1
fi
runs "no file" 1 decode "$T/nowhere.safetensors" --out "$T/x"
head -c 600 "$T/kept.safetensors" >"$T/short.safetensors"
runs "a file cut short" 1 decode "$T/short.safetensors" --out "$T/x"
runs "nothing to decode" 2 decode --out "$T/x"
stderr_has "at least 1 needed"
runs "no VAE" 1 "$INFER" decode $HOW --model "$T/sampled" "$T/kept.safetensors" --out "$T/x"
check "nothing was written" test ! -e "$T/x"

# Killed at random calls and run again: the same files.
counts "undisturbed" 0 "$INFER" decode $HOW --model "$T/model" "$T/kept.safetensors" --out "$T/whole"
killed_often 8 "$calls" "$INFER" decode $HOW --model "$T/model" "$T/kept.safetensors" --out "$T/killed"
runs "and run again" 0 decode "$T/kept.safetensors" --out "$T/killed"
same "the same files" "$T/whole" "$T/killed"
finish
