"""Opens what weft-train wrote with diffusers itself, and shows that nothing is missing and nothing is left over.

    python tests/golden/open_checkpoint.py FOLDER

FOLDER is RUN/final (the whole pipeline is opened, and one forward pass taken) or RUN/checkpoint-N (its transformer).
Shown with torch 2.15, diffusers 0.35.2 and transformers 4.57.6; needs no network.
"""
import os
import sys

import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel
from safetensors import safe_open


def check_names(folder):
    with safe_open(os.path.join(folder, "transformer", "diffusion_pytorch_model.safetensors"), "pt") as f:
        written = {k: tuple(f.get_slice(k).get_shape()) for k in f.keys()}
    model, info = CogVideoXTransformer3DModel.from_pretrained(folder, subfolder="transformer", output_loading_info=True)
    wanted = {k: tuple(v.shape) for k, v in model.state_dict().items()}
    assert written == wanted, sorted(set(written.items()) ^ set(wanted.items()))
    for kind, names in info.items():
        assert not names, (kind, names)
    return model


def main():
    folder = sys.argv[1]
    model = check_names(folder)
    print(f"{folder}: transformer of {sum(p.numel() for p in model.parameters())} parameters, {len(model.state_dict())} tensors, none missing, none unexpected")
    if os.path.exists(os.path.join(folder, "model_index.json")):
        pipe = CogVideoXPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        c = pipe.transformer.config
        with torch.no_grad():
            out = pipe.transformer(torch.zeros(1, 3, c.in_channels, 6, 4), torch.zeros(1, c.max_text_seq_length, c.text_embed_dim), torch.tensor([500])).sample
        assert torch.isfinite(out).all()
        print(f"{folder}: opens as {type(pipe).__name__} with {', '.join(sorted(pipe.components))}")


main()
