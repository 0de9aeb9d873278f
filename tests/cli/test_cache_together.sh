#!/bin/sh
# weft-cache and others at the same time: two builders of one cache, readers beside a builder, a read-only
# file system; shards and their merged cache train alike; memory a clip.
. tests/cli/lib.sh
. tests/cli/cache_lib.sh
cache_inputs 6
check "a prepared dataset" prepare "$T/prep"
runs "a build alone" 0 build "$T/one"
BUILD="$cache build $T/prep --model $T/model $small --out"

# ---- while one builder is stopped between two of its writes, another and ten readers ----
cat >"$T/meanwhile" <<END
$BUILD $T/two >$T/second.out 2>$T/second.err
echo \$? >$T/second
for k in 0 1 2 3 4 5 6 7 8 9; do
    { $cache stats $T/two >$T/reader.\$k 2>&1; echo "exit \$?" >>$T/reader.\$k; } &
done
wait
END
if can_trace; then
    counts "a build that is traced" 0 $BUILD "$T/traced"
    at_call $((calls * 3 / 4)) "sh $T/meanwhile" $BUILD "$T/two"
    check "the first builder ends well" test "$status" = 0
    check "the second is refused" test "$(cat "$T/second")" = 1
    check "and says why" grep -qF "'$T/two' is being written by another process" "$T/second.err"
    check "ten readers beside it" test "$(cat "$T"/reader.? | grep -c '^exit 0$')" = 10
    same_contents "the cache is that of one builder" "$T/one" "$T/two"
else
    skip "a second builder" "$no_trace"
fi

# ---- a build that names records again while gc has found them unused ----
mkdir "$T/few"
cp "$T"/src/c[1-4].* "$T/few"
"$B/weft-prep" ingest "$T/few" --out "$T/fewer" $small >/dev/null
"$B/weft-prep" tokenize "$T/fewer" --tokenizer "$T/model/tokenizer" $small >/dev/null
cp -r "$T/one" "$T/dropped" # its records are there, the entries of two clips are not
runs "a build of fewer clips" 0 "$cache" build "$T/fewer" --out "$T/dropped" --model "$T/model" $small
cp -r "$T/dropped" "$T/collected"
if can_trace; then
    counts "gc alone" 0 "$cache" gc "$T/collected"
    stdout_has "0 clips and 6 records of"
    echo "$BUILD $T/gc >/dev/null 2>&1; :" >"$T/meanwhile"
    lost=0
    for k in $(seq "$calls"); do
        rm -rf "$T/gc"
        cp -r "$T/dropped" "$T/gc"
        at_call "$k" "sh $T/meanwhile" "$cache" gc "$T/gc"
        "$cache" verify "$T/gc" >/dev/null || lost=$((lost + 1))
    done
    check "a build beside gc, at each of $calls moments: $lost caches lack a record" test "$lost" = 0
else
    skip "a build beside gc" "$no_trace"
fi

# ---- gc of a build that was stopped keeps the captions, which no clip names yet ----
if can_trace; then
    counts "a build that will be stopped" 0 $BUILD "$T/whole"
    for k in $(seq "$calls"); do # until captions are stored, and not all clips
        rm -rf "$T/stopped"
        at_call "$k" 'kill -TERM $PID' $BUILD "$T/stopped"
        "$cache" ls "$T/stopped" 2>/dev/null | tail -1 >"$T/before"
        grep -q "^[0-5] clips*, .* 7 texts" "$T/before" && break
    done
    check "stopped behind the captions: $(cat "$T/before")" grep -q "^[0-5] clips*, .* 7 texts" "$T/before"
    runs "gc of an unfinished cache" 0 "$cache" gc "$T/stopped"
    stdout_has "unfinished: all captions are kept; finish the build, then run gc again"
    stdout_has "text: 0 records"
    check "the captions are still there" sh -c '"$0" ls "$1" | tail -1 | grep -q " 7 texts"' "$cache" "$T/stopped"
    check "a build goes on" build "$T/stopped"
    same_contents "finished after gc" "$T/one" "$T/stopped"
else
    skip "gc of an unfinished cache" "$no_trace"
fi

