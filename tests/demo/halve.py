#!/usr/bin/env python3
"""halve.py IN.safetensors OUT.safetensors   the same tensors in half precision (needs numpy only)."""
import json
import struct
import sys

import numpy as np

with open(sys.argv[1], "rb") as f:
    size = struct.unpack("<Q", f.read(8))[0]
    header = json.loads(f.read(size))
    data = f.read()
kinds = {"F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
out, body, at = {"__metadata__": {"format": "pt"}}, [], 0
for name in sorted(k for k in header if k != "__metadata__"):
    t = header[name]
    begin, end = t["data_offsets"]
    values = np.frombuffer(data[begin:end], kinds[t["dtype"]]).astype("<f2")
    if not np.isfinite(values).all():
        sys.exit(f"{sys.argv[1]}: {name} leaves the range of half precision")
    out[name] = {"dtype": "F16", "shape": t["shape"], "data_offsets": [at, at + values.nbytes]}
    body.append(values.tobytes())
    at += values.nbytes
text = json.dumps(out, separators=(",", ":")).encode()
text += b" " * (-len(text) % 8)
with open(sys.argv[2], "wb") as f:
    f.write(struct.pack("<Q", len(text)) + text + b"".join(body))
