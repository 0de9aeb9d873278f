#!/usr/bin/env python3
"""reconstruct.py CLIPS OUT BASE [N]   what BASE's VAE leaves of the last N clips (default all) of `draw_clips CLIPS`:
videos and OUT/videos.jsonl for read_garments, and their mean PSNR.  Only for tests/bench/demo.md; nothing needs it.
Tried with torch 2.15.0, diffusers 0.42.1."""
import json
import os
import sys

import av
import numpy as np
import torch
from diffusers import AutoencoderKLCogVideoX
from PIL import Image

WIDTH, HEIGHT = 64, 96
clips, out, base = sys.argv[1:4]
number = int(sys.argv[4]) if len(sys.argv) > 4 else 0
vae = AutoencoderKLCogVideoX.from_pretrained(base, subfolder="vae", torch_dtype=torch.float32).eval()
os.makedirs(out, exist_ok=True)
psnr = []
with open(f"{out}/videos.jsonl", "w") as table:
    for line in open(f"{clips}/clips/videos.jsonl").readlines()[-number:]:
        clip = json.loads(line)
        with av.open(f"{clips}/clips/{clip['video']}") as f:
            x = np.stack([np.asarray(p.to_image().resize((WIDTH, HEIGHT), Image.BICUBIC)) for p in f.decode(video=0)])
        with torch.no_grad():
            pixels = torch.from_numpy(x).float().permute(3, 0, 1, 2)[None] / 127.5 - 1
            y = vae.decode(vae.encode(pixels).latent_dist.mean).sample[0]
        y = ((y + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 3, 0).numpy().astype(np.uint8)
        psnr.append(10 * np.log10(255 ** 2 / ((y.astype(float) - x) ** 2).mean()))
        clip["video"] = clip["id"] + ".mkv"
        with av.open(f"{out}/{clip['video']}", "w") as f:
            stream = f.add_stream("ffv1", rate=8)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
            for picture in y:
                f.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            f.mux(stream.encode())
        print(json.dumps(clip), file=table)
print(f"{len(psnr)} clips, PSNR {np.mean(psnr):.2f} dB")
