"""Makes tests/golden/clip_score/{config.json,merges.txt,golden.json}: a tiny CLIP with weights made by a rule, and what it says.

Recorded with torch 2.15.0, transformers 5.24.0 (CLIPModel, CLIPImageProcessor on Pillow, CLIPTokenizer) and Pillow 13.0.0.
Run from the repository's root.  The weights' rule is that of make_metric_networks.py, with 0.5 + u for every vector called weight;
tests/golden/named_weights.h has it in C, so no weights are stored.
"""
import json
import os

import numpy as np
import PIL
import torch
import transformers
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

from named_weights import filled

FOLDER = "tests/golden/clip_score"
MERGES = ["r e", "re d</w>", "d re", "s s</w>", "dre ss</w>", "i n", "s i", "l k</w>", "si lk</w>", "b l", "u e</w>", "bl ue</w>",
          "a</w> </w>"]


def weight(name, shape):
    return torch.tensor(4.6052) if name == "logit_scale" else filled(name, shape)


def byte_words():
    """The 256 bytes as CLIP's vocabulary orders and spells them."""
    plain = list(range(33, 127)) + list(range(161, 173)) + list(range(174, 256))
    rest = [b for b in range(256) if b not in plain]
    return [chr(b) for b in plain] + [chr(256 + i) for i in range(len(rest))]


def pattern(k, height, width):
    h, w, c = np.ogrid[:height, :width, :3]
    return ((7 * w + 13 * h + 29 * k + 101 * c) % 256).astype(np.uint8)


def square(picture):
    """LLaVA's expand2square with CLIP's mean colour."""
    h, w = picture.shape[:2]
    side = max(h, w)
    out = Image.new("RGB", (side, side), (122, 116, 104))
    out.paste(Image.fromarray(picture), ((side - w) // 2, (side - h) // 2))
    return np.asarray(out)


def pixels(picture, size):
    """CLIPImageProcessor: short side to `size` with Pillow's bicubic, centre crop, mean and standard deviation."""
    from transformers import CLIPImageProcessorPil as Processor
    return Processor(size={"shortest_edge": size}, crop_size={"height": size, "width": size})(
        Image.fromarray(picture), return_tensors="pt")["pixel_values"]


def numbers(tensor):
    return [float(f"{v:.7g}") for v in tensor.double().flatten().tolist()]


os.makedirs(FOLDER, exist_ok=True)
merges = MERGES[:-1]
words = byte_words()
vocabulary = words + [w + "</w>" for w in words] + [m.replace(" ", "") for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
with open(f"{FOLDER}/merges.txt", "w") as f:
    f.write("#version: 0.2\n" + "\n".join(merges) + "\n")
with open(f"{FOLDER}/vocab.json", "w") as f:
    json.dump({w: i for i, w in enumerate(vocabulary)}, f)
tokenizer = CLIPTokenizer.from_pretrained(FOLDER)
os.remove(f"{FOLDER}/vocab.json")  # merges.txt says it all
size = 28
config = CLIPConfig(
    text_config=dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, vocab_size=len(vocabulary),
                     max_position_embeddings=20, projection_dim=16, bos_token_id=len(vocabulary) - 2, eos_token_id=len(vocabulary) - 1,
                     pad_token_id=len(vocabulary) - 1),
    vision_config=dict(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, image_size=size, patch_size=14,
                       projection_dim=16), projection_dim=16)
with open(f"{FOLDER}/config.json", "w") as f:
    keep = {k: config.to_dict()[k] for k in ("projection_dim",)}
    for tower, names in (("text_config", ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size",
                                          "max_position_embeddings", "eos_token_id", "hidden_act", "layer_norm_eps")),
                         ("vision_config", ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                                            "image_size", "patch_size", "hidden_act", "layer_norm_eps"))):
        keep[tower] = {k: config.to_dict()[tower][k] for k in names}
    json.dump(keep, f, indent=1)
    f.write("\n")
model = CLIPModel(config)
model.load_state_dict({k: v if k.endswith("position_ids") else weight(k, tuple(v.shape)) for k, v in model.state_dict().items()})
model.double().eval()


def unit(v):
    return v / v.norm(dim=-1, keepdim=True)


def text(words):
    t = tokenizer(words, truncation=True, max_length=20, return_tensors="pt")
    with torch.no_grad():
        out = model.get_text_features(**t)
    return unit(out if torch.is_tensor(out) else out.pooler_output)[0]


def image(picture):
    with torch.no_grad():
        out = model.get_image_features(pixel_values=pixels(picture, size).double())
    return unit(out if torch.is_tensor(out) else out.pooler_output)[0]


prompt = "A red dress, blue silk."
long = "red dress " * 30
frames = [pattern(k, 36, 24) for k in range(3)] + [pattern(3, 20, 51)]
crops, squares = torch.stack([image(f) for f in frames]), torch.stack([image(square(f)) for f in frames])
score = lambda v: [float(f"{100 * x:.7g}") for x in (v @ text(prompt)).tolist()]
video = unit(unit(crops).mean(0))
choices = {}
for value in ("red", "blue", "silk"):
    choices[value] = unit(torch.stack([text(t.replace("{}", value)) for t in ("a {} dress", "a person in {}")]).mean(0))
shares = torch.softmax(model.logit_scale.exp() * torch.stack([v @ video for v in choices.values()]), 0)
golden = {"versions": {"torch": torch.__version__, "transformers": transformers.__version__, "pillow": PIL.__version__},
          "prompt": prompt, "long": long, "text": numbers(text(prompt)), "long_text": numbers(text(long)),
          "long_ids": len(tokenizer(long)["input_ids"]), "crop": numbers(crops), "square": numbers(squares),
          "crop_scores": score(crops), "square_scores": score(squares), "video": numbers(video), "shares": numbers(shares)}
with open(f"{FOLDER}/golden.json", "w") as f:
    json.dump(golden, f, indent=1)
    f.write("\n")
print({k: v for k, v in golden.items() if k in ("crop_scores", "square_scores", "shares", "versions", "long_ids")})
