# weft-infer compare: two runs side by side.
. tests/cli/lib.sh
C="$B/weft-infer compare"
M=tests/golden/pipeline/model
printf '{"prompt": "A red dress.", "category": "dress", "id": "red"}\n' >"$T/prompts.jsonl"
printf '{"prompt": "A coat & <b>hat</b>, \\"warm\\".", "category": "coat", "id": "coat"}\n' >>"$T/prompts.jsonl"
printf '{"prompt": "A blue dress.", "category": "dress", "id": "a blue #1"}\n' >>"$T/prompts.jsonl"
samples() { # NAME STEPS SEED
    runs "samples $1" 0 "$B/weft-infer" sample -q --preset demo --device cpu --model $M --set sampling.num_frames=9 \
        --width 32 --height 48 --steps "$2" --prompts "$T/prompts.jsonl" --out "$T/$1" --seed "$3"
}
samples base 1 5
samples tuned 2 5
number() { # NAME MEMBER: of a metric of quality_comparison.json
    tr -d '\n ' <"$T/out/quality_comparison.json" |
        sed "s/,\"categories\":.*//; s/.*\"metrics\"://; s/.*[{,]\"$1\":{\([^}]*\)}.*/\1/; s/.*\"$2\":\([^,}]*\).*/\1/"
}

runs "compare" 0 $C "$T/base" "$T/tuned" --out "$T/out" --jobs 1
stdout_has "3 pairs of 3 prompts"
stdout_has "note: 3 prompts: only a very large difference can be seen"
check "like videos are not said to be unlike" sh -c "! grep -q unlike '$T/out/quality_comparison.json'"
runs "longer samples" 0 "$B/weft-infer" sample -q --preset demo --device cpu --model $M --num-frames 17 --width 32 --height 48 \
    --steps 1 --prompts "$T/prompts.jsonl" --out "$T/longer" --seed 5
runs "unlike videos" 0 $C "$T/base" "$T/longer" --out "$T/unlike"
stdout_has "note: 3 of 3 pairs are of unlike videos, such as 9 frames of 32x48 and 17 of 32x48"
check "the page says it" grep -q "3 of 3 pairs are of unlike videos" "$T/unlike/report.html"
for file in quality_comparison.json pairs.csv report.html; do check "$file is there" test -s "$T/out/$file"; done
check "a line a pair" test "$(wc -l <"$T/out/pairs.csv")" = 4
check "prompts are quoted" grep -q '^"A coat & <b>hat</b>, ""warm"".",6,coat,' "$T/out/pairs.csv"
# what evaluate says of each side
"$B/weft-infer" evaluate -q "$T/base" --out "$T/e0" >/dev/null 2>&1
"$B/weft-infer" evaluate -q "$T/tuned" --out "$T/e1" >/dev/null 2>&1
for side in "e0 before" "e1 after"; do
    set -- $side
    want=$(tr -d '\n ' <"$T/$1/metrics.json" | sed 's/.*"figures":{"motion":{"value":\([^,]*\),.*/\1/')
    check "motion $2 is evaluate's" awk "BEGIN {d = $(number motion "$2") - $want; exit !(d < 1e-9 && d > -1e-9)}"
done
check "too few prompts is said" grep -q '"note": "3 prompts: too few for any p below 0.05"' "$T/out/quality_comparison.json"
check "p of three pairs cannot be below a quarter" awk "BEGIN {exit !($(number motion p) >= 0.25)}"
check "figures of each category" grep -q '"coat": {' "$T/out/quality_comparison.json"
# the page: relative links, escaped text, no script but its own
check "videos are linked where they lie" grep -qF 'src="../base/dress/red.mp4"' "$T/out/report.html"
check "names are escaped in links" grep -qF 'src="../tuned/dress/a%20blue%20%231.mp4"' "$T/out/report.html"
check "prompts are escaped" grep -qF 'A coat &amp; &lt;b&gt;hat&lt;/b&gt;' "$T/out/report.html"
check "nothing comes from elsewhere" test "$(grep -c 'https*:' "$T/out/report.html")" = 0
sed -n '/<script>/,/<\/script>/p' "$T/out/report.html" | sed 's/^<script>//; s/<\/script>$//' >"$T/script"
if command -v openssl >/dev/null; then # the policy names the script by its hash; the last newline is not part of it
    hash=$(head -c -1 "$T/script" | openssl dgst -sha256 -binary | openssl base64)
    check "the page runs its own script alone" grep -qF "script-src 'sha256-$hash'" "$T/out/report.html"
