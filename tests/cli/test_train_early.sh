#!/bin/sh
# weft-train: what would stop a run at its end is found before its first step, and by --dry-run, which writes nothing.
. tests/cli/lib.sh
P=tests/golden/pipeline/model
W="$B/weft-train"
check "caches for the test" "$B/tests/tools/train_fixture" $P "$T"
SETS="--preset demo --quiet --jobs 1 --set training.max_steps=4 --set training.checkpointing_steps=2"
train() { # MODEL OUT OPTION...
    train_model=$1
    train_out=$2
    shift 2
    "$W" run --cache "$T/a" --model "$train_model" --out "$T/$train_out" $SETS "$@"
}
# Both ways, with the model $T/model; neither a dry run nor a run that is refused writes a thing.
refused() { # NAME STATUS TEXT OPTION...
    refused_name=$1
    refused_status=$2
    refused_text=$3
    shift 3
    rm -rf "$T/run"
    for dry in --dry-run ""; do
        runs "$refused_name: ${dry:-run}" "$refused_status" train "$T/model" run $dry "$@"
        stderr_has "$refused_text"
        check "$refused_name: ${dry:-run}: nothing was written" test ! -e "$T/run"
    done
}
model() { # a fresh copy
    rm -rf "$T/model"
    cp -r $P "$T/model"
}

# ---- what final/ copies
model
ln -s ../../../blobs/gone "$T/model/text_encoder/pytorch_model.bin"
refused "a dangling link in a component" 1 "text_encoder/pytorch_model.bin' is a link to something that does not exist"
model
: >"$T/model/model_index.json"
refused "an empty model_index.json" 1 "model_index.json"
echo '[1]' >"$T/model/model_index.json"
refused "a list for a model_index.json" 1 "expected a JSON object"
echo '{"../vae": ["diffusers", "X"]}' >"$T/model/model_index.json"
refused "a component outside" 1 "is no plain name"
model
mkfifo "$T/model/scheduler/pipe"
refused "a pipe in a component" 1 "scheduler/pipe' is no regular file"
model
mkdir -p "$T/model/vae/1/2/3/4/5"
refused "deep folders" 1 "folders more than"
if [ "$(id -u)" != 0 ]; then
    model
    chmod 000 "$T/model/vae/config.json"
    refused "no permission in a component" 1 "Permission denied"
    chmod 644 "$T/model/vae/config.json"
fi
model
rm -r "$T/model/scheduler"
runs "a component that is not there" 0 train "$T/model" lacking --dry-run
stderr_has "lists 'scheduler' but has no such folder"
rm "$T/model/model_index.json"
runs "no model_index.json" 0 train "$T/model" lacking --dry-run
stderr_has "final/ will hold the transformer alone"

# ---- weights
model
sed -i 's/"num_layers": 2/"num_layers": 3/' "$T/model/transformer/config.json"
refused "weights of another config" 1 "transformer_blocks.2.attn1.to_v.weight"
model
truncate -s -1000 "$T/model/transformer/diffusion_pytorch_model.safetensors"
refused "a short weights file" 1 "diffusion_pytorch_model.safetensors"

# ---- the output folder and the disk
model
: >"$T/file"
for dry in --dry-run ""; do
    runs "--out below a file: ${dry:-run}" 2 train "$T/model" file/run $dry
    stderr_has "is not a folder"
    runs "--out is the cache: ${dry:-run}" 2 train "$T/model" a $dry
    stderr_has "is a cache; give the run a folder of its own"
    if [ "$(id -u)" = 0 ]; then skip "--out without permission: ${dry:-run}" "root may write everywhere"; else
        mkdir -p "$T/closed"
        chmod 555 "$T/closed"
        runs "--out without permission: ${dry:-run}" 1 train "$T/model" closed/run $dry
        stderr_has "no file can be made in"
    fi
done
runs "more checkpoints than a disk holds" 1 train "$T/model" huge --dry-run --set training.num_epochs=1000000 \
    --set training.max_steps=null --set training.batch_size=1 --set training.checkpointing_steps=1
stderr_has "5000000 more checkpoints of 427 kB"
stderr_has "set training.checkpoints_total_limit"
runs "two of them kept" 0 train "$T/model" huge --dry-run --set training.num_epochs=1000000 \
    --set training.max_steps=null --set training.batch_size=1 --set training.checkpointing_steps=1 \
    --set training.checkpoints_total_limit=2
if unshare -rm true 2>/dev/null; then
    mkdir "$T/small"
    small() { # OPTION...: the command on a disk of 2 MB
        unshare -rm sh -c 'mount -t tmpfs -o size=2m tmpfs "$1" && shift && "$@"' sh "$T/small" "$W" run \
            --cache "$T/a" --model $P --out "$T/small/run" $SETS "$@"
    }
    runs "a disk of 2 MB" 1 small --set training.checkpointing_steps=1
    stderr_has "are free, but the run needs"
    runs "a disk of 2 MB, one checkpoint kept" 0 small --set training.checkpointing_steps=1 \
        --set training.checkpoints_total_limit=1
else
    skip "a disk of 2 MB" "this system lets no user mount a tmpfs"
fi

# ---- what the dry run says, against what is written
runs "dry run" 0 train "$T/model" run --dry-run
stdout_has "disk               2 checkpoints of 427 kB to save, final/ of"
runs "run" 0 train "$T/model" run
size=$(find "$T/run/checkpoint-2" -name '*.safetensors' -exec stat -c %s {} + | awk '{n += $1} END {print n}')
check "a checkpoint's tensors take what was said ($size bytes)" test "$size" -gt 427392 -a "$size" -lt 470000
runs "dry run of a resume" 0 train "$T/model" run --dry-run --set training.max_steps=9
stdout_has "goes on from checkpoint-4"
stdout_has "3 checkpoints of 427 kB to save"
runs "dry run of a resume that is refused" 2 train "$T/model" run --dry-run --set training.learning_rate=0.5
stderr_has "training.learning_rate was 0.001 and is 0.5"
check "dry runs: nothing was written" test "$(wc -l <"$T/run/log.jsonl")" = 4 -a ! -e "$T/run/checkpoint-9"
rm -r "$T/run/final"
ln -s nowhere "$T/run/final"
refused_final() { train "$T/model" run --set training.max_steps=6; }
runs "final is a link to nothing" 1 refused_final
stderr_has "final' is a link to something that does not exist"
check "final is a link to nothing: no step was made" test "$(wc -l <"$T/run/log.jsonl")" = 4
runs "one shard of three" 2 "$W" plan --cache "$T/shard-0-of-3" --model $P $SETS
stderr_has "shards 1/3, 2/3 are missing"
runs "three shards of three" 0 "$W" plan --cache "$T/shard-0-of-3" --cache "$T/shard-2-of-3" --cache "$T/shard-1-of-3" \
    --model $P $SETS
stdout_has "samples            5 in 3 caches"
runs "one sample" 0 "$W" plan --cache "$T/again" --model $P $SETS --set training.batch_size=1 \
    --set training.num_epochs=1
stdout_has "samples            1 in 1 cache;"
stdout_has "in at most 1 epoch of 1; a step is 1 pass of 1 sample"
finish
