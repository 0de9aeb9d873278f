#!/bin/sh
# LoRA from end to end on the tiny pipeline: training that is killed and goes on, sampling with
# adapters, merging, what is refused.
. tests/cli/lib.sh
TRAIN=$B/weft-train
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
ADAPTER=tests/golden/lora
check "caches for the test" "$B/tests/tools/train_fixture" $MODEL "$T"
SETS="--preset demo --device cpu --quiet --set training.lora_rank=4 --set training.lora_alpha=6 \
    --set training.num_epochs=1000"
train() { # OUT OPTION...
    train_out=$1
    shift
    "$TRAIN" run --cache "$T/a" --cache "$T/b" --model $MODEL --out "$T/$train_out" $SETS "$@"
}
SMALL="--preset demo --device cpu --quiet --model $MODEL --set sampling.num_frames=9 --set sampling.width=32 \
    --set sampling.height=48 --set sampling.num_inference_steps=3 --seed 42"
sample() { # OUT OPTION...
    sample_out=$1
    shift
    "$INFER" sample $SMALL --out "$T/$sample_out" --prompt "A red dress." --latents-out "$T/$sample_out.safetensors" \
        "$@"
}

# ---- what a run writes
runs "training" 0 train short --set training.max_steps=4 --set training.checkpointing_steps=2
check "final/ is the adapter" test "$(cd "$T/short/final" && ls | tr '\n' ' ')" = \
    "pytorch_lora_weights.safetensors weft_state "
check "a checkpoint is the adapter and its state" test -f "$T/short/checkpoint-2/pytorch_lora_weights.safetensors"
check "diffusers' names and metadata" sh -c \
    "head -c 6000 $T/short/final/pytorch_lora_weights.safetensors | grep -aq transformer.transformer_blocks.1.attn1.to_out.0.lora_B.weight && head -c 6000 $T/short/final/pytorch_lora_weights.safetensors | grep -aq transformer.lora_alpha"
runs "another rank" 2 train short --set training.max_steps=8 --set training.lora_rank=8
stderr_has "training.lora_rank was 4 and is 8"
runs "a run of all weights cannot go on from it" 2 train short --set training.max_steps=8 --set training.lora_rank=0
stderr_has "training.lora_rank was 4 and is 0"
runs "plan" 0 "$TRAIN" plan --cache "$T/a" --model $MODEL $SETS --set training.mixed_precision=bf16
stdout_has "2048 of LoRA, rank 4"
stdout_has "frozen weights"

# ---- kill -9 at random moments, then once more
LONG="--set training.max_steps=60 --set training.checkpointing_steps=4"
BOTH="$TRAIN run --cache $T/a --cache $T/b --model $MODEL $SETS $LONG"
counts "sixty steps" 0 $BOTH --out "$T/long" --jobs 1
killed_often 6 $((calls / 3)) $BOTH --out "$T/killed"
runs "killed, then run again" 0 train killed $LONG
same "killed $kills times: the last checkpoint" "$T/long/checkpoint-60" "$T/killed/checkpoint-60"
same "killed $kills times: final" "$T/long/final" "$T/killed/final"
runs "two threads" 0 train threads $LONG --jobs 2
same "two threads: final" "$T/long/final/pytorch_lora_weights.safetensors" \
    "$T/threads/final/pytorch_lora_weights.safetensors"

# ---- on from an adapter
runs "on from diffusers' adapter" 0 train on --set training.max_steps=2 --set training.lora_weights=$ADAPTER
digest_of() { grep -o "\"$1\": *\"[0-9a-f]\{64\}\"" "$2" | tail -n 1; }
for key in weights_sha256 lora_sha256; do
    check "run.json has the state's $key" test -n "$(digest_of $key "$T/on/run.json")" -a \
        "$(digest_of $key "$T/on/run.json")" = "$(digest_of $key "$T/on/checkpoint-2/weft_state/state.json")"
done
cp $ADAPTER/pytorch_lora_weights.safetensors "$T/moved.safetensors"
runs "the adapter under another path" 0 train on --set training.max_steps=4 \
    --set training.lora_weights="$T/moved.safetensors"