# ---- two at the same time, as it happens ----
$BUILD "$T/both" >"$T/a.out" 2>"$T/a.err" &
first=$!
b=0 a=0
$BUILD "$T/both" >"$T/b.out" 2>"$T/b.err" || b=$?
wait $first || a=$?
check "two builders: exit status $a and $b" test $((a * b)) = 0 -a $a -le 1 -a $b -le 1
[ $a = 0 ] || check "the first says why" grep -q "is being written by another process" "$T/a.err"
[ $b = 0 ] || check "the second says why" grep -q "is being written by another process" "$T/b.err"
same_contents "two builders: the cache of one" "$T/one" "$T/both"

# ---- a read-only file system ----
mkdir "$T/disk"
if mount -t tmpfs -o size=8m weft-test "$T/disk" 2>/dev/null; then
    cp -r "$T/one" "$T/disk/c"
    mount -o remount,ro "$T/disk"
    for command in ls stats verify "verify --prepared $T/prep" show; do
        runs "read-only: $command" 0 "$cache" ${command%% *} "$T/disk/c" $(echo "$command" | sed 's/^[a-z]*//')
    done
    runs "read-only: diff" 0 "$cache" diff "$T/prep" --out "$T/disk/c" --model "$T/model" $small
    stdout_has "6 kept as they are"
    runs "read-only: build" 1 $BUILD "$T/disk/c"
    stderr_has "Read-only file system"
    runs "read-only: gc" 1 "$cache" gc "$T/disk/c"
    stderr_has "Read-only file system"
    umount "$T/disk"
    # no room for LMDB's lock.mdb, which its map of the file finds out too late
    mount -t tmpfs -o size=8m weft-test "$T/disk"
    mkdir "$T/disk/c"
    cp "$T/one/data.mdb" "$T/disk/c"
    : >"$T/disk/c/.lock"
    cat /dev/zero >"$T/disk/fill" 2>/dev/null
    for command in ls stats verify show; do
        runs "a full disk: $command" 0 "$cache" $command "$T/disk/c"
        stderr_has "is read without a lock (No space left on device)"
    done
    for command in gc "gc --compact" "build $T/prep --model $T/model $small --out"; do
        runs "a full disk: ${command%% /*}" 1 "$cache" $command "$T/disk/c"
        stderr_has "No space left on device; what was stored before is intact"
    done
    rm "$T/disk/fill"
    runs "room again: build" 0 $BUILD "$T/disk/c"
    umount "$T/disk"
else
    skip "a read-only file system, a full disk" "mounting is not allowed here"
fi

# ---- import with a model: what it records, and whose latents it takes ----
check "an export" "$cache" export "$T/one" --out "$T/export"
mkdir "$T/plain"
cp -r "$T/export/clips" "$T/plain/clips"
sed 's/^.*"id":"\([^"]*\)".*"file":"\([^"]*\)".*$/{"id":"\1","file":"\2"/' "$T/export/clips.jsonl" >"$T/ids"
check "an export's lines are understood" grep -q '^{"id":"c1","file":"clips/0' "$T/ids"
for i in 1 2 3 4 5 6; do # the second caption has no embedding in the file
    sed -n "s/^{\"id\":\"c$i\",.*/&,\"captions\":[\"Clip number $i, a dress.\",\"Clip number 5, a dress.\"]}/p" "$T/ids"
done >"$T/plain/clips.jsonl"
runs "import with a model" 0 "$cache" import "$T/plain" --out "$T/in" --model "$T/model" $small
for from in one in; do "$cache" show "$T/$from" c3 | grep -E '"(vae|text_encoder)_sha256"' >"$T/$from.who"; done
check "it names VAE and text encoder as a build does" cmp "$T/one.who" "$T/in.who"
check "both of them" test "$(wc -l <"$T/in.who")" = 2
for meta in vae text; do
    "$cache" show "$T/one" | sed -n "/\"$meta\": {/,/^  }/p" >"$T/a"
    "$cache" show "$T/in" | sed -n "/\"$meta\": {/,/^  }/p" >"$T/b"
    check "its meta entry '$meta' is a build's" cmp "$T/a" "$T/b"
    check "there is one" test -s "$T/a"
