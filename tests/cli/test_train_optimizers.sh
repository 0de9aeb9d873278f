#!/bin/sh
# weft-train's optimisers: memory as planned, what a checkpoint holds, and the same bits after kill
# -9 at random moments.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
SETS="--cache $T/a --cache $T/b --preset demo --model $P --set training.checkpointing_steps=5"
JOBS=1
train() { # OUT OPTION...
    train_out=$1
    shift
    "$W" run --out "$T/$train_out" --quiet --jobs "$JOBS" $SETS "$@"
}
untimed() { sed 's/,"time":.*//' "$1"; }

# An undisturbed run, and one that is killed at random moments of its first half: the same files and log.
survives() { # NAME OPTION...
    name=$1
    shift
    runs "$name: planned memory" 0 "$W" run --out "$T/planned" --jobs 1 $SETS --set training.max_steps=1 "$@"
    as_planned
    rm -r "$T/planned"
    SIXTY="--quiet --jobs 1 $SETS --set training.max_steps=60"
    counts "$name: undisturbed" 0 "$W" run --out "$T/whole" $SIXTY "$@"
    killed_often 4 $((calls / 2)) "$W" run --out "$T/killed" $SIXTY "$@"
    runs "$name: killed, then run again" 0 train killed --set training.max_steps=60 "$@"
    for part in final checkpoint-5 checkpoint-30 checkpoint-60 run.json; do
        same "$name, killed $kills times: $part" "$T/whole/$part" "$T/killed/$part"
    done
    untimed "$T/whole/log.jsonl" >"$T/log-a"
    untimed "$T/killed/log.jsonl" >"$T/log-b"
    same "$name, killed $kills times: log" "$T/log-a" "$T/log-b"
    JOBS=3
    runs "$name: three threads" 0 train threads --set training.max_steps=60 "$@"
    JOBS=1
    same "$name: three threads" "$T/whole/checkpoint-60" "$T/threads/checkpoint-60"
    STATE="$T/whole/checkpoint-60/weft_state/optimizer.safetensors"
}
clear_runs() { rm -r "$T/whole" "$T/killed" "$T/threads"; }
W_=transformer_blocks.0.ff.net.0.proj # 128 x 32: 4096 weights

survives "8-bit AdamW" --set training.use_8bit_adam=true
check "8-bit AdamW: moments of 4096 weights are bytes" grep \
    -aq "\"m.$W_.weight\":{\"dtype\":\"U8\",\"shape\":\[128,32\]" "$STATE"
check "8-bit AdamW: with a scale for every 256" grep -aq "\"v_scale.$W_.weight\":{\"dtype\":\"F32\",\"shape\":\[16\]" \
    "$STATE"
check "8-bit AdamW: small ones are floats" grep -aq "\"v.$W_.bias\":{\"dtype\":\"F32\"" "$STATE"
runs "8-bit AdamW: not from a checkpoint of exact moments" 2 train whole --set training.max_steps=61
stderr_has "training.use_8bit_adam was true and is false"
clear_runs

survives "8-bit AdamW and EMA" --set training.use_8bit_adam=true --set training.ema=true --set training.ema_decay=0.9 \
    --set training.ema_start=7
average=transformer_ema/diffusion_pytorch_model.safetensors
check "EMA: fp32, in checkpoints and final" sh -c \
    "grep -aq '\"F32\"' $T/whole/checkpoint-30/$average && test -f $T/whole/final/transformer_ema/config.json"
check "EMA: not before its start" cmp "$T/whole/checkpoint-5/$average" \
    "$T/whole/checkpoint-5/transformer/diffusion_pytorch_model.safetensors"
check "EMA: then it differs" sh -c \
    "! cmp -s $T/whole/checkpoint-10/$average $T/whole/checkpoint-10/transformer/diffusion_pytorch_model.safetensors"
runs "EMA: sample with it" 0 "$B/weft-infer" sample --model $P --checkpoint "$T/whole/final/transformer_ema" \
    --out "$T/sampled" --quiet \
    --preset demo --prompt "a red dress" --set sampling.num_inference_steps=2
clear_runs

# The averaged weights are in the weights' place while they are measured: with masters, 16-bit gradients, no masters
for keep in "" "--set training.gradient_dtype=bf16" "--set training.gradient_dtype=bf16 --set training.master_weights=false" \
    "--set training.master_weights=false" "--set training.lora_rank=2"; do
    for every in 1 null; do
        runs "EMA measured every $every steps ${keep:-by default}" 0 train measured-$every $keep --set training.ema=true \
            --set training.ema_decay=0.9 --set training.max_steps=8 --set validation.every=$every
    done
    check "EMA: has held-out losses of its own" grep -q '"step":7,.*"ema":{"loss":' "$T/measured-1/held_out.jsonl"
    rm "$T"/measured-*/final/weft_state/state.json # has the recipe's digest
    same "EMA: measuring changes no bit" "$T/measured-null/final" "$T/measured-1/final"
    rm -r "$T"/measured-*
done

# alpha / rank is no power of two: an average that went through the adapter's file would have other bits
survives "EMA of adapters" --set training.ema=true --set training.ema_decay=0.9 --set training.lora_rank=2 \
    --set training.lora_alpha=6.3
adapter=pytorch_lora_weights.safetensors
check "EMA of adapters: it is another adapter" sh -c \
    "! cmp -s $T/whole/final/lora_ema/$adapter $T/whole/final/$adapter"
runs "EMA of adapters: sample with it" 0 "$B/weft-infer" sample --model $P --lora "$T/whole/final/lora_ema" \
    --out "$T/sampled-lora" --quiet --preset demo --prompt "a red dress" --set sampling.num_inference_steps=2
clear_runs

survives "SGD" --set training.optimizer=sgd
check "SGD: one moment" sh -c "grep -aq '\"m.$W_.weight\":{\"dtype\":\"F32\"' $STATE && ! grep -aq '\"v\.' $STATE"
clear_runs
runs "the first three clips" 0 "$W" plan $SETS --limit 3
stdout_has "samples            3 in 2 caches"
runs "no clips" 2 "$W" plan $SETS --limit 0
stderr_has "--limit: 0 is not within 1 to"
runs "SGD without momentum" 0 train plain --set training.max_steps=5 --set training.optimizer=sgd \
    --set training.sgd_momentum=0
check "SGD without momentum: no state" sh -c \
    "! grep -aq '\"[mv]\.' $T/plain/checkpoint-5/weft_state/optimizer.safetensors"
runs "SGD without momentum goes on" 0 train plain --set training.max_steps=7 --set training.optimizer=sgd \
    --set training.sgd_momentum=0
finish
