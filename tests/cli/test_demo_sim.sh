#!/bin/sh
# The demo on the simulated GPU: all four programs through the device back end's own host code, each
# stage again at no cost.
. tests/cli/lib.sh
export DEVICE=sim
runs "the demo on sim" 0 sh tests/demo/demo.sh "$B" demo "$T/demo"
stdout_has "What was made"
stderr_has "simulated sm_80"
stderr_has "<- this recipe"
as_planned
check "two videos" test "$(find "$T/demo/samples/tuned" -name '*.mp4' | wc -l)" = 2
check "a transformer in bf16" grep -aq '"dtype":"BF16"' \
    "$T/demo/run/final/transformer/diffusion_pytorch_model.safetensors"
check "masters beside the moments" grep -aq '"master.proj_out.weight":{"dtype":"F32"' \
    "$T/demo/run/checkpoint-4/weft_state/optimizer.safetensors"
check "losses are numbers" test "$(grep -c '"loss":[0-9]' "$T/demo/run/log.jsonl")" = 4
check "before and after" test -s "$T/demo/compared/report.html"
runs "again" 0 sh tests/demo/demo.sh "$B" demo "$T/demo"
stdout_has "0 computed, 9 reused"
stderr_has "0 sampled, 2 reused"

# What a device cannot do is said.
MODEL=tests/demo/base
TRAIN="$B/weft-train run --preset demo --device sim --cache $T/demo/cache --model $MODEL --out $T/none"
runs "float32 on a device" 1 $TRAIN
stderr_has "mixed_precision is 'no', but the sim back end computes in bfloat16"
runs "plan" 0 "$B/weft-train" plan --preset demo --device sim --cache "$T/demo/cache" --model "$MODEL" \
    --set training.mixed_precision=bf16
stdout_has "(bf16), master"
finish
