#!/bin/sh
# Guess:  the logarithmic position buckets of T5 can be computed in double precision: rounding cannot
#         matter for a value that is cut down to a whole number of at most 63.
# Seen:   for every published count (32) it does not.  For 18 buckets, transformers' float32 arithmetic
#         puts the distances 8, 16 and 64 one bucket higher than double precision does: there
#         log(d/4) / log(128/4) * 5 is a whole number, float32 lands on it and double just below it.
#         Such a model gives other numbers wherever the formula was "improved" to double.
# Seen with torch 2.15.0, transformers 5.24.0 (Python 3.11).  Exit 0: still so.
set -eu
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q torch==2.15.0 transformers==5.24.0
"$dir/venv/bin/python" - <<'PY'
import math
import platform
import torch
import transformers
from transformers.models.t5.modeling_t5 import T5Attention

print("python", platform.python_version(), "torch", torch.__version__, "transformers", transformers.__version__)


def in_double(distance, buckets, most=128):
    half = buckets // 2
    exact = half // 2
    if distance < exact:
        return distance
    return min(half - 1, exact + int(math.log(distance / exact) / math.log(most / exact) * (half - exact)))


def of_transformers(distance, buckets):
    return int(T5Attention._relative_position_bucket(torch.tensor([-distance]), True, buckets, 128)[0])


for buckets in (16, 18, 20, 24, 32, 36, 40, 48, 64):
    differ = [(d, in_double(d, buckets), of_transformers(d, buckets)) for d in range(300)]
    differ = [row for row in differ if row[1] != row[2]]
    print(buckets, "buckets; distance, double's, transformers':", differ)
    assert differ == ([(8, 4, 5), (16, 5, 6), (64, 7, 8)] if buckets == 18 else []), "this has changed"
print("still so")
PY
