#!/bin/sh
# weft-train: what it prints, that an interrupted or killed run ends as an undisturbed one does, and what it refuses.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
SETS="--preset demo --model $P --quiet --jobs 1 --set export.copy=copy --set training.max_steps=12 \
    --set training.checkpointing_steps=4"
train() { # OUT OPTION...
    train_out=$1
    shift
    "$W" run --cache "$T/a" --cache "$T/b" --out "$T/$train_out" $SETS "$@"
}
untimed() { sed 's/,"time":.*//' "$1"; }
same_log() { # NAME A B: the log lines, times aside
    untimed "$2" >"$T/log-a"
    untimed "$3" >"$T/log-b"
    same "$1" "$T/log-a" "$T/log-b"
}
same_held_out() { # NAME OUT OUT
    same_log "$1: held-out losses" "$T/$2/held_out.jsonl" "$T/$3/held_out.jsonl"
}
same_run() { # NAME OUT: everything the undisturbed run has
    same "$1: final" "$T/whole/final" "$T/$2/final"
    same "$1: last checkpoint" "$T/whole/checkpoint-12" "$T/$2/checkpoint-12"
    same_log "$1: log" "$T/whole/log.jsonl" "$T/$2/log.jsonl"
}

# ---- plan and an undisturbed run
runs "plan" 0 "$W" plan --cache "$T/a" --cache "$T/b" $SETS
stdout_has "12 in at most 100 epochs of 4; a step is 1 pass of 2 samples"
stdout_has "parameters         35616"
stdout_has "block+attention"
runs "dry run" 0 train nothing --dry-run
stdout_has "35616"
stdout_has "3 checkpoints of 427 kB to save"
check "a dry run writes nothing" test ! -e "$T/nothing"
for keep in "" "--set training.gradient_dtype=bf16 --set training.master_weights=false" \
    "--set training.use_8bit_adam=true --set training.ema=true"; do
    runs "memory is what was planned: ${keep:-by default}" 0 "$W" run --cache "$T/a" --cache "$T/b" --out "$T/planned" \
        --preset demo --model $P --set training.max_steps=1 $keep
    stderr_has "<- this recipe"
    as_planned
    rm -r "$T/planned"
done
# Weights are read for their digests once; a start that finds them remembered reads headers alone.
mkdir "$T/near"
cp -r "$T/a" "$T/near/a"
cp -r $P "$T/near/model" # of its own: links that other runs make change ctimes
sleep 2.2                # files that were just written are not remembered
digests() { # NAME COUNT COMMAND...
    digests_name=$1
    digests_of=$2
    shift 2
    runs "$digests_name" 0 "$W" "$@" --cache "$T/near/a" --preset demo --model "$T/near/model" --set training.max_steps=1
    check "$digests_name: $digests_of weights are read for their digest" test \
        "$(grep -c "for their digest" "$T/stderr")" = "$digests_of"
}
digests "first plan" 2 plan
digests "second plan" 0 plan
digests "first run" 1 run --out "$T/near/one"
digests "second run" 0 run --out "$T/near/two"
digests "the run again" 0 run --out "$T/near/two"
rm -r "$T/near"
for device in cpu ref sim; do
    precision=$([ $device = sim ] && echo bf16 || echo no)
    for policy in gradient_checkpointing=false recompute=block recompute=block+attention; do
        runs "memory is what was planned: $device, $policy" 0 "$W" run --cache "$T/a" --out "$T/planned" --preset demo \
            --model $P --device $device --set training.max_steps=1 --set training.mixed_precision=$precision \
            --set validation.clips=0 --set training.gradient_checkpointing=true --set training.$policy
        as_planned
        sed -n 's/.*activations \([^,]*\),.*<- this recipe/\1/p' "$T/stderr" >>"$T/$device-activations"
        rm -r "$T/planned"
    done
    check "$device: three policies, three sizes" test "$(sort -u "$T/$device-activations" | wc -l)" = 3
done
runs "run" 0 train whole
stdout_has "whole/final: 12 steps"
check "twelve log lines" test "$(wc -l <"$T/whole/log.jsonl")" = 12
check "held-out losses at steps 0, 10 and 12" test "$(sed 's/,.*//' "$T/whole/held_out.jsonl" | tr '\n' ' ')" = \
    '{"step":0 {"step":10 {"step":12 '
