# weft-infer evaluate with networks: CLIP, Inception v3 and I3D of weights made of their names.  Their numbers are
# held to transformers, torch-fidelity and torch by tests/golden/test_clip_score.c and test_metric_networks.c; here
# it is about what evaluate does with them.
. tests/cli/lib.sh
E="$B/weft-infer evaluate"
C="$B/weft-infer compare"
make="$B/tests/tools/make_networks"
clip() { # NAME FRAMES SEED
    "$B/tests/tools/make_clip" "$T/$1" 32 48 8 "$2" "$3" || exit 1
}
member() { # FILE NAME MEMBER: of the first object of that name in metrics.json
    tr -d '\n' <"$1" | grep -o "\"$2\": {[^}]*" | head -1 | grep -o "\"$3\": *[^,}]*" | head -1 | sed 's/.*: *//; s/ *$//'
}
small() { # what is near 0
    awk -v x="$1" 'BEGIN {exit !(x + 0 == x && x < 1e-3 && x > -1e-3)}'
}

mkdir -p "$T/set" "$T/clip"
for i in 1 2 3 4; do clip set/v$i.mp4 9 $i; done
clip short.mp4 8 1
printf '{"id": "v1", "prompt": "A red dress."}\n{"id": "v2", "prompt": "A blue dress of silk."}\n' >"$T/prompts.jsonl"
printf '{"id": "v3", "prompt": "%s"}\n{"id": "v4", "prompt": "red"}\n' "$(yes 'red dress' | head -30 | tr '\n' ' ')" \
    >>"$T/prompts.jsonl"
cp tests/golden/clip_score/config.json tests/golden/clip_score/merges.txt "$T/clip"
check "CLIP's weights" "$make" clip "$T/clip"
check "Inception's weights" "$make" inception "$T/inception.safetensors"
check "I3D's weights" "$make" i3d "$T/i3d.safetensors"
all="--clip $T/clip --inception $T/inception.safetensors --i3d $T/i3d.safetensors --fvd-frames 9"

# ---- a set against itself ----
runs "all networks" 0 $E "$T/set" --references "$T/set" --prompts "$T/prompts.jsonl" $all --out "$T/one" --jobs 1
check "CLIP's figures with their intervals" grep -Eq "^  clip_consistency +[0-9.]+  \[[0-9.]+, [0-9.]+\]  references" "$T/stdout"
stdout_has "fvd_9f"
stdout_has "4 videos are too few for a Frechet distance"
J="$T/one/metrics.json"
check "FVD of a set to itself is 0" small "$(member "$J" fvd_9f value)"
check "and no less" awk -v v="$(member "$J" fvd_9f value)" -v low="$(member "$J" fvd_9f low)" 'BEGIN {exit !(v >= 0 && low >= 0)}'
check "FID of a set to itself is 0" small "$(member "$J" fid_frames value)"
check "that 4 videos are too few is said in the figure" grep -q '"note": "4 videos are too few for a Frechet distance' "$J"
check "and on the page" grep -q '4 videos are too few for a Frechet distance' "$T/one/evaluate.html"
check "halves of the references stand beside it" test "$(member "$J" fvd_9f floor_n)" = 2
check "the score of few videos has splits of two" test "$(member "$J" is_frames splits)" = 2
check "and one of each video's mean distribution" test "$(member "$J" is_clip n)" = 4
between() { # NAME: its value lies in its interval, which is not empty
    awk -v v="$(member "$J" "$1" value)" -v a="$(member "$J" "$1" low)" -v b="$(member "$J" "$1" high)" \
        'BEGIN {exit !(a + 0 < v + 0 && v + 0 < b + 0)}'
}
check "Inception Scores have an interval" between is_frames
check "of videos too" between is_clip
check "its protocol is told" grep -q '"interval": "95 %, percentile bootstrap over videos, 9999 .*influence' "$J"
check "weights are named by their hash" grep -q "\"i3d\": \"$(sha256sum <"$T/i3d.safetensors" | cut -d' ' -f1)\"" "$J"
check "the protocol names frames and eps" grep -q 'the first 9 frames.*bn_eps 0.001' "$J"
check "every video has a CLIP score" test "$(member "$J" clip_score n)" = 4
check "attributes: the most frequent value" test "$(member "$J" colour n)" = 4
check "an attribute's share has an interval on the page" grep -Eq "<td>colour</td><td class=.n.>[0-9.]+</td><td class=.n.>[0-9.]+ to " \
    "$T/one/evaluate.html"
