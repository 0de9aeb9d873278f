#!/bin/sh
# weft-cache verify --prepared and --deep, gc, merge, stats, diff, preview, export, import.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
cache_inputs 4
check "a prepared dataset" prepare "$T/prep"
check "a cache" build "$T/one"
rm "$T/src/c4.mp4" "$T/src/c4.txt"
check "a smaller dataset" prepare "$T/fewer"

# ---- verify ----
runs "verify against the dataset" 0 "$cache" verify "$T/one" --prepared "$T/prep"
stdout_has "14 records, 4 clips, 0 damaged, 0 missing"
runs "verify --deep" 0 "$cache" verify "$T/one" --prepared "$T/prep" --model "$T/model" --deep 3 --quiet
stdout_has "encoded again: 3 clips, 3 captions, 0 differing"
runs "verify --deep without a model" 2 "$cache" verify "$T/one" --deep 3
stderr_has "give --prepared FOLDER and --model FOLDER"
check "other encoders" "$B/tests/tools/make_encoders" "$T/other" 1
runs "verify --deep with other weights" 1 "$cache" verify "$T/one" --prepared "$T/prep" --model "$T/other" --deep 1 \
    --quiet
stdout_has "its latents were made from other inputs, weights or settings"
check "a cache of the smaller dataset" "$cache" build "$T/fewer" --out "$T/less" --model "$T/model" $small
runs "verify where a clip is missing" 1 "$cache" verify "$T/less" --prepared "$T/prep"
stdout_has "missing: c4: not in the cache"
stdout_has "0 damaged, 1 missing"

# ---- gc ----
runs "gc of a new cache" 0 "$cache" gc "$T/one"
stdout_has "0 clips and 0 records of 0 bytes dropped"
cp -r "$T/one" "$T/gc"
runs "gc --dry-run" 0 "$cache" gc "$T/gc" --keep "$T/fewer" --dry-run
stdout_has "1 clip and 3 records of"
stdout_has "would be dropped"
same_contents "a dry run changes nothing" "$T/one" "$T/gc"
runs "gc" 0 "$cache" gc "$T/gc" --keep "$T/fewer" --compact
stdout_has "latents: 1 record, 3120 bytes"
stdout_has "1 clip and 3 records of"
runs "verify after gc" 0 "$cache" verify "$T/gc" --prepared "$T/fewer"
stdout_has "3 clips, 0 damaged, 0 missing"
runs "the records that are left" 0 "$cache" verify "$T/less"
check "they are those of the smaller dataset" sh -c \
    '"$0" ls --json "$1" >"$3/a"; "$0" ls --json "$2" >"$3/b"; cmp "$3/a" "$3/b"' "$cache" "$T/gc" "$T/less" "$T"
check "--compact made the file smaller" test "$(stat -c %s "$T/gc/data.mdb")" -lt "$(stat -c %s "$T/one/data.mdb")"
runs "a build into a compacted cache" 0 build "$T/gc"
stdout_has "2 computed, 7 reused"
same_contents "the dropped clip is back" "$T/one" "$T/gc"
runs "gc keeps what any dataset has" 0 "$cache" gc "$T/gc" --keep "$T/fewer" --keep "$T/prep"
stdout_has "0 clips and 0 records"
cp -r "$T/src" "$T/others"
for i in 1 2 3; do "$B/tests/tools/make_clip" "$T/others/c$i.mp4" 32 64 30 40 "1$i"; done
"$B/weft-prep" ingest "$T/others" --out "$T/other-prep" $small >/dev/null
runs "gc with a dataset of other clips" 2 "$cache" gc "$T/less" --keep "$T/other-prep"
stderr_has "'$T/less': none of its 3 clips is in '$T/other-prep' with the same pixels"
runs "gc with a dataset of other clips: nothing is dropped" 0 "$cache" verify "$T/less" --prepared "$T/fewer"
runs "gc with a dataset of other clips, dry" 0 "$cache" gc "$T/less" --keep "$T/other-prep" --dry-run
stdout_has "3 clips and"
runs "gc of no cache" 1 "$cache" gc "$T/nothing"
check "and none is made" test ! -e "$T/nothing"
runs "gc without a dataset" 1 "$cache" gc "$T/gc" --keep "$T/src"
stderr_has "not a finished prepared dataset"