else
    skip "the page runs its own script alone" "no openssl here"
fi
for rate in 17 85 194 783; do check "$rate votes" grep -q ">$rate</td>" "$T/out/report.html"; done
cp -r "$T/out" "$T/first"
runs "again, with three processes" 0 $C "$T/base" "$T/tuned" --out "$T/out" --jobs 3
same "the same files" "$T/first" "$T/out"

# ---- a run against itself, and the other way round ----
runs "a run against itself" 0 $C "$T/base" "$T/base" --out "$T/out"
check "no difference" test "$(number motion difference) $(number ssim difference)" = "0.0 0.0"
check "p is 1" test "$(number motion p)" = 1.0
runs "the other way round" 0 $C "$T/tuned" "$T/base" --out "$T/out"
forward=$(tr -d '\n ' <"$T/first/quality_comparison.json" |
    sed 's/.*"metrics":{"motion":{[^}]*"difference":\([^,]*\),.*/\1/') # the first figure
check "the difference changes its sign" awk "BEGIN {d = $forward + $(number motion difference); exit !(d < 1e-9 && d > -1e-9)}"
runs "references" 0 $C "$T/base" "$T/tuned" --references "$T/base" --out "$T/out"
check "colours are compared" test "$(number colours prompts)" = 3

# ---- partners ----
cp -r "$T/tuned" "$T/less"
rm -f "$T/less/index.json" "$T/less/coat/"*
runs "a video without a partner" 0 $C "$T/base" "$T/less" --out "$T/out"
check "is counted" grep -q 'videos without a partner: 1 of the base, 0 of the tuned run' "$T/out/quality_comparison.json"
samples other 1 100
runs "other seeds" 2 $C "$T/base" "$T/other" --out "$T/none"
stderr_has "no two videos belong together"
check "nothing is written" test ! -e "$T/none"
echo "no video" >"$T/less/dress/red.mp4"
runs "an unreadable video" 3 $C "$T/base" "$T/less" --out "$T/out"
check "is shown with its reason" grep -q 'class="flag">' "$T/out/report.html"

# ---- wrong requests ----
runs "one run" 2 $C "$T/base" --out "$T/none"
stderr_has "expected two: BASE and TUNED"
runs "votes without a key" 2 $C --votes "$T/prompts.jsonl" --out "$T/none"
status=0
$C "$T/base" "$T/tuned" --out "$T/out" >/dev/full 2>"$T/stderr" || status=$?
check "a full disk for the summary" test $status = 1
(
    ulimit -f 2
    $C "$T/base" "$T/tuned" --out "$T/full" >"$T/stdout" 2>"$T/stderr" && exit 1
    test ! -e "$T/full/quality_comparison.json"
) && pass "a full disk leaves no quality_comparison.json" || fail "a full disk leaves no quality_comparison.json"

# ---- a page to vote on, and the votes ----
runs "a blind page" 0 $C "$T/base" "$T/tuned" --out "$T/study" --blind --seed 3
check "three pairs and one that shows a video twice" test "$(grep -c '"catch": ' "$T/study/key.json")" = 4
check "once" test "$(grep -c '"catch": true' "$T/study/key.json")" = 1
check "eight videos" test "$(ls "$T/study/blind/" | grep -c 'mp4$')" = 8
check "the page does not tell the runs" test "$(grep -cE 'base|tuned' "$T/study/blind/index.html")" = 0
check "the page loads nothing from elsewhere" test "$(grep -c 'https*:' "$T/study/blind/index.html")" = 0
study=$(sed -n 's/.*"study": "\(.*\)",/\1/p' "$T/study/key.json")
check "page and key belong together" grep -q "data-study=\"$study\"" "$T/study/blind/index.html"
# each side is the video that the key says
tr -d '\n ' <"$T/study/key.json" | sed 's/.*"pairs":\[//; s/},{/\n/g' |
    sed 's/.*"pair":"\([0-9]*\)".*"left":\([01]\),"right":\([01]\),"catch":\([a-z]*\).*/\1 \2 \3 \4/' >"$T/sides"
