#!/bin/sh
# weft-prep from the shell: exit statuses, messages, the same bytes whatever the jobs, real videos.
. tests/cli/lib.sh
prep="$B/weft-prep"
clip="$B/tests/tools/make_clip"
fast="--preset demo --set quality.mode=warn --set quality.duplicates=ignore --set clip.width=48 \
    --set clip.height=80 --set clip.min_side=16"

# ---- a small set, one of everything that may be wrong with it ----
mkdir "$T/src"
for i in 1 2 3 4 5 6 7 8; do
    "$clip" "$T/src/c$i.mp4" 48 80 30 190 "$i" || fail "make c$i"
    echo "Clip number $i, a dress." >"$T/src/c$i.txt"
done
"$clip" "$T/src/three.mp4" 48 80 30 3
echo "Three frames." >"$T/src/three.txt"
echo "this is no video" >"$T/src/text.mp4"
echo "A text." >"$T/src/text.txt"
: >"$T/src/zero.mp4"
echo "Nothing." >"$T/src/zero.txt"
cp "$T/src/c1.mp4" "$T/src/silent.mp4"
echo "Of nothing." >"$T/src/orphan.txt"

runs "ingest with rejects" 3 "$prep" ingest "$T/src" --out "$T/one" $fast --jobs 1
stdout_has "12 sources: 8 accepted, 4 rejected"
stderr_has "layout pairs: it holds videos such as"
stderr_has "clip 'three' is rejected: too_short: 3 frames in 0.067 s give 2 of the 49 frames at 8 fps"
stderr_has "text files without a video: 1, such as orphan.txt"
stderr_has "clip 'text' is rejected: not_a_video"
stderr_has "clip 'zero' is rejected: empty_file"
stderr_has "clip 'silent' is rejected: empty_caption"
runs "two jobs" 3 "$prep" ingest "$T/src" --out "$T/two" $fast --jobs 2 --quiet
same "the same bytes with one job and two" "$T/one" "$T/two"
runs "again over it" 3 "$prep" ingest "$T/src" --out "$T/two" $fast --quiet
same "the same bytes when run again" "$T/one" "$T/two"

# ---- the report, and clips that look alike ----
check "a report is written" test -s "$T/one/report.html" -a -s "$T/one/report.json"
cp "$T/one/report.html" "$T/first.html"
rm "$T/one/report.html" "$T/one/report.json"
runs "report" 0 "$prep" report "$T/one"
check "all its files are there" sh -c '! grep -q "missing" "$1"' sh "$T/stdout"
cp -r "$T/one" "$T/less"
rm "$T/less/clips/c1.mkv"
runs "report of what lost a clip" 0 "$prep" report "$T/less"
stdout_has "1 file of the dataset is missing, first clips/c1.mkv: run ingest again"
stdout_has "report.html and report.json are written"
check "the same page again" cmp "$T/first.html" "$T/one/report.html"
runs "report of no dataset" 1 "$prep" report "$T/src"
stderr_has "no finished dataset"

# ---- one source: nothing is counted as "1 sources" ----
mkdir "$T/single"
cp "$T/src/c3.mp4" "$T/src/c3.txt" "$T/single"
runs "a dry run of one source" 0 "$prep" ingest "$T/single" --out "$T/alone" $fast --dry-run
stdout_has "1 source (0 folders of pictures), 0 of them rejected"
runs "one source" 0 "$prep" ingest "$T/single" --out "$T/alone" $fast
stdout_has "1 source: 1 accepted, 0 rejected"
stderr_has "1 source, 0 unchanged, 1 hashed"

mkdir "$T/twins"
cp "$T/src/c3.mp4" "$T/twins/a.mp4"
cp "$T/src/c3.mp4" "$T/twins/b.mp4"
echo "A dress." >"$T/twins/a.txt"
echo "</p><script>alert(1)</script>" >"$T/twins/b.txt"
runs "twins" 3 "$prep" ingest "$T/twins" --out "$T/alike" $fast --set quality.duplicates=reject
stderr_has "clip 'b' is rejected: near_duplicate: looks like 'a': 0 of 192 bits differ"
check "both look alike in the report" grep -q "Clips that look alike" "$T/alike/report.html"
check "captions are escaped" sh -c "! grep -q '<script' '$T/alike/report.html'"
cp -r "$T/alike" "$T/alike1"
runs "twins again" 3 "$prep" ingest "$T/twins" --out "$T/alike" $fast --set quality.duplicates=reject --quiet
same "the same bytes with twins when run again" "$T/alike1" "$T/alike"
rm "$T/twins/a.mp4" "$T/twins/a.txt"
runs "one twin left" 0 "$prep" ingest "$T/twins" --out "$T/alike" $fast --set quality.duplicates=reject --quiet
stdout_has "1 accepted, 0 rejected"

