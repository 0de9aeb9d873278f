"""Makes tests/golden/clip_pipeline/: a tiny random CogVideoXPipeline whose text encoder is CLIP's,
saved by diffusers itself, and what diffusers and transformers compute with it.

    python3 tests/golden/make_clip_pipeline.py        (from the repository root; seconds on a CPU)

Made with torch 2.15.0, diffusers 0.42.1, transformers 5.24.0, safetensors 0.8.0.
CogVideoXPipeline takes text_encoder(ids)[0], which for CLIPTextModel is last_hidden_state, after
final_layer_norm (diffusers: pipelines/cogvideo/pipeline_cogvideox.py, _get_t5_prompt_embeds;
transformers: models/clip/modeling_clip.py).

model/          the text encoder stored as fp16 with quick_gelu and the names of transformers 5,
                tokenizer/ as vocab.json and merges.txt
text_encoder_4/ bf16, erf gelu, the names of transformers 4 ("text_model." in front, a position_ids
                buffer)
tokenizer_5/    the same tokeniser as transformers 5 saves it: tokenizer.json
Everything is computed in fp32 from the stored values.
"""
import collections, json, os, re, shutil
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXPipeline, CogVideoXTransformer3DModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "clip_pipeline")
MODEL = os.path.join(OUT, "model")
PROMPTS = ["A woman in a red striped dress turns to the right.", "",
           "She wears a blue coat, the lady's shirt isn't white! " * 9 + "the end of the long caption is cut off",
           "Caf\u00e9 2024 \u4e00\u4f4d"]
FRAMES, HEIGHT, WIDTH, STEPS = 9, 48, 32, 20


def captions():
    for color in "red blue green black white yellow".split():
        for kind in "dress skirt coat shirt blouse jacket".split():
            for who in ("A woman", "The lady", "The person", "She"):
                yield f"{who} in a {color} {kind} turns to the right."
                yield f"{who} wears a {color} striped {kind} with long sleeves and walks to the center."


def spell(word):
    """Characters of the files: bytes that are not printable as U+0100 and on."""
    order = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    rest = [b for b in range(256) if b not in order]
    return [chr(b) if b in order else chr(256 + rest.index(b)) for b in word.encode()]


def learn(n):
    """n merges of byte pair encoding, the most frequent first."""
    words = collections.Counter(w for c in captions() for w in re.findall(r"[a-z]+|[^a-z\s]+", c.lower()))
    words = {tuple(spell(w)[:-1] + [spell(w)[-1] + "</w>"]): k for w, k in words.items()}
    merges = []
    for _ in range(n):
        pairs = collections.Counter()
        for w, k in words.items():
            for pair in zip(w, w[1:]):
                pairs[pair] += k
        best = max(pairs, key=lambda p: (pairs[p], p))
        merges.append(best)
        joined = {}
        for w, k in words.items():
            out = []
            for s in w:
                out[-1:] = [out[-1] + s] if out and (out[-1], s) == best else out[-1:] + [s]
            joined[tuple(out)] = k
        words = joined
    return merges


def make_tokenizer(folder):
    order = [b for b in range(256) if 33 <= b <= 126 or 161 <= b <= 172 or b >= 174]
    order += [b for b in range(256) if b not in order]
    single = [chr(b) if i < 188 else chr(256 + i - 188) for i, b in enumerate(order)]
    merges = learn(60)
    tokens = single + [s + "</w>" for s in single] + ["".join(m) for m in merges] + ["<|startoftext|>", "<|endoftext|>"]
    os.makedirs(folder)
    with open(os.path.join(folder, "vocab.json"), "w") as f:
        json.dump({t: i for i, t in enumerate(tokens)}, f, ensure_ascii=False)
    with open(os.path.join(folder, "merges.txt"), "w") as f:
        f.write("#version: 0.2\n" + "".join(" ".join(m) + "\n" for m in merges))
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
               "unk_token": "<|endoftext|>"}
    with open(os.path.join(folder, "tokenizer_config.json"), "w") as f:
        json.dump({"tokenizer_class": "CLIPTokenizer", "model_max_length": 77} | special, f, indent=1)
    return len(tokens)


