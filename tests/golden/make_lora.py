"""Records what torch, diffusers and peft make of LoRA: tests/golden/lora.json, lora.safetensors, lora/ and lora_peft/.

    build/release/tests/tools/train_fixture tests/golden/pipeline/model CACHES
    python3 tests/golden/make_lora.py CACHES          (CACHES: a new folder; from the repository root; a minute on a CPU)

Made with torch 2.15.0 (CPU), diffusers 0.42.1, peft 0.21.2, transformers 5.24.0, lmdb 3.0.0, numpy 2.4.6, safetensors 0.8.0.
Adapters that diffusers itself saved (rank 4, alpha 2) and that peft itself saved, the latents that diffusers samples with them, and four
training runs on the caches of make_train_run.py with peft's layers: the usual layers; every linear layer, with alpha 2.5 times the rank,
accumulation and clipping; one that goes on from diffusers' adapter with another alpha; and one whose adapters diffusers' EMAModel
averages.  Of Weft nothing is used but the caches' bytes and the documented draw of A (common/model/dit_lora.h).
"""
import json, math, os, sys
import torch
from diffusers import CogVideoXPipeline, CogVideoXTransformer3DModel
from diffusers.training_utils import _collate_lora_metadata
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from make_train_run import HERE, MODEL, STEPS, Stream, train

PROMPT = "A woman in a red striped dress turns to the right."
OUT = os.path.join(HERE, "lora")
PEFT = os.path.join(HERE, "lora_peft")
INIT = 7  # purpose of the stream
USUAL = ["to_q", "to_k", "to_v", "to_out.0"]
EVERY = USUAL + ["net.0.proj", "net.2", "text_proj", "linear_1", "linear_2", "linear", "proj_out"]

RUNS = {
    "usual": dict(caches=["a", "b"], seed=1234567890123, rank=4, alpha=4, targets=USUAL, batch_size=2, gradient_accumulation_steps=1,
                  learning_rate=1e-3, warmup_steps=2, adam_beta1=0.85, adam_beta2=0.97, adam_epsilon=1e-7, weight_decay=0.02,
                  max_grad_norm=1.0),
    "every_layer": dict(caches=["a", "b"], seed=7, rank=3, alpha=7.5, targets=EVERY, batch_size=2, gradient_accumulation_steps=2,
                        learning_rate=2e-3, warmup_steps=0, adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-5, weight_decay=0.01,
                        max_grad_norm=0.05),
    "went_on": dict(caches=["sample"], seed=0, rank=4, alpha=8, targets=USUAL, start=True, batch_size=1, gradient_accumulation_steps=3,
                    learning_rate=1e-3, warmup_steps=1, adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-6, weight_decay=0.1,
                    max_grad_norm=100.0),
    "averaged": dict(caches=["a", "b"], seed=11, rank=3, alpha=5, targets=USUAL, batch_size=2, gradient_accumulation_steps=1,
                     learning_rate=5e-3, warmup_steps=2, adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-7, weight_decay=0.02,
                     max_grad_norm=1.0, ema=True, ema_decay=0.8, ema_start=4),
}


