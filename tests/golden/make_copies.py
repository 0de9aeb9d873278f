"""Records numpy's distances for the copy check (infer/copies.h): tests/golden/copies.json.

    python3 tests/golden/make_copies.py          (from the repository root; a few seconds)

Made with numpy 2.4.6.  Latents come from a generator of a few lines that the test repeats; a distance is sqrt(mean((a - b)**2)) in float64.
Clips 0 to 39 are split train but for 7 and 8 (val); sample 0 has the latents of clip 5, sample 1 nearly those of clip 30, sample 2 nearly those of clip 7, the others their own.
"""
import json, os
import numpy as np

F, H, W, C, SCALE, CLIPS, SAMPLES, PROBES = 3, 6, 5, 4, np.float32(1.15258426), 40, 6, 256
N = F * H * W * C


def draw(seed):
    out, s = np.empty(N, np.float32), seed
    for i in range(N):
        s = (1664525 * s + 1013904223) % 2**32
        out[i] = np.float32((s >> 8) / 2.0**23 - 1)
    return out


def main():
    # a clip has a direction of its own: some are nearer to each other than others
    z = [(draw(100 + i) * np.float32(1 + i % 3) * SCALE).astype(np.float64) for i in range(CLIPS)]
    train = [i for i in range(CLIPS) if i not in (7, 8)]
    samples = [(draw(900 + i) * np.float32(2) * SCALE).astype(np.float64) for i in range(SAMPLES)]
    samples[0] = z[5]
    samples[1] = z[30] + samples[1] / 64
    samples[2] = z[7] + samples[2] / 64
    distance = lambda a, b: float(np.sqrt(np.mean((a - b) ** 2)))
    theirs = sorted(min(distance(z[i], z[j]) for j in train if j != i) for i in train)
    p5 = float(np.percentile(theirs, 5))
    found = []
    for s in samples:
        d = [distance(s.astype(np.float32).astype(np.float64), z[j]) for j in train]
        k = int(np.argmin(d))
        found.append({"clip": "clip-%02d" % train[k], "distance": d[k], "share": float(np.mean(np.array(theirs) <= d[k])), "closer": bool(d[k] <= p5)})
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "copies.json"), "w") as out:
        json.dump({"training": theirs, "p5": p5, "median": float(np.median(theirs)), "samples": found}, out, indent=1)
        out.write("\n")


main()
