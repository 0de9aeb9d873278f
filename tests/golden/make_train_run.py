"""Records what torch and diffusers make of weft-train's data: tests/golden/train_run.*, train_draws.*, train_ema.* and train_clip.*.

    build/release/tests/tools/train_fixture tests/golden/pipeline/model CACHES
    build/release/tests/tools/train_fixture tests/golden/clip_pipeline/model CLIP_CACHES
    python3 tests/golden/make_train_run.py CACHES CLIP_CACHES  (new folders; from the repository root; seconds on a CPU)

Made with torch 2.15.0 (CPU), diffusers 0.42.1, transformers 5.24.0, lmdb 3.0.0, numpy 2.4.6, safetensors 0.8.0.
Nothing of Weft is used but the caches' bytes: records are read with py-lmdb, every draw (order of an epoch, posterior, noise, timestep,
caption) is made again with the Philox below, the latents' distribution, the noise schedule and the loss are diffusers', the optimiser,
clipping and learning rate torch's and diffusers'.  The runs differ from each other in what people get wrong: a short last group of an
epoch, passes of different size within a step, clipping that is active, bfloat16 records, stored samples instead of moments; in train_draws
dropped captions, logit-normal timesteps, weighted categories, SGD; in train_ema averaged weights; in train_clip a transformer that
takes CLIP's 77 vectors.
"""
import json, math, os, struct, sys
import lmdb
import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from safetensors.torch import save_file

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "pipeline", "model")
CLIP_MODEL = os.path.join(HERE, "clip_pipeline", "model")
POSTERIOR, NOISE, TIMESTEP, ORDER, CAPTION, DROPOUT, CATEGORY = 1, 2, 3, 4, 5, 10, 11  # purposes of streams
STRIDE, FIRST = 7, 3  # of all weights in the order of their names, every seventh is recorded

RUNS = {
    "plain": dict(caches=["a", "b"], seed=1234567890123, batch_size=2, gradient_accumulation_steps=1, learning_rate=1e-3, warmup_steps=5,
                  adam_beta1=0.85, adam_beta2=0.97, adam_epsilon=1e-7, weight_decay=0.02, max_grad_norm=1.0),
    "accumulated": dict(caches=["a", "b"], seed=7, batch_size=2, gradient_accumulation_steps=2, learning_rate=2e-3, warmup_steps=3,
                        adam_beta1=0.9, adam_beta2=0.95, adam_epsilon=1e-5, weight_decay=0.01, max_grad_norm=0.05),
    "bf16_store": dict(caches=["bf16"], seed=99, batch_size=3, gradient_accumulation_steps=1, learning_rate=1e-3, warmup_steps=0,
                       adam_beta1=0.8, adam_beta2=0.99, adam_epsilon=1e-6, weight_decay=0.0, max_grad_norm=0.5),
    "stored_samples": dict(caches=["sample"], seed=0, batch_size=1, gradient_accumulation_steps=3, learning_rate=1e-3, warmup_steps=2,
                           adam_beta1=0.9, adam_beta2=0.999, adam_epsilon=1e-6, weight_decay=0.1, max_grad_norm=100.0),
}
PLAIN = RUNS["plain"]
RUNS_OF_DRAWS = {
    "caption_dropout": dict(PLAIN, seed=21, caption_dropout=0.4),
    "logit_normal": dict(PLAIN, seed=22, timestep_sampling="logit_normal", logit_mean=-0.5, logit_std=0.8),
    "categories": dict(PLAIN, seed=23, category_weights={"dress": 2.5, "coat": 0.5}),
    "sgd": dict(PLAIN, seed=24, optimizer="sgd", sgd_momentum=0.8, learning_rate=0.05),
}
RUNS_OF_EMA = {"ema": dict(PLAIN, seed=25, ema=True, ema_decay=0.8, ema_start=4)}
RUNS_OF_CLIP = {"clip": dict(PLAIN, seed=26, caption_dropout=0.2)}
STEPS = 20


# ---- Philox 4x32-10, and streams named by (seed, purpose, epoch, sample)
def philox(ctr, key):
    c, k = list(ctr), list(key)
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & 0xFFFFFFFF, (a >> 32) ^ c[3] ^ k[1], a & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


