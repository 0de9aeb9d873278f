#!/bin/sh
# weft-prep against the ffmpeg command line and PyAV on the same work: decode all, 8 fps, cover-scale, crop to 480x720, 49 frames, FFV1.
#   sh tests/bench/prep.sh CLIP.mp4 SCALED_WIDTH SCALED_HEIGHT [BUILD]      (SCALED: the cover size before the crop)
# PYTHON=path names an interpreter with PyAV; without one that part is left out.
clip=$1 width=$2 height=$3 B=${4:-build/release} n=${COPIES:-4}
T=$(mktemp -d) || exit 1
trap 'rm -rf "$T"' EXIT
mkdir "$T/src"
for i in $(seq "$n"); do cp "$clip" "$T/src/c$i.mp4"; echo "A dress." >"$T/src/c$i.txt"; done
flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact
filter="fps=8,select=lt(n\\,49),scale=$width:$height:flags=$flags,crop=480:720,format=bgr0"
seconds() { # LABEL COMMAND...: wall and processor seconds a clip
    label=$1
    shift
    { /usr/bin/env bash -c 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null 2>&1' - "$@"; } 2>&1 | awk -v l="$label" -v n="$n" '{printf "%-34s %.2f s a clip, %.2f s of processor\n", l, $1/n, ($2+$3)/n}'
}
export T n filter
for round in 1 2; do
    seconds "ffmpeg, 1 thread" sh -c 'for i in $(seq "$n"); do ffmpeg -v error -y -threads 1 -i "$T/src/c$i.mp4" -filter_threads 1 -vf "$filter" -threads 1 -c:v ffv1 -level 3 -g 1 -slices 4 -slicecrc 1 "$T/f$i.mkv"; done'
    rm -rf "$T/out"
    seconds "weft-prep --jobs 1" "$B/weft-prep" ingest "$T/src" --out "$T/out" --jobs 1 --quiet --set quality.mode=warn --set quality.duplicates=warn
    rm -rf "$T/out"
    seconds "weft-prep --jobs 2" "$B/weft-prep" ingest "$T/src" --out "$T/out" --jobs 2 --quiet --set quality.mode=warn --set quality.duplicates=warn
    [ -n "$PYTHON" ] && seconds "PyAV, 2 processes" "$PYTHON" tests/bench/prep_pyav.py "$T" "$width" "$height" 2
done