check "attributes: chance" test "$(member "$J" fabric chance)" = 0.2
check "the page shows CLIP's figures" grep -Eq "<td>clip_score</td><td class=.n.>[-0-9.]+</td><td class=.n.>[-0-9.]+ to " \
    "$T/one/evaluate.html"
check "and each video's score" grep -q '<th class="n">CLIP score</th>' "$T/one/evaluate.html"
check "clip_scores.csv has a line a video" test "$(wc -l <"$T/one/clip_scores.csv")" = 5
check "what a prompt lost is counted" test "$(awk -F, '$1 == "v3" {print $NF}' "$T/one/clip_scores.csv")" = 42
runs "three processes" 0 $E "$T/set" --references "$T/set" --prompts "$T/prompts.jsonl" $all --out "$T/three" --jobs 3
rm -f "$T/one/.weights" "$T/three/.weights"
same "the same files" "$T/one" "$T/three"

# ---- two sets: intervals, and what infinitely many videos would give ----
mkdir -p "$T/other" "$T/many"
for i in 5 6 7; do clip other/v$i.mp4 9 $i; done
runs "two sets" 0 $E "$T/set" --references "$T/other" --i3d "$T/i3d.safetensors" --fvd-frames 9 --out "$T/two"
J="$T/two/metrics.json"
check "FVD has an interval" between fvd_9f
check "on the page too" grep -q "<td>fvd_9f</td>.* to " "$T/two/evaluate.html"
check "seven videos are not extrapolated" test -z "$(member "$J" fvd_9f infinite)"
for set in set other; do
    i=0
    for v in "$T/$set"/*.mp4; do
        printf '{"video": "%s", "prompt": "%d", "seed": 1}\n' "$v" $((i += 1))
    done >"$T/$set.jsonl"
done
runs "compared" 0 $C "$T/set.jsonl" "$T/other.jsonl" --references "$T/other" --i3d "$T/i3d.safetensors" --fvd-frames 9 \
    --out "$T/compared"
check "each run's FVD has an interval on the page" grep -q \
    "<td>fvd_9f</td><td class=.n.>[0-9][^<]* <span class=.dim.>[^<]* to [^<]*</span></td><td" "$T/compared/report.html"
check "the page tells the networks' protocol" grep -q "<td>i3d</td><td>.*the first 9 frames" "$T/compared/report.html"
check "an interval has the digits of its value" grep -Eq "<td>fvd_9f</td><td class=.n.>[0-9.]+ <span class=.dim.>0 to 1[0-9]{3}" \
    "$T/compared/report.html"
for i in 1 2 3 4; do for k in 0 1 2 3 4; do ln "$T/set/v$i.mp4" "$T/many/v$i$k.mp4"; done; done
runs "20 videos" 0 $E "$T/many" --references "$T/many" --i3d "$T/i3d.safetensors" --fvd-frames 9 --out "$T/twenty"
J="$T/twenty/metrics.json"
check "20 are" test -n "$(member "$J" fvd_9f infinite)"
check "and that they are too few is said in the figure" grep -q '"infinite_note": "20 videos on each side are too few' "$J"
check "and on the page" grep -q '20 videos on each side are too few' "$T/twenty/evaluate.html"
stdout_has "for infinitely many"

runs "three of the four as references" 0 $E "$T/set" --references "$T/set/v1.mp4" --references "$T/set/v2.mp4" \
    --references "$T/set/v3.mp4" --i3d "$T/i3d.safetensors" --fvd-frames 9 --out "$T/three"
check "an interval that would reach below 0 ends there" test "$(member "$T/three/metrics.json" fvd_9f low)" = 0.0

# ---- alone, without prompts, too short ----
runs "no references" 0 $E "$T/set" --i3d "$T/i3d.safetensors" --fvd-frames 9 --out "$T/out"
check "no FVD without references" test "$(member "$T/out/metrics.json" fvd_9f value)" = null
check "and it says so" grep -q '"note": "no references were given"' "$T/out/metrics.json"
runs "shorter than FVD's frames" 0 $E "$T/set" --references "$T/set" --i3d "$T/i3d.safetensors" --out "$T/out"
check "none is counted" test "$(member "$T/out/metrics.json" fvd_48f n)" = 0
runs "no prompts" 0 $E "$T/short.mp4" --clip "$T/clip" --out "$T/out"
check "no score" test "$(member "$T/out/metrics.json" clip_score n)" = 0
check "and no number for it" grep -Eq '^  clip_score  +\(0 videos\)$' "$T/stdout"
check "but consistency" test "$(member "$T/out/metrics.json" clip_consistency n)" = 1
cat >"$T/lists.json" <<'END'
{"attributes": [{"name": "look", "templates": ["a {} dress"], "values": [{"value": "red"}, {"value": "blue"}]}]}
END
runs "lists of one's own" 0 $E "$T/set" --prompts "$T/prompts.jsonl" --clip "$T/clip" --attributes "$T/lists.json" \
    --out "$T/out"
check "are asked" test "$(member "$T/out/metrics.json" look chance)" = 0.5
echo '{"attributes": [{"name": "look"}]}' >"$T/lists.json"
runs "bad lists" 1 $E "$T/set" --clip "$T/clip" --attributes "$T/lists.json" --out "$T/bad"
stderr_has "attributes[0]"
runs "lists without CLIP" 2 $E "$T/set" --attributes "$T/lists.json" --out "$T/bad"
stderr_has "--attributes needs --clip"
runs "lists for another network" 2 $E "$T/set" --inception "$T/inception.safetensors" --attributes "$T/lists.json" --out "$T/bad"
stderr_has "--attributes needs --clip"
runs "an epsilon of no I3D" 2 $E "$T/set" --bn-eps 0.1 --out "$T/bad"
stderr_has "--bn-eps needs --i3d"

# ---- on a GPU, here simulated: bfloat16, so figures differ a little, and the protocol says so ----
runs "CLIP on the simulated GPU" 0 $E "$T/set/v1.mp4" --prompts "$T/prompts.jsonl" --clip "$T/clip" --device sim --out "$T/sim"
runs "and on the CPU" 0 $E "$T/set/v1.mp4" --prompts "$T/prompts.jsonl" --clip "$T/clip" --device cpu --out "$T/cpu"
check "the protocol tells bfloat16" grep -q '"numbers": "the networks compute in bfloat16' "$T/sim/metrics.json"
check "and float32" grep -q '"numbers": "the networks compute in float32' "$T/cpu/metrics.json"
check "scores differ, by less than a point" awk -v a="$(member "$T/sim/metrics.json" clip_score value)" \
    -v b="$(member "$T/cpu/metrics.json" clip_score value)" 'BEGIN {d = a - b; exit !(d != 0 && d < 1 && d > -1)}'

# ---- CLIP as transformers wrote it before safetensors ----
mkdir "$T/bin"
cp tests/golden/clip_score/config.json tests/golden/clip_score/merges.txt "$T/bin"
check "pytorch_model.bin" "$make" clip-bin "$T/bin"
runs "CLIP from it" 0 $E "$T/set/v1.mp4" --prompts "$T/prompts.jsonl" --clip "$T/bin" --device cpu --out "$T/frombin"
check "the same scores" cmp "$T/cpu/clip_scores.csv" "$T/frombin/clip_scores.csv"
check "and the same hash of the weights" test "$(member "$T/frombin/metrics.json" weights clip)" = \
    "$(member "$T/cpu/metrics.json" weights clip)"

# ---- memory does not grow with the number of videos ----
clip tiny.mp4 19 1
for n in 10 100; do
    mkdir "$T/n$n"
    for i in $(seq $n); do ln "$T/tiny.mp4" "$T/n$n/v$i.mp4"; done
    "$B/tests/tools/usage" -a $E "$T/n$n" --clip "$T/clip" --device cpu --out "$T/out$n" --jobs 1 --quiet \
        2>"$T/used$n" >/dev/null
    check "memory of $n videos" grep -q '^usage [0-9]' "$T/used$n"
done
grown() { # COLUMN KB: of the two lines of usage
    a=$(tail -1 "$T/used10" | cut -d' ' -f"$1") b=$(tail -1 "$T/used100" | cut -d' ' -f"$1")
    test "$((b - a))" -lt "$2"
}
check_memory "ninety more videos take less than 1.5 MB more" grown 2 1500
check_memory "of that less than 1 MB its own" grown 5 1000

# ---- weights that cannot be used: left out, named, exit status 3 ----
runs "weights that are missing" 3 $E "$T/set" --i3d "$T/none.pt" --out "$T/out"
stdout_has "left out: fvd, kvd"
stderr_has "none.pt"
check "named in metrics.json" grep -q '"metrics": "fvd, kvd"' "$T/out/metrics.json"
check "and on the page" grep -q 'Left out: fvd, kvd' "$T/out/evaluate.html"
runs "a file with code in it" 3 $E "$T/set" --inception tests/golden/torch_file/module.pt --out "$T/out"
stderr_has "it names 'torch.nn.modules.linear.Linear'"
runs "another model's weights" 3 $E "$T/set" --inception tests/golden/torch_file/zip.pt --out "$T/out"
stderr_has "tensors do not fit"
for kind in script frozen; do
    runs "TorchScript, $kind" 3 $E "$T/set/v1.mp4" --i3d tests/golden/torch_file/$kind.pt --out "$T/out"
    stderr_has "what is read are state dicts with names such as Conv3d_1a_7x7.conv3d.weight: i3d_pretrained_400.pt"
    runs "TorchScript for Inception, $kind" 3 $E "$T/set/v1.mp4" --inception tests/golden/torch_file/$kind.pt --out "$T/out"
    stderr_has "pt_inception-2015-12-05-6726825d.pth"
done
damage() { # FILE: its last number, a float32, becomes NaN
    printf '\000\000\300\177' | dd of="$1" bs=1 seek=$(($(wc -c <"$1") - 4)) conv=notrunc 2>/dev/null
}
cp "$T/inception.safetensors" "$T/nan.safetensors"
damage "$T/nan.safetensors"
runs "a weight that is not finite" 3 $E "$T/set/v1.mp4" --inception "$T/nan.safetensors" --out "$T/out"
stderr_has "has a number that is not finite: the weights are damaged"
cp -r "$T/clip" "$T/nanclip"
damage "$T/nanclip/model.safetensors"
runs "one of CLIP's" 1 $E "$T/set/v1.mp4" --clip "$T/nanclip" --prompts "$T/prompts.jsonl" --out "$T/nanout"
stderr_has "CLIP gave a vector that is not finite"
mkfifo "$T/fifo.pt"
runs "a pipe" 3 $E "$T/set" --inception "$T/fifo.pt" --out "$T/out"
stderr_has "not a regular file"
runs "CLIP without weights" 3 $E "$T/set" --clip tests/golden/clip_score --i3d "$T/i3d.safetensors" --fvd-frames 9 --out "$T/out"
stdout_has "left out: clip_score"
check "the others are there" test "$(member "$T/out/metrics.json" fvd_9f n)" = 4
runs "too few frames for I3D" 2 $E "$T/set" --i3d "$T/i3d.safetensors" --fvd-frames 8 --out "$T/bad"
finish