check "one event file for TensorBoard" test "$(ls "$T/whole/tensorboard" | grep -c 'events.out.tfevents.[0-9]*.weft')" \
    = 1
check "a line has smoothed and held-out loss" grep -q '"step":12,.*"loss_smoothed":[0-9.]*,"held_out":[0-9]' \
    "$T/whole/log.jsonl"
check "a page" grep -q "12 of 12" "$T/whole/report.html"
cp "$T/whole/report.html" "$T/page.html"
runs "the page again" 0 "$W" report "$T/whole"
stdout_has "whole/report.html"
same "the page again: the same" "$T/page.html" "$T/whole/report.html"
runs "the page of what is no run" 1 "$W" report "$T"
stderr_has "is no run of weft-train"
check "the first update has rate 0" grep -q '"step":1,.*"lr":0.0,' "$T/whole/log.jsonl"
check "checkpoints" test -f "$T/whole/checkpoint-4/weft_state/state.json" \
    -a -f "$T/whole/checkpoint-8/weft_state/state.json"
same "final has the pipeline's VAE" $P/vae "$T/whole/final/vae"
same "and its index" $P/model_index.json "$T/whole/final/model_index.json"
cp -r "$T/whole" "$T/again-whole"
runs "a finished run again" 0 train again-whole
same "changes nothing" "$T/whole" "$T/again-whole"

# ---- the same bits
runs "caches in another order, one thread" 0 env OMP_NUM_THREADS=1 "$W" run --cache "$T/b" --cache "$T/a" \
    --out "$T/other-order" $SETS
same_run "caches in another order, one thread" other-order
runs "two threads" 0 env OMP_NUM_THREADS=2 "$W" run --cache "$T/a" --cache "$T/b" --out "$T/two" \
    $(echo "$SETS" | sed "s/--jobs 1//")
same_run "two threads" two
same_held_out "two threads" whole two
runs "recomputing" 0 train recompute --set training.gradient_checkpointing=true
same "recomputing: the weights" "$T/whole/final/transformer" "$T/recompute/final/transformer"
runs "recomputing, attention kept" 0 train attention --set training.gradient_checkpointing=true \
    --set training.recompute=block+attention
same "recomputing, attention kept: the weights" "$T/whole/final/transformer" "$T/attention/final/transformer"
runs "another seed" 0 train seed --seed 9
check "another seed: other weights" sh -c \
    "! cmp -s $T/whole/final/transformer/diffusion_pytorch_model.safetensors $T/seed/final/transformer/diffusion_pytorch_model.safetensors"

# ---- going on
runs "six steps" 0 train grown --set training.max_steps=6
runs "then the rest" 0 train grown
same "six steps, then the rest: final" "$T/whole/final" "$T/grown/final"
same "six steps, then the rest: last checkpoint" "$T/whole/checkpoint-12" "$T/grown/checkpoint-12"
for run in whole grown; do # step 6 was a last one, so the held-out loss was measured there too
    untimed "$T/$run/log.jsonl" | sed 's/"held_out":[^,]*,//' >"$T/log-$run"
done
same "six steps, then the rest: log" "$T/log-whole" "$T/log-grown"
runs "more accumulation" 0 train accumulated --set training.batch_size=1 --set training.gradient_accumulation_steps=2
cp -r "$T/whole" "$T/torn"
rm -r "$T/torn/final"
head -c 3000 "$T/whole/checkpoint-12/weft_state/optimizer.safetensors" \
    >"$T/torn/checkpoint-12/weft_state/optimizer.safetensors"
rm "$T/torn/checkpoint-8/weft_state/state.json"
echo '{"step":9,"ep' >>"$T/torn/log.jsonl"
mkdir -p "$T/torn/checkpoint-16.tmp-saving/transformer"
runs "torn checkpoints" 0 train torn
stderr_has "checkpoint-12 is damaged and is not used"
stderr_has "checkpoint-8 is damaged and is not used"
same_run "torn checkpoints" torn
same_held_out "torn checkpoints" whole torn
check "the leftover is swept" test ! -e "$T/torn/checkpoint-16.tmp-saving"
# ---- damage
flip() { # FILE: one bit of its last byte but one
    size=$(stat -c %s "$1")
    byte=$(od -An -tu1 -j $((size - 2)) -N1 "$1")
    printf "\\$(printf %o $((byte ^ 1)))" | dd of="$1" bs=1 seek=$((size - 2)) conv=notrunc status=none
}
cp -r "$T/whole" "$T/flipped"
rm -r "$T/flipped/final"
flip "$T/flipped/checkpoint-12/transformer/diffusion_pytorch_model.safetensors"
flip "$T/flipped/checkpoint-8/weft_state/optimizer.safetensors"
check "a bit is flipped" sh -c \
    "! cmp -s $T/whole/checkpoint-8/weft_state/optimizer.safetensors $T/flipped/checkpoint-8/weft_state/optimizer.safetensors"
