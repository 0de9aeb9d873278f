#!/bin/sh
# Guess:  set_timesteps(n) of diffusers' CogVideoX schedulers gives n timesteps for every n up to 1000.
# Seen:   with "trailing" spacing, the published CogVideoX setting, 62 values of n (61, 103, 121, 122,
#         201, ...) give n + 1 timesteps, and the last one is -1: np.arange(1000, 0, -1000/n) takes one
#         step too many when 1000/n rounds down.  A sampler then does an extra step at timestep -1.
# Seen with torch 2.15.0, diffusers 0.42.1 (Python 3.11).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0
"$dir/venv/bin/python" - <<'PY'
import platform
import diffusers
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXDPMScheduler

print("python", platform.python_version(), "torch", torch.__version__, "diffusers", diffusers.__version__)
for kind in (CogVideoXDDIMScheduler, CogVideoXDPMScheduler):
    scheduler = kind(timestep_spacing="trailing")
    odd = []
    for n in range(1, 1001):
        scheduler.set_timesteps(n)
        if len(scheduler.timesteps) != n:
            odd.append((n, len(scheduler.timesteps), int(scheduler.timesteps[-1])))
    print(kind.__name__, "asked, given, last:", odd[:5], "... in all", len(odd))
    assert len(odd) == 62 and odd[0] == (61, 62, -1), "this has changed"
    assert all(given == n + 1 and last == -1 for n, given, last in odd), "this has changed"
print("still so")
PY
