#!/bin/sh
# Guess:  FFmpeg's FFV1 encoder holds a few times the picture that it encodes: about 10 bytes a pixel for RGB.
# Seen:   at level 3, the one in general use, it takes room for the largest packet that there could be, and
#         touches all of it: 68 to 71 bytes a pixel for RGB and 29 to 35 for 4:2:0, whatever the packet takes (here 3.3
#         and 1.4: noise, which nothing compresses).  1920x1080 RGB: 140 MB an encoder.  It stays until the encoder is
#         closed.  Level 4 (still behind `strict=experimental`) takes 7 for the same RGB.  So the memory
#         of workers that encode side by side is not that of their pictures.
# Seen with av 18.1.0 (libavcodec 62.28), numpy 2.4.6, Python 3.11, one thread, 4 slices.  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q av==18.1.0 numpy==2.4.6
cat >"$dir/one.py" <<'PY'
import sys
from fractions import Fraction
import av
import numpy

width, height, level, form = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]


def held():
    """Resident bytes a pixel."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) * 1024 / (width * height)


encoder = av.CodecContext.create("ffv1", "w")
encoder.width, encoder.height, encoder.pix_fmt = width, height, form
encoder.time_base, encoder.thread_count = Fraction(1, 8), 1
encoder.options = {"level": level, "slices": "4", "strict": "experimental"}
encoder.open()
noise = numpy.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=numpy.uint8)
frame = av.VideoFrame.from_ndarray(noise, format="rgb24").reformat(format=form)
before = held()
for i in range(4):
    frame.pts = i
    packet = sum(p.size for p in encoder.encode(frame)) / (width * height)
print(f"{held() - before:.1f} {packet:.2f}")
PY
case_of() { # WIDTH HEIGHT LEVEL FORM LEAST MOST
    line=$("$dir/venv/bin/python" "$dir/one.py" "$1" "$2" "$3" "$4")
    echo "$1x$2 $4, level $3: bytes a pixel held, of the packet: $line"
    echo "$line $5 $6" | awk '{ exit !($1 > $3 && $1 < $4) }' || { echo "this has changed"; exit 1; }
}
"$dir/venv/bin/python" -c 'import av, platform; print("python", platform.python_version(), "av", av.__version__, "libavcodec", av.library_versions["libavcodec"])'
case_of 480 720 3 bgr0 55 85
case_of 1920 1080 3 bgr0 55 85
case_of 1920 1080 3 yuv420p 24 45
case_of 1920 1080 4 bgr0 0 15
echo "still so"
