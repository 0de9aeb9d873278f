"""Makes tests/golden/pipeline/: a tiny random CogVideoXPipeline saved by diffusers itself, and what diffusers computes with it.

    python3 tests/golden/make_pipeline.py            (from the repository root; a minute on a CPU)

Made with torch 2.15.0 (CPU), diffusers 0.35.2, transformers 4.57.6, sentencepiece 0.2.3, safetensors 0.8.0.
Weights are stored as fp16 (VAE), bf16 (T5) and fp32 (transformer), so that loading is tested for each; every output here is
computed in fp32 from the stored values.  Inputs are formulas (the filler of common/model/params.h), not files.
"""
import io, json, math, os, shutil
import numpy as np
import torch
import sentencepiece as spm
from diffusers import (AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXDPMScheduler, CogVideoXPipeline,
                       CogVideoXTransformer3DModel)
from safetensors.torch import save_file
from transformers import T5Config, T5EncoderModel, T5Tokenizer

OUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pipeline")
MODEL = os.path.join(OUT, "model")
PROMPT = "A woman in a red striped dress turns to the right."
FRAMES, HEIGHT, WIDTH = 9, 48, 32


def filler(seed, shape):
    """u * sqrt(12): common/model/MODEL.md 1.4."""
    n = int(np.prod(shape))
    x = (np.arange(1, n + 1, dtype=np.uint64) * 0x9E3779B1 + seed * 0x85EBCA77) & 0xFFFFFFFF
    for shift, mul in ((16, 0x7FEB352D), (15, 0x846CA68B), (16, None)):
        x ^= x >> np.uint64(shift)
        if mul:
            x = (x * np.uint64(mul)) & np.uint64(0xFFFFFFFF)
    u = x.astype(np.float64) / 2.0**32 - 0.5
    return torch.tensor((u * math.sqrt(12)).astype(np.float32)).reshape(shape)


def captions():
    for color in "red blue green black white yellow".split():
        for kind in "dress skirt coat shirt blouse jacket".split():
            for who in ("A woman", "The lady", "The person", "She"):
                yield f"{who} in a {color} {kind} turns to the right."
                yield f"{who} wears a {color} striped {kind} with long sleeves and walks to the center."


def build():
    shutil.rmtree(OUT, ignore_errors=True)
    os.makedirs(OUT)
    model = io.BytesIO() # neither input nor output has a path, which the model file would keep
    spm.SentencePieceTrainer.train(sentence_iterator=iter(list(captions())), model_writer=model, vocab_size=96, hard_vocab_limit=False,
                                   model_type="unigram", pad_id=0, eos_id=1, unk_id=2, bos_id=-1, normalization_rule_name="nmt_nfkc",
                                   num_threads=1, minloglevel=2)
    with open(os.path.join(OUT, "spiece.model"), "wb") as f:
        f.write(model.getvalue())
    tokenizer = T5Tokenizer(os.path.join(OUT, "spiece.model"), model_max_length=226, legacy=True)
    torch.manual_seed(7)
    t5 = T5EncoderModel(T5Config(vocab_size=256, d_model=32, d_kv=8, num_heads=4, d_ff=48, num_layers=2,
                                 feed_forward_proj="gated-gelu", tie_word_embeddings=False, dropout_rate=0.0))
    vae = AutoencoderKLCogVideoX(block_out_channels=(8, 8, 16, 16), latent_channels=4, layers_per_block=1, norm_num_groups=4,
                                 down_block_types=("CogVideoXDownBlock3D",) * 4, up_block_types=("CogVideoXUpBlock3D",) * 4,
                                 sample_height=96, sample_width=80, scaling_factor=1.15258426)
    transformer = CogVideoXTransformer3DModel(num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4,
                                              time_embed_dim=8, text_embed_dim=32, num_layers=2, sample_width=6, sample_height=4,
                                              sample_frames=9, max_text_seq_length=226, spatial_interpolation_scale=1.875,
                                              temporal_interpolation_scale=1.0)
    scheduler = CogVideoXDDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
                                       set_alpha_to_one=True, prediction_type="v_prediction", timestep_spacing="trailing",
                                       rescale_betas_zero_snr=True, snr_shift_scale=3.0)
    pipe = CogVideoXPipeline(tokenizer=tokenizer, text_encoder=t5.to(torch.bfloat16), vae=vae.to(torch.float16),
                             transformer=transformer, scheduler=scheduler)
    pipe.save_pretrained(MODEL, safe_serialization=True)
    os.remove(os.path.join(OUT, "spiece.model"))


