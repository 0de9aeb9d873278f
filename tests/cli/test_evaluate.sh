# weft-infer evaluate: what it takes, what it writes, and what goes wrong.
. tests/cli/lib.sh
E="$B/weft-infer evaluate"
clip() { # NAME WIDTH HEIGHT FRAMES [SEED [still]]
    clip_name=$1 clip_w=$2 clip_h=$3 clip_n=$4
    shift 4
    "$B/tests/tools/make_clip" "$T/$clip_name" "$clip_w" "$clip_h" 8 "$clip_n" "$@" || exit 1
}
figure() { # FILE NAME MEMBER: of a figure of metrics.json
    tr -d '\n ' <"$1" | sed "s/.*\"figures\":{//; s/.*\"$2\":{\([^}]*\)}.*/\1/; s/.*\"$3\":\([^,}]*\).*/\1/"
}
count() { # FILE NAME
    sed -n "s/^ *\"$2\": \([0-9]*\),*$/\1/p" "$1" | head -1
}

mkdir -p "$T/set/dress" "$T/real"
clip set/dress/a.mp4 32 48 9 1
clip set/dress/b.mp4 32 48 9 2
clip set/c.mp4 32 48 9 3
clip set/still.mp4 32 48 9 1 still
for i in 1 2 3; do clip real/r$i.mp4 32 48 9 $i; done

runs "a folder" 0 $E "$T/set" --out "$T/out"
stdout_has "4 videos measured, 0 rejected, 1 near-static"
stdout_has "(4 videos)"
for file in metrics.json metrics.csv evaluate.html; do check "$file is there" test -s "$T/out/$file"; done
check "a line a video" test "$(wc -l <"$T/out/metrics.csv")" = 5
check "in the order of the paths" test "$(cut -d, -f1 "$T/out/metrics.csv" | tr '\n' ' ')" = "id c dress/a dress/b still "
# a frozen video, as H.264 keeps it: SSIM 1 to four digits beside motion 0
check "a frozen video moves 0 and has SSIM 1" awk -F, \
    '$1 == "still" {exit !($11 == 0 && $13 > 0.9999 && $20 < 0.1 && $(NF - 1) == 1)}' "$T/out/metrics.csv"
check "the page marks it" grep -q 'class="flag">near-static' "$T/out/evaluate.html"
check "few videos are said in the figure" grep -q '"note": "4 videos: few, and the interval is rough"' "$T/out/metrics.json"
check "few videos are said on the page" grep -q "too few to tell models apart" "$T/out/evaluate.html"
check "the page loads nothing" test "$(grep -c 'https*:' "$T/out/evaluate.html")" = 0

# ---- the same again, whatever the number of processes: the same bytes ----
runs "one process" 0 $E "$T/set" --out "$T/one" --references "$T/real" --jobs 1
runs "three processes" 0 $E "$T/set" --out "$T/three" --references "$T/real" --jobs 3
same "the same files" "$T/one" "$T/three"
check "references stand beside" grep -q '"reference": {' "$T/one/metrics.json"
check "colours are compared" grep -q '"colours": {' "$T/one/metrics.json"

# ---- lists, an index, records, prompts ----
printf 'set/c.mp4\nreal/r1.mp4\n' >"$T/list.txt"
runs "a list" 0 $E "$T/list.txt" --out "$T/out"
check "of two" test "$(count "$T/out/metrics.json" videos)" = 2
printf '{"video": "set/c.mp4", "id": "first", "prompt": "A red, \\"bright\\" dress.", "category": "dress", "seed": 3}\n' \
    >"$T/list.jsonl"
runs "a list of objects" 0 $E "$T/list.jsonl" --out "$T/out"
check "its prompt is quoted in the table" grep -q '^first,.*,"A red, ""bright"" dress.",dress,3,measured' \
    "$T/out/metrics.csv"
check "figures of the category" grep -q '"dress": {' "$T/out/metrics.json"
check "a video that stands still has figures of one file" test "$(figure "$T/out/metrics.json" ssim n)" = 1
printf '{"prompt": "A dress.", "id": "c", "category": "dress"}\n{"prompt": "x", "id": "other"}\n' >"$T/prompts.jsonl"
runs "prompts" 0 $E "$T/set/c.mp4" "$T/set/still.mp4" --prompts "$T/prompts.jsonl" --out "$T/out"
stderr_has "has no prompt for 1 of 2 videos"
check "the prompt is found by name" grep -q '^c,[^,]*,A dress.,dress,' "$T/out/metrics.csv"
M=tests/golden/pipeline/model
runs "samples" 0 "$B/weft-infer" sample --preset demo --device cpu --model $M --set sampling.num_frames=9 \
    --set sampling.width=32 --set sampling.height=48 --set sampling.num_inference_steps=1 --prompt "A red dress." \
    --prompt "A coat." --out "$T/samples" --seed 5
