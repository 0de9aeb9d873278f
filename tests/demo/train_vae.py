#!/usr/bin/env python3
"""train_vae.py --clips DIR [--clips DIR] --out DIR   trains the demo's small video VAE (see BASE.md).

DIR is what draw_clips writes.  Pinned: torch 2.15.0, diffusers 0.42.1, av and Pillow of any version, Python 3.11.
First the spatial part on single frames (--frames share of the time), then whole clips.  Muon for the kernels, Adam
for the rest; the rate rises for 50 steps and falls as a cosine over the given minutes.  Loss: |x - y|, the same of
differences of neighbouring pixels, and --kl times the posterior's distance from a unit normal, a number.  --ranks
processes share every step.  The same command goes on where it was stopped (it saves every 150 s)."""
import argparse
import glob
import json
import math
import os
import sys
import time

import numpy as np
import torch
import torch.distributed as dist

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from vae_fast import Fast, check, zero_earlier_taps  # noqa: E402

WIDTH, HEIGHT, FRAMES = 64, 96, 9
# half precision only where the processor multiplies in it: elsewhere it is several times as slow
TYPE = torch.bfloat16 if "avx512_bf16" in open("/proc/cpuinfo").read() else torch.float32


def read_clips(folders, split):
    import av
    from PIL import Image
    clips = []
    for folder in folders:
        for line in open(os.path.join(folder, "metadata.jsonl")):
            item = json.loads(line)
            if item["split"] != split:
                continue
            with av.open(os.path.join(folder, item["file_name"])) as f:
                pictures = [p.to_image().resize((WIDTH, HEIGHT), Image.BICUBIC) for p in f.decode(video=0)]
            clips.append(np.stack([np.asarray(p) for p in pictures[:FRAMES]]))
    return torch.from_numpy(np.stack(clips))


def make(channels, latent):
    from diffusers import AutoencoderKLCogVideoX
    vae = AutoencoderKLCogVideoX(
        in_channels=3, out_channels=3, latent_channels=latent, block_out_channels=channels, layers_per_block=1,
        norm_num_groups=8, temporal_compression_ratio=4, sample_height=HEIGHT, sample_width=WIDTH)
    zero_earlier_taps(vae)
    return vae


