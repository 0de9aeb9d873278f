"""Times scikit-image's SSIM on the pictures of bench_metrics; called by ssim.sh.    python3 ssim.py SECONDS WIDTH HEIGHT"""
import sys, time
import numpy as np
from skimage.metrics import structural_similarity

seconds, w, h = float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def draw(t):
    n, s = w * h * 3, t
    x = np.arange(n) // 3 % w
    noise = np.empty(n, np.int64)
    for i in range(n):
        s = (1664525 * s + 1013904223) % 2**32
        noise[i] = s >> 28
    return ((x + 2 * t) * 200 // w + noise).astype(np.uint8).reshape(h, w, 3)


v, n, total, start = [draw(t) for t in range(6)], 0, 0, time.time()
while n < 6 or time.time() - start < seconds:
    s = structural_similarity(v[n % 6], v[(n + 1) % 6], gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255, channel_axis=2)
    total += s if n < 6 else 0
    n += 1
print("scikit-image  %8.2f ms a pair of %dx%d, 1 thread (mean %.12f)" % (1000 * (time.time() - start) / n, w, h, total / 6))