runs "flipped bits in checkpoints" 0 train flipped
stderr_has "checkpoint-12 is damaged and is not used"
stderr_has "checkpoint-8 is damaged and is not used"
stderr_has "SHA-256 differs"
same_run "flipped bits in checkpoints" flipped
check "final has files of its own" test "$(stat -c %i $P/vae/config.json)" != \
    "$(stat -c %i "$T/whole/final/vae/config.json")" -a "$(stat -c %h "$T/whole/final/vae/config.json")" = 1
cp -r "$T/whole" "$T/maimed"
for part in vae/diffusion_pytorch_model.safetensors tokenizer/spiece.model transformer/config.json model_index.json; do
    rm "$T/maimed/final/$part"
    runs "final without $part" 0 train maimed
    same "final without $part: made again" "$T/whole/final" "$T/maimed/final"
done
flip "$T/maimed/final/scheduler/scheduler_config.json"
runs "final with a flipped bit" 0 train maimed
same "final with a flipped bit: made again" "$T/whole/final" "$T/maimed/final"
runs "one checkpoint kept" 0 train kept --set training.checkpoints_total_limit=1
check "one checkpoint kept: only the last" test "$(ls -d "$T"/kept/checkpoint-* | wc -l)" = 1 \
    -a -d "$T/kept/checkpoint-12"

# ---- kill -9 at random moments, then once more: 120 steps with a checkpoint every 5
LONG="--set training.max_steps=120 --set training.checkpointing_steps=5 --set training.batch_size=4"
KILLED="$W run --cache $T/a --cache $T/b --out $T/killed $SETS $LONG"
counts "a longer run" 0 "$W" run --cache "$T/a" --cache "$T/b" --out "$T/long" $SETS $LONG
killed_often 6 $((calls / 3)) $KILLED
runs "killed, then run again" 0 $KILLED
for part in final checkpoint-5 checkpoint-60 checkpoint-115 checkpoint-120 run.json; do
    same "killed $kills times: $part" "$T/long/$part" "$T/killed/$part"
done
same_log "killed: log" "$T/long/log.jsonl" "$T/killed/log.jsonl"
same_held_out "killed" long killed

# ---- bf16 gradients, and weights without masters
HALF="--set training.gradient_dtype=bf16 --set training.master_weights=false"
runs "plan with bf16 gradients and weights" 0 "$W" plan --cache "$T/a" $SETS $HALF
stdout_has "weights 71.26 kB (bf16, no master), gradients 71.26 kB (bf16), m 143 kB"
runs "bf16 gradients and weights" 0 train half $LONG $HALF
checkpoint="$T/half/checkpoint-5"
check "no master in a checkpoint" sh -c "! grep -aq '\"master\.' $checkpoint/weft_state/optimizer.safetensors"
check "its weights are bf16" sh -c \
    "grep -aq '\"BF16\"' $checkpoint/transformer/*.safetensors && ! grep -aq '\"F32\"' $checkpoint/transformer/*.safetensors"
KILLED="$W run --cache $T/a --cache $T/b --out $T/half-killed $SETS $LONG $HALF"
killed_often 4 $((calls / 2)) $KILLED
runs "bf16, killed, then run again" 0 env OMP_NUM_THREADS=2 $KILLED
for part in final checkpoint-5 checkpoint-60 checkpoint-120; do
    same "bf16, killed $kills times: $part" "$T/half/$part" "$T/half-killed/$part"
