#!/bin/sh
# T5 v1.1 XXL at full size on a small machine: a random checkpoint of its shapes (9.5 GB in two
# shards, made in FOLDER and removed at the end), CAPTIONS short captions (default 5).  Prints the
# memory that was predicted and needed, and how many bytes were read.
#   sh tests/bench/t5_xxl.sh FOLDER [TEXT_LENGTH [CAPTIONS]]
set -e
B=${WEFT_BUILD:-build/release}
folder=$1
length=${2:-32}
captions=${3:-5}
[ -n "$folder" ] || { echo "usage: sh tests/bench/t5_xxl.sh FOLDER [TEXT_LENGTH [CAPTIONS]]" >&2; exit 2; }
mkdir -p "$folder"
T=$(mktemp -d "$folder/t5-xxl-XXXXXX")
trap 'rm -rf "$T"' EXIT
set_=" --preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=32 \
    --set clip.height=64 --set clip.min_side=16"
set_="$set_ --set clip.model_frames=9 --set clip.num_frames=8 --set model.text_length=$length --set cache.dtype=fp16"
mkdir "$T/src"
for i in $(seq "$captions"); do
    "$B/tests/tools/make_clip" "$T/src/c$i.mp4" 32 64 30 40 "$i"
    echo "$i is this clip's number, a dress." >"$T/src/c$i.txt"
done
"$B/tests/tools/make_encoders" "$T/model"
rm -r "$T/model/text_encoder"
"$B/tests/tools/make_t5_xxl" "$T/model/text_encoder"
du -sh "$T/model/text_encoder"
"$B/weft-prep" ingest "$T/src" --out "$T/prep" $set_ --quiet
"$B/weft-prep" tokenize "$T/prep" --tokenizer "$T/model/tokenizer" $set_ --quiet
"$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" $set_ --dry-run
"$B/weft-cache" build "$T/prep" --out "$T/cache" --model "$T/model" $set_ 2>"$T/log" &
pid=$!
anonymous=0
while kill -0 $pid 2>/dev/null; do
    now=$(awk '/^RssAnon|^RssShmem/ {sum += $2} END {print sum + 0}' /proc/$pid/status 2>/dev/null || echo 0)
    read_=$(awk '/^rchar|^read_bytes/ {printf "%s %.1f MB  ", $1, $2 / 1e6}' /proc/$pid/io 2>/dev/null || true)
    [ "$now" -gt "$anonymous" ] && anonymous=$now
    [ -n "$read_" ] && last=$read_
    sleep 1
done
wait $pid
grep -E "predicted|needed" "$T/log"
echo "resident beyond the map, at most: $((anonymous / 1024)) MB; $last"
"$B/weft-cache" verify "$T/cache"
