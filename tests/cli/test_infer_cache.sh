#!/bin/sh
# weft-infer sample --from-cache: the captions of a cache and their embeddings; no text encoder is there.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
SMALL="--preset demo --device cpu --jobs 1 --num-frames 9 --width 32 --height 48 --steps 2"
small="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 --set clip.height=64 \
    --set clip.min_side=16 --set clip.model_frames=9 --set clip.num_frames=8 --set captions.split=hash --set captions.val_ratio=0.5 --set captions.test_ratio=0 \
    --set cache.dtype=fp32 --device cpu --quiet"

mkdir -p "$T/src/dress" "$T/src/coat"
for i in 1 2 3 4; do
    kind=$([ $i -gt 2 ] && echo coat || echo dress)
    "$B/tests/tools/make_clip" "$T/src/$kind/c$i.mp4" 32 64 30 40 "$i" || fail "make c$i"
    echo "A woman in a red $kind turns to the right, number $i." >"$T/src/$kind/c$i.txt"
done
# without --device, which weft-prep does not know
prep=$(echo "$small" | sed 's/--device cpu//')
runs "ingest" 0 "$B/weft-prep" ingest "$T/src" --out "$T/prep" $prep
runs "tokenize" 0 "$B/weft-prep" tokenize "$T/prep" --tokenizer $MODEL/tokenizer $prep
runs "build" 0 "$cache" build "$T/prep" --out "$T/cache" --model $MODEL $small

cp -r $MODEL "$T/model"
rm -r "$T/model/text_encoder" "$T/model/tokenizer"
sample() { "$INFER" sample $SMALL --model "$T/model" "$@"; }
runs "what would be sampled" 0 sample --from-cache "$T/cache" --out "$T/all" --dry-run
stdout_has "would sample 4 videos"
stdout_has "text encoder 0.0 MiB"
check "in the order of clips, seeds one after another" test \
    "$(sed -n 's/^  .*seed \([0-9]\) .*number \([0-9]\).$/\1\2/p' "$T/stdout" | tr '\n' ' ')" = "03 14 21 32 "
runs "captions" 0 sample --from-cache "$T/cache" --out "$T/all"
stdout_has "$T/all/coat/a-woman-in-a-red-coat-turns-to-the-right-number-3-0.mp4"
check "the record names the clip" grep -q '"clip": "coat_c3"' "$T/all/coat/"*3-0.json
check "the index, too" grep -q '"clip": "coat_c3"' "$T/all/index.json"
runs "again" 0 sample --from-cache "$T/cache" --out "$T/all"
stderr_has "0 sampled, 4 reused"
runs "one split" 0 sample --from-cache "$T/cache" --split val --out "$T/val" --dry-run
"$cache" ls "$T/cache" --json >"$T/ls.txt"
val=$(grep -o '"split": *"val"' "$T/ls.txt" | wc -l)
check "has $val clips" grep -q "would sample $val video" "$T/stdout"
runs "the first ones" 0 sample --from-cache "$T/cache" --limit 1 --out "$T/one" --dry-run
stdout_has "would sample 1 video "
runs "a split without clips" 2 sample --from-cache "$T/cache" --split test --out "$T/x"
stderr_has "has no clips of split test"

# The cache's embeddings are those that the encoder makes.
cat >"$T/prompts.jsonl" <<'END'
{"prompt": "A woman in a red coat turns to the right, number 3.", "category": "coat"}
END
runs "the same caption, encoded" 0 "$INFER" sample $SMALL --model $MODEL --prompts "$T/prompts.jsonl" --out "$T/direct"
pixels() { grep -oh '"rgb_sha256": "[0-9a-f]*"' "$1"/coat/*-3-0.json; }
check "gives the same pixels" test "$(pixels "$T/direct")" = "$(pixels "$T/all")"

refused() { # TEXT OPTION...
    refused_text=$1
    shift
    runs "$refused_text" 2 sample --out "$T/x" "$@"
    stderr_has "$refused_text"
    check "nothing is written" test ! -e "$T/x"
}
refused "leave --prompt out" --from-cache "$T/cache" --prompt x
refused "--split chooses clips of a cache" --split val --prompt x
refused "has no embedding of \"blurry\"" --from-cache "$T/cache" --negative-prompt blurry
runs "without guidance it needs none" 0 sample --from-cache "$T/cache" --limit 1 --negative-prompt blurry --guidance 1 \
    --out "$T/free" --dry-run
sed 's/"max_text_seq_length": 226/"max_text_seq_length": 77/' $MODEL/transformer/config.json \
    >"$T/model/transformer/config.json"
refused "has embeddings of 226x32, but the transformer reads 77x32" --from-cache "$T/cache"
cp $MODEL/transformer/config.json "$T/model/transformer/config.json"
check "caches with a lost embedding" "$B/tests/tools/train_fixture" $MODEL "$T/fixture"
runs "a lost embedding, dry run" 1 sample --from-cache "$T/fixture/holes" --out "$T/x" --dry-run
stderr_has "has lost the embedding of \"one\"; run weft-cache build again"
runs "a lost embedding" 1 sample --from-cache "$T/fixture/holes" --out "$T/x"
check "is found before anything is written" test ! -e "$T/x"
runs "no cache" 1 sample --from-cache "$T/nowhere" --out "$T/x"
runs "without it, a text encoder is needed" 1 sample --prompt x --out "$T/x"
stderr_has "text_encoder"
finish