# ---- merge ----
for k in 0 1 2; do check "shard $k" build "$T/shards" --shard $k/3; done
s="$T/shards/shard-0-of-3 $T/shards/shard-1-of-3 $T/shards/shard-2-of-3"
runs "merge" 0 "$cache" merge $s --out "$T/merged" --quiet
stdout_has "4 clips of 3 caches"
same_contents "three shards merged: the cache of a single build" "$T/one" "$T/merged"
runs "verify of a merged cache" 0 "$cache" verify "$T/merged" --prepared "$T/prep"
runs "merge again" 0 "$cache" merge $s --out "$T/merged" --quiet
same_contents "nothing has changed" "$T/one" "$T/merged"
runs "a shard is missing" 2 "$cache" merge "$T/shards/shard-0-of-3" "$T/shards/shard-2-of-3" --out "$T/x" --quiet
stderr_has "shard 1 of 3 of a dataset is not among the sources"
runs "the same source twice" 2 "$cache" merge "$T/one" "$T/one" --out "$T/x" --quiet
stderr_has "is given twice"
runs "into a source" 2 "$cache" merge "$T/one" --out "$T/one" --quiet
stderr_has "must be another folder"
runs "into another cache" 2 "$cache" merge "$T/less" --out "$T/merged" --quiet
stderr_has "holds something else"
check "a cache of other weights" "$cache" build "$T/prep" --out "$T/weights" --model "$T/other" $small
runs "other weights do not mix" 2 "$cache" merge "$T/one" "$T/weights" --out "$T/x" --quiet
stderr_has "was made with another VAE"
runs "two datasets" 0 "$cache" merge "$T/one" "$T/less" --out "$T/both" --quiet
stdout_has "4 clips of 2 caches"
runs "verify of two datasets" 0 "$cache" verify "$T/both"
stdout_has "14 records, 4 clips, 0 damaged"
check "two datasets: a digest of its own" sh -c \
    '! "$0" show "$1" | grep -qF "$("$0" show "$2" | grep manifest_sha256)"' "$cache" "$T/both" "$T/one"

# ---- stats ----
runs "stats" 0 "$cache" stats "$T/one"
stdout_has "clips: 4, captions: 4"
stdout_has "sizes: 9 frames of 32x64 4"
stdout_has "latents: 4 records"
stdout_has "channel  3: mean"
runs "stats as JSON" 0 "$cache" stats --json "$T/one"
stdout_has '"posterior_std":'

# ---- diff ----
difference() { # PREPARED CACHE MODEL [OPTION...]
    difference_p=$1 difference_c=$2 difference_m=$3
    shift 3
    "$cache" diff "$difference_p" --out "$difference_c" --model "$difference_m" $small "$@"
}
runs "diff of what is built" 0 difference "$T/prep" "$T/one" "$T/model"
check "diff of what is built: one line" test "$(wc -l <"$T/stdout")" = 1
stdout_has "0 to add, 0 to make again, 0 to rewrite the entry of, 0 to drop, 4 kept as they are"
runs "diff with a new clip" 0 difference "$T/prep" "$T/less" "$T/model"
stdout_has "add	c4	not in the cache"
runs "diff with a clip that went" 0 difference "$T/fewer" "$T/one" "$T/model"
stdout_has "drop	c4	not in the dataset"
stdout_has "3 kept as they are"
runs "diff with other weights" 0 difference "$T/prep" "$T/one" "$T/other"
stdout_has "again	c1	other weights of the VAE"
runs "diff with another stored type" 0 difference "$T/prep" "$T/one" "$T/model" --set cache.dtype=bf16
stdout_has "another stored type"
runs "diff with tiles" 0 difference "$T/prep" "$T/one" "$T/model" --set cache.vae_tiling=true
stdout_has "other settings of the VAE"
runs "diff without a cache" 0 difference "$T/prep" "$T/none" "$T/model"
stdout_has "4 to add"
check "diff makes nothing" test ! -e "$T/none"
echo "Another caption." >"$T/src/c3.txt"
check "a dataset with another caption" prepare "$T/words"
runs "diff with another caption" 0 difference "$T/words" "$T/one" "$T/model"
stdout_has "again	c3	other captions"

# ---- preview ----
runs "preview of two clips" 0 "$cache" preview "$T/one" c2 c4 --prepared "$T/prep" --model "$T/model" --out "$T/show" \
    --quiet
