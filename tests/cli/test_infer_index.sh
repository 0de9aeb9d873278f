#!/bin/sh
# weft-infer sample: index.json, the page and the contact sheet of a folder of samples.
. tests/cli/lib.sh
INFER=$B/weft-infer
MODEL=tests/golden/pipeline/model
SMALL="--preset demo --device cpu --jobs 1 --model $MODEL --num-frames 9 --width 32 --height 48 --steps 2"
sample() { "$INFER" sample $SMALL "$@"; }
# The value of a member of row N (from 0) of index.json, as JSON.
row() { # N KEY
    tr '\n' ' ' <"$T/out/index.json" | grep -o '{[^{}]*}' | sed -n "$(($1 + 1))p" |
        sed 's/.*"'"$2"'": \("[^"]*"\|[^,} ]*\).*/\1/'
}

cat >"$T/prompts.jsonl" <<'END'
{"prompt": "A red <dress> & 'more'", "category": "dress", "negative_prompt": "grey \"skies\""}
{"prompt": "A blue dress.", "category": "dress"}
{"prompt": "A coat? 100% wool", "category": "outer & wear", "id": "coat #1?"}
{"prompt": "x"}
END
runs "samples" 0 sample --out "$T/out" --prompts "$T/prompts.jsonl" --seed 5
stderr_has "'$T/out/index.html' shows 4 videos"
check "a row a sample, by id" test "$(grep -c '"id"' "$T/out/index.json")" = 4
check "ids" test "$(for i in 0 1 2 3; do row $i id; done | tr '\n' ' ')" = \
    '"dress/a-blue-dress-6" "dress/a-red-dress-more-5" "outer & wear/coat #1?" "x-8" '
check "file" test "$(row 0 file)" = '"dress/a-blue-dress-6.mp4"'
check "category" test "$(row 0 category)" = '"dress"'
check "no category" test "$(row 3 category)" = null
check "prompt" test "$(row 0 prompt)" = '"A blue dress."'
check "seed, frames, size and rate" test "$(row 0 seed) $(row 0 frames) $(row 0 width) $(row 0 height) $(row 0 fps)" = \
    "6 9 32 48 8.0"
check "the record's key" grep -qF "\"key\": $(row 0 key)" "$T/out/dress/a-blue-dress-6.json"
check "one model" test "$(row 0 model)" = "$(row 3 model)"

page=$T/out/index.html
check "nothing is run and nothing fetched from elsewhere" grep -qF "default-src 'none'" "$page"
check "four videos" test "$(grep -c '<video' "$page")" = 4
check "prompts are escaped" grep -qF '<bdi>A red &lt;dress&gt; &amp; &#39;more&#39;</bdi>' "$page"
check "what guidance avoids" grep -qF 'not: <bdi>grey &quot;skies&quot;</bdi>' "$page"
check "addresses are escaped" grep -qF 'src="./outer%20%26%20wear/coat%20%231%3F.mp4"' "$page"
check "categories" grep -qF '<h2><bdi>outer &amp; wear</bdi></h2>' "$page"
check "and none" grep -qF '<h2><bdi>without category</bdi></h2>' "$page"
"$B/weft-prep" probe --json "$T/out/contact.png" >"$T/contact.txt"
# six frames of 32x48 and gaps of 4, four rows
check "the contact sheet" grep -q "212x204" "$T/contact.txt"

# The folder's, not the run's: what was made before stays listed, in whatever order.
cp "$T/out/index.json" "$T/before.json"
runs "again" 0 sample --out "$T/out" --prompts "$T/prompts.jsonl" --seed 5
check "the same bytes" cmp "$T/out/index.json" "$T/before.json"
runs "one more" 0 sample --out "$T/out" --prompt y --seed 1 --guidance 2
check "it is added" test "$(grep -c '"id"' "$T/out/index.json")" = 5
sed 's/1.875/1.5/' $MODEL/transformer/config.json >"$T/config.json"
cp -r $MODEL "$T/model" && cp "$T/config.json" "$T/model/transformer/config.json"
runs "of another model" 0 "$INFER" sample $(echo "$SMALL" | sed "s:$MODEL:$T/model:") --out "$T/out" --prompt z --seed 1
check "its digest is another one" test "$(row 3 model)" != "$(row 5 model)"
check "the order is that of ids" test "$(row 5 id)" = '"z-1"'

