# weft-infer compare --scores: tables of scores that others gave to the videos of both runs.
. tests/cli/lib.sh
C="$B/weft-infer compare --preset demo"
D="$B/tests/demo/draw_clips"
small="--clips 6 --val 0 --size 32x48 --frames 3"
for run in base tuned; do runs "clips for $run" 0 "$D" "$T/$run" $small; done
member() { # SCORE MEMBER of quality_comparison.json
    tr -d '\n ' <"$T/out/quality_comparison.json" |
        sed "s/.*\"scores\"://; s/\"networks\".*//; s/.*[{,]\"$1\":{\([^}]*\)}.*/\1/; s/.*\"$2\":\([^,}]*\).*/\1/"
}
is() { check "$1 $2 is $3" awk "BEGIN {d = $(member "$1" "$2") - $3; exit !(d < 1e-9 && d > -1e-9)}"; }
row() { printf 'clips/fashion-train-%05d.mp4,%s\n' "$1" "$2"; }

{ echo 'video,colour,taste'; echo 'chance,0.25,'
  for i in 0 1 2 3 4 5; do row $i "$((i == 0)),$i.5"; done; } >"$T/base/scores.csv"
{ printf '\357\273\277video,"colour"\r\n'
  for i in 0 1 2 3 4; do row $i "$((i > 0))"; done
  printf '"%s",1\n' "$T/tuned/clips/fashion-train-00005.mp4"; } >"$T/tuned/scores.csv"
both="--scores $T/base/scores.csv --scores $T/tuned/scores.csv"
runs "compare with scores" 0 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/out" $both
stdout_has "scores, with 95 % intervals"
check "a line of the table" grep -q "^  colour  *0.167 .* 0.833 .* 0.25$" "$T/stdout"
is colour before "1 / 6"
is colour after "5 / 6"
is colour difference "4 / 6"
is colour chance 0.25
is colour prompts 6
check "an interval that holds the mean" awk "BEGIN {exit !($(member colour before_low) <= 1/6 && $(member colour before_high) >= 1/6)}"
check "a score that one run lacks has no mean" test "$(member taste before)" = null
check "pairs.csv holds them" grep -q ',colour_base,colour_tuned,taste_base,taste_tuned$' "$T/out/pairs.csv"
check "and their values" grep -q ',1,0,0.5,$' "$T/out/pairs.csv"
check "the page has a table" grep -q '<h2>Scores</h2>' "$T/out/report.html"
check "and each video's" grep -q ' · colour 1' "$T/out/report.html"
cp "$T/out/quality_comparison.json" "$T/first.json"
runs "the same tables in the other order" 0 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/out" \
    --scores "$T/tuned/scores.csv" --scores "$T/base/scores.csv"
is colour after "5 / 6"

# The tuned model's curves are linked.
runs "a run without a report" 1 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/none" --run "$T/run"
stderr_has "--run: there is no '$T/run/report.html'"
mkdir "$T/run" && touch "$T/run/report.html"
runs "a run" 0 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/out" --run "$T/run"
check "its report is linked" grep -qF 'href="../run/report.html"' "$T/out/report.html"
runs "clips without a copy check" 2 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/none" \
    --train-clips "$T/base/clips"
stderr_has "give both"

# What is no such table is refused with its line.
refused() { # NAME STATUS TEXT MESSAGE
    printf "$3" >"$T/base/bad.csv"
    runs "$1" "$2" $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/none" --scores "$T/base/bad.csv"
    stderr_has "$4"
}
v=clips/fashion-train-00000.mp4
refused "an empty table" 1 '' "the table is empty"
refused "another first column" 1 'file,a\n' "line 1: the first column is expected to be 'video', found 'file'"
refused "no scores" 1 'video\n' "no column holds a score"
refused "a name that is no word" 1 'video,a b\n' "at most 40 letters, digits and '_-.', found 'a b'"
refused "a name twice" 1 'video,a,a\n' "two columns are called 'a'"
refused "a short line" 1 "video,a,b\n$v,1\n" "line 2: not as many fields as the first line has"
refused "no number" 1 "video,a\n$v,red\n" "line 2: a score is a number, found 'red'"
refused "no finite number" 1 "video,a\n$v,nan\n" "a score is a number, found 'nan'"
refused "a score twice" 1 "video,a\n$v,1\nclips/../$v,1\n" "line 3: a score was given before to"
refused "other videos" 2 'video,a\nx.mp4,1\n' "scores none of these videos"
refused "an open quote" 1 'video,"a\n' "a quote is never closed"
check "nothing was written" test ! -e "$T/none/report.html"
printf "video,a\n$v,1\nother.mp4,2\n" >"$T/base/more.csv"
runs "a line of another video" 0 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/out" --scores "$T/base/more.csv"
stderr_has "1 line of --scores: the video is in neither run"
runs "with votes" 2 $C --votes x --key y --scores z --out "$T/none"
runs "a missing table" 1 $C "$T/base/clips/videos.jsonl" "$T/tuned/clips/videos.jsonl" --out "$T/none" --scores "$T/none.csv"
stderr_has "none.csv"
finish
