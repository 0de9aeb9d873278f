#!/bin/sh
# weft-prep merge: shards joined are the bytes of one run; what does not belong together is refused;
# killed and run again.
. tests/cli/lib.sh
prep="$B/weft-prep"
clip="$B/tests/tools/make_clip"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=reject --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16 --set clip.max_reject_ratio=1 --set clip.window=chunks \
    --set clip.window_count=2"

mkdir "$T/src"
for i in 1 2 3 4 5 6; do
    "$clip" "$T/src/c$i.mp4" 48 80 30 $((190 + 200 * (i % 2))) "$i" || fail "make c$i"
    echo "Clip number $i, a dress." >"$T/src/c$i.txt"
done
# Look-alikes under names that fall into different shards: whichever two, the whole set decides.
for i in a b c d e; do cp "$T/src/c3.mp4" "$T/src/twin_$i.mp4"; echo "A twin." >"$T/src/twin_$i.txt"; done
echo "this is no video" >"$T/src/text.mp4"
echo "A text." >"$T/src/text.txt"
runs "one run" 3 "$prep" ingest "$T/src" --out "$T/one" $fast
shards() { # OUT N MORE...
    out=$1 n=$2
    shift 2
    k=0
    while [ $k -lt "$n" ]; do
        "$prep" ingest "$T/src" --out "$out" $fast "$@" --shard $k/$n --quiet >/dev/null 2>&1; k=$((k + 1))
    done
}
shards "$T/s" 3
cp -r "$T/s" "$T/s.before"
runs "merge" 3 "$prep" merge "$T"/s/shard-2-of-3 "$T"/s/shard-0-of-3 "$T"/s/shard-1-of-3 --out "$T/whole"
stderr_has "clips linked, 0 copied"
same "merged shards are the bytes of one run" "$T/one" "$T/whole"
same "the shards are as they were" "$T/s.before" "$T/s"
check "look-alikes were found" grep -q near_duplicate "$T/whole/manifest.jsonl"
runs "merge again" 3 "$prep" merge "$T"/s/shard-*-of-3 --out "$T/whole" --jobs 1
stderr_has "0 clips linked, 0 copied"
same "the same bytes when merged again" "$T/one" "$T/whole"
shards "$T/many" 31 # more shards than sources: some hold nothing
runs "merge with empty shards" 3 "$prep" merge "$T"/many/shard-*-of-31 --out "$T/of31" --quiet
same "31 shards are the bytes of one run" "$T/one" "$T/of31"
other=$(mktemp -d /dev/shm/weft-cli-XXXXXX 2>/dev/null)
if [ -n "$other" ] && [ "$(stat -c %d "$other")" != "$(stat -c %d "$T")" ]; then
    runs "merge to another file system" 3 "$prep" merge "$T"/s/shard-*-of-3 --out "$other/whole"
    stderr_has "0 clips linked"
    same "copies are the bytes of one run" "$T/one" "$other/whole"
else
    skip "merge to another file system" "there is no second one"
fi
rm -rf "$other"

latin=$T/$(printf 'caf\351')
runs "merge into a folder whose name is not UTF-8" 3 "$prep" merge "$T"/s/shard-*-of-3 --out "$latin" --jobs 1
same "the same bytes there" "$T/one" "$latin"
rm -rf "$latin"

# ---- killed and run again ----
rm -rf "$T/killed"
counts "merge, undisturbed" 3 "$prep" merge "$T"/s/shard-*-of-3 --out "$T/killed" --jobs 1
kills=0
for k in 1 2 3 4; do
    rm -rf "$T/killed"
    killed_at_call "$(seeded $k "$calls")" "$prep" merge "$T"/s/shard-*-of-3 --out "$T/killed" --jobs 1 &&
        kills=$((kills + 1))
    if [ -f "$T/killed/dataset.json" ]; then same "finished when killed before call $lib_call" "$T/one" "$T/killed"; fi
    "$prep" merge "$T"/s/shard-*-of-3 --out "$T/killed" --quiet >/dev/null 2>&1
    same "merge killed before call $lib_call and run again" "$T/one" "$T/killed"
done
was_killed 4

# ---- what is refused ----
runs "a shard is missing" 2 "$prep" merge "$T"/s/shard-[02]-of-3 --out "$T/x"
stderr_has "shard 1/3 is not among those given"
cp -r "$T/s/shard-0-of-3" "$T/again"
runs "a shard twice" 2 "$prep" merge "$T"/s/shard-*-of-3 "$T/again" --out "$T/x"
stderr_has "are both shard 0/3"
runs "another N" 2 "$prep" merge "$T"/s/shard-[01]-of-3 "$T/many/shard-2-of-31" --out "$T/x"
stderr_has "is one of 31 shards, but"
runs "no shard" 2 "$prep" merge "$T/one" --out "$T/x"
stderr_has "is no shard: it was made without --shard"
shards "$T/blurred" 3 --set quality.blur_warn=14
runs "another recipe" 2 "$prep" merge "$T"/s/shard-[01]-of-3 "$T/blurred/shard-2-of-3" --out "$T/x"
stderr_has "with another recipe than"
stderr_has "quality.blur_warn differs"
cp -r "$T/s" "$T/older"
sed -i 's/"hdr": "reject",//' "$T/older/shard-2-of-3/dataset.json"
check "a key was taken out" sh -c "! grep -q '\"hdr\"' '$T/older/shard-2-of-3/dataset.json'"
runs "a shard of a version that lacked a key" 3 "$prep" merge "$T"/older/shard-*-of-3 --out "$T/of_older" --quiet
same "an older shard merges to the same bytes" "$T/one" "$T/of_older"
cp "$T/src/c1.txt" "$T/c1.txt"
echo "Another caption." >"$T/src/c1.txt"
shards "$T/changed" 3
runs "other captions" 2 "$prep" merge "$T"/s/shard-[01]-of-3 "$T/changed/shard-2-of-3" --out "$T/x"
stderr_has "from other sources or captions than"
cp "$T/c1.txt" "$T/src/c1.txt"
rm "$T/again/dataset.json"
runs "an unfinished shard" 1 "$prep" merge "$T/again" "$T"/s/shard-[12]-of-3 --out "$T/x"
stderr_has "is no finished dataset"
runs "into a shard" 2 "$prep" merge "$T"/s/shard-*-of-3 --out "$T/s/shard-1-of-3/whole"
stderr_has "must not lie in each other"
check "nothing was written" test ! -e "$T/x" -a ! -e "$T/s/shard-1-of-3/whole"
runs "a dry run" 0 "$prep" merge "$T"/s/shard-*-of-3 --out "$T/x" --dry-run
check "a dry run writes nothing" test ! -e "$T/x"
damaged=$(ls "$T"/again/clips/*.mkv | head -1)
other=$(ls "$T"/s/shard-1-of-3/clips/*.mkv | head -1)
cp "$other" "$damaged"
cp "$T/s/shard-0-of-3/dataset.json" "$T/again/dataset.json"
runs "a clip that is another" 1 "$prep" merge "$T/again" "$T"/s/shard-[12]-of-3 --out "$T/x"
stderr_has "is not what its manifest says"
check "not marked finished" test ! -e "$T/x/dataset.json"
finish