"$B/weft-infer" evaluate -q "$T/study/blind" --out "$T/e2" >/dev/null 2>&1
# the copies are encoded anew: each is nearest, by motion, SSIM, PSNR and sharpness, to a video of the side that the key names
nearest=$(awk -F, 'FNR == 1 {file++; next}
    file < 3 {n++; run[n] = file - 1; for (k = 11; k < 25; k++) own[n, k] = $(NF - 19 + k - 11)}
    file == 3 {least = 1e9; for (i = 1; i <= n; i++) {d = 0
        for (k = 11; k < 25; k++) {a = $(NF - 19 + k - 11); d += (a - own[i, k])^2 / (1e-9 + a^2 + own[i, k]^2)}
        if (d < least) {least = d; found = run[i]}}; print $1, found}' "$T/e0/metrics.csv" "$T/e1/metrics.csv" "$T/e2/metrics.csv" | sort)
wanted=$(awk '{print $1 "-a", $2; print $1 "-b", $3}' "$T/sides" | sort)
check "the videos are on the sides that the key says" test "$nearest" = "$wanted"
told() { grep -laE 'A red dress|A blue dress|num_inference_steps' "$@" | wc -l; }
check "videos say how they were made" test "$(told "$T"/base/*/*.mp4)" = 3
check "the copies do not" test "$(told "$T"/study/blind/*.mp4)" = 0
runs "the same seed" 0 $C "$T/base" "$T/tuned" --out "$T/study2" --blind --seed 3
same "gives the same page" "$T/study/blind" "$T/study2/blind"
runs "a page that exists" 2 $C "$T/base" "$T/tuned" --out "$T/study" --blind
stderr_has "people may be voting on it"

# ---- killed twenty times on the way and run again: the same files ----
counts "how many calls" 0 $C "$T/base" "$T/tuned" --out "$T/whole" --blind --seed 3 --jobs 1
if can_trace; then killed_often 20 "$calls" $C "$T/base" "$T/tuned" --out "$T/killed" --blind --seed 3 --jobs 1; fi
[ -e "$T/killed/blind" ] || runs "to the end" 0 $C "$T/base" "$T/tuned" --out "$T/killed" --blind --seed 3 --jobs 1
same "the same files after 20 kills" "$T/whole" "$T/killed"

# ---- one frame ----
mkdir "$T/one" "$T/other-one"
"$B/tests/tools/make_clip" "$T/one/a.mp4" 32 48 8 1 1
"$B/tests/tools/make_clip" "$T/other-one/a.mp4" 32 48 8 1 2
runs "videos of one frame" 0 $C "$T/one" "$T/other-one" --out "$T/out1" --blind
check "have no motion" test "$(tr -d '\n ' <"$T/out1/quality_comparison.json" | sed 's/.*"motion":{"before":\([a-z0-9]*\),.*/\1/')" = null

# one voter always prefers the tuned run and sees the pair of equals; the other never does either
vote() { # FILE NAME MODEL TIES
    printf '{"format": 1, "study": "%s", "voter": "%s", "votes": {' "$study" "$2"
    awk -v m="$3" -v t="$4" '{v = $4 == "true" ? (t ? "tie" : "left") : $2 == m ? "left" : "right"
        printf "%s\"%s\": \"%s\"", n++ ? ", " : "", $1, v}' "$T/sides"
    printf '}}\n'
}
vote 1 one 1 1 >"$T/one.json"
vote 2 two 0 0 >"$T/two.json"
runs "votes of one" 0 $C --votes "$T/one.json" --key "$T/study/key.json" --out "$T/voted"
stdout_has "preferred in 100.0 % [100.0, 100.0] of 3 votes on 3 prompts (0 ties), p 0.25"
runs "votes of two" 0 $C --votes "$T/one.json" --votes "$T/two.json" --key "$T/study/key.json" --out "$T/voted"
stdout_has "preferred in 50.0 % [50.0, 50.0] of 6 votes on 3 prompts (0 ties), p 1"
check "the attentive voter" test "$(grep -c '"catch_ties": 1' "$T/voted/votes.json")" = 1
check "strengths are equal" test "$(grep -c '"strength": 0.5' "$T/voted/votes.json")" = 2
sed 's/"left"/"tie"/g; s/"right"/"tie"/g' "$T/one.json" >"$T/ties.json"
runs "ties" 0 $C --votes "$T/ties.json" --key "$T/study/key.json" --out "$T/voted"
stdout_has "preferred in 50.0 % [50.0, 50.0] of 3 votes on 3 prompts (3 ties)"
# three models, of which two pages compare two each
samples third 3 5
runs "a second page" 0 $C "$T/tuned" "$T/third" --out "$T/study3" --blind
runs "one of two pages voted on" 2 $C --votes "$T/one.json" --key "$T/study/key.json" --key "$T/study3/key.json" \
    --out "$T/voted"