stdout_has "c2	"
stdout_has " dB	worst frame "
check "preview: page and pictures" sh -c \
    'grep -q "c4</bdi>: PSNR" "$0/index.html" && grep -q "name=.viewport" "$0/index.html" && test -s "$0/0001.png" && test -s "$0/0002.png" && test ! -e "$0/0003.png"' \
    "$T/show"
runs "preview of the worst" 0 "$cache" preview "$T/one" --worst 1 --prepared "$T/prep" --model "$T/model" \
    --out "$T/worst" --quiet
"$cache" preview "$T/one" c1 c2 c3 c4 --prepared "$T/prep" --model "$T/model" --out "$T/all" --quiet |
    sort -t "$(printf '\t')" -k2n >"$T/sorted"
check "it is the worst of all" sh -c 'test "$(cut -f1-3 "$0")" = "$(head -1 "$1" | cut -f1-3)"' "$T/stdout" "$T/sorted"
runs "preview of what is not there" 1 "$cache" preview "$T/one" nobody --prepared "$T/prep" --model "$T/model" \
    --out "$T/x" --quiet
stderr_has "no accepted clip 'nobody'"
runs "preview of one that is there and one that is not" 1 "$cache" preview "$T/less" c1 c2 c3 nobody --prepared "$T/fewer" \
    --model "$T/model" --out "$T/x" --quiet
stderr_has "no accepted clip 'nobody'"
runs "preview of a clip that is not cached" 1 "$cache" preview "$T/less" c1 c4 --prepared "$T/prep" --model "$T/model" \
    --out "$T/x" --quiet
stderr_has "no clip 'c4' in '$T/less'"
larger=$(echo "$small" | sed 's/clip.height=64/clip.height=512/; s/clip.width=32/clip.width=256/')
"$B/weft-prep" ingest "$T/src" --out "$T/larger" $larger >/dev/null 2>&1
"$B/weft-prep" tokenize "$T/larger" --tokenizer "$T/model/tokenizer" $larger >/dev/null 2>&1
check "a cache of larger clips" "$cache" build "$T/larger" --out "$T/wide" --model "$T/model" $larger
for which in c1 "--worst 2"; do
    runs "preview of larger latents: $which" 2 "$cache" preview "$T/wide" $which --prepared "$T/fewer" \
        --model "$T/model" --out "$T/x" --quiet
    stderr_has "its latents were made from other pixels than '$T/fewer' holds"
done
"$cache" export "$T/wide" --out "$T/wide-export" >/dev/null
sed 's/"pixels_sha256":"[0-9a-f]*"/"pixels_sha256":"'"$(printf %064d 0)"'"/' "$T/wide-export/clips.jsonl" >"$T/lines"
mv "$T/lines" "$T/wide-export/clips.jsonl"
check "larger latents of unknown pixels" "$cache" import "$T/wide-export" --out "$T/unknown"
runs "preview of larger latents of unknown pixels" 1 "$cache" preview "$T/unknown" c1 --prepared "$T/fewer" \
    --model "$T/model" --out "$T/x" --quiet
stderr_has "its latents are not those of 9 frames of 32x64 by this VAE"
check "refused previews make nothing" test ! -e "$T/x"
runs "preview where no folder can be made" 1 "$cache" preview "$T/one" --worst 2 --prepared "$T/prep" \
    --model "$T/model" --out "$T/src/c1.txt/x"
stderr_has "making directory '$T/src/c1.txt'"
check "nothing was decoded before" sh -c '! grep -q "decode:" "$0"' "$T/stderr"
runs "preview with another VAE" 2 "$cache" preview "$T/one" c1 --prepared "$T/prep" --model "$T/other" --out "$T/x" \
    --quiet
stderr_has "has other weights than the VAE that made the latents"
runs "preview of nothing" 2 "$cache" preview "$T/one" --prepared "$T/prep" --model "$T/model" --out "$T/x"
stderr_has "give --worst N"

