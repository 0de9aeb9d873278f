#!/bin/sh
# Guess:  bitsandbytes' 8-bit second moments of Adam round to the nearest of 256 values, 0 among them: what is
#         much smaller than its block's largest becomes 0 or the smallest value, 3.25e-7 of the largest.
# Seen:   on the CPU nothing is stored below 1.56e-5 of the block's largest, not even an exact 0: the seven
#         values of the table under it are never used.  Adam's step divides by the root of it: in a block
#         with one gradient of 1 and 4,095 of 1e-4, each of the small ones moves 29 times less in the second
#         step than in the first, whereas Adam in fp32 moves all of them by lr in both.
# Seen with bitsandbytes 0.50.2, torch 2.15.0 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 bitsandbytes==0.50.2 numpy
"$dir/venv/bin/python" - <<'PY'
import platform
import bitsandbytes as bnb
import bitsandbytes.functional as F
import torch

print("bitsandbytes", bnb.__version__, "torch", torch.__version__, platform.machine())
table = F.create_dynamic_map(signed=False)
x = torch.zeros(256)
x[:6] = torch.tensor([1.0, 1e-6, 4e-6, 1e-5, 1e-4, 1e-3])
codes, state = F.quantize_blockwise(x, code=table.clone(), blocksize=256)
stored = F.dequantize_blockwise(codes, state)
nearest = table[(x[:, None] - table[None]).abs().argmin(1)]
for k in (0, 5, 4, 3, 2, 1, 6):
    print(f"{x[k].item():.3g} is stored as {stored[k].item():.3g}; the table's nearest is {nearest[k].item():.3g}")
assert (table == 0).any() and nearest[6] == 0, "this has changed"
assert abs(stored[6].item() - 1.5625e-5) < 1e-9 and stored.min() == stored[6], "this has changed"

steps = {}
for kind in (bnb.optim.AdamW8bit, torch.optim.AdamW):
    p = torch.nn.Parameter(torch.zeros(4096))
    extra = {"min_8bit_size": 1} if kind is bnb.optim.AdamW8bit else {}
    optimizer = kind([p], lr=1e-3, weight_decay=0.0, **extra)
    seen = []
    for _ in range(2):
        p.grad = torch.full_like(p, 1e-4)
        p.grad[0] = 1.0
        before = p[1].item()
        optimizer.step()
        seen.append(before - p[1].item())
    steps[kind.__name__] = seen
    print(kind.__name__, "moves a small one by", ", ".join(f"{s:.3g}" for s in seen))
assert abs(steps["AdamW"][1] / steps["AdamW"][0] - 1) < 0.01, "this has changed"
assert steps["AdamW8bit"][1] / steps["AdamW8bit"][0] < 0.05, "this has changed"
print("still so")
PY