def make_encoder(vocab, act):
    model = CLIPTextModel(CLIPTextConfig(vocab_size=vocab, hidden_size=48, intermediate_size=96, num_hidden_layers=3,
                                         num_attention_heads=4, max_position_embeddings=77, hidden_act=act,
                                         projection_dim=48, bos_token_id=vocab - 2, eos_token_id=vocab - 1))
    for name, p in model.named_parameters(): # larger than the start values, so that every part shows
        inputs = p.shape[-1] if p.ndim > 1 and "embedding" not in name else 1
        p.data = torch.randn_like(p) * (0.5 if p.ndim > 1 else 0.2) / inputs**0.5
        if "norm" in name and name.endswith("weight"):
            p.data += 1
    return model.eval()


def build():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    torch.manual_seed(11)
    vocab = make_tokenizer(os.path.join(OUT, "tokenizer_files"))
    tokenizer = CLIPTokenizer.from_pretrained(os.path.join(OUT, "tokenizer_files"))
    vae = AutoencoderKLCogVideoX(block_out_channels=(4, 4, 8, 8), latent_channels=4, layers_per_block=1,
                                 norm_num_groups=4, down_block_types=("CogVideoXDownBlock3D",) * 4,
                                 up_block_types=("CogVideoXUpBlock3D",) * 4,
                                 sample_height=96, sample_width=80, scaling_factor=1.15258426)
    transformer = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4,
                                              out_channels=4, time_embed_dim=8, text_embed_dim=48, num_layers=2,
                                              sample_width=6, sample_height=4, sample_frames=9,
                                              max_text_seq_length=77, spatial_interpolation_scale=1.875,
                                              temporal_interpolation_scale=1.0)
    scheduler = CogVideoXDDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear",
                                       clip_sample=False, set_alpha_to_one=True, prediction_type="v_prediction",
                                       timestep_spacing="trailing",
                                       rescale_betas_zero_snr=True, snr_shift_scale=3.0)
    pipe = CogVideoXPipeline(tokenizer=tokenizer, text_encoder=make_encoder(vocab, "quick_gelu").half(), vae=vae.half(),
                             transformer=transformer, scheduler=scheduler)
    pipe.save_pretrained(MODEL, safe_serialization=True)
    shutil.move(os.path.join(MODEL, "tokenizer"), os.path.join(OUT, "tokenizer_5"))
    shutil.move(os.path.join(OUT, "tokenizer_files"), os.path.join(MODEL, "tokenizer"))
    old = os.path.join(OUT, "text_encoder_4")
    make_encoder(vocab, "gelu").bfloat16().save_pretrained(old)
    weights = os.path.join(old, "model.safetensors")
    named = {"text_model." + k: v for k, v in load_file(weights).items()}
    named["text_model.embeddings.position_ids"] = torch.arange(77).reshape(1, 77)
    save_file(named, weights, {"format": "pt"})


def main():
    build()
    torch.set_grad_enabled(False)
    pipe = CogVideoXPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pad = dict(padding="max_length", max_length=77, truncation=True)
    ids = [pipe.tokenizer(p, **pad).input_ids for p in PROMPTS]
    whole = [pipe.tokenizer(p).input_ids for p in PROMPTS]
    again = CLIPTokenizer.from_pretrained(os.path.join(OUT, "tokenizer_5"))
    assert ids == [again(p, **pad).input_ids for p in PROMPTS]
    out = {"quick_gelu": pipe.encode_prompt(PROMPTS, do_classifier_free_guidance=False, max_sequence_length=77,
                                            device="cpu")[0]}
    gelu = CLIPTextModel.from_pretrained(os.path.join(OUT, "text_encoder_4"), dtype=torch.float32)
    out["gelu"] = gelu(torch.tensor(ids)).last_hidden_state
    out["latents"] = pipe(PROMPTS[0], height=HEIGHT, width=WIDTH, num_frames=FRAMES, num_inference_steps=STEPS,
                          guidance_scale=6.0, max_sequence_length=77, generator=torch.Generator().manual_seed(42),
                          output_type="latent").frames
    save_file({k: v.float().contiguous() for k, v in out.items()}, os.path.join(OUT, "outputs.safetensors"))
    with open(os.path.join(OUT, "facts.json"), "w") as f:
        json.dump({"prompts": PROMPTS, "ids": ids, "tokens": [len(w) for w in whole], "seed": 42, "steps": STEPS}, f)
        f.write("\n")


main()
