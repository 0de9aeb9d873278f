#!/bin/sh
# sh tests/bench/many_clips.sh BUILD WORK N...: what weft-cache takes for N clips of one frame of 16x16,
# all with pixels and captions of their own: a line of a table a command (take.sh).  WORK is kept; what lies
# there already is used.
set -e
B=$1 work=$2
shift 2
small="--preset demo --quiet --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=16 \
    --set clip.height=16 --set clip.min_side=16 --set clip.model_frames=1 --set clip.num_frames=1 \
    --set model.text_length=32"
mkdir -p "$work/src"
if [ ! -d "$work/one" ]; then
    "$B/tests/tools/make_clip" "$work/src/c.mp4" 16 16 30 40 1
    echo "A dress." >"$work/src/c.txt"
    "$B/tests/tools/make_encoders" "$work/model"
    "$B/weft-prep" ingest "$work/src" --out "$work/one" $small
fi
if [ ! -e "$work/model/transformer" ]; then # weft-train plan reads no weights
    from=tests/golden/pipeline/model
    mkdir "$work/model/transformer"
    cp -r "$from/model_index.json" "$from/scheduler" "$work/model"
    sed -e 's/\("text_embed_dim":\).*/\1 16,/' -e 's/\("max_text_seq_length":\).*/\1 32,/' \
        -e 's/\("sample_frames":\).*/\1 1,/' -e 's/\("sample_\(height\|width\)":\).*/\1 2,/' \
        "$from/transformer/config.json" >"$work/model/transformer/config.json"
fi

. tests/bench/take.sh

for n in "$@"; do
    p="$work/prepared-$n" c="$work/cache-$n"
    if [ ! -e "$p/tokens.jsonl" ]; then
        "$B/tests/tools/many_clips" "$work/one" "$p" "$n"
        "$B/weft-prep" tokenize "$p" --tokenizer "$work/model/tokenizer" $small >/dev/null 2>&1
        sleep 3 # files that were just written are not remembered
    fi
    take build "$B/weft-cache" build "$p" --out "$c" --model "$work/model" $small
    take "build, nothing to do" "$B/weft-cache" build "$p" --out "$c" --model "$work/model" $small
    take diff "$B/weft-cache" diff "$p" --out "$c" --model "$work/model" $small
    take "ls --csv" "$B/weft-cache" ls --csv "$c"
    take "show ID" "$B/weft-cache" show "$c" clip-0000001
    take verify "$B/weft-cache" verify "$c"
    take "verify --prepared" "$B/weft-cache" verify "$c" --prepared "$p"
    take "gc --keep" "$B/weft-cache" gc "$c" --keep "$p"
    take stats "$B/weft-cache" stats "$c"
    take "weft-train plan" "$B/weft-train" plan --cache "$c" --model "$work/model" --preset demo \
        --set model.text_length=32
done
