#!/bin/sh
# weft-prep against the ffmpeg command line, PyAV and decord on the same work: 8 fps, cover-scale,
# crop to 480x720, 49 frames, FFV1.
#   sh tests/bench/prep.sh CLIP.mp4 SCALED_WIDTH SCALED_HEIGHT [BUILD]      (SCALED: the cover size before the crop)
# ROUNDS (3) times each line in turn, COPIES (4) of the clip in each.  PYTHON=path names an
# interpreter with PyAV, Pillow and decord; without one those parts are left out.
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
    { /usr/bin/env bash -c 'TIMEFORMAT="%R %U %S"; time "$@" >/dev/null 2>&1 || echo "failed: $?" >&2' - "$@"; } 2>&1 \
        | awk -v l="$label" -v n="$n" '
        /failed/ {print l, $0; next}
        {printf "%-34s %.2f s a clip, %.2f s of processor\n", l, $1/n, ($2+$3)/n}'
}
weft() { # JOBS
    rm -rf "$T/out"
    seconds "weft-prep --jobs $1" "$B/weft-prep" ingest "$T/src" --out "$T/out" --jobs "$1" \
        --quiet --set quality.mode=warn --set quality.duplicates=warn
}
python() { # LABEL KIND
    [ -z "$PYTHON" ] || seconds "$1" "$PYTHON" tests/bench/prep_pyav.py "$2" "$T" "$width" "$height"
}
run_ffmpeg() { # LABEL EXTRA: all of the file, or -frames:v 49
    label=$1
    shift
    seconds "$label" sh -c \
        'for i in $(seq "$n"); do ffmpeg -v error -y -threads 1 -i "$T/src/c$i.mp4" -an -filter_threads 1 -vf "$filter" "$@" -threads 1 -c:v ffv1 -level 3 -g 1 -slices 4 -slicecrc 1 "$T/f$i.mkv" || exit 1; done' - "$@"
}
export T n filter
for round in $(seq "${ROUNDS:-3}"); do
    run_ffmpeg "ffmpeg, 1 thread"
    run_ffmpeg "ffmpeg, 1 thread, -frames:v 49" -frames:v 49
    weft 1
    weft 2
    python "PyAV, simple" simple
    python "PyAV, tuned, 2 processes" tuned
    python "decord" decord
done
