"""Writes tests/golden/torch_randn.h: what torch.randn draws in float32 on the CPU.

Run: python3 tests/golden/make_torch_randn.py > tests/golden/torch_randn.h && make format   (needs torch; its version is put into the file)
Each case is one stream: a seed, then torch.randn of each size in turn.
"""
import torch

SIZES = [1, 2, 3, 15, 16, 17, 31, 32, 100]
cases = [(seed, [n]) for seed in (0, 42, 2**32 + 5, 2**63) for n in SIZES]
cases += [(42, [1000]), (0, [5, 20, 3]), (42, [16, 1, 1]), (7, [1, 16, 1, 17, 3]), (7, [3, 2, 640]), (1234, [2, 100, 1, 1])]

print("/* Made by tests/golden/make_torch_randn.py with torch %s, CPU capability %s. */" % (torch.__version__, torch.backends.cpu.get_cpu_capability()))
print("#ifndef WEFT_TESTS_GOLDEN_TORCH_RANDN_H\n#define WEFT_TESTS_GOLDEN_TORCH_RANDN_H\n#include <stdint.h>")
values = []
print("static const struct { uint64_t seed; int sizes[6]; /* ended by 0 */ int at; } torch_randn_cases[] = {")
for seed, sizes in cases:
    torch.manual_seed(seed)
    print("    {%dULL, {%s}, %d}," % (seed, ", ".join(map(str, sizes + [0])), len(values)))
    for n in sizes:
        values += torch.randn(n, dtype=torch.float32).tolist()
print("};")
print("static const double torch_randn_values[] = {")
for i in range(0, len(values), 10):
    print("    " + " ".join("%.9g," % v for v in values[i:i + 10]))
print("};")
print("#endif")
