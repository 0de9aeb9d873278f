#!/bin/sh
# weft-infer sample: what a run will need is checked before its first second of work, and by --dry-run.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
SMALL="--preset demo --device cpu --jobs 1 --set sampling.num_frames=9 --set sampling.width=32 \
    --set sampling.height=48 --set sampling.num_inference_steps=2"
# Both the dry run and the run are refused alike, before anything is written.
refused() { # NAME STATUS TEXT OPTION...
    refused_name=$1
    refused_status=$2
    refused_text=$3
    shift 3
    runs "$refused_name, dry run" "$refused_status" "$INFER" sample $SMALL --prompt x --out "$T/out" "$@" --dry-run
    stderr_has "$refused_text"
    runs "$refused_name" "$refused_status" "$INFER" sample $SMALL --prompt x --out "$T/out" "$@"
    stderr_has "$refused_text"
    check "$refused_name: nothing is written" test ! -e "$T/out"
}
# A copy of the model with one file changed by sed.
changed() { # FILE SED
    rm -rf "$T/model"
    cp -r $MODEL "$T/model"
    sed "$2" "$MODEL/$1" >"$T/model/$1"
}

# ---- where results go ----
refused "no folder for the latents" 1 "the folder '$T/nowhere' does not exist" --model $MODEL \
    --latents-out "$T/nowhere/l.safetensors"
refused "a folder in the latents' place" 2 "is a folder" --model $MODEL --latents-out "$T"
printf 'notes' >"$T/notes.txt"
refused "a file that is no latents file" 1 "notes.txt" --model $MODEL --latents-out "$T/notes.txt"
runs "a file in the folder's place" 2 "$INFER" sample $SMALL --model $MODEL --prompt x --out "$T/notes.txt/out" \
    --dry-run
stderr_has "'$T/notes.txt' is not a folder"

# ---- the sampler's steps ----
changed scheduler/scheduler_config.json 's/"num_train_timesteps": 1000/"num_train_timesteps": 10/'
refused "more steps than the schedule has" 2 "sampling.num_inference_steps" --model "$T/model" \
    --set sampling.num_inference_steps=11
changed scheduler/scheduler_config.json 's/"steps_offset": 0/"steps_offset": 900/; s/trailing/leading/'
refused "an offset that leads out of the schedule" 2 "sampling.num_inference_steps 5" --model "$T/model" \
    --set sampling.num_inference_steps=5

# ---- weights: names and shapes of every part, though most are read late ----
changed vae/config.json 's/"latents_mean": null/"latents_mean": null/; s/"layers_per_block": 1/"layers_per_block": 2/'
refused "a VAE whose weights do not fit its config" 1 "/vae: tensors do not fit" --model "$T/model"
changed transformer/config.json 's/"num_layers": [0-9]*/"num_layers": 7/'
refused "a transformer whose weights do not fit its config" 1 "/transformer: tensors do not fit" --model "$T/model"
changed text_encoder/config.json 's/"num_layers": [0-9]*/"num_layers": 7/'
refused "a text encoder whose weights do not fit its config" 1 "/text_encoder: tensors do not fit" --model "$T/model"
changed text_encoder/config.json 's/x/x/'
rm -r "$T/model/tokenizer"
refused "no tokeniser" 1 "tokenizer" --model "$T/model"
changed text_encoder/config.json 's/x/x/'
head -c 5000 $MODEL/vae/diffusion_pytorch_model.safetensors >"$T/model/vae/diffusion_pytorch_model.safetensors"
refused "a VAE that was cut short" 1 "vae/diffusion_pytorch_model.safetensors" --model "$T/model"

refused "a GIF of too many frames a second" 2 "a GIF shows at most 100 frames a second" --model $MODEL --gif --fps 101
runs "as many as it can" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --out "$T/gif" --gif --fps 100

# ---- tiles of the VAE ----
TILED="--set sampling.vae_tiling=true --set sampling.width=64 --set sampling.height=96"
changed vae/config.json 's/"sample_height": 96/"sample_height": 48/'
refused "tiles that do not meet" 2 "set sample_height to 96" --model "$T/model" $TILED
changed vae/config.json 's/"sample_height": 96/"sample_height": 720/; s/"sample_width": 80/"sample_width": 480/'
refused "tiles of a portrait config" 2 "or set sample_height to 672 or 768" --model "$T/model" --vae-tiling --set \
    sampling.width=480 --set sampling.height=720
runs "a portrait config without tiles" 0 "$INFER" sample --preset demo --device cpu --model "$T/model" --prompt x \
    --width 480 --height 720 --out "$T/portrait" --dry-run
runs "tiles of a small model" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --out "$T/tiled" $TILED
stderr_has "1 sampled"

# ---- memory: each phase's is there before the first step ----
large="--model $MODEL --width 8192 --height 8192 --num-frames 1025"
runs "a large video's memory is told" 0 "$INFER" sample $SMALL --model $MODEL --width 480 --height 720 --prompt x --vae-tiling \
    --out "$T/out" --dry-run
stdout_has "a video's frames 44.5 MiB"
if sanitized; then
    skip "more memory than there is" "a sanitizer ends the program"
elif [ "$(cat /proc/sys/vm/overcommit_memory 2>/dev/null)" = 1 ] ||
    awk '/^(Mem|Swap)Total:/ {n += $2} END {exit n < 1e9}' /proc/meminfo; then
    skip "more memory than there is" "this machine promises any, or has a terabyte"