runs "a folder of samples" 0 $E "$T/samples" --out "$T/out"
check "their prompts are known" grep -q 'A red dress.,,5,measured,9,32,48' "$T/out/metrics.csv"

# ---- each video once, however often it is named; a sample's other forms are no videos more ----
runs "videos named twice" 0 $E "$T/samples" "$T/samples/index.json" "$T/set/../set/c.mp4" "$T/set/c.mp4" --references \
    "$T/real" --references "$T/real/r1.mp4" --out "$T/out"
check "are measured once" test "$(count "$T/out/metrics.json" videos)" = 3
stderr_has "named more than once among the videos"
stderr_has "'$T/real/r1.mp4' is named more than once among the references"
mkdir "$T/forms"
cp "$T/samples"/*.mp4 "$T/samples"/a-*.json "$T/forms"
for stem in a-red-dress-5 a-coat-6 alone; do cp "$T/samples/a-coat-6.mp4" "$T/forms/$stem.gif"; done
cp "$T/samples/a-coat-6.mp4" "$T/forms/a-coat-6.webp"
runs "other forms beside samples, without the index" 0 $E "$T/forms" --out "$T/out"
check "are not measured" test "$(cut -d, -f1 "$T/out/metrics.csv" | tr '\n' ' ')" = "id a-coat-6 a-red-dress-5 alone "

# ---- what cannot be measured is named and counted, and the rest goes on ----
mkdir "$T/hundred"
i=0
while [ $i -lt 100 ]; do
    ln "$T/set/c.mp4" "$T/hundred/v$i.mp4"
    i=$((i + 1))
done
rm "$T/hundred/v37.mp4"
echo "this is no video" >"$T/hundred/v37.mp4"
runs "one unreadable among a hundred" 3 $E "$T/hundred" --out "$T/out"
stderr_has "not measured: '$T/hundred/v37.mp4'"
check "99 are measured" test "$(count "$T/out/metrics.json" measured)" = 99
check "one is rejected" test "$(count "$T/out/metrics.json" rejected)" = 1
check "by name" grep -q '"video": ".*v37.mp4"' "$T/out/metrics.json"
check "and in the table" grep -q '^v37,.*,rejected,' "$T/out/metrics.csv"
check "and on the page" grep -q 'v37.mp4' "$T/out/evaluate.html"
head -c 2000 "$T/set/c.mp4" >"$T/cut.mp4"
runs "a file that was cut off" 1 $E "$T/cut.mp4" --out "$T/none"
stderr_has "none of the videos (1) could be measured; the first: '$T/cut.mp4'"
check "nothing is written then" test ! -e "$T/none"
runs "too small a limit" 1 $E "$T/set/c.mp4" --out "$T/none" --set limits.frames=4
cp "$T/set/c.mp4" "$T/large.mp4"
truncate -s 2M "$T/large.mp4"
runs "a file of 2 MiB among small ones" 3 $E "$T/set/c.mp4" "$T/large.mp4" --out "$T/out" --set limits.file_mb=1
stderr_has "more than limits.file_mb allows"
check "is rejected as too large" grep -q '"code": "too_large"' "$T/out/metrics.json"
clip single.mp4 32 48 1
runs "one frame" 0 $E "$T/single.mp4" --out "$T/out"
check "has no pairs" test "$(figure "$T/out/metrics.json" ssim value)" = null
check "and says so" grep -q "1 video has one frame" "$T/out/metrics.json"
for size in "16 16" "34 18" "10 50"; do
    clip odd.mp4 $size 5
    runs "size $size" 0 $E "$T/odd.mp4" --out "$T/out"
done
check "a side under 11 pixels has no SSIM" test "$(figure "$T/out/metrics.json" ssim value)" = null
check "but has motion" test "$(figure "$T/out/metrics.json" motion value)" != null

# ---- wrong requests ----
runs "nothing there" 1 $E "$T/nowhere" --out "$T/out"
stderr_has "does not exist"
mkdir "$T/empty"
runs "an empty folder" 2 $E "$T/empty" --out "$T/out"
stderr_has "no videos in"
runs "no --out" 2 $E "$T/set"
runs "a model, and nothing to encode for" 2 $E "$T/set" --model $M --out "$T/none"
stderr_has "--model is for the copy check: give --train-cache too"
runs "frames of no FVD" 2 $E "$T/set" --fvd-frames 16 --out "$T/none"
stderr_has "--fvd-frames needs --i3d"
printf 'set/c.mp4\n\n' >"$T/blank.txt"
runs "a blank line" 1 $E "$T/blank.txt" --out "$T/out"
stderr_has "line 2 is blank"
printf '{"video": "x.mp4", "promt": "y"}\n' >"$T/wrong.jsonl"
runs "an unknown key" 1 $E "$T/wrong.jsonl" --out "$T/out"
stderr_has "prompt"
printf '{"prompt": "x", "id": "other"}\n' >"$T/none.jsonl"
runs "prompts of no video" 2 $E "$T/set/c.mp4" --prompts "$T/none.jsonl" --out "$T/out"
stderr_has '{"id": "c", "prompt": "..."}'

# ---- output that cannot be written ----
status=0
$E "$T/set/c.mp4" --out "$T/out" >/dev/full 2>"$T/stderr" || status=$?
check "a full disk for the summary" test $status = 1
runs "a file in the folder's place" 2 $E "$T/set/c.mp4" --out "$T/list.txt"
(
    ulimit -f 2
    $E "$T/set" --out "$T/full" >"$T/stdout" 2>"$T/stderr" && exit 1
    test ! -e "$T/full/metrics.json"
) && pass "a full disk leaves no metrics.json" || fail "a full disk leaves no metrics.json" "$(tail -2 "$T/stderr")"
check "and no half-written file" test -z "$(ls "$T/full" | grep tmp)"

# ---- killed twenty times on the way and run again: the same files ----
counts "how many calls" 0 $E "$T/set" --references "$T/real" --out "$T/whole" --jobs 1
if can_trace; then killed_often 20 "$calls" $E "$T/set" --references "$T/real" --out "$T/killed" --jobs 1; fi
runs "to the end" 0 $E "$T/set" --references "$T/real" --out "$T/killed" --jobs 1
same "the same files after 20 kills" "$T/whole" "$T/killed"

# ---- memory does not grow with the number of videos ----
peak() { # N: KiB
    i=0
    rm -rf "$T/many"
    mkdir "$T/many"
    while [ $i -lt "$1" ]; do
        ln "$T/single.mp4" "$T/many/$i.mp4"
        i=$((i + 1))
    done
    "$B/tests/tools/usage" $E -q "$T/many" --out "$T/out" 2>&1 >/dev/null | sed -n 's/^usage \([0-9]*\) .*/\1/p'
}
if sanitized; then
    skip "memory of 20 and 400 videos" "sanitizers keep memory of their own"
