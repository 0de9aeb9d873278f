#!/bin/sh
# Guess:  swscale makes packed RGB as fast as planes of it, or faster: planes have to be joined afterwards by
#         whoever wants triples.
# Seen:   with accurate_rnd, full chroma and bitexact, as one wants them for the same picture everywhere, scaling
#         to GBRP takes a fraction of the time of scaling to RGB24, and the samples are the same to the bit.
#         Only the planar output has vector code there.
# Seen with ffmpeg 7.0.2 (in imageio-ffmpeg 0.6.0, Python 3.11, x86-64 with AVX2).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q imageio-ffmpeg==0.6.0
"$dir/venv/bin/python" - "$dir" <<'PY'
import re
import subprocess
import sys

import imageio_ffmpeg

exe = imageio_ffmpeg.get_ffmpeg_exe()
folder = sys.argv[1]
flags = "bicubic+accurate_rnd+full_chroma_int+full_chroma_inp+bitexact"
source = ["-f", "lavfi", "-i", "testsrc2=s=720x960:r=30:d=2,noise=alls=20:allf=t,format=yuv420p"]
subprocess.run([exe, "-v", "error", *source, "-c:v", "rawvideo", "-f", "nut", f"{folder}/source.nut"], check=True)


def run(form, *output):
    command = [exe, "-nostdin", "-benchmark", "-threads", "1", "-filter_threads", "1", "-i", f"{folder}/source.nut",
               "-vf", f"scale=540:720:flags={flags},format={form}" + output[0], *output[1:]]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout, float(re.search(r"utime=([0-9.]+)s", done.stderr).group(1))


print(subprocess.run([exe, "-version"], capture_output=True, text=True).stdout.splitlines()[0])
nothing = ("", "-f", "null", "-")
triples, planes = (min(run(form, *nothing)[1] for _ in range(5)) for form in ("rgb24", "gbrp"))
print(f"60 frames, processor seconds: rgb24 {triples:.2f}, gbrp {planes:.2f}")
md5 = [run(form, ",format=rgb24", "-f", "md5", "-")[0].strip() for form in ("rgb24", "gbrp")]
print(md5)
assert md5[0] == md5[1] and planes < 0.6 * triples, "this has changed"
print("still so")
PY