else
    refused "more memory than there is" 1 "of memory at once, which cannot be had here; make fewer or smaller frames" $large
fi

# ---- what is there already ----
runs "a sample" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --out "$T/done"
runs "a dry run counts it" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --prompt y --out "$T/done" --dry-run
stdout_has "would sample 1 video of 9 frames 32x48"
stdout_has "1 of 2 finished already"
stdout_has "weights, mapped from their files: text encoder 0.00 GiB"
stdout_has "at a time with --offload auto"
stdout_has "for the products and attention of 4 passes of the transformer"
runs "a dry run refuses what the run would" 2 "$INFER" sample $SMALL --model $MODEL --prompt x --guidance 2 \
    --out "$T/done" --dry-run
stderr_has "--overwrite"
runs "made differently and replaced" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --guidance 2 \
    --out "$T/done" --overwrite
stderr_has "1 sampled, 0 reused"
runs "what is the same is not made again" 0 "$INFER" sample $SMALL --model $MODEL --prompt x --guidance 2 \
    --out "$T/done" --overwrite
stderr_has "0 sampled, 1 reused"

# ---- room on the disk ----
mkdir "$T/disk"
if mount -t tmpfs -o size=64k weft-test "$T/disk" 2>/dev/null; then
    runs "no room" 1 "$INFER" sample $SMALL --model $MODEL --prompt x --out "$T/disk/out" \
        --save-frames --dry-run --set sampling.width=512 --set sampling.height=512 --set sampling.num_frames=49
    stderr_has "need at least"
    umount "$T/disk"
else
    skip "no room" "mounting is not allowed here"
fi

# ---- ranks: a batch script alone does everything, a launcher's ranks share ----
ABC="--prompt a --prompt b --prompt c"
runs "a batch script without srun" 0 env SLURM_JOB_ID=7 SLURM_PROCID=0 SLURM_NTASKS=3 "$INFER" sample $SMALL \
    --model $MODEL $ABC --out "$T/batch"
stderr_has "3 sampled, 0 reused"
for rank in 0 1; do
    runs "rank $rank of two" 0 env SLURM_PROCID=0 SLURM_NTASKS=2 OMPI_COMM_WORLD_RANK=$rank OMPI_COMM_WORLD_SIZE=2 \
        "$INFER" sample $SMALL --model $MODEL $ABC --out "$T/ranks"
    stderr_has "$((2 - rank)) sampled, 0 reused"
    check "rank $rank says what it leaves to others" grep -q "shard $rank/2.*left to another process" "$T/stderr"
done
rm -f "$T/batch/.lock" "$T/ranks/.lock"
same "two ranks make what one process makes" "$T/batch" "$T/ranks"

# ---- more prompts than are encoded at a time, each with a negative prompt of its own ----
seq 40 | sed 's/.*/{"prompt": "dress &", "negative_prompt": "not &", "seed": &}/' >"$T/many.jsonl"
ONE="--preset demo --device cpu --jobs 1 --model $MODEL --set sampling.num_frames=1 --set sampling.width=16 \
    --set sampling.height=16 --set sampling.num_inference_steps=1"
runs "forty prompts" 0 "$INFER" sample $ONE --prompts "$T/many.jsonl" --out "$T/many"
stderr_has "40 sampled, 0 reused"
sed -n 40p "$T/many.jsonl" >"$T/last.jsonl"
runs "the last of them alone" 0 "$INFER" sample $ONE --prompts "$T/last.jsonl" --out "$T/last"
check "alone or in a later batch: the same video" cmp "$T/last/dress-40-40.mp4" "$T/many/dress-40-40.mp4"
runs "a prompt that is too long" 0 "$INFER" sample $ONE --out "$T/long" \
    --prompt "$(yes 'a red dress' | head -150 | tr '\n' ' ')turns to the right."
stderr_has "do not fit in 226 and have no effect: '"
stderr_has "turns to the right.'"
# ---- memory stays flat and time linear, however many prompts ----
# used FILE OPTION...: the run's peak in kB and its own time in ms, in $peak and $took
used() {
    used_file=$1
    shift
    runs "$used_file" 0 "$B/tests/tools/usage" "$INFER" sample $ONE --prompts "$T/$used_file" --out "$T/used" "$@"
    read -r peak took <<END
$(sed -n 's/^usage //p' "$T/stderr")
END
}
for n in 10000 100000; do seq $n | sed 's/^/a dress, number /' >"$T/$n.txt"; done
head -100 "$T/10000.txt" >"$T/100.txt"
used 100.txt --dry-run
few=$peak
used 10000.txt --dry-run
stdout_has "  a-dress-number-10000-9999  seed 9999  a dress, number 10000"
little() { # NAME KB OF: $peak is less than so much more than OF, unless a sanitizer keeps what was freed
    check_memory "$1" test "$peak" -lt $(($3 + $2))
}
little "10,000 prompts: $peak kB at most, 100 prompts: $few kB" 8192 "$few"
once=$took
used 100000.txt --dry-run
check "100,000 prompts: $took ms, 10,000 prompts: $once ms" test "$took" -lt $((20 * once))
# one embedding has 226 x 32 floats: 240 prompts more and their negative prompts would be 13.9 MB
seq 280 | sed 's/.*/{"prompt": "dress &", "negative_prompt": "not &", "seed": &}/' >"$T/280.jsonl"
used many.jsonl
few=$peak
rm -r "$T/used"
used 280.jsonl
little "280 sampled: $peak kB at most, 40 sampled: $few kB" 6144 "$few"
finish
