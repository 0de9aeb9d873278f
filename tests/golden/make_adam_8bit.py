"""Records AdamW with 8-bit moments: tests/golden/adam_8bit.json.

    python3 tests/golden/make_adam_8bit.py            (from the repository root; seconds on a CPU)

Made with torch 2.15.0 (CPU), bitsandbytes 0.50.2 and numpy 2.4.6.  One parameter of 5000 elements (20 blocks, the last one short), gradients
from the filler of MODEL.md 1.4, spread over two decades and over four.  Recorded is every seventh weight after 30 steps of
  adamw         torch.optim.AdamW
  bitsandbytes  bitsandbytes.optim.AdamW8bit
  paper         numpy in double: Dettmers et al. 2022 with the one change that common/ops/blockwise.h states
"""
import json, os
import bitsandbytes as bnb
import numpy as np
import torch

N, STEPS, RATE, BETAS, EPS, DECAY, STRIDE = 5000, 30, 1e-2, (0.9, 0.99), 1e-8, 1e-2, 7


def filler(S, n):
    x = ((np.arange(n, dtype=np.uint64) + 1) * 0x9E3779B1 + S * 0x85EBCA77) & 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    x ^= x >> 16
    return x / 4294967296.0 - 0.5


def gradient(k, decades):
    u = filler(k, N)
    return (u + np.copysign(0.3, u)) * 10.0 ** -(np.arange(N) % decades)


def with_torch(make, decades):
    p = torch.nn.Parameter(torch.tensor(filler(0, N), dtype=torch.float32))
    optimizer = make([p], lr=RATE, betas=BETAS, eps=EPS, weight_decay=DECAY)
    for k in range(1, STEPS + 1):
        p.grad = torch.tensor(gradient(k, decades), dtype=torch.float32)
        optimizer.step()
    return p.detach().numpy()


def there_and_back(x, signed):
    """Figure 2 and section 3 of the paper: the nearest of 256 values, times the block's largest magnitude."""
    values = [0.0, 1.0]
    for e in range(7):
        parts = 2 ** (6 - e) if signed else 2 ** (7 - e)
        middles = [10.0 ** -e * (0.1 + 0.9 * (k + 0.5) / parts) for k in range(parts)]
        values += middles + ([-v for v in middles] if signed else [])
    values = np.sort(values)
    between = (values[1:] + values[:-1]) / 2
    if not signed:
        between[0] = 0  # what is not zero stays so
    scale = np.repeat([np.abs(x[i:i + 256]).max() for i in range(0, N, 256)], 256)[:N]
    return values[np.searchsorted(between, x / scale)] * scale


def paper(decades):
    p, m, v = filler(0, N), np.zeros(N), np.zeros(N)
    for k in range(1, STEPS + 1):
        g = gradient(k, decades)
        m, v = BETAS[0] * m + (1 - BETAS[0]) * g, BETAS[1] * v + (1 - BETAS[1]) * g * g
        p = p * (1 - RATE * DECAY) - RATE * (m / (1 - BETAS[0]**k)) / (np.sqrt(v / (1 - BETAS[1]**k)) + EPS)
        m, v = there_and_back(m, True), there_and_back(v, False)
    return p


def case(decades):
    made = {"adamw": with_torch(torch.optim.AdamW, decades), "bitsandbytes": with_torch(bnb.optim.AdamW8bit, decades), "paper": paper(decades)}
    return {"decades": decades, **{name: [float("%.8g" % x) for x in p[::STRIDE]] for name, p in made.items()}}


with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adam_8bit.json"), "w") as f:
    json.dump([case(2), case(4)], f, indent=0)
    f.write("\n")