# ---- shards ----
for k in 0 1 2; do
    "$prep" ingest "$T/src" --out "$T/shards" $fast --shard $k/3 --set clip.max_reject_ratio=1 --quiet >/dev/null 2>&1
done
cat "$T"/shards/shard-*-of-3/manifest.jsonl | grep -o '^{"id":"[^"]*"' | sort >"$T/ids"
grep -o '^{"id":"[^"]*"' "$T/one/manifest.jsonl" | sort >"$T/all"
check "three shards hold every source once" cmp "$T/ids" "$T/all"

# ---- what is refused, and how ----
runs "dry run" 0 "$prep" ingest "$T/src" --out "$T/dry" $fast --dry-run
stdout_has "12 sources"
check "a dry run writes nothing" test ! -e "$T/dry"
runs "unknown recipe key" 2 "$prep" ingest "$T/src" --out "$T/x" --set clip.widht=48
stderr_has "width"
runs "no --out" 2 "$prep" ingest "$T/src"
runs "no such folder" 1 "$prep" ingest "$T/nowhere" --out "$T/x"
stderr_has "does not exist"
runs "unknown layout" 2 "$prep" ingest "$T/src" --out "$T/x" --layout pair
stderr_has "perhaps 'pairs'"
mkdir "$T/meta"
cp "$T/src/c1.mp4" "$T/meta/a.mp4"
printf '{"file_name":"a.mp4","text":"x","id":"a"}\n{"file_name":"b.mp4","text":"y","id":"a"}\n' \
    >"$T/meta/metadata.jsonl"
runs "duplicate ids" 1 "$prep" ingest "$T/meta" --out "$T/x" $fast
stderr_has "id 'a' is used twice: by metadata.jsonl line 1 and by metadata.jsonl line 2"
printf '{"file_name":"a.mp4","text":"x","id":"../../etc/a"}\n' >"$T/meta/metadata.jsonl"
runs "'..' in an id" 1 "$prep" ingest "$T/meta" --out "$T/x" $fast
stderr_has "metadata.jsonl line 1"
printf '{"file_name":"a.mp4","text":"x"}\n{"file_name":"b.mp4","text":"y"}\n{"file_name":"c.mp4","text":"y"}\n' \
    >"$T/meta/metadata.jsonl"
runs "too many rejects" 1 "$prep" ingest "$T/meta" --out "$T/x" $fast
stderr_has "2 of 3 clips are rejected, more than clip.max_reject_ratio"
check "nothing is marked finished" test ! -e "$T/x/dataset.json"
check "but the report is there" grep -q missing "$T/x/report.html"
runs "fewer rejects than allowed" 3 "$prep" ingest "$T/meta" --out "$T/x" $fast --set clip.max_reject_ratio=0.9
stderr_has "clip 'b' is rejected: missing: 'b.mp4' does not exist"

