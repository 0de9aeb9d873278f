#!/usr/bin/env python3
"""check_base.py MODEL FRAMES   compares diffusers' video of the demo's model with the pictures of weft-infer.

FRAMES is the folder of pictures that this made:
    weft-infer sample --preset demo --config tests/demo/recipe.json --model MODEL --steps 20 --guidance 3 --seed 1 \\
        --prompt "a woman in a coat turns" --save-frames --out OUT
Exit 0: no pixel differs by more than one level.  Pinned: torch 2.15.0, diffusers 0.42.1, transformers 5.24.0."""
import glob
import sys

import numpy as np
import torch
from diffusers import CogVideoXPipeline
from PIL import Image

model, folder = sys.argv[1:]
torch.set_grad_enabled(False)
torch.set_num_threads(2)
pipe = CogVideoXPipeline.from_pretrained(model, torch_dtype=torch.float32)
pipe.set_progress_bar_config(disable=True)
c = pipe.transformer.config
got = pipe("a woman in a coat turns", height=96, width=64, num_frames=9, num_inference_steps=20, guidance_scale=3.0,
           max_sequence_length=c.max_text_seq_length, generator=torch.Generator().manual_seed(1),
           output_type="np").frames[0]
got = (got * 255).round().astype(np.int32)
pictures = [Image.open(f).convert("RGB") for f in sorted(glob.glob(folder + "/*.png"))]
want = np.stack([np.asarray(p) for p in pictures]).astype(np.int32)
if got.shape != want.shape:
    sys.exit(f"diffusers gives {got.shape}, {folder} holds {want.shape}")
d = np.abs(got - want)
print(f"{model}: {len(got)} frames of {got.shape[2]}x{got.shape[1]}: largest difference {d.max()} levels, "
      f"{100 * (d > 0).mean():.2f} % of the values differ")
sys.exit(int(d.max() > 1))
