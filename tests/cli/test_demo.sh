# make demo-quick: its table is the same with 1 and 2 threads, and after kill -9 of training and going on.
. tests/cli/lib.sh
mkdir -p "$T/build/tests"
ln -s "$(realpath "$B")"/weft-* "$T/build/"
ln -s "$(realpath "$B/tests/demo")" "$T/build/tests/"
demo() { # NAME STATUS BUILD OUT
    runs "$1" "$2" sh tests/demo/demo.sh "$3" quick "$4"
}
DEVICE=foo demo "another device" 2 "$B" "$T/none"
stderr_has "DEVICE 'foo' is none of cpu, cuda and sim"
check "another device: nothing is made" test ! -e "$T/none"
export OMP_NUM_THREADS=1
demo "one thread" 0 "$B" "$T/one"
stdout_has "Base and tuned model side by side: $T/one/compared/report.html"
check "a line a score" test "$(grep -c '^  \(figure\|colour\|pattern\|garment\|sleeve\) ' "$T/one/table.txt")" = 5
check "four pairs" grep -q '^4 pairs of 4 prompts' "$T/one/table.txt"
check "scores are in the comparison" grep -q '"scores": {' "$T/one/compared/quality_comparison.json"
check "each sample's closest training clip is on the page" test \
    "$(grep -o 'class="train"[^>]*src="../clips/clips/fashion-train-[0-9]*.mp4"' "$T/one/compared/report.html" | wc -l)" = 8
check "so are the curves" grep -qF 'href="../run/report.html"' "$T/one/compared/report.html"
check "a picture of the samples" test -s "$T/one/compared/sheet.png"
check "held-out losses of three checkpoints and the start" test "$(wc -l <"$T/one/run/held_out.jsonl")" = 4

# The same with two threads; training is killed on its way the first time.
export OMP_NUM_THREADS=2
mkdir "$T/two"
cp -r "$T/one/clips" "$T/one/prepared" "$T/two/"
rm "$T/build/weft-train"
cat >"$T/build/weft-train" <<END
#!/bin/sh
if [ "\$1" = run ] && [ ! -e "$T/killed" ]; then
    touch "$T/killed"
    exec "$(realpath "$B/tests/tools/at_call")" 40 'kill -9 \$PID' "$(realpath "$B/weft-train")" "\$@"
fi
exec "$(realpath "$B/weft-train")" "\$@"
END
chmod +x "$T/build/weft-train"
if can_trace; then
    demo "two threads, killed while training" 1 "$T/build" "$T/two"
    stderr_has "failed with status 137"
    check "before its end" test ! -e "$T/two/run/final"
fi
demo "two threads, going on" 0 "$T/build" "$T/two"
check "the same scores" diff "$T/one/table.txt" "$T/two/table.txt"
same "the same transformer" "$T/one/run/final/transformer" "$T/two/run/final/transformer"
same "the same videos" "$T/one/samples/tuned" "$T/two/samples/tuned"
finish