def sample(pipe):
    out = {}
    for name, cls in (("ddim", CogVideoXDDIMScheduler), ("dpm", CogVideoXDPMScheduler)):
        pipe.scheduler = cls.from_config(pipe.scheduler.config)
        latents = pipe(PROMPT, height=HEIGHT, width=WIDTH, num_frames=FRAMES, num_inference_steps=50, guidance_scale=6.0,
                       generator=torch.Generator().manual_seed(42), output_type="latent").frames
        out[f"latents_{name}"] = latents
        if name == "ddim":
            out["frames_ddim"] = pipe.decode_latents(latents)
            out["noise"] = torch.randn((1, 3, 4, HEIGHT // 8, WIDTH // 8), generator=torch.Generator().manual_seed(42))
    out["prompt_embeds"], out["negative_embeds"] = pipe.encode_prompt(PROMPT, device="cpu")
    return out


def encode(pipe):
    pixels = filler(700001, (1, 3, 17, 96, 64)).clamp(-1, 1)
    out = {"moments_17": pipe.vae.encode(pixels).latent_dist.parameters}
    pipe.vae.enable_tiling()
    out["moments_17_tiled"] = pipe.vae.encode(pixels).latent_dist.parameters
    z = filler(700002, (1, 4, 3, 8, 8))
    out["pixels_3_tiled"] = pipe.vae.decode(z).sample
    pipe.vae.disable_tiling()
    out["pixels_3"] = pipe.vae.decode(z).sample
    return out


def train(pipe):
    """20 AdamW steps as the reference trainers take them (weighted x0 form of the loss), batch 2, accumulation 1."""
    model = CogVideoXTransformer3DModel.from_pretrained(MODEL, subfolder="transformer").train()
    acp = pipe.scheduler.alphas_cumprod.double()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, k / 4))
    x0 = filler(800001, (2, 3, 4, 6, 4))
    text = filler(800002, (2, 226, 32))
    steps = [(137 * k * k + 911 * k + 999) % 1000 for k in range(40)]
    losses, norms = [], []
    for k in range(20):
        t = torch.tensor(steps[2 * k:2 * k + 2])
        noise = filler(810000 + k, x0.shape)
        a = acp[t].sqrt().float().view(2, 1, 1, 1, 1)
        s = (1 - acp[t]).sqrt().float().view(2, 1, 1, 1, 1)
        xt = a * x0 + s * noise
        u = model(hidden_states=xt, encoder_hidden_states=text, timestep=t, return_dict=False)[0]
        pred = a * xt - s * u
        weight = (1 / (1 - acp[t])).view(2, 1, 1, 1, 1)
        loss = (weight * (pred - x0).double() ** 2).reshape(2, -1).mean(1).mean()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)))
        losses.append(float(loss))
        optimizer.step(), schedule.step(), optimizer.zero_grad()
    return {"losses": losses, "grad_norms": norms, "timesteps": steps}


def main():
    torch.set_grad_enabled(True)
    build()
    pipe = CogVideoXPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        out = sample(pipe) | encode(pipe)
    save_file({k: v.float().contiguous() for k, v in out.items()}, os.path.join(OUT, "outputs.safetensors"))
    ids = pipe.tokenizer(PROMPT, padding="max_length", max_length=226, truncation=True).input_ids
    facts = {"prompt": PROMPT, "seed": 42, "frames": FRAMES, "height": HEIGHT, "width": WIDTH, "steps": 50, "guidance_scale": 6.0,
             "ids": ids[:ids.index(1) + 1], "training": train(pipe)}
    with open(os.path.join(OUT, "facts.json"), "w") as f:
        json.dump(facts, f, indent=1)
        f.write("\n")


main()
