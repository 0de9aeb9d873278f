"""How well intervals of a Frechet distance hold: two ways against the distance's true spread.

    python3 tests/bench/intervals.py          (numpy; some minutes)

Two sets of normal vectors are drawn many times; `sd` is how much their distance varies, which an interval should
tell from one pair of sets alone.  `influence` is what weft-infer reports (common/metrics/frechet.h): its standard
error, and how often value +- 1.96 of it holds the mean distance.  `resampled` is the plain bootstrap: the standard
deviation of the distance between resampled sets, and how much higher it lies, because a resample holds 63 % of the
items."""
import numpy as np

rng = np.random.default_rng(0)


def distance(x, y, vectors=False):
    a, b = ((v - v.mean(0)) / np.sqrt(len(v) - 1) for v in (x, y))
    shift = x.mean(0) - y.mean(0)
    u, s, vt = np.linalg.svd(a @ b.T, full_matrices=False)
    value = shift @ shift + (a * a).sum() + (b * b).sum() - 2 * s.sum()
    if not vectors:
        return value
    error = 0
    for v, sign, side in ((x, 1, u), (y, -1, vt.T)):
        n, c = len(v), v - v.mean(0)
        change = 2 * sign * c @ shift + n / (n - 1) * (c * c).sum(1) - n * (side * side * s).sum(1)
        error += change.var() / n
    return value, np.sqrt(error)


print("features  videos     shift scale | distance      sd | influence  holds | resampled  higher by")
for d, n, m, shift, scale, times in ((8, 64, 64, 0, 1, 300), (8, 64, 64, 0.3, 1, 300), (8, 64, 200, 0, 1.5, 300), (8, 500, 500, 0, 1, 200), (100, 64, 64, 0, 1, 100),
                                     (100, 64, 64, 0.3, 1, 100), (100, 300, 300, 0.3, 1, 50), (400, 128, 128, 0, 1, 30), (400, 128, 128, 0.1, 1.2, 30)):
    values, errors, plain = [], [], []
    for k in range(times):
        x, y = rng.standard_normal((n, d)), rng.standard_normal((m, d)) * scale + shift
        value, error = distance(x, y, True)
        values.append(value)
        errors.append(error)
        if k < 3:
            again = [distance(x[rng.integers(0, n, n)], y[rng.integers(0, m, m)]) for _ in range(40)]
            plain.append((np.std(again), np.mean(again) - value))
    values, errors, plain = np.array(values), np.array(errors), np.mean(plain, 0)
    holds = np.mean(abs(values - values.mean()) < 1.96 * errors)
    print(f"{d:8} {n:4} + {m:<4} {shift:7} {scale:5} | {values.mean():8.3f} {values.std():7.3f} | {errors.mean():9.3f} {100 * holds:4.0f} % | {plain[0]:9.3f} {plain[1]:+10.3f}", flush=True)