runs "without the adapter" 2 train on --set training.max_steps=6
stderr_has "the adapter that training starts from is another one"
runs "an adapter of another rank" 2 train x --set training.lora_rank=8 --set training.lora_weights=$ADAPTER
stderr_has "training.lora_rank is 8: set it to 4"
runs "no such layer" 2 train x --set 'training.lora_target_modules=["to_z"]'
stderr_has "'to_z' ends no name"
check "refused before anything was written" test ! -e "$T/x"

# ---- sampling
runs "without" 0 sample plain
runs "with" 0 sample with --lora $ADAPTER
runs "half as strong" 0 sample half --lora $ADAPTER:0.5
runs "not at all" 0 sample zero --lora $ADAPTER:0
runs "in two halves" 0 sample halves --lora $ADAPTER:0.5 --lora "$T/moved.safetensors:0.5"
check "the adapter changes the sample" sh -c "! cmp -s $T/plain.safetensors $T/with.safetensors"
check "its strength counts" sh -c "! cmp -s $T/half.safetensors $T/with.safetensors"
pixels() { grep -oh '"rgb_sha256": "[0-9a-f]*"' "$T/$1/"*.json; }
check "strength 0 is none" test "$(pixels plain)" = "$(pixels zero)"
check "its own strength is not none" test "$(pixels plain)" != "$(pixels with)"
check "the record names it" grep -q '"scale": 0.5' "$T/half/"*.json
runs "the same with another adapter is another sample" 2 sample half --lora $ADAPTER
stderr_has "--overwrite"
runs "a run's adapter" 0 sample trained --lora "$T/long/final"
runs "given as a checkpoint" 2 sample x --checkpoint "$T/long/final"
stderr_has "give it as --lora"

PEFT=tests/golden/lora_peft
runs "peft's own files" 0 sample peft --lora $PEFT
mkdir "$T/no-config"
cp $PEFT/adapter_model.safetensors "$T/no-config"
runs "peft's own file without its config" 1 sample x --lora "$T/no-config"
stderr_has "adapter_config.json"
mkdir "$T/nothing"
runs "a folder without an adapter" 1 sample x --lora "$T/nothing"
stderr_has "holds neither pytorch_lora_weights.safetensors"

# ---- merging
runs "merge: peft's own files" 0 "$TRAIN" merge --model $MODEL --lora $PEFT --out "$T/merged-peft"
runs "merge" 0 "$TRAIN" merge --model $MODEL --lora $ADAPTER:0.5 --out "$T/merged"
check "the other parts are there" test -f "$T/merged/model_index.json" -a -f "$T/merged/vae/config.json" \
    -a -f "$T/merged/tokenizer/spiece.model"
runs "a sample of the merged model" 0 "$INFER" sample $(echo $SMALL | sed "s:$MODEL:$T/merged:") --out "$T/m" \
    --prompt "A red dress."
runs "merge again" 2 "$TRAIN" merge --model $MODEL --lora $ADAPTER --out "$T/merged"
stderr_has "exists already"
runs "merge: --dry-run" 0 "$TRAIN" merge --model $MODEL --lora $ADAPTER --out "$T/dry" --dry-run
check "merge: --dry-run wrote nothing" test ! -e "$T/dry"

# ---- a LoRA of another model
cp -r $MODEL "$T/wider"
sed -i 's/"num_layers": 2/"num_layers": 1/' "$T/wider/transformer/config.json"
runs "an adapter of a deeper model" 1 "$TRAIN" merge --model "$T/wider" --lora $ADAPTER --out "$T/x"
stderr_has "is a LoRA of another model"
runs "whole weights as an adapter" 1 sample x --lora $MODEL/transformer/diffusion_pytorch_model.safetensors
stderr_has "Weft reads plain LoRA files"
runs "no such adapter" 1 sample x --lora "$T/nowhere.safetensors"
stderr_has "nowhere.safetensors"
finish
