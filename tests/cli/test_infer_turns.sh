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

# Stopped at such a moment, and gone on with.
killed_at_call 40 "$INFER" sample $SMALL --out "$T/cut" --preview-every 1
runs "killed and run again without pictures" 0 sample --out "$T/cut"
same "the same files after a kill" "$T/plain" "$T/cut"
finish