def adapted(rank, alpha, targets, seed):
    """The transformer with peft's adapters, A drawn as Weft draws it."""
    model = CogVideoXTransformer3DModel.from_pretrained(MODEL, subfolder="transformer").train().requires_grad_(False)
    place = {name: k for k, name in enumerate(sorted(name for name, _ in model.named_parameters()))}
    model.add_adapter(LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, init_lora_weights=True))
    for name, p in model.named_parameters():
        if ".lora_A." not in name:
            continue
        stream = Stream(seed, INIT, 0, place[name.replace(".lora_A.default.", ".")])
        words = [w for i in range((p.numel() + 3) // 4) for w in stream.block(i)][:p.numel()]
        bound = 1 / math.sqrt(p.shape[1])
        with torch.no_grad():
            p.copy_(torch.tensor([(2 * ((w >> 8) * 2.0**-24) - 1) * bound for w in words], dtype=torch.float64).reshape(p.shape))
    return model


def by_name(model):
    return {n.replace(".default.", "."): p for n, p in model.named_parameters() if ".lora_" in n}


def diffusers_adapter():
    """An adapter whose B is not zero, saved by diffusers with its metadata."""
    model = adapted(4, 2, USUAL, 5)
    torch.manual_seed(3)
    with torch.no_grad():
        for name, p in by_name(model).items():
            if ".lora_B." in name:
                p.copy_(0.3 * torch.randn(p.shape))
    os.makedirs(OUT, exist_ok=True)
    CogVideoXPipeline.save_lora_weights(OUT, transformer_lora_layers=get_peft_model_state_dict(model),
                                        **_collate_lora_metadata({"transformer": model}))


def peft_adapter():
    """An adapter that peft itself saved: rslora, and one layer with a rank and an alpha of its own."""
    base = CogVideoXTransformer3DModel.from_pretrained(MODEL, subfolder="transformer")
    torch.manual_seed(4)
    model = get_peft_model(base, LoraConfig(r=4, lora_alpha=3, use_rslora=True, target_modules=USUAL + ["net.2"],
                                            rank_pattern={"net.2": 2}, alpha_pattern={"transformer_blocks.1.ff.net.2": 5}))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if ".lora_B." in name:
                p.copy_(0.3 * torch.randn(p.shape))
    model.save_pretrained(PEFT)
    os.remove(os.path.join(PEFT, "README.md"))


def sample_with_peft():
    pipe = CogVideoXPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    pipe.transformer = PeftModel.from_pretrained(pipe.transformer, PEFT).get_base_model()
    return latents(pipe)


def sample(adapter):
    pipe = CogVideoXPipeline.from_pretrained(MODEL, torch_dtype=torch.float32)
    if adapter:
        pipe.load_lora_weights(OUT, adapter_name="one")
    if adapter == "half":
        pipe.set_adapters(["one"], [0.5])
    return latents(pipe)


def latents(pipe):
    pipe.set_progress_bar_config(disable=True)
    with torch.no_grad():
        return pipe(PROMPT, height=48, width=32, num_frames=9, num_inference_steps=10, guidance_scale=6.0,
                    generator=torch.Generator().manual_seed(42), output_type="latent").frames.float().contiguous()


def run(folder, r):
    model = adapted(r["rank"], r["alpha"], r["targets"], r["seed"])
    params = by_name(model)
    if r.get("start"):
        stored = load_file(os.path.join(OUT, "pytorch_lora_weights.safetensors"))
        with torch.no_grad():
            for name, p in params.items():  # the file's strength is 2/4, the run's 8/4
                p.copy_(stored["transformer." + name] * ((2 / 4) / (8 / 4) if ".lora_B." in name else 1))
    facts = train(folder, r, model, [p for _, p in sorted(params.items())])
    scale = r["alpha"] / r["rank"]
    return facts, {n: (p.detach() * (scale if ".lora_B." in n else 1)).contiguous() for n, p in params.items()}


def main():
    diffusers_adapter()
    peft_adapter()
    facts, out = {"steps": STEPS, "runs": []}, {}
    for how in ("", "full", "half"):
        out["latents" + ("_" + how if how else "")] = sample(how)
    out["latents_peft"] = sample_with_peft()
    for name, r in RUNS.items():
        result, weights = run(sys.argv[1], r)
        out |= {f"{name}.{k}": v for k, v in weights.items()}
        sets = [f"training.{k}={json.dumps(v) if isinstance(v, bool) else v}" for k, v in r.items() if k not in ("caches", "seed", "rank", "alpha", "targets", "start")]
        sets += [f"training.lora_rank={r['rank']}", f"training.lora_target_modules={json.dumps(r['targets'])}"]
        sets += [f"training.lora_alpha={r['alpha']}"] if r["alpha"] != r["rank"] else []
        facts["runs"].append({"name": name, "caches": r["caches"], "seed": r["seed"], "start": r.get("start", False), "set": sets, **result})
    with open(os.path.join(HERE, "lora.json"), "w") as f:
        json.dump(facts, f, indent=1)
        f.write("\n")
    save_file(out, os.path.join(HERE, "lora.safetensors"))


main()
