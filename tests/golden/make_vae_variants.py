"""Writes tests/golden/vae_variants.h: what diffusers' AutoencoderKLCogVideoX gives in other shapes than CogVideoX-2B's family, with
weights and inputs of the filler (common/model/params.h), computed in double.

    python3 tests/golden/make_vae_variants.py > tests/golden/vae_variants.h && make format

Made with torch 2.15.0 (CPU) and diffusers 0.42.1.
"""
import math
import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX

CONFIGS = [ # blocks, latent, layers, groups, temporal ratio, norm_eps
    ((8, 16, 8, 16), 3, 1, 4, 8, 1e-6),
    ((8, 16), 2, 1, 2, 2, 1e-6),
    ((4, 8, 8), 2, 2, 2, 1, 1e-6),
    ((4, 8, 8, 8), 2, 1, 2, 4, 0.1), # norm_eps is read in the encoder's residual blocks and nowhere else
]
TILE = (32, 32, 0.25, 0.5) # pixels and overlaps of the tiled cases of config 0 (latent 4x4)
CASES = [ # config, decode?, tiled?, T, H, W
    (0, 0, 0, 8, 16, 24), (0, 0, 0, 17, 16, 24), (0, 0, 0, 24, 16, 24), (0, 0, 0, 5, 16, 24), (0, 0, 1, 17, 56, 40),
    (0, 1, 0, 1, 2, 3), (0, 1, 0, 4, 2, 3), (0, 1, 0, 5, 2, 3), (0, 1, 1, 4, 7, 5),
    (1, 0, 0, 7, 6, 10), (1, 0, 0, 12, 6, 10), (1, 1, 0, 2, 3, 5), (1, 1, 0, 5, 3, 5),
    (2, 0, 0, 9, 8, 4), (2, 1, 0, 3, 2, 1),
    (3, 0, 0, 17, 16, 24), (3, 1, 0, 3, 2, 3),
]


def u(seed, n):
    x = (np.arange(1, n + 1, dtype=np.uint64) * 0x9E3779B1 + seed * 0x85EBCA77) & 0xFFFFFFFF
    for shift, mul in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        x ^= x >> np.uint64(shift)
        if mul:
            x = (x * np.uint64(mul)) & np.uint64(0xFFFFFFFF)
    return x.astype(np.float64) / 2.0**32 - 0.5


def model(config):
    blocks, latent, layers, groups, ratio, eps = config
    vae = AutoencoderKLCogVideoX(block_out_channels=blocks, latent_channels=latent, layers_per_block=layers, norm_num_groups=groups,
                                 temporal_compression_ratio=ratio, norm_eps=eps, down_block_types=("CogVideoXDownBlock3D",) * len(blocks),
                                 up_block_types=("CogVideoXUpBlock3D",) * len(blocks), sample_height=64, sample_width=64)
    params = dict(vae.named_parameters())
    for k, name in enumerate(sorted(params, key=lambda s: s.encode())):
        p = params[name]
        v = u(k, p.numel())
        if p.dim() >= 2:
            v = v * math.sqrt(12 / (p.numel() // p.shape[0]))
        else:
            v = 0.2 * v + (0 if name.endswith(".bias") else 1)
        p.data = torch.tensor(v.astype(np.float32)).reshape(p.shape)
    return vae.double().eval()


def main():
    print("/* Made by make_vae_variants.py; see there. */\n#ifndef WEFT_TESTS_GOLDEN_VAE_VARIANTS_H\n#define WEFT_TESTS_GOLDEN_VAE_VARIANTS_H")
    print('#include "common/model/vae.h"\n#include "golden/vae_golden.h"')
    print("static const VaeConfig variants[] = {")
    for blocks, latent, layers, groups, ratio, eps in CONFIGS:
        shown = str(eps).replace("e-0", "e-")
        print(f"    {{.in_channels = 3, .out_channels = 3, .latent_channels = {latent}, .n_blocks = {len(blocks)}, "
              f".block_channels = {{{', '.join(map(str, blocks))}}},\n     .layers_per_block = {layers}, .groups = {groups}, "
              f".temporal_ratio = {ratio}, .sample_height = 64, .sample_width = 64, .norm_eps = {shown}, .scaling_factor = 1.15258426}},")
    print("};")
    print("static const struct { int variant; Golden golden; } variant_golden[] = {")
    for i, (c, decode, tiled, T, H, W) in enumerate(CASES):
        vae = model(CONFIGS[c])
        vae.disable_tiling()
        if tiled:
            scale = 2 ** (len(CONFIGS[c][0]) - 1)
            vae.enable_tiling(TILE[0], TILE[1], TILE[2], TILE[3])
            assert vae.tile_latent_min_height == TILE[0] // scale
        channels = CONFIGS[c][1] if decode else 3
        x = torch.tensor((u(300000 + i, channels * T * H * W) * math.sqrt(12)).astype(np.float32)).reshape(1, channels, T, H, W).double()
        with torch.no_grad():
            y = vae.decode(x).sample[0] if decode else vae.encode(x).latent_dist.parameters[0]
        f = y.flatten().numpy()
        n = f.size
        at = [0, 1, n // 7, n // 3, n // 2, 5 * n // 7, n - 2, n - 1]
        C, To, Ho, Wo = y.shape
        name = f"variant {c}: {'decode' if decode else 'encode'} {T} frames of {W}x{H}{' in tiles' if tiled else ''}"
        print(f'    {{{c}, {{"{name}", {300000 + i}, {decode}, 1, {tiled}, {T}, {H}, {W}, {To}, {Ho}, {Wo}, {C}, {f.mean():.10g}, '
              f'{math.sqrt((f * f).mean()):.10g},\n          {{{", ".join(f"{f[k]:.9g}" for k in at)}}}}}}},')
    print("};\n#endif")


if __name__ == "__main__":
    main()