class Stream:
    def __init__(self, seed, purpose, epoch, sample):
        key = (seed & 0xFFFFFFFF, seed >> 32)
        mixed = philox((purpose, 0, epoch & 0xFFFFFFFF, epoch >> 32), key)
        name = philox((mixed[0] ^ sample & 0xFFFFFFFF, mixed[1] ^ sample >> 32, mixed[2], mixed[3]), key)
        self.key, self.high = name[:2], name[2:]

    def block(self, i):
        return philox((i & 0xFFFFFFFF, i >> 32, *self.high), self.key)

    def below(self, i, n):
        b = self.block(i)
        return ((b[1] << 32 | b[0]) * n) >> 64

    def uniform(self):
        return (self.block(0)[0] >> 8) * 2.0**-24

    def permutation(self, n):
        perm = list(range(n))
        for i in range(n - 1, 0, -1):
            j = self.below(i, i + 1)
            perm[i], perm[j] = perm[j], perm[i]
        return perm

    def normal(self, *shape):
        n = math.prod(shape)
        out = []
        for i in range((n + 3) // 4):
            w = self.block(i)
            for h in (0, 2):
                r, angle = math.sqrt(-2 * math.log((w[h] + 0.5) * 2.0**-32)), 2 * math.pi * (w[h + 1] * 2.0**-32)
                out += [r * math.cos(angle), r * math.sin(angle)]
        return torch.tensor(np.array(out[:n], dtype=np.float32)).reshape(shape)


# ---- the caches
def record(blob):
    magic, version, dtype, kind, rank, _ = struct.unpack_from("<4sHHBBH", blob)
    assert magic == b"WEFT" and version in (1, 2)
    dims = struct.unpack_from("<5I", blob, 12)[:rank]
    raw = blob[48:48 + struct.unpack_from("<Q", blob, 32)[0]]
    bits = np.frombuffer(raw, dtype=np.uint32 if len(raw) == 4 * math.prod(dims) else np.uint16)
    if bits.dtype == np.uint32:
        values = bits.view(np.float32)
    elif kind == 2:  # the fixture's stored samples are float16, its other 16-bit records bfloat16
        values = bits.view(np.float16).astype(np.float32)
    else:
        values = (bits.astype(np.uint32) << 16).view(np.float32)
    return kind, torch.tensor(values.copy()).reshape(dims)


def read_cache(folder):
    env = lmdb.open(folder, readonly=True, lock=False, max_dbs=8)
    dbs = {name: env.open_db(name.encode(), create=False) for name in ("meta", "clips", "text", "latents")}
    samples = []
    with env.begin() as t:
        vae = json.loads(t.get(b"vae", db=dbs["meta"]).split(b"\n")[0])  # a line of JSON, then its checksum
        empty = json.loads(t.get(b"text", db=dbs["meta"]).split(b"\n")[0])["empty"]
        empty = record(t.get(bytes.fromhex(empty), db=dbs["text"]))[1]
        for key, value in t.cursor(db=dbs["clips"]):
            facts = json.loads(value.split(b"\n")[0])
            if facts["split"] != "train":
                continue
            latents = record(t.get(bytes.fromhex(facts["latents"]), db=dbs["latents"]))
            texts = [record(t.get(bytes.fromhex(k), db=dbs["text"]))[1] for k in facts["texts"]]
            samples.append((key.decode().rstrip("\0"), latents, texts, facts["category"], empty))
    env.close()
    return samples, vae["scaling_factor"]


# ---- training
def epoch_entries(samples, r, epoch):
    """Entry e is sample e % n; with weights, as often as evenly spaced points fall on its part of the line."""
    n = len(samples)
    weights = [r.get("category_weights", {}).get(s[3], 1) for s in samples]
    start, entries = Stream(r["seed"], CATEGORY, epoch, 0).uniform() if "category_weights" in r else 0, []
    for i in range(n):
        low, high = (math.floor(sum(weights[:k]) / sum(weights) * n + start) for k in (i, i + 1))
        entries += [i + k * n for k in range(high - low)]
    return [entries[k] for k in Stream(r["seed"], ORDER, epoch, 0).permutation(n)]


def timestep(r, epoch, index):
    stream = Stream(r["seed"], TIMESTEP, epoch, index)
    if r.get("timestep_sampling") != "logit_normal":
        return stream.below(0, 1000)
    z = r["logit_mean"] + r["logit_std"] * float(stream.normal(1))
    return min(999, math.floor(1000 / (1 + math.exp(-z))))


def one_sample(samples, index, r, epoch, scale):
    sample, seed = samples[index % len(samples)], r["seed"]
    kind, stored = sample[1]
    stored = stored.permute(3, 0, 1, 2)  # [F,h,w,C] -> [C,F,h,w]
    C = stored.shape[0] // (2 if kind == 1 else 1)
    shape = (stored.shape[1], stored.shape[2], stored.shape[3], C)
    if kind == 1:
        posterior = DiagonalGaussianDistribution(stored[None])
        eps = Stream(seed, POSTERIOR, epoch, index).normal(*shape).permute(3, 0, 1, 2)
        latents = posterior.mean[0] + posterior.std[0] * eps
    else:
        latents = stored
    noise = Stream(seed, NOISE, epoch, index).normal(*shape).permute(3, 0, 1, 2)
    t = timestep(r, epoch, index)
    text = sample[2][Stream(seed, CAPTION, epoch, index).below(0, len(sample[2]))]
    if Stream(seed, DROPOUT, epoch, index).uniform() < r.get("caption_dropout", 0):
        text = sample[4]
    return latents.transpose(0, 1) * scale, noise.transpose(0, 1), t, text  # [F,C,h,w] as the transformer has it


def pass_loss(model, scheduler, batch):
    latents, noise, text = (torch.stack([b[i] for b in batch]) for i in (0, 1, 3))
    t = torch.tensor([b[2] for b in batch])
    noisy = scheduler.add_noise(latents, noise, t)
    u = model(hidden_states=noisy, encoder_hidden_states=text, timestep=t, return_dict=False)[0]
    x0 = scheduler.get_velocity(u, noisy, t)  # so it is called; with a velocity for the noise it gives x0
    weight = (1 / (1 - scheduler.alphas_cumprod[t])).view(-1, 1, 1, 1, 1)
    return (weight * (x0 - latents) ** 2).reshape(len(batch), -1).mean(1).mean()


def train(folder, r, model, parameters, model_folder=MODEL):
    """STEPS steps of the run `r` on the caches in `folder`, of `parameters` of `model`: what log.jsonl should say."""
    samples, scale = [], None
    for name in r["caches"]:
        more, scale = read_cache(os.path.join(folder, name))
        samples += more
    samples.sort(key=lambda s: s[0])
    scheduler = CogVideoXDDIMScheduler.from_pretrained(model_folder, subfolder="scheduler")
    optimizer = torch.optim.AdamW(parameters, lr=r["learning_rate"], betas=(r["adam_beta1"], r["adam_beta2"]), eps=r["adam_epsilon"],
                                  weight_decay=r["weight_decay"])
    if r.get("optimizer") == "sgd":
        optimizer = torch.optim.SGD(parameters, lr=r["learning_rate"], momentum=r["sgd_momentum"], weight_decay=r["weight_decay"])
    rate = get_scheduler("constant_with_warmup", optimizer, num_warmup_steps=r["warmup_steps"])
    average = EMAModel(parameters, decay=r["ema_decay"], update_after_step=r["ema_start"]) if "ema" in r else None
    losses, norms, rates, counts = [], [], [], []
    epoch = 0
    while len(losses) < STEPS:
        order = epoch_entries(samples, r, epoch)
        group = r["batch_size"] * r["gradient_accumulation_steps"]
        for at in range(0, len(order), group):
            step = order[at:at + group]
            total = 0.0
            for k in range(0, len(step), r["batch_size"]):
                part = step[k:k + r["batch_size"]]
                loss = pass_loss(model, scheduler, [one_sample(samples, i, r, epoch, scale) for i in part]) * len(part) / len(step)
                loss.backward()
                total += float(loss.detach())
            norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, r["max_grad_norm"])))
            losses.append(total)
            rates.append(rate.get_last_lr()[0])
            counts.append(len(step))
            optimizer.step(), rate.step(), optimizer.zero_grad()
            if average:
                average.step(parameters)
            if len(losses) == STEPS:
                break
        epoch += 1
    if average:  # its weights are what is recorded
        average.copy_to(parameters)
    return {"losses": losses, "grad_norms": norms, "rates": rates, "samples": counts}


