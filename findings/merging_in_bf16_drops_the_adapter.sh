#!/bin/sh
# Guess:  merge_and_unload of a LoRA into a bf16 model gives the base plus the adapter's product, each weight
#         off by half a unit of its last place: too little to see.
# Seen:   an adapter of a short fine-tuning run is smaller than that unit.  With weights of standard
#         deviation 0.02 and a product of 2e-5 (B after some hundred steps at 1e-4), three weights in four do
#         not change at all, what was merged differs from the product by four fifths of it, and points only
#         half in its direction.  Beside the bf16 base, unmerged, the same adapter acts in full.  peft adds
#         in the weights' own type and has no switch for it; merged in fp32 nothing is lost.
# Seen with peft 0.21.2, torch 2.15.0 (Python 3.11, x86-64).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 peft==0.21.2
"$dir/venv/bin/python" - <<'PY'
import peft
import torch

print("peft", peft.__version__, "torch", torch.__version__)
for dtype in (torch.bfloat16, torch.float32):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(512, 512, bias=False))
    torch.nn.init.normal_(model[0].weight, std=0.02)
    model = peft.get_peft_model(model.to(dtype), peft.LoraConfig(r=16, lora_alpha=16, target_modules=["0"]))
    layer = model.base_model.model[0]
    with torch.no_grad():
        layer.lora_B["default"].weight.normal_(std=2e-4)
        base = layer.base_layer.weight.float().clone()
        product = layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()
    merged = model.merge_and_unload()[0].weight.detach().float() - base
    same = (merged == 0).float().mean().item()
    off = ((merged - product).norm() / product.norm()).item()
    towards = torch.nn.functional.cosine_similarity(merged.flatten(), product.flatten(), dim=0).item()
    print(f"{dtype}: product {product.std().item():.2g}, unchanged weights {same:.2f}, off by {off:.2g} of the"
          f" product, cosine {towards:.2f}")
    if dtype == torch.bfloat16:
        assert same > 0.6 and off > 0.6 and towards < 0.7, "this has changed"
    else:
        assert same < 0.01 and off < 0.001, "this has changed"
print("still so")
PY
