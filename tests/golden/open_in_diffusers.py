"""Shows that a folder written by weft-train opens in diffusers with no missing and no unexpected key.

    python3 tests/golden/open_in_diffusers.py RUN/final [RUN/checkpoint-N ...]

A folder with model_index.json is opened as a whole CogVideoXPipeline; any folder with transformer/ has that compared name by name.
Exit 0: every key matched and one forward pass gave finite numbers.  Used with diffusers 0.35.2 and 0.42.1, transformers 4.57.6 and 5.24.0.
"""
import os, sys
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXPipeline, CogVideoXTransformer3DModel


def check(folder):
    parts = [("transformer", CogVideoXTransformer3DModel), ("vae", AutoencoderKLCogVideoX)]
    for name, cls in parts:
        if not os.path.isdir(os.path.join(folder, name)):
            continue
        model, info = cls.from_pretrained(folder, subfolder=name, output_loading_info=True, low_cpu_mem_usage=False)
        for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
            if info.get(kind):
                sys.exit(f"{folder}/{name}: {kind}: {info[kind]}")
        print(f"{folder}/{name}: {sum(1 for _ in model.parameters())} tensors, all keys match")
    if os.path.exists(os.path.join(folder, "model_index.json")):
        pipe = CogVideoXPipeline.from_pretrained(folder, torch_dtype=torch.float32)  # transformers 5 takes each part in its stored type
        pipe.set_progress_bar_config(disable=True)
        out = pipe("a dress", height=pipe.transformer.config.sample_height * 8, width=pipe.transformer.config.sample_width * 8,
                   num_frames=9, num_inference_steps=2, output_type="latent",
                   max_sequence_length=pipe.transformer.config.max_text_seq_length).frames
        if not torch.isfinite(out).all():
            sys.exit(f"{folder}: sampling gave values that are not finite")
        print(f"{folder}: pipeline opens and samples latents {tuple(out.shape)}")


for path in sys.argv[1:] or sys.exit(__doc__):
    check(path)
