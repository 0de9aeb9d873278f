"""Records the held-out losses that torch and diffusers measure: tests/golden/held_out.json.

    build/release/tests/tools/train_fixture tests/golden/pipeline/model CACHES
    python3 tests/golden/make_held_out.py CACHES          (CACHES: a new folder; from the repository root; a minute on a CPU)

Made with torch 2.15.0 (CPU), diffusers 0.42.1, lmdb 3.0.0, numpy 2.4.6, scipy 1.17.1.
As make_train_run.py, with whose Philox, reader and loss it trains: nothing of Weft is used but the caches' bytes.  The clips, timesteps,
noise and posterior draws are made again from the text of train/heldout.h, and the intervals are scipy.stats.bootstrap's, to which the
resamples are handed as a numpy Generator.
"""
import hashlib, json, os, sys
import lmdb
import numpy as np
import torch
from diffusers import CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from scipy.stats import bootstrap

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_train_run import HERE, MODEL, ORDER, Stream, one_sample, pass_loss, read_cache, record

HELD_OUT, BOOTSTRAP = 16, 17  # purposes of streams
CHOICE, POSTERIOR, NOISE, TIME = 0, 1, 2, 3
RUN = dict(caches=["a", "held"], seed=77, clips=3, timesteps=7, every=4, steps=6, batch_size=2, learning_rate=2e-3, beta1=0.9, beta2=0.95, eps=1e-8,
           weight_decay=1e-4, ema_decay=0.8, ema_start=1)


def name(clip):
    return int.from_bytes(hashlib.sha256(clip.encode()).digest()[:8], "little")


def stream(clip, what, k):
    return Stream(RUN["seed"], HELD_OUT, 4 * k + what, name(clip))


def held_out_clips(folder):
    env = lmdb.open(folder, readonly=True, lock=False, max_dbs=8)
    dbs = {n: env.open_db(n.encode(), create=False) for n in ("clips", "text", "latents")}
    clips = []
    with env.begin() as t:
        for key, value in t.cursor(db=dbs["clips"]):
            facts = json.loads(value.split(b"\n")[0])
            if facts["split"] == "val":
                texts = [record(t.get(bytes.fromhex(k), db=dbs["text"]))[1] for k in facts["texts"]]
                clips.append((key.decode().rstrip("\0"), record(t.get(bytes.fromhex(facts["latents"]), db=dbs["latents"])), texts))
    env.close()
    return clips


def first_word(s):
    return s.block(0)[0]


def choose(clips):
    return sorted(sorted(clips, key=lambda c: (first_word(stream(c[0], CHOICE, 0)), c[0]))[:RUN["clips"]], key=lambda c: c[0])


def timestep(clip, k):
    K = RUN["timesteps"]
    first, after = k * 1000 // K, (k + 1) * 1000 // K
    return first + stream(clip, TIME, k).below(0, after - first)


def item(clip, k, scale):
    kind, stored = clip[1]
    assert kind == 1
    stored = stored.permute(3, 0, 1, 2)  # [F,h,w,2C] -> [2C,F,h,w]
    shape = (*stored.shape[1:], stored.shape[0] // 2)
    posterior = DiagonalGaussianDistribution(stored[None])
    latents = posterior.mean[0] + posterior.std[0] * stream(clip[0], POSTERIOR, k).normal(*shape).permute(3, 0, 1, 2)
    noise = stream(clip[0], NOISE, k).normal(*shape).permute(3, 0, 1, 2)
    return latents.transpose(0, 1) * scale, noise.transpose(0, 1), timestep(clip[0], k), clip[2][k % len(clip[2])]


def measure(model, scheduler, clips, scale):
    with torch.no_grad():
        return [[float(pass_loss(model, scheduler, [item(c, k, scale)])) for k in range(RUN["timesteps"])] for c in clips]


class Drawn(np.random.Generator):
    """Hands scipy the resamples that common/base/bootstrap.h describes."""

    def integers(self, low, high=None, size=None, **rest):
        s = Stream(RUN["seed"], BOOTSTRAP, 0, 0)
        assert low == 0 and size[1] == high
        return np.array([[s.below(r * size[1] + i, high) for i in range(size[1])] for r in range(size[0])])


def interval(x):
    r = bootstrap((np.array(x),), np.mean, method="percentile", n_resamples=9999, confidence_level=0.95, rng=Drawn(np.random.PCG64()))
    return [float(r.confidence_interval.low), float(r.confidence_interval.high)]


def line(step, losses, start, average=None):
    out = {"step": step, "loss": float(np.mean(losses)), "losses": losses}
    if average:
        out["ema"] = line(step, average, start)
    if step:
        change = np.mean(losses, axis=1) - np.mean(start, axis=1)
        low, high = interval(change)
        out["change"] = {"mean": float(change.mean()), "low": low, "high": high}
    return out


def main():
    folder = sys.argv[1]
    samples, scale = [], None
    for n in RUN["caches"]:
        more, scale = read_cache(os.path.join(folder, n))
        samples += more
    samples.sort(key=lambda s: s[0])
    clips = choose([c for n in RUN["caches"] for c in held_out_clips(os.path.join(folder, n))])
    model = CogVideoXTransformer3DModel.from_pretrained(MODEL, subfolder="transformer").train()
    scheduler = CogVideoXDDIMScheduler.from_pretrained(MODEL, subfolder="scheduler")
    optimizer = torch.optim.AdamW(model.parameters(), lr=RUN["learning_rate"], betas=(RUN["beta1"], RUN["beta2"]), eps=RUN["eps"],
                                  weight_decay=RUN["weight_decay"])
    rate = get_scheduler("constant", optimizer)
    average = EMAModel(model.parameters(), decay=RUN["ema_decay"], update_after_step=RUN["ema_start"])
    start = measure(model, scheduler, clips, scale)
    lines, step, epoch = [line(0, start, None)], 0, 0
    while step < RUN["steps"]:
        order = Stream(RUN["seed"], ORDER, epoch, 0).permutation(len(samples))
        for at in range(0, len(order), RUN["batch_size"]):
            if step == RUN["steps"]:
                break
            part = order[at:at + RUN["batch_size"]]
            pass_loss(model, scheduler, [one_sample(samples, i, RUN, epoch, scale) for i in part]).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step(), rate.step(), optimizer.zero_grad()
            average.step(model.parameters())
            step += 1
            if step % RUN["every"] == 0 or step == RUN["steps"]:
                losses = measure(model, scheduler, clips, scale)
                average.store(model.parameters()), average.copy_to(model.parameters())
                lines.append(line(step, losses, start, measure(model, scheduler, clips, scale)))
                average.restore(model.parameters())
        epoch += 1
    x = [0.25, -1.5, 3.0, 0.125, -0.75]
    facts = {**RUN, "chosen": [c[0] for c in clips], "drawn": [[timestep(c[0], k) for k in range(RUN["timesteps"])] for c in clips], "lines": lines,
             "bootstrap": {"x": x, "interval": interval(x)}}
    with open(os.path.join(HERE, "held_out.json"), "w") as f:
        json.dump(facts, f, indent=1)
        f.write("\n")


main()
