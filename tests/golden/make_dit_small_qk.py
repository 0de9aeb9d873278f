"""Numbers of the test small_queries in tests/golden/test_dit.c: the tiny transformer of the golden tests with queries and keys a
thousand times smaller, so that the epsilon of their norms (1e-6, unlike the blocks' 1e-5) shows.

    python tests/golden/make_dit_small_qk.py

Made with torch 2.15 and diffusers 0.35.2, in float64 on the CPU.
"""
import math

import torch
from diffusers import CogVideoXTransformer3DModel


def filler(seed, n):
    x = ((torch.arange(n, dtype=torch.int64) + 1) * 0x9E3779B1 + seed * 0x85EBCA77) & 0xFFFFFFFF
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1)):
        x = ((x ^ (x >> shift)) * factor) & 0xFFFFFFFF
    return x.double() / 2**32 - 0.5


def inputs(seed, shape):
    return (filler(seed, math.prod(shape)) * math.sqrt(12)).view(shape)


model = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
                                    text_embed_dim=12, num_layers=2, sample_width=4, sample_height=6, sample_frames=9,
                                    max_text_seq_length=5).double().eval()
state = model.state_dict()
for k, name in enumerate(sorted(n for n in state if n != "patch_embed.pos_embedding")):
    t = state[name]
    u = filler(k, t.numel()).view(t.shape)
    t.copy_(u * math.sqrt(12 / math.prod(t.shape[1:])) if t.dim() > 1 else 0.2 * u + (1 if name.endswith(".weight") else 0))
    if ".to_q." in name or ".to_k." in name:
        t.mul_(1e-3)
with torch.no_grad():
    out = model(hidden_states=inputs(300002, (2, 3, 4, 6, 4)), encoder_hidden_states=inputs(300001, (2, 5, 12)),
                timestep=torch.tensor([999, 500])).sample.flatten()
n = out.numel()
print(f"mean {out.mean():.9g} rms {out.square().mean().sqrt():.9g}")
print(", ".join(f"{out[i]:.8f}" for i in (0, 1, n // 7, n // 3, n // 2, 5 * n // 7, n - 2, n - 1)))
