#!/bin/sh
# weft-prep ingest over sources it has seen: what is unchanged is not read again, and every change is noticed.
. tests/cli/lib.sh
prep="$B/weft-prep"
clip="$B/tests/tools/make_clip"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16 --set clip.max_reject_ratio=1"
again() { # NAME [OPTION...]
    name=$1
    shift
    runs "$name" 3 "$prep" ingest "$T/src" --out "$T/out" $fast "$@"
}
manifest_same() { # NAME
    check "$1" cmp "$T/manifest" "$T/out/manifest.jsonl"
}

mkdir -p "$T/src/pictures"
for i in 1 2 3; do
    "$clip" "$T/src/c$i.mp4" 48 80 8 60 "$i" || fail "make c$i"
    echo "Clip number $i, a dress." >"$T/src/c$i.txt"
done
echo "this is no video" >"$T/src/text.mp4"
echo "A text." >"$T/src/text.txt"
for k in 1 2 3; do echo "picture $k" >"$T/src/pictures/$k.png"; done
echo "A folder." >"$T/src/pictures.txt"
# They change while they are looked at, on any machine: just before the run's first call that writes.
set -- "$prep" ingest "$T/src" --out "$T/out" $fast
touch="find $T/src -type f -exec touch {} +"
if can_trace; then set -- "$B/tests/tools/at_call" 1 "$touch" "$@"; else $touch; fi
runs "just written" 3 "$@"
stderr_has "5 sources, 0 unchanged, 5 hashed"
cp "$T/out/manifest.jsonl" "$T/manifest"
sleep 2.2
again "what was just written is not believed"
stderr_has "5 sources, 0 unchanged, 5 hashed"
again "nothing has changed"
stderr_has "5 sources, 5 unchanged, 0 hashed"
manifest_same "the manifest is the same"
again "all are read when asked to" --verify-sources
stderr_has "5 sources, 0 unchanged, 5 hashed"
manifest_same "the manifest is the same when all are read"

# ---- changes ----
touch -r "$T/src/text.mp4" "$T/time"
echo "this is NO video" >"$T/src/text.mp4"
touch -r "$T/time" "$T/src/text.mp4"
again "other bytes, the same size and mtime"
stderr_has "5 sources, 4 unchanged, 1 hashed"
sum=$(sha256sum <"$T/src/text.mp4" | cut -d' ' -f1)
check "the manifest has the new hash" grep -q "$sum" "$T/out/manifest.jsonl"
sleep 2.2
again "it is believed from the next time on" # which hashes it once more
again "all are settled"
stderr_has "5 sources, 5 unchanged, 0 hashed"
cp "$T/out/manifest.jsonl" "$T/manifest"
touch -r "$T/src/pictures/2.png" "$T/time"
echo "picture X" >"$T/src/pictures/2.png"
touch -r "$T/time" "$T/src/pictures/2.png"
again "one picture of a folder"
stderr_has "5 sources, 4 unchanged, 1 hashed"
check "the manifest has another hash" sh -c "! cmp -s '$T/manifest' '$T/out/manifest.jsonl'"
sleep 2.2
again "the folder settles"
cp "$T/out/manifest.jsonl" "$T/manifest"
rm "$T/src/pictures/3.png"
again "a picture is gone"
stderr_has "5 sources, 4 unchanged, 1 hashed"
cp -p "$T/src/c2.mp4" "$T/copy.mp4"
mv "$T/copy.mp4" "$T/src/c2.mp4"
again "a copy in its place" # another inode
stderr_has "5 sources, 4 unchanged, 1 hashed"

# ---- the file that knows ----
sleep 2.2
again "settled"
echo "more" >>"$T/src/c3.txt"
again "captions are no sources"
stderr_has "5 sources, 5 unchanged, 0 hashed"
cp "$T/out/manifest.jsonl" "$T/manifest"
cp "$T/out/.sources" "$T/sources"
lost() { # NAME: the state is no good, which only costs the hashing
    again "$1"
    stderr_has "5 sources, 0 unchanged, 5 hashed"
    manifest_same "$1: the manifest is the same"
    again "$1: and again"
    stderr_has "5 sources, 5 unchanged, 0 hashed"
}
rm "$T/out/.sources"
lost "missing"
head -c 200 "$T/sources" >"$T/out/.sources"
lost "torn"
echo "of another program" >"$T/out/.sources"
lost "foreign"
sed '$s/[0-9a-f]\{8\}"/00000000"/' "$T/sources" >"$T/out/.sources"
lost "damaged"
rm "$T/out/.sources"
mkdir "$T/out/.sources"
again "cannot be written"
stderr_has "the next run will hash all sources again"
manifest_same "cannot be written: the manifest is the same"
rmdir "$T/out/.sources"

