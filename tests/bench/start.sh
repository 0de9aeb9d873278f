#!/bin/sh
# sh tests/bench/start.sh BUILD WORK: what starts cost with a model folder of CogVideoX-2B's shapes (random
# weights, 3.8 GB; a small text encoder), three times in turns: a line of a table a command (take.sh).
# WORK is kept; what lies there already is used.
set -e
B=$1 work=$2 model=$2/model n=3
small="--preset demo --quiet --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 \
    --set clip.height=64 --set clip.min_side=16 --set clip.model_frames=9 --set clip.num_frames=8"
mkdir -p "$work/src"
if [ ! -d "$work/cache" ]; then
    for i in 1 2 3; do
        "$B/tests/tools/make_clip" "$work/src/c$i.mp4" 32 64 30 40 $i
        echo "Clip number $i, a dress." >"$work/src/c$i.txt"
    done
    "$B/tests/tools/make_encoders" "$model" 0 4096
    rm -r "$model/vae"
    "$B/tests/tools/make_2b" "$model"
    cp -r tests/golden/pipeline/model/model_index.json tests/golden/pipeline/model/scheduler "$model"
    "$B/weft-prep" ingest "$work/src" --out "$work/prepared" $small
    "$B/weft-prep" tokenize "$work/prepared" --tokenizer "$model/tokenizer" $small
    "$B/weft-cache" build "$work/prepared" --out "$work/cache" --model "$model" --device cpu $small
fi

. tests/bench/take.sh

train="--cache $work/cache --model $model --set training.lora_rank=4"
for round in 1 2 3; do
    take "cache build, nothing to do" "$B/weft-cache" build "$work/prepared" --out "$work/cache" --model "$model" \
        --device cpu $small
    take "plan for a card" "$B/weft-train" plan $train
    take "run --dry-run, for a card" "$B/weft-train" run $train --out "$work/run" --dry-run
    take "plan, measured here" "$B/weft-train" plan $train --device cpu --set training.mixed_precision=no
done