done
"$cache" show "$T/one" c5 | sed -n '/"texts": /,$p' | grep -A 2 '"key"' >"$T/a" # key, type and checksum
"$cache" show "$T/in" c3 | sed -n '/"texts": /,$p' | grep -A 2 '"key"' | tail -3 >"$T/b"
check "the model makes the embedding that a build makes" cmp "$T/a" "$T/b"
check "one embedding" test "$(wc -l <"$T/b")" = 3
check "other encoders" "$B/tests/tools/make_encoders" "$T/other" 1
runs "an export with another model" 2 "$cache" import "$T/export" --out "$T/x" --model "$T/other" $small
stderr_has "another VAE made its latents"
check "nothing is made" test ! -e "$T/x/data.mdb"
cp -r "$T/model" "$T/mixed"
rm -r "$T/mixed/text_encoder"
cp -r "$T/other/text_encoder" "$T/mixed"
runs "an export with another text encoder" 2 "$cache" import "$T/export" --out "$T/x" --model "$T/mixed" $small
stderr_has "another text encoder made its embeddings"
runs "an export with its model" 0 "$cache" import "$T/export" --out "$T/own" --model "$T/model" $small

# ---- training from shards is training from the merged cache ----
P=tests/golden/pipeline/model
tiny="--preset demo --quiet --jobs 1"
long="--set model.text_length=226"
check "tokens of the pipeline's model" "$B/weft-prep" tokenize "$T/prep" --tokenizer $P/tokenizer --preset demo --quiet \
    $long
for k in 0 1 2; do
    runs "shard $k of 3" 0 "$cache" build "$T/prep" --out "$T/s" --model $P $tiny $long --shard $k/3
done
runs "the shards merged" 0 "$cache" merge "$T/s/shard-2-of-3" "$T/s/shard-0-of-3" "$T/s/shard-1-of-3" --out "$T/m" --quiet
runs "a build of all" 0 "$cache" build "$T/prep" --out "$T/w" --model $P $tiny $long
train() { # OUT OPTION...
    train_out=$1
    shift
    "$B/weft-train" run --model $P $tiny --set training.max_steps=6 --set training.checkpointing_steps=6 \
        --set export.copy=copy --out "$T/$train_out" "$@"
    sed 's/,"time":.*//' "$T/$train_out/log.jsonl" >"$T/$train_out.log"
}
runs "train from one build" 0 train from-w --cache "$T/w"
runs "train from the merged cache" 0 train from-m --cache "$T/m"
runs "train from three shards" 0 train from-s --cache "$T/s/shard-1-of-3" --cache "$T/s/shard-0-of-3" \
    --cache "$T/s/shard-2-of-3"
check "six steps are logged" test "$(wc -l <"$T/from-w.log")" = 6
for run in m s; do
    check "from-$run: the same losses" cmp "$T/from-w.log" "$T/from-$run.log"
    check "from-$run: the same weights" cmp "$T/from-w/final/transformer/diffusion_pytorch_model.safetensors" \
        "$T/from-$run/final/transformer/diffusion_pytorch_model.safetensors"
done

# ---- memory a clip ----
few=100 many=700
memory() { "$B/tests/tools/usage" -a "$@" 2>&1 | sed -n 's/^usage //p' | cut -d' ' -f4; } # COMMAND...
peak() { # N: the most memory that is no mapped file, in kB
    set -- "$1" "$cache" build "$T/p$1" --out "$T/c$1" --model "$T/model" $small --jobs 1
    "$B/tests/tools/many_clips" "$T/prep" "$T/p$1" "$1" &&
        "$B/weft-prep" tokenize "$T/p$1" --tokenizer "$T/model/tokenizer" $small >/dev/null 2>&1
    shift
    "$@" >/dev/null 2>&1 # again without what a batch holds until it is written
    memory "$@"
}
if [ -r /proc/self/status ]; then
    low=$(peak $few)
    high=$(peak $many)
    echo "# $low kB with $few clips, $high kB with $many"
    # a whole manifest line of 9 frames, as JSON in memory, takes 30 kB
    check_memory "each clip more takes less than 10 kB" test "$low" -gt 0 -a $((high - low)) -lt $(((many - few) * 10))
    runs "many clips are all there" 0 "$cache" verify "$T/c$many" --prepared "$T/p$many"
    stdout_has "$many clips, 0 damaged, 0 missing"
    low=$(memory "$cache" verify "$T/c$few") high=$(memory "$cache" verify "$T/c$many")
    check_memory "verify keeps nothing of a clip: $low and $high kB" test $((high - low)) -lt $(((many - few) / 10))
else
    skip "memory a clip" "there is no /proc"
fi
finish
