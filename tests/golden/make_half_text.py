"""Makes tests/golden/half_text.json: last hidden states of T5 and CLIP text encoders whose checkpoints are fp16 and bf16.

Recorded with torch 2.15.0 and transformers 5.24.0 on the CPU.  Run from the repository's root.
Weights are made by the rule of make_clip_score.py (in C: named_weights.h), rounded to the checkpoint's type, and computed with in
float32: what from_pretrained(..., dtype=torch.float32) does with such a file, and what Weft does.
"""
import json

import torch
import transformers
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from named_weights import filled

assert torch.__version__.startswith("2.15.") and transformers.__version__ == "5.24.0"
IDS = [5, 9, 33, 12, 60, 7, 7, 41, 2, 1, 0, 0]
t5 = T5Config(vocab_size=64, d_model=32, d_kv=8, num_heads=4, d_ff=48, num_layers=2, feed_forward_proj="gated-gelu", relative_attention_num_buckets=32,
              relative_attention_max_distance=128, layer_norm_epsilon=1e-6)
clip = CLIPTextConfig(vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=12, hidden_act="quick_gelu",
                      bos_token_id=62, eos_token_id=63, pad_token_id=1, projection_dim=32)


def name_of(kind, name):
    if kind == "t5":
        return "shared.weight" if name == "encoder.embed_tokens.weight" else name
    return name if name.startswith("text_model.") else "text_model." + name


out = {"ids": IDS}
for kind, make, config in (("t5", T5EncoderModel, t5), ("clip", CLIPTextModel, clip)):
    for dtype in ("float16", "bfloat16"):
        model = make(config).eval()
        with torch.no_grad():
            for name, p in model.named_parameters():
                p.copy_(filled(name_of(kind, name), tuple(p.shape)).to(getattr(torch, dtype)).float())
            hidden = model(input_ids=torch.tensor([IDS])).last_hidden_state[0]
        out[f"{kind}_{dtype}"] = [round(float(v), 7) for v in hidden.flatten()]
with open("tests/golden/half_text.json", "w") as f:
    json.dump(out, f)
    f.write("\n")