stderr_has "do not compare all 3 models"
study=$(sed -n 's/.*"study": "\(.*\)",/\1/p' "$T/study3/key.json")
tr -d '\n ' <"$T/study3/key.json" | sed 's/.*"pairs":\[//; s/},{/\n/g' |
    sed 's/.*"pair":"\([0-9]*\)".*"left":\([01]\),"right":\([01]\),"catch":\([a-z]*\).*/\1 \2 \3 \4/' >"$T/sides"
vote 3 one 1 1 >"$T/three.json"
runs "three models" 0 $C --votes "$T/one.json" --votes "$T/two.json" --votes "$T/three.json" \
    --key "$T/study/key.json" --key "$T/study3/key.json" --out "$T/voted"
stdout_has "$T/third: strength 1.000"
runs "votes given twice" 2 $C --votes "$T/one.json" --votes "$T/one.json" --key "$T/study/key.json" --out "$T/voted"
stderr_has "counted already"
runs "votes on another page" 2 $C --votes "$T/three.json" --key "$T/study/key.json" --out "$T/voted"
stderr_has "whose key.json is not among the keys"
sed 's/"0001"/"0999"/' "$T/one.json" >"$T/bad.json"
runs "a pair that the page does not have" 1 $C --votes "$T/bad.json" --key "$T/study/key.json" --out "$T/voted"
stderr_has "pair '0999'"
sed 's/"tie"/"both"/' "$T/one.json" >"$T/bad.json"
runs "a choice that does not exist" 1 $C --votes "$T/bad.json" --key "$T/study/key.json" --out "$T/voted"
(
    ulimit -f 2
    $C "$T/base" "$T/tuned" --out "$T/small" --blind >"$T/stdout" 2>"$T/stderr" && exit 1
    test ! -e "$T/small/blind" -a ! -e "$T/small/quality_comparison.json"
) && pass "a full disk leaves no blind page" || fail "a full disk leaves no blind page"

# ---- with CLIP ----
mkdir "$T/clip"
cp tests/golden/clip_score/config.json tests/golden/clip_score/merges.txt "$T/clip"
check "CLIP's weights" "$B/tests/tools/make_networks" clip "$T/clip"
runs "with CLIP" 0 $C "$T/base" "$T/tuned" --clip "$T/clip" --references "$T/base" --out "$T/out" --jobs 2
check "CLIP scores before and after" test "$(number clip_score prompts)" = 3
check "clip_scores.csv has a line a pair" test "$(wc -l <"$T/out/clip_scores.csv")" = 4
mean=$(awk -F, 'NR > 1 {n = NF - 7; s += $n} END {printf "%.6f", s / (NR - 1)}' "$T/out/clip_scores.csv")
check "whose mean is the figure" awk "BEGIN {d = $(number clip_score before) - $mean; exit !(d < 1e-5 && d > -1e-5)}"
"$B/weft-infer" evaluate -q "$T/base" --clip "$T/clip" --out "$T/e0" >/dev/null 2>&1
want=$(tr -d '\n ' <"$T/e0/metrics.json" | sed 's/.*"clip_score":{"value":\([^,]*\),.*/\1/')
check "and evaluate's" awk "BEGIN {d = $(number clip_score before) - $want; exit !(d < 1e-9 && d > -1e-9)}"
runs "weights that are not there" 3 $C "$T/base" "$T/tuned" --clip "$T/nowhere" --out "$T/out"
check "are said on the page" grep -q "Left out" "$T/out/report.html"
finish