# Files that are none of ours are left alone; damage is named and left out.
echo '{"some": "json"}' >"$T/out/notes.json"
echo 'no json' >"$T/out/dress/broken.json"
mkdir "$T/out/folder.json" "$T/out/.hidden"
rm "$T/out/x-8.mp4"
echo damage >"$T/out/z-1.mp4"
runs "with other files there" 0 sample --out "$T/out" --prompt y --seed 1 --guidance 2
check "what is whole is listed" test "$(grep -c '"id"' "$T/out/index.json")" = 5
stderr_has "left out of index.json: $T/out/dress/broken.json"
stderr_has "'$T/out/x-8.json' is left out of index.json: its video is missing"
stderr_has "contact.png lacks frames of '$T/out/z-1.mp4'"

# GIF and WebP beside the MP4, as the record knows.
runs "other formats" 0 sample --out "$T/formats" --prompt x --gif --webp --save-frames
check "a GIF" test "$(head -c 6 "$T/formats/x-0.gif")" = GIF89a
check "a WebP" test "$(head -c 12 "$T/formats/x-0.webp" | tail -c 4)" = WEBP
runs "again" 0 sample --out "$T/formats" --prompt x --gif --webp --save-frames
stderr_has "0 sampled, 1 reused"
runs "with fewer" 0 sample --out "$T/formats" --prompt x --webp
stderr_has "0 sampled, 1 reused"
echo damage >"$T/formats/x-0.gif"
runs "a damaged GIF is made again" 0 sample --out "$T/formats" --prompt x --gif
stderr_has "1 sampled, 0 reused"

# Killed at twenty random calls that change files, and run again: the same files.
whole() { # OUT
    echo --out "$T/$1" --prompts "$T/prompts.jsonl" --seed 5 --gif --webp --save-frames --videos-per-prompt 2 \
        --scheduler dpm --latents-out "$T/$1.safetensors"
}
counts "undisturbed" 0 "$INFER" sample $SMALL $(whole whole)
killed_often 20 "$calls" "$INFER" sample $SMALL $(whole cut)
runs "and run again" 0 sample $(whole cut)
same "the same files" "$T/whole" "$T/cut"
same "the same latents" "$T/whole.safetensors" "$T/cut.safetensors"

# What is whole is listed when a run is told to stop; the contact sheet, for which videos are decoded, waits.
if can_trace; then
    at_call when "test -e '$T/stop/one-0.json' && kill -TERM \$PID" "$INFER" sample $SMALL --out "$T/stop" \
        --prompt one --prompt two
    check "stopped by a signal" test "$status" = 143
    check "with one sample listed" test "$(grep -c '"id"' "$T/stop/index.json")" = 1
    check "and no sheet" test ! -e "$T/stop/contact.png"
else
    skip "stopped by a signal" "$no_trace"
fi

# A disk that fills up midway: the run says so, keeps what is whole, and goes on when there is room.
mkdir "$T/disk"
if mount -t tmpfs -o size=120k weft-test "$T/disk" 2>/dev/null; then
    runs "a full disk" 1 sample --out "$T/disk/out" --prompt one --prompt two --prompt three --save-frames
    stderr_has "No space left on device"
    check "the first one is whole" test -s "$T/disk/out/one-0.json"
    mount -o remount,size=4m "$T/disk"
    runs "with room again" 0 sample --out "$T/disk/out" --prompt one --prompt two --prompt three --save-frames
    stderr_has "shows 3 videos"
    runs "undisturbed" 0 sample --out "$T/roomy" --prompt one --prompt two --prompt three --save-frames
    same "the same files" "$T/roomy" "$T/disk/out"
    umount "$T/disk"
else
    skip "a full disk" "mounting is not allowed here"
fi

# What would stand in the list's way is found first.
mkdir "$T/made" && cp -r "$T/out/." "$T/made/"
rm "$T/made/index.json" && mkdir "$T/made/index.json"
runs "a folder in the list's place" 2 sample --out "$T/made" --prompt y --seed 1 --guidance 2
stderr_has "'$T/made/index.json' is a folder"
rmdir "$T/made/index.json"
runs "without it" 0 sample --out "$T/made" --prompt y --seed 1 --guidance 2
check "the list is the same" cmp "$T/made/index.json" "$T/out/index.json"

# More than a contact sheet shows, and more than a browser loads at once.
seq 65 | sed 's/^/coat /' >"$T/many.txt"
ONE="--preset demo --device cpu --jobs 1 --model $MODEL --num-frames 1 --width 16 --height 16 --steps 1"
runs "65 samples" 0 "$INFER" sample $ONE --prompts "$T/many.txt" --out "$T/many"
page=$T/many/index.html
check "the sheet shows 48" grep -qF 'a few frames of each</a> of the first 48.' "$page"
check "60 are loaded at once" test "$(grep -c 'preload="metadata"' "$page")" = 60
check "no heading without categories" test "$(grep -c '<h2' "$page")" = 0
finish