# ---- probe, and short clips ----
mkdir "$T/held"
cp "$T/src/three.mp4" "$T/src/three.txt" "$T/held/"
runs "probe a good file" 0 "$prep" probe "$T/src/c1.mp4" $fast
stdout_has "c1.mp4: accept: h264 48x80, 30 fps, 6.333 s, 190 frames"
check "in one line" test "$(wc -l <"$T/stdout")" = 1
runs "probe a good file as JSON" 0 "$prep" probe --json "$T/src/c1.mp4" $fast
stdout_has '"decision": "accept"'
runs "probe a bad file" 3 "$prep" probe $fast -- "$T/src/c1.mp4" "$T/src/three.mp4"
stdout_has "three.mp4: reject: too_short: 3 frames in 0.067 s"
check "in two lines" test "$(wc -l <"$T/stdout")" = 2
runs "probe one that is held" 0 "$prep" probe --json $fast --pad hold --set clip.max_hold=47 "$T/src/three.mp4"
stdout_has '"held": 47'
runs "probe one that would be held too long" 3 "$prep" probe $fast --pad=hold "$T/src/three.mp4"
stdout_has "clip.max_hold allows no more"
runs "ingest and hold" 0 "$prep" ingest "$T/held" --out "$T/held-out" $fast --set clip.max_hold=47 --pad hold
stdout_has "1 accepted, 0 rejected"
runs "pad what is not known" 2 "$prep" ingest "$T/held" --out "$T/x" --pad loop
stderr_has "expected reject|hold, found 'loop'"
runs "probe nothing" 1 "$prep" probe "$T/src/none.mp4" $fast
stderr_has "does not exist"
runs "probe nothing between two files" 1 "$prep" probe $fast "$T/src/c1.mp4" "$T/src/none.mp4" "$T/src/c2.mp4"
stdout_has 'c2.mp4: accept'
stderr_has "1 of 3 arguments could not be read"

# ---- a file that may not grow, as a full disk: the run's failure, not the clip's ----
runs "no room for a clip" 1 sh -c 'ulimit -f 8; exec "$@"' sh "$prep" ingest "$T/src" --out "$T/full" $fast --jobs 2
stderr_has "File too large"
check "no clip is blamed" sh -c '! grep -q worker_crash "$1" && ! grep -q "is rejected: unreadable" "$1"' sh "$T/stderr"
runs "room again" 3 "$prep" ingest "$T/src" --out "$T/full" $fast --quiet
same "as if it had always been there" "$T/one" "$T/full"

# ---- tokens ----
runs "a model trained for the cut" 0 "$prep" tokenize "$T/one" --tokenizer tests/golden/pipeline/model/tokenizer \
    --quiet --set model.text_length=3
stderr_has "cut off" # --quiet silences notes, not warnings
runs "tokenize what is not finished" 1 "$prep" tokenize "$T/meta" --tokenizer "$T/none"
stderr_has "no finished dataset"
runs "tokenize without a model" 1 "$prep" tokenize "$T/one" --tokenizer "$T/none"
stderr_has "none"

# ---- real videos ----
if [ -n "$SHARED" ]; then
    runs "the portrait set" 3 "$prep" ingest "$SHARED/data/videos/portrait" --out "$T/portrait" --layout metadata \
        --preset demo --jobs 2
    stdout_has "12 sources: 11 accepted, 1 rejected"
    stderr_has "clip 'walk_04_black_jacket_out' is rejected: too_short: 44 frames in 4.300 s give 35 of the 49 frames at 8 fps"
else
    skip "the portrait set" "the reference data is not here"
fi
# Names as find writes them.
mkdir -p "$T/dots/sub"
"$B/tests/tools/make_clip" "$T/dots/a.mp4" 64 96 8 20
cp "$T/dots/a.mp4" "$T/dots/sub/b.mp4"
printf './a.mp4\n.//sub/./b.mp4\n' >"$T/dots/videos.txt"
printf 'one\ntwo\n' >"$T/dots/prompts.txt"
runs "./ and // in a list" 3 "$B/weft-prep" ingest "$T/dots" --out "$T/dots_out" --preset demo \
    --set clip.max_reject_ratio=1 --set clip.min_side=5000
check "they are the names without" test "$(grep -o '"id":"[a-z_]*"' "$T/dots_out/manifest.jsonl" | tr '\n' ' ')" = \
    '"id":"a" "id":"sub_b" '

# A folder that is not ours stays as it is, whatever its folders are called.
mkdir -p "$T/theirs/clips" "$T/index"
echo theirs >"$T/theirs/clips/x.mkv"
echo '{"a": 1}' >"$T/index/dataset.json"
for d in theirs index; do
    runs "another's folder is refused: $d" 2 "$B/weft-prep" ingest "$T/src" --out "$T/$d"
    stderr_has "holds other things"
done
check "another's files stay" test "$(cat "$T/theirs/clips/x.mkv") $(cat "$T/index/dataset.json")" = 'theirs {"a": 1}'

finish
