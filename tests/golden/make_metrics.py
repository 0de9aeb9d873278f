"""Records scikit-image's, scipy's and numpy's values for common/metrics: tests/golden/metrics.json.

    python3 tests/golden/make_metrics.py          (from the repository root; three minutes)

Made with numpy 2.4.6, scipy 1.17.1, scikit-image 0.26.0.
Pictures, features and votes come from a generator of one line that the test repeats.  Block motion has no library:
it is written again here, from the text of common/metrics/motion.h, with numpy and without its shortcuts.
"""
import json, math, os
import numpy as np
from scipy import linalg, ndimage, optimize, stats
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

HERE = os.path.dirname(os.path.abspath(__file__))


def lcg(seed, n):
    out, s = np.empty(n), seed
    for i in range(n):
        s = (1664525 * s + 1013904223) % 2**32
        out[i] = (s >> 8) / 2.0**24
    return out


def smooth(seed, w, h, frames):
    """A moving, noisy picture in colour: [frames,h,w,3]."""
    noise = lcg(seed, frames * h * w * 3).reshape(frames, h, w, 3)
    t, y, x, c = np.meshgrid(np.arange(frames), np.arange(h), np.arange(w), np.arange(3), indexing="ij")
    base = (3 * (x + (2 + seed % 2) * t) * (c + 1) + 5 * (y - t) + ((x // 9 + y // 7) % 3) * 40) % 256
    return np.floor(base * 0.8 + noise * 40).astype(np.uint8)


def ssim(a, b):
    return structural_similarity(a, b, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2)


def luma(rgb):
    r = rgb.astype(np.int64)
    return (2126 * r[..., 0] + 7152 * r[..., 1] + 722 * r[..., 2] + 5000) // 10000


def half(plane, x2, y2, w, h):
    """Four times the block at half-pixel position (x2, y2) of a picture that goes on beyond its edges."""
    p = np.pad(plane.astype(np.int64), 25, mode="edge")
    x, y, fx, fy = (x2 >> 1) + 25, (y2 >> 1) + 25, x2 & 1, y2 & 1
    return sum(p[y + j : y + j + h, x + i : x + i + w] for i in (0, fx) for j in (0, fy))


def rings(r):
    yield 0, 0
    for k in range(1, r + 1):
        for i in range(-k, k + 1):
            yield i, -k
            yield i, k
            if -k < i < k:
                yield -k, i
                yield k, i


def search(a, b, reach, both):
    H, W = a.shape
    out = []
    for by in range(0, H, 16):
        for bx in range(0, W, 16):
            w, h = min(16, W - bx), min(16, H - by)

            def cost(dx, dy, bilinear):
                p, q = half(a, 2 * bx - both * dx, 2 * by - both * dy, w, h), half(b, 2 * bx + dx, 2 * by + dy, w, h)
                if bilinear:
                    p, q = (p + 2) // 4 * 4, (q + 2) // 4 * 4
                return int(abs(p - q).sum()) // 4 + (w * h // 2 + 2 * (abs(dx) + abs(dy)) if dx or dy else 0)

            best = None
            for dx, dy in rings(reach):
                c = cost(2 * dx, 2 * dy, False)
                if best is None or c < best[0]:
                    best = (c, 2 * dx, 2 * dy)
            mx, my = best[1:]
            for i in range(9):
                dx, dy = mx + i % 3 - 1, my + i // 3 - 1
                if i != 4 and (c := cost(dx, dy, True)) < best[0]:
                    best = (c, dx, dy)
            out.append(best[1:])
    return np.array(out)


def predict(before, after):
    H, W = before.shape[:2]
    v, out, i = search(luma(before), luma(after), 12, 1), np.zeros_like(before), 0
    for by in range(0, H, 16):
        for bx in range(0, W, 16):
            w, h = min(16, W - bx), min(16, H - by)
            dx, dy = v[i]
            i += 1
            for c in range(3):
                s = half(before[..., c], 2 * bx - dx, 2 * by - dy, w, h) + half(after[..., c], 2 * bx + dx, 2 * by + dy, w, h)
                out[by : by + h, bx : bx + w, c] = (s + 4) // 8
    return out


def colours(frames):
    f = frames.reshape(-1, 3) // 32
    return np.bincount(f[:, 0].astype(int) * 64 + f[:, 1] * 8 + f[:, 2], minlength=512) / len(f)


def colour_distance(p, q):
    return math.sqrt(((np.sqrt(p) - np.sqrt(q)) ** 2).sum() / 2)


def figures(v):
    n, H, W = v.shape[:3]
    f = v.astype(np.float64)
    pairs = [ssim(v[k], v[k + 1]) for k in range(n - 1)]
    psnr = [peak_signal_noise_ratio(v[k], v[k + 1], data_range=255) for k in range(n - 1)]
    mse = ((f[1:] - f[:-1]) ** 2).mean()
    diff = abs(f[1:] - f[:-1]).mean()
    odd = [k for k in range(1, n - 1, 2)]
    linear = np.mean([abs(f[k] - (f[k - 1] + f[k + 1]) / 2).mean() for k in odd])
    comp = np.mean([abs(f[k] - predict(v[k - 1], v[k + 1]).astype(np.float64)).mean() for k in odd])
    vec = [search(luma(v[k]), luma(v[k + 1]), 24, 0) for k in range(n - 1)]
    length = [np.hypot(x[:, 0], x[:, 1]) / 2 for x in vec]
    top = [np.sort(x)[::-1][: max(1, len(x) // 20)].mean() for x in length]
    side, scale = min(W, H), 480 / min(W, H)
    motion = np.mean([x.mean() for x in length]) * scale
    jerk = np.mean([np.hypot(*(vec[k + 1] - vec[k]).T).mean() / 2 for k in range(n - 2)]) * scale
    lap = [ndimage.laplace(luma(x).astype(np.float64))[1:-1, 1:-1].var() for x in v]
    return dict(motion=motion, dynamic=np.mean([t >= 6 * side / 256 for t in top]), ssim=np.mean(pairs), ssim_min=min(pairs),
                ssim_p5=np.percentile(pairs, 5), psnr=np.mean(psnr), psnr_pooled=10 * math.log10(255**2 / mse), difference=diff,
                flicker=(255 - diff) / 255, second_difference=abs(f[2:] - 2 * f[1:-1] + f[:-2]).mean(), smoothness_linear=(255 - linear) / 255,
                smoothness=(255 - comp) / 255, jerk=jerk / (motion + 1), sharpness=np.mean(lap),
                colour_change=colour_distance(colours(v[:1]), colours(v[-1:])), ssim_min_at=int(np.argmin(pairs)))


def frechet(x, y):
    s1, s2 = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = linalg.sqrtm(s1 @ s2)
    return float(((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(s1) + np.trace(s2) - 2 * np.trace(root).real)


def features(seed, n, d, scale, offset):
    return (lcg(seed, n * d) * scale + offset).reshape(n, d)


def weighted_frechet(x, y, weights):
    """The distance of rows that count weights[0] and weights[1] times (sums: the numbers of rows)."""
    means = [(v * w[:, None]).sum(0) / len(v) for v, w in zip((x, y), weights)]
    a, b = (np.sqrt(w / (len(v) - 1))[:, None] * (v - m) for v, w, m in zip((x, y), weights, means))
    return ((means[0] - means[1]) ** 2).sum() + (a * a).sum() + (b * b).sum() - 2 * np.linalg.svd(a @ b.T, compute_uv=False).sum()


def weighted_score(p, weights):
    q = (p * weights[:, None]).sum(0) / len(p)
    return math.exp((weights * (p * np.log(p / q)).sum(1)).sum() / len(p))


def influence(statistic, n):
    """What the statistic of n rows' weights grows by when a share e of all weight moves to one row, over e: by
    central differences."""
    out, e = [], 1e-5
    for i in range(n):
        up, down = (np.full(n, 1 - s) + s * n * (np.arange(n) == i) for s in (e, -e))
        out.append((statistic(up) - statistic(down)) / (2 * e))
    return out


def bradley_terry(wins):
    k = len(wins)

    def loss(t):
        t = np.append(t, 0)
        return -sum(wins[i][j] * (t[i] - np.logaddexp(t[i], t[j])) for i in range(k) for j in range(k) if i != j)

    t = np.append(optimize.minimize(loss, np.zeros(k - 1), method="BFGS", options=dict(gtol=1e-10)).x, 0)
    return (np.exp(t) / np.exp(t).sum()).tolist()


def main():
    out = {"ssim": [], "videos": [], "frechet": [], "paired": [], "bradley_terry": []}
    for seed, w, h in ((1, 37, 53), (2, 11, 11), (3, 12, 90), (4, 101, 34), (5, 64, 48)):
        v = smooth(seed, w, h, 2)
        out["ssim"].append(dict(seed=seed, width=w, height=h, ssim=ssim(v[0], v[1]), psnr=peak_signal_noise_ratio(v[0], v[1], data_range=255)))
    for seed, w, h, n in ((6, 48, 64, 8), (7, 53, 37, 5), (8, 80, 49, 3)):
        out["videos"].append(dict(seed=seed, width=w, height=h, frames=n, figures=figures(smooth(seed, w, h, n))))
    for n1, n2, d in ((64, 50, 8), (40, 33, 16), (9, 70, 3)):
        x, y = features(n1, n1, d, 1, 0), features(n2, n2, d, 0.5, 0.25)
        out["frechet"].append(dict(n1=n1, n2=n2, d=d, distance=frechet(x, y)))
    out["influence"] = []
    for n1, n2, d, dead in ((40, 33, 16, 0), (20, 17, 30, 0), (40, 33, 8, 1)):  # dead: the first feature is 0
        x, y = features(n1, n1, d, 1, 0), features(n2, n2, d, 0.5, 0.25)
        x[:, :dead] = y[:, :dead] = 0
        out["influence"].append(dict(n1=n1, n2=n2, d=d, dead=dead, x=influence(lambda w: weighted_frechet(x, y, (w, np.ones(n2))), n1),
                                     y=influence(lambda w: weighted_frechet(x, y, (np.ones(n1), w)), n2)))
    p = features(9, 12, 7, 1, 0.01)
    p /= p.sum(1, keepdims=True)
    out["score"] = dict(n=12, classes=7, seed=9, value=weighted_score(p, np.ones(12)), change=influence(lambda w: weighted_score(p, w), 12))
    x = features(5, 30, 1, 1, 0)[:, 0]
    out["influence_interval"] = dict(value=3.0, std=float(np.sqrt((x - x.mean()).var() * 30 + (x[:20] - x[:20].mean()).var() * 20)))
    for n in (2, 5, 12, 14):
        d = lcg(100 + n, n) - 0.4
        p = stats.permutation_test((d, np.zeros(n)), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), vectorized=True, permutation_type="samples", n_resamples=2**n).pvalue
        out["paired"].append(dict(n=n, p=float(p)))
    for seed, k in ((1, 2), (2, 3), (3, 5)):
        w = np.floor(lcg(seed, k * k) * 9 + 1).reshape(k, k)
        out["bradley_terry"].append(dict(seed=seed, k=k, strength=bradley_terry(w)))
    big = lcg(200, 60) - 0.42
    out["paired_large"] = dict(n=60, p=float(stats.permutation_test((big, np.zeros(60)), lambda a, b, axis: np.mean(a, axis) - np.mean(b, axis), vectorized=True, permutation_type="samples",
                                                                     n_resamples=200000, rng=np.random.default_rng(1)).pvalue))
    with open(os.path.join(HERE, "metrics.json"), "w") as f:
        json.dump(out, f, indent=1, default=float)
        f.write("\n")


main()