def run(folder, r, model_folder):
    model = CogVideoXTransformer3DModel.from_pretrained(model_folder, subfolder="transformer").train()
    facts = train(folder, r, model, list(model.parameters()), model_folder)
    flat = torch.cat([p.detach().flatten() for _, p in sorted(model.named_parameters())])
    return facts, flat[FIRST::STRIDE].contiguous()


def record_runs(file, runs, folder, model_folder=MODEL):
    facts, weights = {"steps": STEPS, "first": FIRST, "stride": STRIDE, "runs": []}, {}
    start = CogVideoXTransformer3DModel.from_pretrained(model_folder, subfolder="transformer")
    weights["start"] = torch.cat([p.detach().flatten() for _, p in sorted(start.named_parameters())])[FIRST::STRIDE].contiguous()
    for name, r in runs.items():
        result, weights[name] = run(folder, r, model_folder)
        sets = [f"training.{k}={json.dumps(v) if isinstance(v, (bool, dict)) else v}" for k, v in r.items() if k not in ("caches", "seed")]
        facts["runs"].append({"name": name, "caches": r["caches"], "seed": r["seed"], "set": sets, **result})
    with open(os.path.join(HERE, file + ".json"), "w") as f:
        json.dump(facts, f, indent=1)
        f.write("\n")
    save_file(weights, os.path.join(HERE, file + ".safetensors"))


if __name__ == "__main__":
    record_runs("train_run", RUNS, sys.argv[1])
    record_runs("train_draws", RUNS_OF_DRAWS, sys.argv[1])
    record_runs("train_ema", RUNS_OF_EMA, sys.argv[1])
    record_runs("train_clip", RUNS_OF_CLIP, sys.argv[2], CLIP_MODEL)
