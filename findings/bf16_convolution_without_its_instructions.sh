#!/bin/sh
# Guess:  a convolution in bfloat16 costs a CPU at most what one in float32 does: half the bytes, and where the
#         processor has no bfloat16 instructions, oneDNN widens the numbers and multiplies in float32.
# Seen:   without them (here: both libraries told to use AVX2) torch leaves oneDNN's float32 path, and a step of
#         training, forwards and backwards, takes several times as long as in float32 (7 times in a video VAE; below
#         more than twice is asked for).  No warning says so, with autocast on the CPU neither.
# Seen with torch 2.15.0 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 numpy
ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2 "$dir/venv/bin/python" - <<'PY'
import statistics
import time
import warnings

import torch

print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
torch.set_num_threads(1)
torch.manual_seed(1)
layer = torch.nn.Conv2d(48, 48, 3, padding=1).to(memory_format=torch.channels_last)
x = torch.randn(4, 48, 64, 64).to(memory_format=torch.channels_last)


def step(half):
    begin = time.process_time()
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        y = layer(x)
    y.float().square().mean().backward()
    return time.process_time() - begin


taken = {False: [], True: []}
with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    for i in range(9):  # in turns; the first pair warms up
        for half in taken:
            taken[half].append(step(half))
single, half = (statistics.median(t[1:]) for t in taken.values())
print(f"float32 {1e3 * single:.1f} ms, bfloat16 {1e3 * half:.1f} ms of processor time: {half / single:.1f} times;"
      f" {len(said)} warnings")
assert half > 2 * single and not said, "this has changed"
print("still so")
PY
