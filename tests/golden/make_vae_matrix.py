"""Writes tests/golden/vae_matrix.h: what diffusers' AutoencoderKLCogVideoX encodes clips of every kind to that weft-cache makes latents
of: portrait and landscape, 1, 9, 17, 48 and 49 frames, whole and in tiles, weights stored in float32, float16 and bfloat16; weights and
inputs of the filler (common/model/params.h), computed in double.

    python3 tests/golden/make_vae_matrix.py > tests/golden/vae_matrix.h && make format

Made with torch 2.15.0 (CPU) and diffusers 0.42.1.
"""
import math
import numpy as np
import torch
from make_vae_variants import model, u

CONFIG = ((8, 8, 16, 16), 4, 1, 4, 4, 1e-6) # blocks, latent, layers, groups, temporal ratio, norm_eps
TILE = (32, 32, 0.25, 0.5)


def main():
    print("/* Made by make_vae_matrix.py; see there. */\n#ifndef WEFT_TESTS_GOLDEN_VAE_MATRIX_H\n#define WEFT_TESTS_GOLDEN_VAE_MATRIX_H")
    print('#include "common/ops/tensor.h"\n#include "golden/vae_golden.h"')
    print("static const struct { DType stored; Golden golden; } matrix_golden[] = {")
    i = 0
    for name, dtype in (("DT_F32", torch.float32), ("DT_F16", torch.float16), ("DT_BF16", torch.bfloat16)):
        vae = model(CONFIG).to(dtype).double()
        for H, W in ((56, 40), (40, 56)):
            for T in (1, 9, 17, 48, 49):
                x = torch.tensor((u(400000 + i, 3 * T * H * W) * math.sqrt(12)).astype(np.float32)).reshape(1, 3, T, H, W).double()
                for tiled in (0, 1):
                    vae.enable_tiling(*TILE) if tiled else vae.disable_tiling()
                    with torch.no_grad():
                        y = vae.encode(x).latent_dist.parameters[0]
                    f = y.flatten().numpy()
                    n = f.size
                    at = [0, 1, n // 7, n // 3, n // 2, 5 * n // 7, n - 2, n - 1]
                    C, To, Ho, Wo = y.shape
                    what = f"{T} frames of {W}x{H}{' in tiles' if tiled else ''}, {name[3:]}"
                    print(f'    {{{name}, {{"{what}", {400000 + i}, 0, 1, {tiled}, {T}, {H}, {W}, {To}, {Ho}, {Wo}, {C}, {f.mean():.10g}, '
                          f'{math.sqrt((f * f).mean()):.10g},\n          {{{", ".join(f"{f[k]:.9g}" for k in at)}}}}}}},', flush=True)
                i += 1
    print("};\n#endif")


main()