# ---- export and import ----
runs "export" 0 "$cache" export "$T/one" --out "$T/export"
stdout_has "4 clips"
runs "import" 0 "$cache" import "$T/export" --out "$T/back"
stdout_has "4 clips"
same_contents "exported and imported: the same records and entries" "$T/one" "$T/back"
runs "verify of an imported cache" 0 "$cache" verify "$T/back" --prepared "$T/prep"
runs "import again" 0 "$cache" import "$T/export" --out "$T/back"
same_contents "imported again: nothing has changed" "$T/one" "$T/back"
for type in "cache.dtype=bf16" "cache.store=sample"; do
    rm -rf "$T/t" "$T/te" "$T/tb"
    check "a cache with $type" build "$T/t" --set $type
    runs "its export" 0 "$cache" export "$T/t" --out "$T/te"
    runs "its import" 0 "$cache" import "$T/te" --out "$T/tb"
    same_contents "$type: the same records and entries" "$T/t" "$T/tb"
done
cp -r "$T/export" "$T/lying"
sed 's/"width":32/"width":64/' "$T/export/clips.jsonl" >"$T/lying/clips.jsonl"
runs "import of latents of another size than their line says" 1 "$cache" import "$T/lying" --out "$T/cl"
stderr_has "its latents are F32 [3, 8, 4, 8] (channels last), the VAE gives F32 [3, 8, 8, 8] for such a clip"
sed 's/,"frames":9,/,/; s/,"height":64,/,/; s/,"width":32,/,/' "$T/export/clips.jsonl" >"$T/lying/clips.jsonl"
runs "import of lines without sizes" 0 "$cache" import "$T/lying" --out "$T/cl"
same_contents "they are worked out" "$T/one" "$T/cl"
# a changed tensor does not pass for what was exported
cp -r "$T/export" "$T/changed"
size=$(stat -c %s "$T/changed/clips/00000.safetensors")
printf '\077' | dd of="$T/changed/clips/00000.safetensors" bs=1 seek=$((size - 9)) conv=notrunc 2>/dev/null
runs "import of a changed tensor" 0 "$cache" import "$T/changed" --out "$T/cb"
runs "its records are sound" 0 "$cache" verify "$T/cb"
contents "$T/one" >"$T/a"
contents "$T/cb" >"$T/b"
check "it has a key of its own" sh -c '! cmp -s "$0" "$1"' "$T/a" "$T/b"
# lines as a Python script would write them: the embeddings are made here
mkdir "$T/plain"
cp -r "$T/export/clips" "$T/plain/clips"
n=0
while read -r caption; do
    printf '{"id":"d%d","file":"clips/%05d.safetensors","captions":["%s"]}\n' "$n" "$n" "$caption"
    n=$((n + 1))
done >"$T/plain/clips.jsonl" <<END
A red coat.
A blue coat.
END
runs "import without export.json and model" 1 "$cache" import "$T/plain" --out "$T/p"
stderr_has "--model FOLDER must name the model that made the latents"
runs "import with a model" 0 "$cache" import "$T/plain" --out "$T/p" --model "$T/model" $small
runs "verify of it" 0 "$cache" verify "$T/p"
stdout_has "2 clips, 0 damaged"
runs "show of it" 0 "$cache" show "$T/p" d1
stdout_has '"frames": 9,'
stdout_has '"width": 32,'
# a fault of the last line is found before anything is made
good='{"id":"d0","file":"clips/00000.safetensors","captions":["a"]}'
for last in '"clips/nothing.safetensors","captions":["a"]' '"clips/00001.safetensors","captions":["a"],"width":64'; do
    printf '%s\n{"id":"d1","file":%s}\n' "$good" "$last" >"$T/plain/clips.jsonl"
    runs "import with a last line of $last" 1 "$cache" import "$T/plain" --out "$T/p2" --model "$T/model" $small
    stderr_has "clip 'd1' ("
    check "nothing is made" test ! -e "$T/p2"
done
printf '%s\n' "$good" >"$T/plain/clips.jsonl"
runs "import as another type" 1 "$cache" import "$T/plain" --out "$T/p2" --model "$T/model" $small --set cache.dtype=fp16
stderr_has "moments is F32 [8, 3, 8, 4], expected F16 [8,F,h,w] (cache.dtype says the type)"
printf '{"id":"d0","file":"../x","captions":["a"]}\n' >"$T/plain/clips.jsonl"
runs "a file outside the folder" 2 "$cache" import "$T/plain" --out "$T/p2" --model "$T/model" $small
stderr_has ".."
printf '{"id":"d0","file":"clips/00000.safetensors"}\n' >"$T/plain/clips.jsonl"
runs "a line without captions" 1 "$cache" import "$T/plain" --out "$T/p2" --model "$T/model" $small
stderr_has "captions"
finish
