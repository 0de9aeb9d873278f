"""Weights that are made of their tensor's name, as tests/golden/named_weights.h makes them; for the scripts beside it."""
import zlib

import numpy as np
import torch


def u(name, count):
    x = (np.arange(count, dtype=np.uint64) * 2654435761 + zlib.crc32(name.encode())) & 0xFFFFFFFF
    x ^= x >> 16
    x = x * 0x7FEB352D & 0xFFFFFFFF
    x ^= x >> 15
    x = x * 0x846CA68B & 0xFFFFFFFF
    x ^= x >> 16
    return (x >> 8).astype(np.float64) / 2**24


def filled(name, shape):
    count = int(np.prod(shape))
    v = u(name, count)
    if name.endswith(("bias", "running_mean")):
        v = 0.1 * (2 * v - 1)
    elif len(shape) == 1:
        v = 0.5 + v
    else:
        v = (2 * v - 1) * np.sqrt(6 / (count / shape[0]))
    return torch.from_numpy(v.reshape(shape).astype(np.float32))
