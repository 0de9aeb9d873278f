#!/bin/sh
# Guess:  norm_eps of an AutoencoderKLCogVideoX config is the epsilon of all of its group norms.
# Seen:   it reaches the residual blocks of the encoder and nothing else.  The encoder's last norm and
#         every norm of the decoder keep 1e-6, so that changing norm_eps from 1e-6 to 0.1 changes the
#         latents by 44 % and the decoded video by not one bit.
# Seen with torch 2.15.0, diffusers 0.42.1 (Python 3.11).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 diffusers==0.42.1 transformers==5.24.0
"$dir/venv/bin/python" - <<'PY'
import platform
import diffusers
import torch
from diffusers import AutoencoderKLCogVideoX

print("python", platform.python_version(), "torch", torch.__version__, "diffusers", diffusers.__version__)


def make(eps):
    torch.manual_seed(0)
    return AutoencoderKLCogVideoX(
        down_block_types=("CogVideoXDownBlock3D",) * 2, up_block_types=("CogVideoXUpBlock3D",) * 2,
        block_out_channels=(8, 16), layers_per_block=1, latent_channels=4, norm_num_groups=2, norm_eps=eps,
        sample_height=16, sample_width=16).eval()


small, large = make(1e-6), make(0.1)
torch.manual_seed(1)
pixels = torch.randn(1, 3, 9, 16, 16)
with torch.no_grad():
    a, b = (m.encode(pixels).latent_dist.mean for m in (small, large))
    latents = torch.randn_like(a)
    encoder = float((a - b).norm() / a.norm())
    decoder = float((small.decode(latents).sample - large.decode(latents).sample).abs().max())
reached = [n for n, m in large.named_modules() if isinstance(m, torch.nn.GroupNorm) and m.eps == 0.1]
print(f"latents differ by {encoder:.3f} of their norm, decoded pixels by {decoder}")
print("norms with the config's epsilon:", *reached, sep="\n  ")
assert encoder > 0.1 and decoder == 0.0, "this has changed"
assert reached and all(n.startswith("encoder.") and ".resnets." in n for n in reached), "this has changed"
print("still so")
PY
