"""Shows that diffusers opens the adapter and the merged model that weft-train wrote, and samples what weft-infer samples with them.

    S="--preset demo --device cpu --model MODEL --prompt 'A red dress.' --seed 42 --set sampling.num_frames=9 --set sampling.width=32 \\
       --set sampling.height=48 --set sampling.num_inference_steps=10"
    weft-infer sample $S --lora RUN/final --out a --latents-out ours.safetensors
    weft-train merge --model MODEL --lora RUN/final --out MERGED;  weft-infer sample $S --model MERGED --out b --latents-out merged.safetensors
    python3 tests/golden/open_lora_in_diffusers.py MODEL RUN/final ours.safetensors MERGED merged.safetensors

Exit 0: latents agree within 1e-4 (relative L2), with the file's metadata and, as readers that know no alpha have it, without.  Used with
torch 2.15.0, diffusers 0.42.1, peft 0.21.2, transformers 5.24.0.
"""
import os, sys
import torch
from diffusers import CogVideoXPipeline
from safetensors.torch import load_file


def sample(model, adapter=None):
    pipe = CogVideoXPipeline.from_pretrained(model, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    if adapter is not None:
        pipe.load_lora_weights(adapter)
    with torch.no_grad():
        return pipe("A red dress.", height=48, width=32, num_frames=9, num_inference_steps=10, guidance_scale=6.0,
                    generator=torch.Generator().manual_seed(42), output_type="latent").frames.float()


def compare(what, got, path):
    want = next(iter(load_file(path).values())).float()
    off = float((got - want).norm() / want.norm())
    print(f"{what}: relative distance {off:.2e}")
    if off > 1e-4:
        sys.exit(f"{what}: {off:.2e} apart; 1e-4 is allowed")


def main(model, adapter, ours, merged, ours_merged):
    plain = sample(model)
    with_adapter = sample(model, adapter)
    print(f"the adapter moves the sample by {float((with_adapter - plain).norm() / plain.norm()):.2e}")
    compare("load_lora_weights", with_adapter, ours)
    tensors = load_file(os.path.join(adapter, "pytorch_lora_weights.safetensors"))  # no metadata: alpha is taken to be the rank
    compare("load_lora_weights without metadata", sample(model, tensors), ours)
    compare("from_pretrained of the merged model", sample(merged), ours_merged)


main(*sys.argv[1:]) if len(sys.argv) == 6 else sys.exit(__doc__)
