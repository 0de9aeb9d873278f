#!/bin/sh
# weft-cache verify --prepared and --deep, gc, merge, stats.
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
runs "verify --deep with other weights" 1 "$cache" verify "$T/one" --prepared "$T/prep" --model "$T/other" --deep 1 --quiet
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
check "they are those of the smaller dataset" sh -c '"$0" ls --json "$1" >"$3/a"; "$0" ls --json "$2" >"$3/b"; cmp "$3/a" "$3/b"' "$cache" "$T/gc" "$T/less" "$T"
check "--compact made the file smaller" test "$(stat -c %s "$T/gc/data.mdb")" -lt "$(stat -c %s "$T/one/data.mdb")"
runs "a build into a compacted cache" 0 build "$T/gc"
stdout_has "2 computed, 7 reused"
same_contents "the dropped clip is back" "$T/one" "$T/gc"
runs "gc keeps what any dataset has" 0 "$cache" gc "$T/gc" --keep "$T/fewer" --keep "$T/prep"
stdout_has "0 clips and 0 records"
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
check "two datasets: a digest of its own" sh -c '! "$0" show "$1" | grep -qF "$("$0" show "$2" | grep manifest_sha256)"' "$cache" "$T/both" "$T/one"

# ---- stats ----
runs "stats" 0 "$cache" stats "$T/one"
stdout_has "clips: 4, captions: 4"
stdout_has "sizes: 9 frames of 32x64 4"
stdout_has "latents: 4 records"
stdout_has "channel  3: mean"
runs "stats as JSON" 0 "$cache" stats --json "$T/one"
stdout_has '"posterior_std":'
finish