# ---- one file in several entries is read once ----
mkdir "$T/parts"
ln "$T/src/c1.mp4" "$T/parts/c1.mp4"
sleep 2.2
for k in 1 2 3 4; do echo "{\"file_name\":\"c1.mp4\",\"id\":\"p$k\",\"text\":\"x\",\"start_s\":$k}"; done \
    >"$T/parts/metadata.jsonl"
runs "parts of one file" 3 "$prep" ingest "$T/parts" --out "$T/p" $fast --jobs 2
check "it is not read four times" grep -q "4 sources, [23] unchanged, [12] hashed" "$T/stderr" # twice by two at a time

# ---- a dataset of other sources ----
fast="$fast --quiet"
mkdir "$T/other" "$T/few"
for i in 1 2 3; do
    "$clip" "$T/other/c$i.mp4" 48 80 8 61 "$i" # the same names, other films
    echo "Another clip, number $i." >"$T/other/c$i.txt"
done
runs "its dataset" 0 "$prep" ingest "$T/other" --out "$T/theirs" $fast
cp -r "$T/theirs" "$T/theirs.before"
runs "another source into it" 2 "$prep" ingest "$T/src" --out "$T/theirs" $fast
stderr_has "'$T/theirs' holds a dataset of $(realpath "$T/other"): 0 of its 3 clips are of sources that are in $T/src too, expected half of them or more"
stderr_has "give another --out, or --replace to give that dataset up"
check "it is as it was, .sources and all" diff -r "$T/theirs.before" "$T/theirs"
rm "$T/theirs/.sources"
runs "also when nothing tells where it came from" 2 "$prep" ingest "$T/src" --out "$T/theirs" $fast
stderr_has "a dataset of other sources: 0 of its 3 clips"
same "it is as it was once more" "$T/theirs.before" "$T/theirs"
cp -r "$T/other" "$T/moved"
runs "the same files elsewhere" 0 "$prep" ingest "$T/moved" --out "$T/theirs" $fast
same "give the same bytes" "$T/theirs.before" "$T/theirs"
rm "$T/moved/c3.mp4" "$T/moved/c3.txt"
runs "half of the place's own may go" 0 "$prep" ingest "$T/moved" --out "$T/theirs" $fast
mv "$T/moved" "$T/again"
cp "$T/src/c3.mp4" "$T/src/c3.txt" "$T/again"
runs "moved and grown" 0 "$prep" ingest "$T/again" --out "$T/theirs" $fast
runs "replaced when asked to" 3 "$prep" ingest "$T/src" --out "$T/theirs" $fast --replace
runs "from then on it is this source's" 3 "$prep" ingest "$T/src" --out "$T/theirs" $fast
runs "a fresh one" 3 "$prep" ingest "$T/src" --out "$T/fresh" $fast
same "replaced, it is as if made afresh" "$T/fresh" "$T/theirs"
for k in 0 1; do "$prep" ingest "$T/other" --out "$T/shards" $fast --shard $k/2 >/dev/null 2>&1; done
runs "shards of others into it" 2 "$prep" merge "$T"/shards/shard-*-of-2 --out "$T/theirs" --quiet
stderr_has "0 of its 3 clips are of sources that are in the shards too"
same "it is as it was before the merge" "$T/fresh" "$T/theirs"
runs "shards of others when asked to" 0 "$prep" merge "$T"/shards/shard-*-of-2 --out "$T/theirs" --quiet --replace
same "the bytes of one run over it" "$T/theirs.before" "$T/theirs"
check "no longer the earlier source's" test ! -e "$T/theirs/.sources"
runs "which is refused then" 2 "$prep" ingest "$T/src" --out "$T/theirs" $fast
finish