done
same_log "bf16, killed: log" "$T/half/log.jsonl" "$T/half-killed/log.jsonl"
runs "going on with fp32 gradients" 2 train half $LONG --set training.master_weights=false
stderr_has 'training.gradient_dtype was "bf16" and is "fp32"'
runs "going on with masters" 2 train half $LONG --set training.gradient_dtype=bf16
stderr_has "training.master_weights was false and is true"
runs "no such type of gradients" 2 train x --set training.gradient_dtype=fp16
stderr_has 'training.gradient_dtype'
stderr_has '"fp32" or "bf16"'
runs "neither true nor false" 2 train x --set training.master_weights=fp32
stderr_has "training.master_weights"
runs "bf16 sums over passes" 0 "$W" run --cache "$T/a" --cache "$T/b" --out "$T/half-passes" $SETS $HALF \
    --set training.max_steps=1 --set training.gradient_accumulation_steps=2
stderr_has "rounded to 8 bits after each pass"
runs "bf16 sums over too many" 2 train x $HALF --set training.gradient_accumulation_steps=257
stderr_has "training.gradient_dtype=fp32"

# ---- asked to stop
at_call when "[ -s $T/stopped/log.jsonl ] && kill -TERM \$PID" "$W" run --cache "$T/a" --cache "$T/b" \
    --out "$T/stopped" $SETS $LONG
lib_name="asked to stop"
if [ $status = 125 ]; then skip "asked to stop" "$no_trace"; else
    check "asked to stop: exit 0" test $status = 0
    stderr_has "weft-train: warning: stopped by SIGTERM at step "
    stderr_has "' is saved, and the same command goes on from there"
    stdout_has "$T/stopped/checkpoint-"
    stdout_has ": stopped at step "
    runs "after a stop" 0 train stopped $LONG
    same "after a stop: final" "$T/long/final" "$T/stopped/final"
fi

# ---- refused
runs "another rate" 2 train whole --set training.learning_rate=0.5
stderr_has "training.learning_rate was 0.001 and is 0.5"
runs "two changes" 2 train whole --set training.weight_decay=0 --seed 4
stderr_has "training.weight_decay"
stderr_has "seed was 0 and is 4"
runs "another cache" 2 "$W" run --cache "$T/a" --out "$T/whole" $SETS
stderr_has "the clips to train on (caches, --limit), their latents or texts are others"
runs "fewer steps than done" 2 train whole --set training.max_steps=5
stderr_has "the recipe ends at step 5"
runs "no such cache" 1 "$W" run --cache "$T/nowhere" --out "$T/x" $SETS
stderr_has "nowhere"
runs "a clip twice" 2 "$W" run --cache "$T/a" --cache "$T/again" --out "$T/x" $SETS
stderr_has "clip 'clip-0' is in cache"
runs "other latent channels" 2 "$W" run --cache "$T/wide" --out "$T/x" $SETS
stderr_has "8 channels, but the transformer reads 4"
runs "another VAE's latents" 2 "$W" run --cache "$T/other" --out "$T/x" $SETS
stderr_has "another VAE"
runs "caches of two VAEs" 2 "$W" run --cache "$T/a" --cache "$T/other" --out "$T/x" $SETS
stderr_has "another VAE"
for other in text tokenizer config; do
    runs "another $other's cache" 2 "$W" run --cache "$T/other-$other" --out "$T/x" $SETS
    stderr_has "was made with another"
    runs "caches of two: $other" 2 "$W" run --cache "$T/sample" --cache "$T/other-$other" --out "$T/x" $SETS
    stderr_has "other-$other' has"
done
cp -r $P "$T/untold"
rm -r "$T/untold/text_encoder" "$T/untold/tokenizer"
runs "a base model without text encoder" 0 "$W" run --cache "$T/a" --out "$T/untold-run" --model "$T/untold" \
    --preset demo --set training.max_steps=1
