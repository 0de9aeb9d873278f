"""Writes tests/golden/text_encoders.h: a subset of the reference's numeric goldens, so that the essential coverage needs no data
from outside.

    python3 tests/golden/make_text_encoders.py .../data/golden/text-encoders.json > tests/golden/text_encoders.h && make format

The numbers come from the real Hugging Face classes (transformers 4.45, eager attention, float32, CPU torch 1.13) and Pillow 9.4.
"""
import json, sys

d = json.load(open(sys.argv[1]))


def numbers(name, values, kind="double"):
    out = [f"{v:.9g}" if kind == "double" else str(v) for v in values]
    lines, line = [], "   "
    for v in out:
        if len(line) + len(v) + 2 > 132:
            lines.append(line)
            line = "   "
        line += f" {v},"
    lines.append(line)
    print(f"static const {kind} {name}[{len(out)}] = {{\n" + "\n".join(lines) + "\n};")


def weights(name, entries):
    print(f"static const GoldenWeight {name}[{len(entries)}] = {{")
    for w in entries:
        print(f'    {{{w["t"]}, "{w["name"]}", {w["scale"]:g}, {w["base"]:.17g}}},')
    print("};")


def rows(values, width, *which):
    return [v for r in which for v in values[r * width:(r + 1) * width]]


print("/* Made by make_text_encoders.py; see there. */\n#ifndef WEFT_TESTS_GOLDEN_TEXT_ENCODERS_H\n#define WEFT_TESTS_GOLDEN_TEXT_ENCODERS_H")
print('#include "golden/generator.h"\n')
t5, clip, image = d["t5_tiny"], d["clip_tiny"], d["image"]
weights("t5_weights", t5["weights"])
numbers("t5_ids", t5["input_ids"], "int32_t")
numbers("t5_plain_0_8_11", rows(t5["no_mask"]["last_hidden_state"], 32, 0, 8, 11))
numbers("t5_masked_0_8", rows(t5["with_pad_mask"]["last_hidden_state"], 32, 0, 8))
numbers("t5_block0_0_11", rows(t5["no_mask"]["hidden_after_block0"], 32, 0, 11))
numbers("t5_long_0_99_199", [v for r in ("0", "99", "199") for v in t5["long200"]["rows"][r]])
weights("clip_weights", clip["weights"])
numbers("clip_ids", clip["input_ids"], "int32_t")
numbers("clip_text_row9", clip["text"]["last_hidden_state_row9"])
numbers("clip_text_pooled", clip["text"]["pooled"])
numbers("clip_text_embed", clip["text"]["text_embeds_raw"])
numbers("clip_image_row0", clip["vision"]["cls_last_hidden"])
numbers("clip_image_pooled", clip["vision"]["pooled"])
numbers("clip_image_embed", clip["vision"]["image_embeds_raw"])
print(f'static const double clip_cosine = {clip["cosine"]:.9g};')
for name in ("x", "gelu_new", "gelu_erf", "quick_gelu"):
    numbers(f"act_{name}", d["activations"][name])
for i, c in enumerate(image["pil_bicubic_gray"]):
    print(f'enum {{ BICUBIC_{i}_IN_H = {c["in_h"]}, BICUBIC_{i}_IN_W = {c["in_w"]}, BICUBIC_{i}_H = {c["out_h"]}, BICUBIC_{i}_W = {c["out_w"]} }};')
    numbers(f"bicubic_{i}_in", c["input"], "uint8_t")
    numbers(f"bicubic_{i}_out", c["output"], "uint8_t")
p = image["clip_preprocess"]
numbers("preprocess_0_13", rows(p["pixel_values_chw"], 14, 0, 13, 14, 41))
print("#endif")