else
    few=$(peak 20)
    many=$(peak 400)
    check "memory: $few KiB of 20, $many of 400" test "$many" -lt $((few + 4096))
fi

# ---- real videos, against scikit-image (tests/golden/make_metrics_real.py) ----
if [ -n "$SHARED" ] && [ -d "$SHARED/data/videos/real" ]; then
    while read -r name frames ssim psnr flicker sharpness; do
        runs "$name" 0 $E "$SHARED/data/videos/real/$name" --out "$T/out" --jobs 1
        line=$(sed -n 2p "$T/out/metrics.csv")
        echo "$line" | awk -F, -v f="$frames" -v s="$ssim" -v p="$psnr" -v k="$flicker" -v v="$sharpness" '
            function near(a, b, d) {return a - b < d && b - a < d}
            {exit !($7 == f && near($13, s, 1e-6) && near($16, p, 1e-4) && near($19, k, 1e-6) && near($24 / v, 1, 1e-6))}' &&
            pass "$name: SSIM, PSNR, flicker and sharpness are scikit-image's and scipy's" ||
            fail "$name: SSIM, PSNR, flicker and sharpness are scikit-image's and scipy's" "$line" "$frames $ssim $psnr $flicker $sharpness"
    done <tests/golden/metrics_real.txt
else
    skip "real videos" "no reference data (WEFT_SHARED)"
fi
finish