stderr_has "has no text_encoder, so it is not compared with the one that made the cache"
runs "clips of two sizes" 2 "$W" run --cache "$T/a" --cache "$T/tall" --out "$T/x" $SETS
stderr_has ": a run takes clips of one size"
sed 's/"text_embed_dim": 32/"text_embed_dim": 64/' $P/transformer/config.json >"$T/untold/transformer/config.json"
runs "texts of another width" 2 "$W" run --cache "$T/a" --out "$T/x" --model "$T/untold" --preset demo
stderr_has "226 tokens of 32 values, but the transformer reads 226 of 64"
runs "latents that are not there" 1 "$W" run --cache "$T/lost" --out "$T/x" $SETS
stderr_has "clip 'clip-0': its latents record is not in the cache"
runs "a text that is not there" 1 "$W" run --cache "$T/holes" --out "$T/x" $SETS
stderr_has "clip 'clip-0': its text record is not in the cache"
runs "nothing to train on" 1 "$W" run --cache "$T/val" --out "$T/x" $SETS
stderr_has "no clip of split 'train'"
runs "not a number" 1 "$W" run --cache "$T/nan" --out "$T/nan-run" $SETS --set training.batch_size=1
stderr_has "samples 'clip-0' (timestep"
check "not a number: no checkpoint" sh -c "! ls -d $T/nan-run/checkpoint-* $T/nan-run/final"
runs "half precision" 1 train x --set training.mixed_precision=bf16
stderr_has "mixed_precision is 'bf16'"
runs "half precision: a plan needs no such device" 0 train x --set training.mixed_precision=bf16 --dry-run
stdout_has "(bf16), master"
runs "plan of it" 0 "$W" plan --cache "$T/a" $SETS --set training.mixed_precision=bf16 --device cuda
stdout_has "(bf16), master"
runs "a batch of more clips than there are" 2 train x --set training.batch_size=8
stderr_has "batch_size is 8, but this run has 7 clips"
mkdir "$T/alone" && cp "$W" "$T/alone"
runs "two ranks without libweft-mpi.so" 1 env OMPI_COMM_WORLD_RANK=1 OMPI_COMM_WORLD_SIZE=2 "$T/alone/weft-train" run \
    --cache "$T/a" --out "$T/x" $SETS
stderr_has "this is process 2 of 2 of a Slurm or MPI job, which needs libweft-mpi.so"
cp -r $P "$T/mine"
with_model() { # MODEL OUT: as train, but for the base model
    "$W" run --cache "$T/a" --cache "$T/b" --out "$T/$2" --model "$1" $(echo "$SETS" | sed "s,--model $P,,")
}
runs "into the base model" 2 with_model "$T/mine" mine/run
stderr_has "is in the model folder"
runs "over the base model" 2 with_model "$T/mine/" mine
stderr_has "is in the model folder"
check "the base model is untouched" diff -r $P "$T/mine"
cp -r "$T/whole" "$T/respelled"
runs "the base model in other words" 0 with_model "./tests/../$P/" respelled
runs "a copy of the base model elsewhere" 0 with_model "$T/mine" respelled
flip "$T/mine/transformer/diffusion_pytorch_model.safetensors"
runs "another base model" 2 with_model "$T/mine" respelled
stderr_has "the transformer that training starts from has other weights"
runs "8-bit SGD" 2 train x --set training.use_8bit_adam=true --set training.optimizer=sgd
stderr_has "use_8bit_adam"
runs "an unknown optimiser" 2 train x --set training.optimizer=lion
stderr_has "'training.optimizer': expected"
runs "a shard" 1 train x --shard 0/2
stderr_has "a training run is not made in parts"
runs "no model" 2 "$W" run --preset demo --cache "$T/a" --out "$T/x"
stderr_has "no base model"
runs "no such model" 1 "$W" run --cache "$T/a" --out "$T/x" --preset demo --model "$T/nowhere"
stderr_has "does not exist"
mkdir "$T/taller"
cp -r $P/transformer "$T/taller/transformer"
sed 's/"num_layers": 2/"num_layers": 3/' $P/transformer/config.json >"$T/taller/transformer/config.json"
runs "missing tensors" 1 "$W" run --cache "$T/a" --out "$T/x" --preset demo --model "$T/taller" --quiet
stderr_has "transformer_blocks.2.attn1.norm_k.bias"
stderr_has "transformer_blocks.2.attn1.to_v.weight"
runs "an unknown key" 2 train x --set training.learning_rat=1
stderr_has "learning_rate"
runs "stored samples" 0 "$W" run --cache "$T/sample" --out "$T/sample-run" $SETS
cp -r "$T/whole" "$T/locked"
if command -v flock >/dev/null; then
    runs "two runs in one folder" 1 flock "$T/locked/.lock" "$W" run --cache "$T/a" --cache "$T/b" --out "$T/locked" \
        $SETS
else
    skip "two runs in one folder" "no flock program"
fi
finish
