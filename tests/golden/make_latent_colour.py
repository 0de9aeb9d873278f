"""Records numpy's least squares for common/model/latent_colour.h: tests/golden/latent_colour.json.

    python3 tests/golden/make_latent_colour.py          (from the repository root; a second)

Made with numpy 2.4.6.  Latents and pixels come from a generator of a few lines that the test repeats; the mean colours are means of slices,
and the weights numpy.linalg.lstsq's on the rows of the ridge added to the rows of the points.
"""
import json, os
import numpy as np

C, F, h, w = 5, 3, 2, 4


def draw(n, state):
    out = []
    for _ in range(n):
        state = (1664525 * state + 1013904223) % 2**32
        out.append(state >> 8)
    return np.array(out), state


def clip(seed, frames):
    latents, state = draw(F * h * w * C, seed)
    pixels, _ = draw(frames * h * 8 * w * 8 * 3, state)
    z = (latents / 2.0**23 - 1).astype(np.float32).reshape(F, h, w, C)
    rgb = (pixels % 256).astype(np.uint8).reshape(frames, h, 8, w, 8, 3)
    # make the colours depend on the latents
    t = np.repeat(np.arange(F), [1, 4, 4] if frames == 9 else 4)
    tint = np.clip(128 + 90 * z[t][:, :, :, :3], 0, 255).astype(np.uint8)[:, :, None, :, None, :]
    return z, (rgb // 4 + tint // 4 * 3).astype(np.uint8), t


def main():
    X, Y = [], []
    for seed, frames in ((1, 9), (2, 12)):
        z, rgb, t = clip(seed, frames)
        for f in range(F):
            X.append(z[f].reshape(-1, C).astype(np.float64))
            Y.append(rgb[t == f].astype(np.float64).mean(axis=(0, 2, 4)).reshape(-1, 3) / 255)
    X = np.concatenate(X)
    X, Y = np.concatenate([X, np.ones((len(X), 1))], 1), np.concatenate(Y)
    k = 1e-6 * np.trace(X.T @ X) / (C + 1)
    W = np.linalg.lstsq(np.concatenate([X, np.sqrt(k) * np.eye(C + 1)]), np.concatenate([Y, np.zeros((C + 1, 3))]), rcond=None)[0]
    explained = 1 - ((Y - X @ W) ** 2).sum() / ((Y - Y.mean(0)) ** 2).sum()
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "latent_colour.json"), "w") as out:
        json.dump({"weights": W.tolist(), "explained": float(explained)}, out, indent=1)
        out.write("\n")


main()
