#!/bin/sh
# weft-infer sample: pictures of what is being made, and which parts of the model hold memory: neither changes a bit.
. tests/cli/lib.sh
INFER=$B/weft-infer
SMALL="--preset demo --device cpu --jobs 1 --model tests/golden/pipeline/model --num-frames 9 --width 32 --height 48 \
    --steps 6 --prompt one --prompt two --seed 4"
sample() { "$INFER" sample $SMALL "$@"; }

runs "plain" 0 sample --out "$T/plain"
for how in never always; do
    runs "--offload $how" 0 sample --out "$T/$how" --offload $how
    same "--offload $how: the same files" "$T/plain" "$T/$how"
done
runs "another word" 2 sample --out "$T/x" --offload sometimes
stderr_has "auto|never|always"

# Seen on the way, gone at the end.
preview=$T/seen/one-4.preview.png
if can_trace; then
    at_call when "test -e '$preview' && test -e '$T/seen/one-4.mp4' && cp '$preview' '$T/preview.png'" \
        "$INFER" sample $SMALL --out "$T/seen" --preview-every 2
    check "it ends well" test "$status" = 0
    check "a picture was there before the record" test "$(head -c 4 "$T/preview.png" | tail -c 3)" = PNG
    "$B/weft-prep" probe --json "$T/preview.png" >"$T/probe.txt"
    check "of the video's size" grep -q "32x48" "$T/probe.txt"
else
    skip "a picture on the way" "$no_trace"
    sample --out "$T/seen" --preview-every 2 >/dev/null 2>&1
fi
same "with and without pictures: the same files" "$T/plain" "$T/seen"
runs "with one part at a time" 0 sample --out "$T/both" --preview-every 1 --offload always
same "the same files again" "$T/plain" "$T/both"

# Fast and not exact, only on request, with PSNR; the same bits whenever it is stopped.
fast="--guidance-share 0.5 --reuse-every 2"
runs "fast" 0 sample --out "$T/fast" $fast
check "the first one is compared" grep -q "sample 'one-4': PSNR against the exact one [0-9.]* dB" "$T/stderr"
check "and no other" test "$(grep -c PSNR "$T/stderr")" = 1
check "the record says how" grep -q '"guidance_share": 0.5' "$T/fast/one-4.json"
check "and others do not" sh -c "! grep -q lossy '$T/plain/one-4.json'"
pixels() { grep -o '"rgb_sha256": "[0-9a-f]*"' "$1/one-4.json"; }
check "other pixels" test "$(pixels "$T/fast")" != "$(pixels "$T/plain")"
runs "the exact ones stay" 2 sample --out "$T/plain" $fast
stderr_has "--overwrite"
counts "undisturbed" 0 "$INFER" sample $SMALL --out "$T/fast2" $fast
killed_often 4 "$calls" "$INFER" sample $SMALL --out "$T/killed" $fast
runs "killed and run again" 0 sample --out "$T/killed" $fast
same "the same fast files" "$T/fast" "$T/killed"
runs "a share of nothing" 2 sample --out "$T/x" --guidance-share 0
runs "all the steps, but guided all the way" 0 sample --out "$T/whole" --guidance-share 1
stderr_has "PSNR against the exact one 99.00 dB"

# Stopped at such a moment, and gone on with.
killed_at_call 40 "$INFER" sample $SMALL --out "$T/cut" --preview-every 1
runs "killed and run again without pictures" 0 sample --out "$T/cut"
same "the same files after a kill" "$T/plain" "$T/cut"
finish