def psnr(fast, clips):
    """Mean over clips of the PSNR of the decoded posterior's mean, in 8 bits, and the latents' mean and deviation."""
    out, latents = [], []
    with torch.no_grad():
        for clip in clips:
            x = clip[None].float() / 127.5 - 1
            z = fast.encode(x, torch.float32)
            z = z[..., :z.shape[-1] // 2]
            y = ((fast.decode(z, torch.float32) + 1) * 127.5).round().clamp(0, 255)
            out.append(10 * math.log10(255 ** 2 / float(((y - clip[None].float()) ** 2).mean())))
            latents.append(z)
    z = torch.cat(latents)
    return float(np.mean(out)), float(z.mean()), float(z.std()), z


def loss_of(fast, x, kl, g, moments=None):
    m = fast.encode(x, TYPE) if moments is None else moments
    n = m.shape[-1] // 2
    mean, logvar = m[..., :n], m[..., n:].clamp(-30, 20)
    z = mean + torch.exp(logvar / 2) * torch.randn(mean.shape, generator=g)
    y = fast.decode(z, TYPE)
    d = y - x
    loss = d.abs().mean() + 0.5 * ((d[:, :, 1:] - d[:, :, :-1]).abs().mean() +
                                   (d[:, :, :, 1:] - d[:, :, :, :-1]).abs().mean())
    distance = 0.5 * (mean ** 2 + torch.exp(logvar) - 1 - logvar).mean()
    return loss + kl * distance, float(loss.detach()), float(distance.detach())


class Muon:
    """Momentum whose update of a convolution's kernel, seen as the matrix [out, in*taps], is made orthogonal by five
    Newton-Schulz steps (K. Jordan, 2024), scaled to Adam's size as in arXiv 2502.16982: learns in fewer steps."""

    def __init__(self, params):
        self.params = params
        self.m = [torch.zeros_like(p) for p in params]

    @torch.no_grad()
    def step(self, rate):
        for p, m in zip(self.params, self.m):
            if p.grad is None:
                continue
            m.mul_(0.95).add_(p.grad)
            x = (p.grad + 0.95 * m).reshape(len(p), -1)
            wide = x.shape[0] <= x.shape[1]
            x = x if wide else x.T
            x = x / (x.norm() + 1e-7)
            for _ in range(5):
                g = x @ x.T
                x = 3.4445 * x + (-4.775 * g + 2.0315 * g @ g) @ x
            x = x if wide else x.T
            p.add_(x.reshape(p.shape), alpha=-rate * 0.2 * max(x.shape) ** 0.5)


def worker(rank, a):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{a.out}/ranks", rank=rank, world_size=a.ranks)
    torch.manual_seed(a.seed)
    vae = make(tuple(a.channels), a.latent)
    fast = Fast(vae)
    train, val = read_clips(a.clips, "train"), read_clips(a.clips, "val")[:16]
    if rank == 0:
        print(f"{len(train)} clips, {len(val)} held out, {sum(p.numel() for p in vae.parameters())} parameters; "
              f"fast against diffusers: {check(vae, val[:1].float() / 127.5 - 1)}", flush=True)
    start, step = 0.0, 0
    state = os.path.join(a.out, "state.pt")
    kernels = [p for p in vae.parameters() if p.dim() > 3 and len(p) > 8]
    muon = Muon(kernels)
    own = {id(p) for p in kernels}
    adam = torch.optim.Adam([p for p in vae.parameters() if id(p) not in own], lr=a.lr, betas=(0.9, 0.99))
    if os.path.exists(state):
        s = torch.load(state)
        vae.load_state_dict(s["vae"])
        if "muon" in s:
            adam.load_state_dict(s["adam"])
            muon.m = s["muon"]
        start, step = s["minutes"], s["step"]
    known, scaling = None, None
    if a.decoder_only:
        # the encoder as it was exported, in half precision: what was cached with it stays valid
        from diffusers import AutoencoderKLCogVideoX
        joint = AutoencoderKLCogVideoX.from_pretrained(a.decoder_only, torch_dtype=torch.float32)
        vae.encoder.load_state_dict(joint.encoder.state_dict())
        scaling = joint.config.scaling_factor
        vae.encoder.requires_grad_(False)
        train = train[rank::a.ranks]
        with torch.no_grad():
            known = torch.cat([fast.encode(x[None].float() / 127.5 - 1, torch.float32) for x in train])
        if start >= a.minutes or "decoder" not in s:
            start, step = 0.0, 0
    g = torch.Generator().manual_seed(a.seed * 1000 + rank + 10 * step)
    begun, told = time.time(), time.time()
    phase = -1
    while True:
        t = torch.tensor([start + (time.time() - begun) / 60])
        dist.broadcast(t, 0)
        done = float(t) / a.minutes
        if done >= 1:
            break
        single = done < a.frames and known is None
        rate = a.lr * min(1, (step + 1) / 50) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group in adam.param_groups:
            group["lr"] = rate
        n = a.batch * (FRAMES if single else 1)
        at = torch.randint(len(train), (n,), generator=g)
        x = train[at]
        if single:
            k = torch.randint(FRAMES, (n,), generator=g)
            x = x[torch.arange(n), k][:, None]
        x = x.float() / 127.5 - 1
        if known is None and torch.rand(1, generator=g) < 0.5:
            x = x.flip(3)
        if known is None and torch.rand(1, generator=g) < 0.15:
            x = x[..., torch.randperm(3, generator=g)]
        x = x.contiguous()
        adam.zero_grad(set_to_none=True)
        loss, err, distance = loss_of(fast, x, a.kl, g, None if known is None else known[at])
        loss.backward()
        params = [p for p in vae.parameters() if p.grad is not None]
        flat = torch.cat([p.grad.reshape(-1) for p in params])
        dist.all_reduce(flat)
        flat /= a.ranks
        flat *= min(1.0, 1.0 / (float(flat.norm()) + 1e-6))
        used = 0
        for p in params:
            p.grad.copy_(flat[used:used + p.numel()].view_as(p))
            used += p.numel()
        adam.step()
        muon.step(rate)
        step += 1
        if rank == 0 and (time.time() - told > 150 or phase != single):
            told, phase = time.time(), single
            p, mean, std, _ = psnr(fast, val[:3])
            print(f"{float(t):6.2f} min  step {step}  {'frames' if single else 'clips'}  loss {err:.4f}"
                  f"  kl {distance:.2f}  held-out PSNR {p:.2f} dB  latents {mean:.2f} +- {std:.2f}  rate {rate:.2e}",
                  flush=True)
            save(vae, adam, muon, float(t), step, known is not None, state)
    if rank == 0:
        save(vae, adam, muon, float(t), step, known is not None, state)
        export(vae, val, a.out, scaling)


def save(vae, adam, muon, minutes, step, decoder, path):
    s = {"vae": vae.state_dict(), "adam": adam.state_dict(), "muon": muon.m, "minutes": minutes, "step": step}
    torch.save({**s, "decoder": True} if decoder else s, path + ".part")
    os.replace(path + ".part", path)


def export(vae, val, out, scaling):
    """Half precision, with the scaling factor that brings the latents to unit deviation."""
    vae = vae.half().float()
    p, mean, std, z = psnr(Fast(vae), val)
    if scaling is None:
        scaling = round(1 / std, 5)
    vae.register_to_config(scaling_factor=scaling)
    vae.half().save_pretrained(os.path.join(out, "vae"))
    each = z.std((0, 1, 2, 3)).tolist()
    print(f"exported in half precision: held-out PSNR {p:.2f} dB over {len(val)} clips, "
          f"latents {mean:.3f} +- {std:.3f}, each channel {[round(e, 2) for e in each]}")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--clips", action="append", required=True)
    p.add_argument("--out", required=True)
    p.add_argument("--minutes", type=float, default=30)
    p.add_argument("--frames", type=float, default=0.5)
    p.add_argument("--batch", type=int, default=2)
    p.add_argument("--ranks", type=int, default=2)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--decoder-only", metavar="VAE", help="keep this folder's encoder and train the decoder")
    p.add_argument("--kl", type=float, default=2e-4)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--channels", type=int, nargs=4, default=[16, 32, 48, 40])
    p.add_argument("--latent", type=int, default=12)
    a = p.parse_args()
    a.out = os.path.abspath(a.out)
    os.makedirs(a.out, exist_ok=True)
    for f in glob.glob(os.path.join(a.out, "ranks*")):
        os.remove(f)
    torch.multiprocessing.spawn(worker, args=(a,), nprocs=a.ranks)


if __name__ == "__main__":
    main()
